"""Convert errors of connections and servers to ``UnavailableError`` with the fault, the server and the fix."""

from __future__ import annotations

import ssl

from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL
from queuekit_memcached.protocol import Reply
from queuekit_memcached.urls import Address

__all__ = ["Failures"]

_SIGN_IN = "Write memcache://user:password@host, with / as %2F, @ as %40, : as %3A"
_NOT_SIGNED_IN = "unauthenticated"
_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""Errors of a connection that was cut."""
_TLS_ALERT = b"\x15"
"""First byte of the answer of a server that expects TLS."""


class Failures:
    """Makes errors about one server; they never show the password.

    Args:
        url: URL of all servers.
        address: Which of them.
    """

    def __init__(self, url: EngineURL, address: Address) -> None:
        self._url = url
        self._address = address

    def of(self, error: Exception) -> UnavailableError:
        """Return the error to raise for *error*, of a socket or of bytes that are no reply."""
        if isinstance(error, ssl.SSLCertVerificationError):
            fix = "Name the file of its CA with ca_file, and use the host name of the certificate in the URL"
            what = f"presents a certificate that is not trusted: {error.verify_message}"
            return self._error(what, fix, passing=False)
        if isinstance(error, ssl.SSLError) and not isinstance(error, _CUT):
            what = f"does not accept TLS as it is set up: {error.reason}"
            return self._error(what, "Check that this port speaks TLS, and cert_file", passing=False)
        if isinstance(error, ValueError | KeyError):
            return self._of_reply(error)
        if isinstance(error, TimeoutError):
            return self._error("did not answer in time")
        if isinstance(error, PermissionError):
            return self._error(f"does not let this user connect: {_text(error)}", passing=False)
        return self._error(f"cannot be reached: {_text(error)}")

    def _of_reply(self, error: Exception) -> UnavailableError:
        found = error.args[0] if error.args else b""
        if isinstance(found, bytes) and found.startswith(_TLS_ALERT):
            return self._error("answers with TLS", "Write memcache+tls:// instead of memcache://", passing=False)
        return self._error(f"is not a Memcached server: it answered {found!r}", "Check host and port", passing=False)

    def of_command(self, reply: Reply) -> UnavailableError:
        """Return the error for a command that the server did not carry out."""
        if _NOT_SIGNED_IN in reply.text:
            return self._error("asks for a password", _SIGN_IN, passing=False)
        if reply.code == b"SERVER_ERROR":
            memory = "out of memory" in reply.text
            fix = "Raise its memory (-m), or store fewer results" if memory else ""
            return self._error(f"{'has no memory left' if memory else 'failed'}: {reply.text}", fix)
        return self._error(f"did not take a command: {reply.text}", "Use Memcached 1.6.12 or later", passing=False)

    def of_sign_in(self, text: str) -> UnavailableError:
        """Return the error for a user or password that the server does not take."""
        return self._error(f"refuses this user or password: {self._url.hide(text)}", _SIGN_IN, passing=False)

    def of_server(self, what: str, fix: str) -> UnavailableError:
        """Return the error for a server that the plugin cannot use: it *what*."""
        return self._error(what, fix, passing=False)

    def _error(self, what: str, fix: str = "", *, passing: bool = True) -> UnavailableError:
        which = f"{self._address} of " if len(self._url.hosts) > 1 else ""
        return UnavailableError(f"{which}{self._url} {what}", fix=fix, passing=passing)


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
