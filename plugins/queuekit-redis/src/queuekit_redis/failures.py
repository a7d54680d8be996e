"""From an error of the client library to ours: what is wrong, with which server, and what to do."""

from __future__ import annotations

from redis import exceptions

from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL

__all__ = ["Failures"]

_BY_WORD = {
    "NOAUTH": ("asks for a password", "Write it into the URL: redis://user:password@host/0"),
    "WRONGPASS": ("refuses user or password", "Correct them in the URL; in them write / as %2F, @ as %40, : as %3A"),
    "invalid password": ("refuses the password", "Correct it in the URL; in it write / as %2F, @ as %40, : as %3A"),
    "NOPERM": ("does not allow this user what is needed", "Grant it: ACL SETUSER name on ~queuekit:* &* +@all"),
    "OOM": ("has no memory left (maxmemory)", "Raise maxmemory, or let workers drain the queues"),
    "READONLY": ("is a replica, which takes no writes", "Name the primary, or use redis+sentinel:// to follow it"),
    "MISCONF": ("cannot write to its disk, and takes no writes meanwhile", "See its log"),
    "LOADING": ("is still loading its data", ""),
    "NOREPLICAS": ("has fewer replicas than min-replicas-to-write", ""),
    "CLUSTERDOWN": ("belongs to a Cluster that is down", ""),
    "MASTERDOWN": ("is a replica that has lost its primary", ""),
    "WRONGTYPE": ("has other data under our keys", "Set another key_prefix"),
    "unknown command": ("does not know a command; Redis 6.2 or later is needed", ""),
    "CROSSSLOT": ("is a Cluster", "Write redis+cluster:// instead of redis://"),
    "MOVED": ("is a Cluster", "Write redis+cluster:// instead of redis://"),
}


class Failures:
    """Makes errors for one URL, whose password they never show."""

    def __init__(self, url: EngineURL) -> None:
        self._url = url

    def of(self, error: Exception) -> UnavailableError:
        """Return what to raise for *error*."""
        text = self._url.hide(str(error)).strip().replace("\n", " ")[:300]
        for word, (what, fix) in _BY_WORD.items():
            if word in text:
                return UnavailableError(f"{self._url} {what}: {text}", fix=fix)
        if isinstance(error, exceptions.TimeoutError):
            return UnavailableError(f"{self._url} did not answer in time: {text}")
        if isinstance(error, exceptions.ConnectionError | OSError):
            return UnavailableError(f"{self._url} cannot be reached: {text}")
        return UnavailableError(f"{self._url} refused a command: {text}")

    def silent(self, seconds: float) -> UnavailableError:
        """Return what to raise when a blocking call has not ended *seconds* after it should have."""
        return UnavailableError(f"{self._url} did not answer a blocking call within {seconds:g} s of its end")

    def crowded(self, count: int) -> UnavailableError:
        """Return what to raise when all connections are in use."""
        return UnavailableError(
            f"all {count} connections to {self._url} are in use", fix="Raise max_connections, or use fewer threads"
        )
