"""TLS options, spelled the same for every engine; the options class of a plugin inherits from :class:`TLSOptions`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from queuekit.errors import UnavailableError
from queuekit.values import frozen

if TYPE_CHECKING:
    import ssl

__all__ = ["TLSOptions", "Verify"]

Verify = Literal["full", "ca", "none"]
"""What to check of a server, see :attr:`TLSOptions.verify`."""


@frozen(kw_only=True)
class TLSOptions:
    """How to connect with TLS. Whether to use TLS is for the URL to say, by its scheme.

    Attributes:
        ca_file: File with the certificates of trusted CAs, in PEM format; default: those of the system.
        cert_file: File with the client's certificate, in PEM format, if the server requires one.
        key_file: File with the key of the client's certificate, in PEM format; default: the key is in ``cert_file``.
        verify: What to check of the server: ``full``: that a trusted CA signed its certificate, and that it names the
            host of the URL; ``ca``: only that a trusted CA signed it; ``none``: nothing, which protects only against
            passive eavesdropping.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    verify: Verify = "full"

    @property
    def names_files(self) -> bool:
        """Whether an option names a file."""
        return (self.ca_file, self.cert_file, self.key_file) != (None, None, None)

    def check_files(self) -> None:
        """Check that the files can be read.

        Raises:
            UnavailableError: A file cannot be read, or has no certificate for its key; names option and file.
        """
        if self.key_file is not None and self.cert_file is None:
            raise _unusable("key_file", self.key_file, "is the key of no certificate", fix="Set cert_file as well")
        for name in ("ca_file", "cert_file", "key_file"):
            path: Path | None = getattr(self, name)
            if path is not None:
                _read(name, path)

    def context(self) -> ssl.SSLContext:
        """Return the context for connections to the server; the same one until an option or a file changes.

        Raises:
            UnavailableError: A file cannot be used; names option and file. It does not pass by itself.
        """
        self.check_files()
        # The options of a plugin may hold what cannot be a key, such as a table.
        own = TLSOptions(ca_file=self.ca_file, cert_file=self.cert_file, key_file=self.key_file, verify=self.verify)
        return _context(own, tuple(map(_changed, (self.ca_file, self.cert_file, self.key_file))))


def _read(name: str, path: Path) -> None:
    try:
        with path.expanduser().open("rb") as file:
            file.read(1)
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise _unusable(name, path, f"cannot be read: {why}") from error


def _changed(path: Path | None) -> tuple[int, int]:
    if path is None:
        return 0, 0
    status = path.expanduser().stat()
    return status.st_mtime_ns, status.st_ino


# To make a context takes as long as ten handshakes.
@functools.lru_cache(maxsize=16)
def _context(options: TLSOptions, _: tuple[tuple[int, int], ...]) -> ssl.SSLContext:
    import ssl

    ca_file = options.ca_file
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else ca_file.expanduser())
    except (ssl.SSLError, OSError) as error:
        if ca_file is None:
            raise
        raise _unusable("ca_file", ca_file, "holds no certificate in PEM format") from error
    if options.verify != "full":
        context.check_hostname = False
    if options.verify == "none":
        context.verify_mode = ssl.CERT_NONE
    if options.cert_file is not None:
        _load_certificate(context, options.cert_file, options.key_file)
    return context


def _load_certificate(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    import ssl

    key_name, key_path = ("key_file", key_file) if key_file is not None else ("cert_file", cert_file)

    def reject_password() -> str:
        # Without a password here, OpenSSL would ask for one on the terminal.
        raise _unusable(key_name, key_path, "has a key with a password", fix="Store the key without a password")

    try:
        context.load_cert_chain(cert_file.expanduser(), keyfile=key_path.expanduser(), password=reject_password)
    except UnavailableError:
        raise
    except (ssl.SSLError, OSError) as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            why = f"is not the key of the certificate in cert_file, {cert_file}"
            raise _unusable(key_name, key_path, why) from error
        pair = "" if key_file is None else f", or key_file, {key_file}, no key"
        raise _unusable("cert_file", cert_file, f"holds no certificate with its key in PEM format{pair}") from error


def _unusable(name: str, path: Path, why: str, *, fix: str = "") -> UnavailableError:
    return UnavailableError(f"{name}, {path}, {why}", fix=fix or f"Correct {name}", passing=False)
