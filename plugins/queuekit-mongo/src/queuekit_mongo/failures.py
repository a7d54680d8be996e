"""Turns errors of the client library into ours, which name the fault, the deployment and the fix."""

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
"""Code of a call, or of a transaction, that somebody has ended."""
WRITE_CONFLICT = 112
"""Code of a write, in a transaction, to what another transaction has locked."""
NO_STREAMS = frozenset({13, 20, 59, 136, 40573})
"""Codes by which a server says that it has no change streams for us: not allowed, no replica set, not known."""
_PASSING = frozenset({6, 7, 64, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})
"""Codes of a write whose effect is not sure to be kept: unreachable, timed out, shut down, no primary any more."""
NOT_ALLOWED = 13
"""Code of a call that the user may not make."""
OTHER_INDEX = frozenset({85, 86})
"""Codes of an index that cannot be made beside another of its name or its keys."""
_NOT_SIGNED_IN = frozenset({18, 8000})
_OUT_OF_SPACE = frozenset({14031})
_STAYING = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "Permission denied")
"""Words of connections that do not come about by trying again: TLS that is refused or not spoken, a closed socket."""
_OTHER_PROTOCOL = ("Got response id", "Got opcode", "Message length")
"""Words of a connection on which something else than a reply has come."""
_LONGEST = 300
_NO_PRIMARY = "match selector"
_QUOTED_COMMAND = re.compile(r"(to execute command) \{ (\w+):.*", re.DOTALL)


class Failures:
    """Makes errors for one URL, whose password they never show."""

    def __init__(self, url: EngineURL) -> None:
        self._url = url

    def of(self, error: PyMongoError) -> QueuekitError:
        """Return what to raise for *error*."""
        if isinstance(error, ConfigurationError | InvalidURI | InvalidName):
            return self.of_url(error)
        text = self._text(error)
        if isinstance(error, OperationFailure):
            return self._refused(error, text)
        if error.timeout and not isinstance(error, ServerSelectionTimeoutError):
            return UnavailableError(f"{self._url} did not answer in time: {text}")
        if isinstance(error, ServerSelectionTimeoutError) and _NO_PRIMARY in text:
            fix = (
                "If the replica set is new run  rs.initiate()  in mongosh; else most of its members must see each other"
            )
            return UnavailableError(f"{self._url} answers, but has no primary that takes writes", fix=fix)
        if isinstance(error, ConnectionFailure):
            return self._unreached(text)
        return UnavailableError(f"{self._url} failed: {text}")

    def of_url(self, error: Exception) -> ConfigError:
        """Return what to raise where the client library says by *error* that it cannot use the URL or an option."""
        return ConfigError(f"pymongo cannot use the URL: {self._text(error)}", where=f'  url = "{self._url}"')

    def of_connecting(self) -> UnavailableError:
        """Return what to raise where the time is over before a thread had its turn to connect."""
        return UnavailableError(f"{self._url} cannot be reached: no connection within the time allowed")

    def of_indexes(self, collection: str, names: Sequence[str]) -> QueuekitError:
        """Return what to raise where indexes that are not ours, *names*, keep ours from being made."""
        drops = "; ".join(f'db.getCollection("{collection}").dropIndex("{name}")' for name in names)
        what = f"{self._url} has other indexes on {collection} in the place of ours: {', '.join(names)}"
        return UnavailableError(what, fix=f"Ours are made at the next try after  {drops}", passing=False)

    def of_bytes(self, error: Exception) -> QueuekitError:
        """Return what to raise where a document holds what the client library cannot read."""
        return UnavailableError(f"{self._url} holds a document that cannot be read: {self._text(error)}")

    def of_building(self, collection: str) -> QueuekitError:
        """Return what to raise while an index is being made, which goes on without us."""
        fix = "Wait: where there are many documents it takes a while, and goes on whatever happens here"
        return UnavailableError(f"{self._url}: indexes on {collection} are being made", fix=fix)

    def _refused(self, error: OperationFailure, text: str) -> UnavailableError:
        if error.code in _NOT_SIGNED_IN:
            fix = "Correct user and password in the URL (in them write / as %2F, @ as %40, : as %3A), or set authSource"
            return UnavailableError(f"{self._url} refuses user or password: {text}", fix=fix, passing=False)
        if error.code == NOT_ALLOWED:
            fix = "Grant the user the role readWrite on the database"
            what = f"{self._url} does not allow this user what is needed: {text}"
            return UnavailableError(what, fix=fix, passing=False)
        if error.code in _OUT_OF_SPACE:
            return UnavailableError(f"{self._url} has no disk space left: {text}")
        return UnavailableError(f"{self._url} refused a command: {text}")

    def _unreached(self, text: str) -> UnavailableError:
        passing = not any(word in text for word in _STAYING)
        fix = "Check that MongoDB listens there" if any(word in text for word in _OTHER_PROTOCOL) else ""
        return UnavailableError(f"{self._url} cannot be reached: {text}", fix=fix, passing=passing)

    def _text(self, error: Exception) -> str:
        """Return the error in one line, without the client's list of all its settings."""
        line = str(error).partition(", Timeout:")[0].partition(", full error:")[0].partition(" (configured timeouts")[0]
        # A command is named, not quoted: what stands in it may be data that no log is to have.
        line = _QUOTED_COMMAND.sub(r"\1 \2", line)
        return self._url.hide(line).strip().replace("\n", " ")[:_LONGEST]


def is_passing(error: PyMongoError) -> bool:
    """Return whether the same call may succeed at once on another connection, or on the next primary."""
    if error.timeout:
        return False  # it has waited long enough
    if isinstance(error, BulkWriteError):
        codes = {each.get("code") for each in error.details.get("writeConcernErrors", [])}
        return bool(codes & _PASSING) and not error.details.get("writeErrors")
    return isinstance(error, AutoReconnect) or error.has_error_label("RetryableWriteError")


def refused_by(error: BulkWriteError) -> list[dict[str, Any]]:
    """Return what the server refused of a batch; raise *error* where it does not know whether the rest will be kept."""
    if error.details.get("writeConcernErrors"):
        raise error
    return list(error.details.get("writeErrors", ()))
