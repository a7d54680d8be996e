"""Pass the TLS options that all engines share to the client library, under its own names."""

from __future__ import annotations

from typing import Any

from queuekit.errors import UnavailableError
from queuekit.tls import TLSOptions

__all__ = ["client_tls"]

_ALLOWED: dict[str, dict[str, Any]] = {
    "full": {},
    "ca": {"tlsallowinvalidhostnames": True},
    "none": {"tlsallowinvalidcertificates": True, "tlsallowinvalidhostnames": True},
}


def client_tls(options: TLSOptions) -> dict[str, Any]:
    """Return pymongo's options for *options*; empty if no option is set, and then the URL decides about TLS.

    Raises:
        UnavailableError: A file cannot be used; names option and file.
    """
    if not options.names_files and options.verify == "full":
        return {}
    if options.key_file is not None:
        raise UnavailableError(
            f"key_file, {options.key_file}, cannot be used: MongoDB's client reads key and certificate from one file",
            fix="Append the key to cert_file, and remove key_file",
            passing=False,
        )
    options.context()  # its errors name option and file; pymongo's do not
    files = {"tlscafile": options.ca_file, "tlscertificatekeyfile": options.cert_file}
    given = {name: str(path.expanduser()) for name, path in files.items() if path is not None}
    return {"tls": True, **given, **_ALLOWED[options.verify]}
