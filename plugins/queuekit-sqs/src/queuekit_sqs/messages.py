"""Convert messages for SQS: a body of text, and attributes for the fields that must be readable without it.

==========================  ============================================================================
``queuekit-id``             id of the message
``queuekit-meta``           JSON of the fields that differ from their defaults: priority, attempt ...
``queuekit-encoding``       ``base64`` for a body that is not text; ``s3`` for a pointer to a large one
``queuekit-reason``         why a message is a dead letter; also ``-holder``, ``-error`` and ``-died``
==========================  ============================================================================

A body that is text stays unchanged, so that the console can show it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from queuekit.envelope import DEFAULT_PRIORITY, Envelope, Lane, Unique

__all__ = ["Counts", "OutgoingMessage", "Received", "earliness", "read", "unreadable_text", "write"]

_ID, _META, _ENCODING = "queuekit-id", "queuekit-meta", "queuekit-encoding"
_LONGEST_WAIT = 2.0
"""Most seconds that a message may arrive early: one by SQS's rounding, and one by different clocks."""
_DEATH_RECORD = {name: f"queuekit-{name}" for name in ("reason", "holder", "error", "died")}
# Characters that SQS refuses in a text: all except those of XML 1.0.
_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_META_FIELDS = {
    "priority": ("p", DEFAULT_PRIORITY),
    "delay": ("d", 0.0),
    "not_before": ("b", None),
    "expires": ("x", None),
    "attempt": ("a", 0),
    "generation": ("g", 0),
    "hop": ("h", 0),
}
_GREATEST = 1_000_000
"""Most attempts, generations, hops, claims or crashes, so that the rank of a record fits into DynamoDB."""
_LATEST = 1e12
"""Latest moment of a send, and longest time of a key, in seconds."""
_MOST = {"priority": 9, "attempt": _GREATEST, "generation": _GREATEST, "hop": _GREATEST}


@attrs.frozen(kw_only=True)
class Counts:
    """The history that a message keeps when it is sent again.

    Attributes:
        number: Number of claims before it was sent again.
        crashes: Number of claims that ended without a settlement.
        sent_at: Time of the first send, in UTC epoch seconds.
    """

    number: int = 0
    crashes: int = 0
    sent_at: float | None = None


@attrs.frozen(kw_only=True)
class OutgoingMessage:
    """A message to send.

    Attributes:
        body: Body in SQS, as text.
        attributes: Message attributes, as in a request.
    """

    body: str
    attributes: dict[str, dict[str, str]]

    @property
    def size(self) -> int:
        """Size in bytes, as SQS counts it."""
        named = sum(len(name) + 6 + len(value["StringValue"].encode()) for name, value in self.attributes.items())
        return len(self.body.encode()) + named


@attrs.frozen(kw_only=True)
class Received:
    """A received message.

    Attributes:
        envelope: The message.
        counts: What it carries of its history.
        pointer: Pointer to the body in S3, if it is stored there.
        death_record: Reason, holder, error and time of a dead letter.
    """

    envelope: Envelope
    counts: Counts
    pointer: str | None = None
    death_record: Mapping[str, str]


def write(
    envelope: Envelope,
    *,
    counts: Counts | None = None,
    pointer: str | None = None,
    death_record: Mapping[str, str] | None = None,
    wait: float = 0.0,
) -> OutgoingMessage:
    """Return *envelope* as a message, with *pointer* instead of the body, if given.

    *wait* is the number of seconds from the send until the message is due, if SQS cannot delay it exactly.
    """
    text, encoding = (pointer, "s3") if pointer is not None else _text(envelope.body)
    attributes = {_ID: envelope.id}
    meta = _meta(envelope, counts or Counts())
    if wait > 0:
        meta["w"] = round(wait, 6)
    if meta:
        attributes[_META] = _ascii(meta)
    if encoding:
        attributes[_ENCODING] = encoding
    attributes |= _death_attributes(death_record or {})
    return OutgoingMessage(
        body=text,
        attributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    )


def _death_attributes(record: Mapping[str, str]) -> dict[str, str]:
    """Return what is known of a death as attributes, without characters that SQS refuses."""
    return {
        _DEATH_RECORD[name]: _REFUSED.sub("\N{REPLACEMENT CHARACTER}", value) for name, value in record.items() if value
    }


