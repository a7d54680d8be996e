"""Keys and values as they are stored: records, and the members of groups.

A key is ``PREFIX:r:KEY`` for a record and ``PREFIX:g:GROUP`` for a group. Characters that Memcached does not allow in
keys are percent-encoded. A key that is too long then is replaced by its SHA-256: ``PREFIX:R:...`` and ``PREFIX:G:...``.

A record is a byte with the version of this layout, the length of its fields, its fields as JSON, and its body. A group
is that byte and a bit for each member.
"""

from __future__ import annotations

import hashlib
import json
import math
from urllib.parse import quote

from queuekit.backend import Record
from queuekit.errors import UnavailableError
from queuekit.layouts import other_layout

__all__ = ["FINAL", "group_key", "life_of", "pack_group", "pack_record", "read_group", "read_record", "record_key"]

FINAL = 1
"""Flag of a final record."""
_LAYOUT = b"\x01"
_LENGTH = 4
"""Bytes of the length of a record's fields."""
_LONGEST_KEY = 250
_LONGEST_ERROR, _LONGEST_TASK, _LONGEST_STATE = 2_000, 500, 100
_MONTH = 2_592_000
"""Seconds above which Memcached takes an expiry for a date."""
_LAST_DATE = 2**31 - 1
_PLAIN = "!#$&'()*+,/:;<=>?@[]^`{|}\"\\~"
"""ASCII characters besides letters, digits and ``_.-`` that stand for themselves; ``%`` does not."""


def record_key(prefix: str, key: str) -> bytes:
    """Return the key of a record."""
    return _key(f"{prefix}:r:", f"{prefix}:R:", key)


def group_key(prefix: str, group: str) -> bytes:
    """Return the key of a group."""
    return _key(f"{prefix}:g:", f"{prefix}:G:", group)


def _key(start: str, start_of_digest: str, key: str) -> bytes:
    text = start + quote(key, safe=_PLAIN, errors="surrogatepass")
    if len(text) > _LONGEST_KEY:
        text = start_of_digest + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return text.encode("ascii")


def life_of(ttl: float | None, *, now: float) -> int | None:
    """Return the end of an item as Memcached takes it: seconds from now, or a date if it is more than 30 days away.

    It is up to two seconds later than *ttl*, never earlier: Memcached counts whole seconds, and the first of them may
    be nearly over. An end beyond 2038, which Memcached cannot represent, is ``None``, never.

    Args:
        ttl: Seconds from now; ``None`` for no end.
        now: The server's time, in UTC epoch seconds.
    """
    if ttl is None or ttl > _LAST_DATE:
        return None
    life = max(0, math.ceil(ttl)) + 1
    if life <= _MONTH:
        return life
    date = math.ceil(now) + life
    return None if date > _LAST_DATE else date


def pack_record(record: Record) -> bytes:
    """Return the value of a record; texts about it are cut to a few thousand characters."""
    fields = [
        record.rank,
        record.final,
        record.task and record.task[:_LONGEST_TASK],
        record.state and record.state[:_LONGEST_STATE],
        record.error and record.error[:_LONGEST_ERROR],
        record.at,
    ]
    head = json.dumps(fields, separators=(",", ":")).encode("ascii")
    return b"".join((_LAYOUT, len(head).to_bytes(_LENGTH, "big"), head, record.body))


def read_record(key: str, value: bytes, *, version: int, left: int) -> Record:
    """Return the record *key*.

    Args:
        key: Key of the record.
        value: As stored.
        version: Its version.
        left: Seconds until it expires, as Memcached counts them; -1 for never.

    Raises:
        UnavailableError: Another release of queuekit has stored it, or another program.
    """
    _check_layout(value)
    start = 1 + _LENGTH
    end = start + int.from_bytes(value[1:start], "big")
    try:
        rank, final, task, state, error, at = json.loads(value[start:end])
    except (ValueError, TypeError, RecursionError) as fault:
        what = f"Memcached holds something that is not a record under the key of {key}"
        raise UnavailableError(what, fix="Set another prefix", passing=False) from fault
    return Record(
        key=key,
        body=value[end:],
        ttl=None if left < 0 else float(max(0, left - 1)),
        rank=rank,
        final=final,
        version=version,
        task=task,
        state=state,
        error=error,
        at=at,
    )


def pack_group(members: int) -> bytes:
    """Return the value of a group, whose *members* are the bits of a number."""
    return _LAYOUT + members.to_bytes((members.bit_length() + 7) // 8, "little")


def read_group(value: bytes) -> int:
    """Return the members of a group; see :func:`pack_group`.

    Raises:
        UnavailableError: Another release of queuekit has stored it.
    """
    _check_layout(value)
    return int.from_bytes(value[1:], "little")


def _check_layout(value: bytes) -> None:
    if value[:1] != _LAYOUT:
        found = str(value[0]) if value else "none"
        raise other_layout("Memcached", found=found, known=_LAYOUT[0], elsewhere="set another prefix")
