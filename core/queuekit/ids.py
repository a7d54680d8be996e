"""Names of queues and tasks, and ids: one rule for all engines, and ids that sort by time."""

from __future__ import annotations

import os
import re
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queuekit.errors import OptionError, QueuekitError

__all__ = [
    "LONGEST_PERSON",
    "InvalidNameError",
    "check_id",
    "check_length",
    "check_name",
    "derived_id",
    "is_name",
    "module_of",
    "new_id",
    "plain",
    "plain_data",
    "worker_name",
]

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,120}", re.ASCII)
LONGEST_PERSON = 200
"""Most characters of the name of an operator."""
_SHOWN = 60
"""Characters of an invalid name that errors show."""
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""Hex digit with the two variant bits of a UUID set, by random hex digit."""
_FOLLOW_UPS = uuid.UUID("b7d8a7de-6f2a-5c39-9d55-0f6d3c1f6c11")
"""Namespace of derived ids. Never change it: a follow-up sent again by another release must have the same id."""


class InvalidNameError(QueuekitError, ValueError):
    """The name of a queue, task or message has characters that could corrupt an engine's keys, or is too long."""

    code = "QK211"


def is_name(value: object) -> bool:
    """Return whether *value* may name a queue, a task or a message."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def plain(value: str) -> str:
    """Return *value* as a plain str: a subclass, such as a member of ``(str, Enum)``, may be formatted differently."""
    return value if type(value) is str else str.__str__(value)


def plain_data(value: Any) -> Any:
    """Return *value* with plain str and int at any depth, so that other processes can read it without their classes."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def check_name(value: str, *, what: str) -> str:
    """Return *value* as a plain str if it is a valid name; *what* says in errors what it names.

    Raises:
        InvalidNameError: It is empty, longer than 120 characters, or has characters besides ``A-Z a-z 0-9 _ . : -``.
    """
    if is_name(value):
        return plain(value)
    shown = repr(value if isinstance(value, str) and len(value) <= _SHOWN else str(value)[:_SHOWN] + "...")
    raise InvalidNameError(f"{shown} cannot name a {what}", fix="Use 1 to 120 characters out of A-Z a-z 0-9 _ . : -")


def check_length(text: str, *, most: int, what: str) -> None:
    """Raise if *text* is too long to be kept in a record that others read.

    Raises:
        OptionError: It has more than *most* characters.
    """
    if len(text) > most:
        raise OptionError(f"{what} has {len(text):,} characters, above the limit of {most:,}", fix="Shorten it")


def check_id(value: Any, *, what: str = "message") -> str:
    """Return *value*, the id of a *what* to look up, as a plain str.

    Raises:
        InvalidNameError: It is not a valid id.
    """
    if isinstance(value, str):
        return check_name(value, what=what)
    id = getattr(value, "id", None)
    fix = "Pass its id:  .id" if isinstance(id, str) else "Pass an id as text, e.g.  result.id"
    raise InvalidNameError(f"{_shown(value)} is not the id of a {what}", fix=fix)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def new_id() -> str:
    """Return a new UUIDv7 as text: the time in milliseconds, then 74 random bits, so ids sort by time.

    Source:
        RFC 9562, section 5.7.
    """
    moment = f"{time.time_ns() // 1_000_000:012x}"
    chance = os.urandom(10).hex()
    variant = _VARIANT[chance[3]]
    return f"{moment[:8]}-{moment[8:]}-7{chance[:3]}-{variant}{chance[4:7]}-{chance[7:19]}"


def worker_name(first: str | None = None) -> str:
    """Return the host name, or *first*, and the pid, as a valid name."""
    if first is not None:
        return f"{first}-{os.getpid()}"
    import socket  # imported here, since it would double the time that a command takes to show its help

    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:60] or "host"
    return f"{host}-{os.getpid()}"


def derived_id(parent: str, role: str, index: int = 0) -> str:
    """Return the id of a follow-up of *parent*: the same each time, so that a repeated send adds nothing (QK12)."""
    return str(uuid.uuid5(_FOLLOW_UPS, f"{parent}/{role}/{index}"))


def module_of(thing: Any) -> str:
    """Return the module of a function or class; for a script, the name under which a worker imports it."""
    module: str = thing.__module__
    if module not in {"__main__", "__mp_main__"}:  # the latter in processes started by multiprocessing
        return module
    main = sys.modules.get(module) or sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    stem = Path(getattr(main, "__file__", None) or "").stem
    return stem if is_name(stem) else module
