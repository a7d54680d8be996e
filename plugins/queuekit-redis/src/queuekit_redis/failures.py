"""Convert errors of the client library to ``UnavailableError`` with the fault, the server and the fix."""

from __future__ import annotations

from redis import exceptions

from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL

__all__ = ["Failures"]

_SIGN_IN = "Correct user and password in the URL; write / as %2F, @ as %40, : as %3A"
_UNSIGNED = "Write redis://user:password@..."
_USER_ALONE = "A name alone before @ is a user: write a password as redis://:password@..."
_CLUSTER = ("is a Cluster", "Write redis+cluster:// instead of redis://")
_FORBIDDEN = ("does not give this user a permission that queuekit needs", "Grant it with ACL SETUSER")
_NO_REDIS = ("is not a Redis server: it speaks another protocol", "Check host and port of the URL")
_SPEAKS_TLS = ("answers with TLS", "Write rediss:// instead of redis://")
_OTHER_DATA = ("has other data under queuekit's keys", "Set another key_prefix")
_TOO_OLD = ("does not know a command", "Use Redis 6.2 or later, or Valkey")
_NO_DATABASE = ("does not have that database", "Name an existing one: redis://host/0")
_CLOSED = ("does not let this user connect", "Give the user write permission on the socket")
# The client library removes the code word of errors that it knows; other texts begin with it.
_BY_KIND: list[tuple[type[Exception], tuple[str, str]]] = [
    (exceptions.NoPermissionError, _FORBIDDEN),
    (exceptions.InvalidResponse, _NO_REDIS),
    (
        exceptions.OutOfMemoryError,
        ("has no memory left (maxmemory)", "Raise maxmemory, or let workers drain the queues"),
    ),
    (exceptions.ReadOnlyError, ("is a replica", "Name the primary, or find it through redis+sentinel://")),
    (exceptions.BusyLoadingError, ("is still loading its data", "")),
    (exceptions.ClusterDownError, ("belongs to a Cluster that is down", "")),
    (exceptions.MasterDownError, ("is a replica that lost its primary", "")),
    (exceptions.TimeoutError, ("did not answer in time", "")),
    (exceptions.ConnectionError, ("cannot be reached", "")),
    (OSError, ("cannot be reached", "")),
]
_UNTRUSTED = (
    "presents a certificate that is not trusted",
    "Name the file of its CA with ca_file, and use the host name of the certificate in the URL",
)
_TLS_ALERT = r'got "\x15"'
"""Part of the hiredis error for the first byte of a TLS record."""
_NO_HANDSHAKE = "WRONG_VERSION_NUMBER"
"""OpenSSL's error for a server that answers without TLS."""
_NO_ENTRY = "Permission denied"
_NO_TLS = ("does not answer to TLS", "Check that this port speaks TLS; without TLS, write redis://")
_BY_WORD = {
    "OOM": ("has no memory left (maxmemory)", "Raise maxmemory, or let workers drain the queues"),
    "MISCONF": ("cannot write to its disk, and refuses writes", "See its log"),
    "NOREPLICAS": ("has fewer replicas than min-replicas-to-write", ""),
    "WRONGTYPE": _OTHER_DATA,
    "unknown command": _TOO_OLD,
    "DB index is out of range": _NO_DATABASE,
    "CROSSSLOT": _CLUSTER,
    "MOVED": _CLUSTER,
}
_STAYING = frozenset(
    {
        _CLOSED,
        _CLUSTER,
        _FORBIDDEN,
        _NO_DATABASE,
        _NO_REDIS,
        _OTHER_DATA,
        _SPEAKS_TLS,
        _TOO_OLD,
        _UNTRUSTED,
    }
)
"""Faults that do not pass by themselves."""


class Failures:
    """Makes errors for one URL; they never show its password.

    Args:
        url: URL of the server.
        signs_in: Whether a password is given.
    """

    def __init__(self, url: EngineURL, *, signs_in: bool) -> None:
        self._url = url
        self._signs_in = signs_in
        # On a Cluster these errors are normal: slots move between nodes, and calls follow them.
        self._usual = {_CLUSTER} if url.scheme == "redis+cluster" else set()

    def of(self, error: Exception) -> UnavailableError:
        """Return the error to raise for *error*."""
        text = self._url.hide(str(error)).strip().replace("\n", " ")[:300]
        what, fix = self._explained(error, text)
        unsigned = isinstance(error, exceptions.AuthenticationError)
        stays = unsigned or _NO_HANDSHAKE in text or (what, fix) in _STAYING - self._usual
        return UnavailableError(f"{self._url} {what}: {text}", fix=fix, passing=not stays)

    def _explained(self, error: Exception, text: str) -> tuple[str, str]:
        """Return the fault and the fix."""
        if isinstance(error, exceptions.AuthenticationError):
            unsigned = _UNSIGNED if self._url.username is None else _USER_ALONE
            return ("refuses this user or password", _SIGN_IN) if self._signs_in else ("asks for a password", unsigned)
        if isinstance(error, exceptions.AskError):
            return ("has moved a slot", "") if self._url.scheme == "redis+cluster" else _CLUSTER
        of_tls = _of_tls(error, text, scheme=self._url.scheme)
        if of_tls is not None:
            return of_tls
        if isinstance(error, exceptions.TryAgainError):
            return "is moving a slot", ""
        return _of_server(error, text)

    def silent(self, seconds: float) -> UnavailableError:
        """Return the error for a blocking call that has not ended *seconds* after it should have."""
        return UnavailableError(f"{self._url} did not answer a blocking call within {seconds:g} s of its end")

    def exhausted(self, count: int) -> UnavailableError:
        """Return the error for a call when all connections are in use."""
        return UnavailableError(
            f"all {count} connections to {self._url} are in use", fix="Raise max_connections, or use fewer threads"
        )


def _of_server(error: Exception, text: str) -> tuple[str, str]:
    """Return the fault and the fix by the class of *error*, else by a word in its *text*."""
    if isinstance(error, exceptions.InvalidResponse) and _TLS_ALERT in text:
        return _SPEAKS_TLS
    if isinstance(error, exceptions.ConnectionError) and _NO_ENTRY in text:
        return _CLOSED
    for kind, explained in _BY_KIND:
        if isinstance(error, kind):
            return explained
    return next((explained for word, explained in _BY_WORD.items() if word in text), ("refused a command", ""))


def _of_tls(error: Exception, text: str, *, scheme: str) -> tuple[str, str] | None:
    """Return the fault and the fix if a certificate or the handshake failed.

    A server without TLS waits for the end of a command, so the handshake times out.
    """
    if "certificate verify failed" in text.lower():
        return _UNTRUSTED
    in_vain = isinstance(error, exceptions.TimeoutError) and "connecting" in text
    return _NO_TLS if scheme == "rediss" and (in_vain or _NO_HANDSHAKE in text) else None
