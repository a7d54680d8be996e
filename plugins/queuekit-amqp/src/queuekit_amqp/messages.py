"""Convert messages for RabbitMQ: the body unchanged, the other fields as JSON in the header ``queuekit``.

Messages of other producers are read as well: their body may be anything, and their id is ``message_id``, or comes from
the body.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from typing import Any

import attrs
from pika import spec

from queuekit.envelope import Envelope, Unique
from queuekit_amqp.frames import Content, short
from queuekit_amqp.layout import Place

__all__ = ["Counts", "Received", "headers", "properties", "read"]

_HEADER = "queuekit"
_FLAGS = struct.pack(
    ">H",
    spec.BasicProperties.FLAG_HEADERS | spec.BasicProperties.FLAG_DELIVERY_MODE | spec.BasicProperties.FLAG_MESSAGE_ID,
)
_START = b"\x08queuekitS"
_COUNT = b"\x10x-delivery-countl"
"""Start of the header that RabbitMQ adds to each delivery; a number of eight bytes follows."""
_PERSISTENT = b"\x02"
_LENGTH = struct.Struct(">I")
_FIELDS = {
    "delay": ("d", 0.0),
    "not_before": ("b", None),
    "expires": ("x", None),
    "attempt": ("a", 0),
    "generation": ("g", 0),
    "hop": ("h", 0),
}
_GREATEST = 1_000_000
"""Most attempts, generations, hops, claims or crashes."""
_LATEST = 1e12
"""Latest moment of a send, and longest time of a key, in seconds."""
_WHOLE = frozenset({"attempt", "generation", "hop"})
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,120}", re.ASCII)
_dumps = json.JSONEncoder(separators=(",", ":")).encode


@attrs.frozen(kw_only=True)
class Counts:
    """The history that a message keeps when it is published again."""

    number: int = 0
    """Claims before it was published again."""
    crashes: int = 0
    """Claims that ended without a settlement."""
    sent_at: float = 0.0
    """Time of the first send, in UTC epoch seconds."""


@attrs.define
class Received:
    """A message from a queue."""

    envelope: Envelope
    counts: Counts
    """As published; without its deliveries since."""
    deliveries: int
    """Earlier deliveries of this copy, as RabbitMQ counts them: hand-backs are among them."""


def properties(envelope: Envelope, counts: Counts) -> bytes:
    """Return flags and properties of a message."""
    meta: dict[str, Any] = {"s": counts.sent_at}
    if counts.number:
        meta |= {"n": counts.number, "c": counts.crashes}
    for name, (key, usual) in _FIELDS.items():
        value = getattr(envelope, name)
        if value != usual:
            meta[key] = value
    if envelope.unique is not None:
        meta["u"] = [envelope.unique.key, envelope.unique.until, envelope.unique.ttl]
    raw = _dumps(meta).encode()
    entry = _START + _LENGTH.pack(len(raw)) + raw
    return b"".join((_FLAGS, _LENGTH.pack(len(entry)), entry, _PERSISTENT, short(envelope.id)))


def read(content: Content, place: Place) -> Received:
    """Return a message; one of another producer becomes an envelope with its unchanged body (QK9)."""
    id, raw, deliveries = _quick(content.properties) or _slow(content.properties)
    body = content.body
    if not _ID.fullmatch(id):
        id = f"amqp-{hashlib.sha256(id.encode('utf-8', 'surrogatepass') + body).hexdigest()[:32]}"
    meta = _read_meta(raw)
    fields: dict[str, Any] = {
        name: _field(name, meta[key], usual) for name, (key, usual) in _FIELDS.items() if key in meta
    }
    if "u" in meta:
        fields["unique"] = _unique(meta["u"])
    return Received(
        envelope=Envelope(id=id, queue=place.queue, body=body, priority=place.level, **fields),
        counts=Counts(number=_whole(meta.get("n")), crashes=_whole(meta.get("c")), sent_at=_sent(meta.get("s"))),
        deliveries=deliveries,
    )


def _quick(raw: bytes) -> tuple[str, bytes, int] | None:
    """Return id, header and deliveries of a message as :func:`properties` writes it; ``None`` for another one."""
    start = 6 + len(_START)
    if raw[:2] != _FLAGS or raw[6:start] != _START:
        return None
    (size,) = _LENGTH.unpack_from(raw, start)
    end = start + 4 + size
    stop, deliveries = 6 + int.from_bytes(raw[2:6], "big"), 0
    if raw[end : end + len(_COUNT)] == _COUNT:
        counted = end + len(_COUNT)
        end = counted + 8
        deliveries = int.from_bytes(raw[counted:end], "big")
    if stop != end:
        return None  # RabbitMQ has added other headers
    return raw[end + 2 :].decode("utf-8", "replace"), raw[start + 4 : start + 4 + size], deliveries


def headers(raw: bytes) -> dict[str, Any]:
    """Return the headers of a message; empty if they cannot be read."""
    return _decoded(raw)[1]


def _decoded(raw: bytes) -> tuple[str, dict[str, Any]]:
    """Return id and headers of a message, empty if they cannot be read."""
    try:
        found = spec.BasicProperties()
        found.decode(raw)
    except Exception:  # noqa: BLE001 - pika raises many kinds for a malformed table
        return "", {}
    return str(found.message_id or ""), dict(found.headers or {})


def _slow(raw: bytes) -> tuple[str, bytes, int]:
    id, found = _decoded(raw)
    header = found.get(_HEADER, "")
    if isinstance(header, str):
        header = header.encode("utf-8", "surrogatepass")
    text = header if isinstance(header, bytes) else b""
    return id, text, _deliveries(found.get("x-delivery-count"))


def _deliveries(value: Any) -> int:
    # pika has a class of its own for long numbers.
    return _whole(int(value)) if isinstance(value, int) else 0


def _read_meta(raw: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _field(name: str, value: Any, usual: Any) -> Any:
    """Return a field, or its default if the value is not valid."""
    if name in _WHOLE:
        return value if type(value) is int and 0 <= value <= _GREATEST else usual
    number = _moment(value)
    return usual if number is None else number


def _whole(value: Any) -> int:
    return min(value, _GREATEST) if type(value) is int and value > 0 else 0


def _moment(value: Any) -> float | None:
    """Return *value* as a float; ``None`` if it is not a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _sent(value: Any) -> float:
    moment = _moment(value)
    return moment if moment is not None and 0 <= moment <= _LATEST else 0.0


def _unique(value: Any) -> Unique | None:
    match value:
        case [str(key), ("start" | "done" | "ttl") as until, int() | float() as ttl]:
            return Unique(key=key, until=until, ttl=min(_moment(ttl) or 0.0, _LATEST))
        case _:
            return None
