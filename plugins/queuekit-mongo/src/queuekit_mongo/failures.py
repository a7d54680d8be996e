"""Convert errors of the client library to queuekit's, with the fault, the deployment and the fix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    InvalidName,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from queuekit.errors import ConfigError, QueuekitError, UnavailableError
from queuekit.urls import EngineURL

__all__ = [
    "DUPLICATE",
    "INTERRUPTED",
    "NOT_ALLOWED",
    "NO_STREAMS",
    "OTHER_INDEX",
    "WRITE_CONFLICT",
    "Failures",
    "is_passing",
    "refused_by",
]

DUPLICATE = 11000
"""Code of a write that a unique index refuses."""
INTERRUPTED = 11601
"""Code of a call or transaction that was ended by another client or the server."""
WRITE_CONFLICT = 112
"""Code of a write, in a transaction, to a document that another transaction has locked."""
NO_STREAMS = frozenset({13, 20, 59, 136, 40573})
"""Codes of a server without change streams for this user: not allowed, not a replica set, unknown command."""
_PASSING = frozenset({6, 7, 64, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})
"""Codes of a write that may be lost: unreachable, timed out, shutting down, no longer the primary."""
NOT_ALLOWED = 13
"""Code of a call that the user may not make."""
OTHER_INDEX = frozenset({85, 86})
"""Codes of an index that conflicts with another of the same name or keys."""
_NOT_SIGNED_IN = frozenset({18, 8000})
_OUT_OF_SPACE = frozenset({14031})
_STAYING = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "Permission denied")
"""Words in connection errors that a retry does not fix: TLS refused or missing, no permission on the socket."""
_OTHER_PROTOCOL = ("Got response id", "Got opcode", "Message length")
"""Words in errors about a server that speaks another protocol."""
_LONGEST = 300
_NO_PRIMARY = "match selector"
_NO_SESSIONS = "Sessions are not supported"
"""Words of the client library about a member that has just started, and does not know its replica set yet."""
_QUOTED_COMMAND = re.compile(r"(to execute command) \{ (\w+):.*", re.DOTALL)


class Failures:
    """Makes errors for one URL; they never show its password."""

    def __init__(self, url: EngineURL) -> None:
        self._url = url

    def of(self, error: PyMongoError) -> QueuekitError:
        """Return the error to raise for *error*."""
        text = self._text(error)
        if isinstance(error, ConfigurationError | InvalidURI | InvalidName) and _NO_SESSIONS not in text:
            return self.of_url(error)
        if isinstance(error, OperationFailure):
            return self._refused(error, text)
        if error.timeout and not isinstance(error, ServerSelectionTimeoutError):
            return UnavailableError(f"{self._url} did not answer in time: {text}")
        if isinstance(error, ServerSelectionTimeoutError) and _NO_PRIMARY in text:
            fix = "Run  rs.initiate()  in mongosh if the replica set is new; else check that its members are connected"
            return UnavailableError(f"{self._url} answers, but has no primary that accepts writes", fix=fix)
        if isinstance(error, ConnectionFailure):
            return self._unreached(text)
        return UnavailableError(f"{self._url} failed: {text}")

    def of_url(self, error: Exception) -> ConfigError:
        """Return the error for a URL or option that the client library cannot use, as *error* says."""
        return ConfigError(f"pymongo cannot use the URL: {self._text(error)}", where=f'  url = "{self._url}"')

    def of_connecting(self) -> UnavailableError:
        """Return the error for a thread whose time was over before it could connect."""
        return UnavailableError(f"{self._url} cannot be reached: no connection within the time allowed")

    def of_indexes(self, collection: str, names: Sequence[str]) -> QueuekitError:
        """Return the error for foreign indexes, *names*, that conflict with queuekit's."""
        drops = "; ".join(f'db.getCollection("{collection}").dropIndex("{name}")' for name in names)
        what = f"{self._url} has indexes on {collection} that conflict with queuekit's: {', '.join(names)}"
        return UnavailableError(what, fix=f"Drop them and try again:  {drops}", passing=False)

    def of_bytes(self, error: Exception) -> QueuekitError:
        """Return the error for a document that the client library cannot read."""
        return UnavailableError(f"{self._url} holds a document that cannot be read: {self._text(error)}")

    def of_building(self, collection: str) -> QueuekitError:
        """Return the error while the server is building an index."""
        fix = "Wait: with many documents this takes a while; the server continues in any case"
        return UnavailableError(f"{self._url}: indexes on {collection} are being built", fix=fix)

    def _refused(self, error: OperationFailure, text: str) -> UnavailableError:
        if error.code in _NOT_SIGNED_IN:
            fix = "Correct user and password in the URL (write / as %2F, @ as %40, : as %3A), or set authSource"
            return UnavailableError(f"{self._url} refuses this user or password: {text}", fix=fix, passing=False)
        if error.code == NOT_ALLOWED:
            fix = "Grant the user the role readWrite on the database"
            what = f"{self._url} does not give this user a permission that queuekit needs: {text}"
            return UnavailableError(what, fix=fix, passing=False)
        if error.code in _OUT_OF_SPACE:
            return UnavailableError(f"{self._url} has no disk space left: {text}")
        return UnavailableError(f"{self._url} refused a command: {text}")

    def _unreached(self, text: str) -> UnavailableError:
        passing = not any(word in text for word in _STAYING)
        fix = "Check that MongoDB listens there" if any(word in text for word in _OTHER_PROTOCOL) else ""
        return UnavailableError(f"{self._url} cannot be reached: {text}", fix=fix, passing=passing)

    def _text(self, error: Exception) -> str:
        """Return the error as one line, without the client's list of settings."""
        line = str(error).partition(", Timeout:")[0].partition(", full error:")[0].partition(" (configured timeouts")[0]
        # Name the command only: its arguments may be data that must not appear in logs.
        line = _QUOTED_COMMAND.sub(r"\1 \2", line)
        return self._url.hide(line).strip().replace("\n", " ")[:_LONGEST]


def is_passing(error: PyMongoError) -> bool:
    """Return whether the same call may succeed at once on another connection, or on the next primary."""
    if error.timeout:
        return False  # the call has already used up its time
    if isinstance(error, BulkWriteError):
        codes = {each.get("code") for each in error.details.get("writeConcernErrors", [])}
        return bool(codes & _PASSING) and not error.details.get("writeErrors")
    if isinstance(error, WriteConcernError) and error.code in _PASSING:
        return True  # the server labels only writes of one document
    return isinstance(error, AutoReconnect) or error.has_error_label("RetryableWriteError")


def refused_by(error: BulkWriteError) -> list[dict[str, Any]]:
    """Return the refused writes of a batch; raise *error* if the server does not know whether it keeps the others."""
    if error.details.get("writeConcernErrors"):
        raise error
    return list(error.details.get("writeErrors", ()))
