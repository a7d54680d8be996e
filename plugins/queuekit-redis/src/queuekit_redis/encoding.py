"""Convert envelopes and records to bytes and back; the scripts in ``lua/`` read the same layout."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from queuekit.backend import Record
from queuekit.broker import Delivery, Place, Stored
from queuekit.envelope import Envelope, Lane, Unique
from queuekit.errors import TooLargeError
from queuekit.values import quickly

__all__ = [
    "Claim",
    "death_record",
    "micros",
    "pack_due",
    "pack_envelope",
    "pack_record",
    "pack_step",
    "read_deliveries",
    "read_record",
    "read_stored",
]

_HEADER = struct.Struct("<bBIII")
_VALUE = struct.Struct("<cdbBIII")
_STEP = struct.Struct("<III")
_PAIR = struct.Struct("<dd")
_DOUBLE = struct.Struct("<d")
_UNIQUE = struct.Struct("<BdH")
_LANE = struct.Struct("<dH")
_HAS_EXPIRES, _HAS_NOT_BEFORE, _HAS_UNIQUE, _HAS_LANE = 1, 2, 4, 8
_UNTIL: tuple[Literal["start", "done", "ttl"], ...] = ("start", "done", "ttl")

_RECORD = struct.Struct("<dB")
_RECORD_AT = struct.Struct("<dBd")
_RECORD_HEAD = struct.Struct("<dddB")
_LENGTH = struct.Struct("<I")
_FINAL, _HAS_AT, _HAS_TASK, _HAS_STATE, _HAS_ERROR = 1, 2, 4, 8, 16
_TEXTS = (("task", _HAS_TASK), ("state", _HAS_STATE), ("error", _HAS_ERROR))

_UNREADABLE = (struct.error, ValueError, IndexError, OverflowError)
"""Errors that foreign bytes may raise."""

LATEST = 9e15
"""Latest time, in microseconds; later ones are clamped to it."""
MAX_ERROR_CHARACTERS = 2_000
MAX_KEY_BYTES = 65_535


def micros(seconds: float) -> float:
    """Return *seconds* in whole microseconds, clamped to the range that a double holds exactly."""
    return float(round(min(max(seconds * 1e6, -LATEST), LATEST)))


# -- messages ------------------------------------------------------------------------------------------------------


def pack_envelope(envelope: Envelope) -> bytes:
    """Return the stored bytes of *envelope*, without its id and queue."""
    unmarked = envelope.unique is None and envelope.lane is None
    if unmarked and envelope.expires is None and envelope.not_before is None:
        head = _HEADER.pack(envelope.priority, 0, envelope.generation, envelope.attempt, envelope.hop)
        return head + envelope.body
    flags, extras = 0, b""
    if envelope.expires is not None:
        flags, extras = flags | _HAS_EXPIRES, extras + _DOUBLE.pack(envelope.expires)
    if envelope.not_before is not None:
        flags, extras = flags | _HAS_NOT_BEFORE, extras + _DOUBLE.pack(envelope.not_before)
    unique = envelope.unique
    if unique is not None:
        key = unique.key.encode()
        if len(key) > MAX_KEY_BYTES:
            size = f"{len(key):,} bytes, above the limit of {MAX_KEY_BYTES:,}"
            raise TooLargeError(f"the unique key of message {envelope.id} has {size}")
        flags |= _HAS_UNIQUE
        extras += _UNIQUE.pack(_UNTIL.index(unique.until), unique.ttl, len(key)) + key
    if envelope.lane is not None:
        name = envelope.lane.key.encode()
        flags, extras = flags | _HAS_LANE, extras + _LANE.pack(envelope.lane.weight, len(name)) + name
    head = _HEADER.pack(envelope.priority, flags, envelope.generation, envelope.attempt, envelope.hop)
    return head + extras + envelope.body


def pack_due(envelope: Envelope) -> bytes:
    """Return delay and ``not_before`` for the scripts; empty bytes if there are none."""
    if envelope.delay <= 0 and envelope.not_before is None:
        return b""
    return _PAIR.pack(micros(envelope.delay), micros(envelope.not_before or 0.0))


def pack_step(envelope: Envelope) -> bytes:
    """Return generation, attempt and hop of the message; empty bytes if all are 0."""
    if not envelope.attempt and not envelope.generation and not envelope.hop:
        return b""
    return _STEP.pack(envelope.generation, envelope.attempt, envelope.hop)


def pack_sent_at(sent_at: float) -> bytes:
    """Return when a message was sent, as the scripts store it."""
    return _DOUBLE.pack(micros(sent_at))


_envelope, _delivery = quickly(Envelope), quickly(Delivery)


def _read_envelope(queue: str, id: bytes, value: bytes) -> tuple[Envelope, float]:
    """Return a stored message, and the time at which it was sent."""
    _, sent, priority, flags, generation, attempt, hop = _VALUE.unpack_from(value)
    if not flags:
        body = value[_VALUE.size :]
        return (
            _envelope(
                id=id.decode(),
                queue=queue,
                body=body,
                priority=priority,
                attempt=attempt,
                generation=generation,
                hop=hop,
            ),
            sent / 1e6,
        )
    fields, at = _read_extras(value, flags)
    envelope = Envelope(
        id=id.decode(),
        queue=queue,
        body=value[at:],
        priority=priority,
        attempt=attempt,
        generation=generation,
        hop=hop,
        **fields,
    )
    return envelope, sent / 1e6


def _malformed(queue: str, id: bytes, value: bytes) -> Envelope:
    """Return a message whose body is the foreign *value*: its worker will dead-letter it (QK9)."""
    return Envelope(id=id.decode(errors="backslashreplace"), queue=queue, body=value)


def _read_extras(value: bytes, flags: int) -> tuple[dict[str, Any], int]:
    """Return the optional fields, and the offset of the body."""
    at, fields = _VALUE.size, dict[str, Any]()
    for flag, name in ((_HAS_EXPIRES, "expires"), (_HAS_NOT_BEFORE, "not_before")):
        if flags & flag:
            (fields[name],) = _DOUBLE.unpack_from(value, at)
            at += _DOUBLE.size
    if flags & _HAS_UNIQUE:
        until, ttl, length = _UNIQUE.unpack_from(value, at)
        at += _UNIQUE.size
        fields["unique"] = Unique(key=value[at : at + length].decode(), until=_UNTIL[until], ttl=ttl)
        at += length
    if flags & _HAS_LANE:
        weight, length = _LANE.unpack_from(value, at)
        at += _LANE.size
        fields["lane"] = Lane(value[at : at + length].decode(), weight)
        at += length
    return fields, at


class Claim(NamedTuple):
    """The values that all messages of one claim share."""

    token: str
    """Prefix of their tokens; the number of each message in the batch follows."""
    claimed_at: float
    """UTC epoch seconds."""
    unmarked: bool
    """Whether none of them has a mark."""


def read_deliveries(
    queue: str, flat: Sequence[Any], again: Sequence[int], *, first: int, claim: Claim
) -> tuple[list[Delivery], list[tuple[bytes, str]]]:
    """Return the deliveries of a claim from one queue, and id and token of each message whose id is not text.

    Args:
        queue: Its name.
        flat: Alternating ids and messages.
        again: Index, number and crashes of each message that was claimed before.
        first: Number of the first message in the batch.
        claim: The values that they share.
    """
    token, claimed_at, unmarked = claim
    counted = {again[at]: (again[at + 1], again[at + 2]) for at in range(0, len(again), 3)}
    deliveries, unnamed = list[Delivery](), list[tuple[bytes, str]]()
    for place in range(len(flat) // 2):
        try:
            envelope, sent_at = _read_envelope(queue, flat[place * 2], flat[place * 2 + 1])
        except _UNREADABLE:
            if not _is_text(flat[place * 2]):
                unnamed.append((flat[place * 2], f"{token}{first + place}"))
                continue
            envelope, sent_at = _malformed(queue, flat[place * 2], flat[place * 2 + 1]), 0.0
        number, crashes = counted.get(place, (1, 0)) if counted else (1, 0)
        deliveries.append(
            _delivery(
                envelope=envelope,
                token=f"{token}{first + place}",
                number=number,
                crashes=crashes,
                sent_at=sent_at,
                claimed_at=claimed_at,
                unmarked=unmarked,
            )
        )
    return deliveries, unnamed


def _is_text(id: bytes) -> bool:
    try:
        id.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_stored(queue: str, place: Place, reply: Sequence[Any]) -> Stored:
    """Return the message in a reply of ``peek`` or ``find``."""
    id, value, number, crashes, score, why = reply
    try:
        envelope, sent_at = _read_envelope(queue, id, value)
    except _UNREADABLE:
        envelope, sent_at = _malformed(queue, id, value), 0.0
    reason, holder, error = _read_death_record(why)
    at = float(score) / 1e6
    return Stored(
        envelope=envelope,
        place=place,
        due=at,
        sent_at=sent_at,
        number=number,
        crashes=crashes,
        reason=reason,
        holder=holder,
        error=error,
        died_at=at if place is Place.DEAD else None,
    )


def death_record(*, reason: str, holder: str = "", error: str = "") -> bytes:
    """Return the death record of a message, as the scripts store it."""
    texts = (reason, holder, error[:MAX_ERROR_CHARACTERS])
    return b"".join(_LENGTH.pack(len(data)) + data for data in (_encode(text) for text in texts))


def _read_death_record(data: bytes) -> tuple[str, str, str]:
    texts, at = ["", "", ""], 0
    for index in range(len(texts) if data else 0):
        texts[index], at = _read_text(data, at)
    return texts[0], texts[1], texts[2]


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    start = at + _LENGTH.size
    return data[start : start + length].decode("utf-8", "surrogatepass"), start + length


# -- records -------------------------------------------------------------------------------------------------------


def pack_record(record: Record) -> bytes:
    """Return the stored bytes of *record*, without version and end of life, which the server adds."""
    flags, texts = _packed_names(record.task, record.state)
    if record.final:
        flags |= _FINAL
    if record.error is not None:
        flags |= _HAS_ERROR
        texts += _packed_text(record.error)
    if record.at is None:
        return _RECORD.pack(record.rank, flags) + texts + record.body
    return _RECORD_AT.pack(record.rank, flags | _HAS_AT, record.at) + texts + record.body


@lru_cache(maxsize=256)
def _packed_names(task: str | None, state: str | None) -> tuple[int, bytes]:
    """Return the flags and the bytes of texts that many records share."""
    flags = (0 if task is None else _HAS_TASK) | (0 if state is None else _HAS_STATE)
    return flags, b"".join(_packed_text(text) for text in (task, state) if text is not None)


def _packed_text(text: str) -> bytes:
    data = _encode(text)
    return _LENGTH.pack(len(data)) + data


def read_record(key: str, value: bytes, now: float) -> Record | None:
    """Return the record stored as *value*; ``None`` for foreign bytes. *now*: the server's time in microseconds."""
    try:
        version, ends, rank, flags = _RECORD_HEAD.unpack_from(value)
        at, fields = _RECORD_HEAD.size, dict[str, Any]()
        if flags & _HAS_AT:
            (fields["at"],) = _DOUBLE.unpack_from(value, at)
            at += _DOUBLE.size
        for name, flag in _TEXTS:
            if flags & flag:
                fields[name], at = _read_text(value, at)
        return Record(
            key=key,
            body=value[at:],
            ttl=max(0.0, (ends - now) / 1e6) if ends else None,
            rank=int(rank),
            final=bool(flags & _FINAL),
            version=int(version),
            **fields,
        )
    except _UNREADABLE:
        return None
