"""Who changed what: each action of an operator becomes an event and a record."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

import attrs

from queuekit.backend import Record
from queuekit.client.runtime import Runtime
from queuekit.errors import DecodeError, UnavailableError
from queuekit.events import OperatorActed
from queuekit.ids import LONGEST_PERSON, check_length, new_id
from queuekit.logs.plaintext import clean
from queuekit.timelimit import time_limit
from queuekit.values import frozen
from queuekit.wire.fields import Check, checked, is_count, is_list, is_moment, is_text, read_object

__all__ = ["ACTION", "Action", "named", "person", "read_action", "record_action"]

ACTION = "action:"
"""Prefix of the keys of these records."""
_TTL = 30 * 86_400.0
"""Seconds for which an action is remembered."""
_LONGEST_TEXT = 1_000
"""Most characters that a record keeps of what an action was done to, and of why."""
_MOST_IDS = 100
"""Most ids of messages that a record names."""


@frozen(kw_only=True)
class Action:
    """Something that an operator changed."""

    what: str = attrs.field(converter=clean)
    """The command, e.g. ``dlq retry``."""
    by: str = attrs.field(converter=clean)
    """Who did it: as ``--as`` says, else ``user@host``."""
    at: float
    """UTC epoch seconds."""
    on: str = attrs.field(default="", converter=clean)
    """What it was done to: a queue, a task, a worker or filters."""
    count: int = 0
    """Number of messages that changed."""
    ids: tuple[str, ...] = ()
    """Ids of the first of them."""
    why: str = attrs.field(default="", converter=clean)
    """The reason that the operator gave."""


def person() -> str:
    """Return the user and host of this process, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def named(by: str | None) -> str:
    """Return the name of who does something: *by* or, if that is empty, user and host of this process.

    Raises:
        OptionError: *by* is longer than :data:`LONGEST_PERSON`.
    """
    check_length(by or "", most=LONGEST_PERSON, what="the name of who does this")
    return (by or "").strip() or person()


def record_action(
    runtime: Runtime, what: str, *, by: str | None, on: str = "", ids: Sequence[str] = (), count: int = 0, why: str = ""
) -> Action:
    """Emit the event of an action and, if there is a backend, write its record; return the action.

    A backend that does not answer is ignored: the action itself has happened. For the same reason, texts that are too
    long are cut.
    """
    action = Action(
        what=what,
        by=(by or "").strip()[:LONGEST_PERSON] or person(),
        at=runtime.clock.time(),
        on=on[:_LONGEST_TEXT],
        count=count or len(ids),
        ids=tuple(ids[:_MOST_IDS]),
        why=why[:_LONGEST_TEXT],
    )
    if runtime.backend is not None:
        body = json.dumps(attrs.asdict(action)).encode()
        with suppress(UnavailableError), time_limit(runtime.config.send_timeout):
            runtime.backend.put([Record(key=ACTION + new_id(), body=body, ttl=_TTL)])
    runtime.events.emit(OperatorActed(**{**attrs.asdict(action), "ids": action.ids}))
    return action


_ACTION: dict[str, Check] = {
    **dict.fromkeys(("what", "by", "on", "why"), is_text),
    "at": is_moment,
    "count": is_count,
    "ids": lambda value: is_list(value) and all(map(is_text, value)),
}


def read_action(record: Record) -> Action | None:
    """Return the action in *record*; ``None`` if it is not one."""
    try:
        fields = checked(read_object(record.body), _ACTION)
        fields["ids"] = tuple(fields.get("ids", ()))
        return Action(**fields)
    except (DecodeError, TypeError):
        return None