def read(message: Mapping[str, Any], queue: str) -> Received:
    """Return a received SQS message; a foreign one becomes an envelope with its unchanged body (QK9)."""
    values = {name: str(value.get("StringValue", "")) for name, value in message.get("MessageAttributes", {}).items()}
    meta = _read_meta(values.get(_META, ""))
    body, encoding = str(message.get("Body", "")), values.get(_ENCODING, "")
    fields = {name: _field(meta, name, key, usual) for name, (key, usual) in _META_FIELDS.items()}
    envelope = Envelope(
        id=values.get(_ID) or str(message.get("MessageId", "")),
        queue=queue,
        body=_decoded(body) if encoding == "base64" else body.encode("utf-8", "surrogatepass"),
        unique=_unique(meta.get("u")),
        lane=_lane(meta.get("l")),
        **fields,
    )
    return Received(
        envelope=envelope,
        counts=Counts(number=_whole(meta.get("n")), crashes=_whole(meta.get("c")), sent_at=_sent(meta.get("s"))),
        pointer=body if encoding == "s3" else None,
        death_record={name: values[key] for name, key in _DEATH_RECORD.items() if key in values},
    )


def earliness(message: Mapping[str, Any], now: float) -> float:
    """Return for how many seconds to hold a message that SQS delivered early; *now* is the service's time.

    A message that is due much later is re-delayed instead.
    """
    meta = _read_meta(str(message.get("MessageAttributes", {}).get(_META, {}).get("StringValue", "")))
    wait, moment = _moment(meta.get("w")), _moment(meta.get("b"))
    left = 0.0
    if wait is not None:
        # SQS truncates the timestamp to milliseconds.
        sent = (int(message.get("Attributes", {}).get("SentTimestamp", 0)) + 1) / 1000
        left = min(sent + wait - now, _LONGEST_WAIT)
    if moment is not None and moment - now <= 1:
        left = max(left, moment - now)
    return max(0.0, left)


def unreadable_text(body: str) -> bool:
    """Return whether SQS would refuse *body*."""
    return not body or _REFUSED.search(body) is not None


def _text(body: bytes) -> tuple[str, str]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    if unreadable_text(text):
        # SQS refuses an empty text as well, so an empty body becomes "=", which is not valid base64.
        return base64.b64encode(body).decode() or "=", "base64"
    return text, ""


def _decoded(body: str) -> bytes:
    if body == "=":
        return b""
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return body.encode()


def _meta(envelope: Envelope, counts: Counts) -> dict[str, Any]:
    meta = {
        key: getattr(envelope, name) for name, (key, usual) in _META_FIELDS.items() if getattr(envelope, name) != usual
    }
    if envelope.unique is not None:
        meta["u"] = [envelope.unique.key, envelope.unique.until, envelope.unique.ttl]
    if envelope.lane is not None:
        meta["l"] = [envelope.lane.key, envelope.lane.weight]
    if counts.number:
        meta |= {"n": counts.number, "c": counts.crashes}
    if counts.sent_at is not None:
        meta["s"] = counts.sent_at
    return meta


def _ascii(meta: dict[str, Any]) -> str:
    return json.dumps(meta, separators=(",", ":"))


def _read_meta(text: str) -> dict[str, Any]:
    try:
        meta = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _field(meta: dict[str, Any], name: str, key: str, usual: Any) -> Any:
    """Return a field, or its default if the value is not valid."""
    value = meta.get(key, usual)
    if name in _MOST:
        return value if type(value) is int and 0 <= value <= _MOST[name] else usual
    number = _moment(value)
    return usual if number is None else number


def _whole(value: Any) -> int:
    return min(value, _GREATEST) if type(value) is int and value > 0 else 0


def _moment(value: Any) -> float | None:
    """Return *value* as a float; ``None`` if it is not a number or does not fit."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _sent(value: Any) -> float | None:
    moment = _moment(value)
    return moment if moment is not None and 0 <= moment <= _LATEST else None


def _lane(value: Any) -> Lane | None:
    match value:
        case [str(key), int() | float() as weight]:
            return Lane(key, min(max(_moment(weight) or 1.0, 0.01), 1_000.0))
        case _:
            return None


def _unique(value: Any) -> Unique | None:
    match value:
        case [str(key), ("start" | "done" | "ttl") as until, int() | float() as ttl]:
            return Unique(key=key, until=until, ttl=min(_moment(ttl) or 0.0, _LATEST))
        case _:
            return None
