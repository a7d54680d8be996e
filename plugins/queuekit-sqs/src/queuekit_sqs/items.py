"""Convert records and groups to items of the table, and build the expressions that write them.

==================  ===================================  ==================================================
kind of item        ``pk``                               ``sk``
==================  ===================================  ==================================================
record              ``r:<kind>:<shard>``                 the record's key
group               ``g:<name>``                         ``group``
known kind          ``kinds``                            the kind
layout version      ``layout``                           ``layout``
==================  ===================================  ==================================================

A record's kind is the part of its key before the first colon. Records of one kind are spread over a few shards, so that
one query per shard finds them by prefix, and no partition gets all writes.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from typing import Any

import attrs

from queuekit.backend import Condition, Record

__all__ = [
    "KINDS",
    "LAYOUT",
    "LAYOUT_KEY",
    "Item",
    "Op",
    "Stamp",
    "delete",
    "group_key",
    "is_live",
    "key_of",
    "kind_of",
    "number",
    "partition",
    "put",
    "read_record",
]

Value = dict[str, Any]
Item = dict[str, Value]

LAYOUT = 1
"""Version of the items, stored in the table. A release with another version refuses to use it."""
LAYOUT_KEY: Item = {"pk": {"S": "layout"}, "sk": {"S": "layout"}}
KINDS = "kinds"
"""Partition that lists the kinds of records."""
# Every name has an underscore, which no reserved word of DynamoDB has, so expressions need no aliases.
_LIVE = "(attribute_not_exists(live_until) OR live_until > :now)"
_GONE = "(attribute_not_exists(pk) OR live_until <= :now)"
_CONDITIONS = {
    Condition.ALWAYS: "",
    Condition.ABSENT: _GONE,
    Condition.NEWER: f"({_GONE} OR record_rank < :rank)",
    Condition.SAME: "",
}
_WHOLE = re.compile(r"-?[0-9]{1,40}")
_TEXTS = {"task": "task_name", "state": "task_state", "error": "task_error"}


@attrs.frozen(kw_only=True)
class Op:
    """A conditional write of one item.

    Attributes:
        verb: ``Put`` or ``Delete``, as in a transaction.
        key: Key of the record.
        fields: Fields of the request, except the table's name.
        writer: Stored in the item, so that a writer that got no reply can find out whether the write succeeded.
        size: Approximate size in bytes.
    """

    verb: str
    key: str
    fields: dict[str, Any]
    writer: str = ""
    size: int = 0


@attrs.frozen(kw_only=True)
class Stamp:
    """The identity of one write.

    Attributes:
        now: UTC epoch seconds on the service's clock.
        version: Greater than all earlier versions.
        writer: Random text that names the writer.
    """

    now: float
    version: int
    writer: str


def kind_of(key: str) -> str:
    """Return the kind of a record's key; empty without a colon."""
    kind, colon, _ = key.partition(":")
    return kind if colon else ""


def partition(kind: str, shard: int) -> str:
    """Return the partition of a shard of a kind."""
    return f"r:{kind}:{shard}"


def key_of(key: str, shards: int) -> Item:
    """Return the item key of the record *key*."""
    shard = zlib.crc32(key.encode("utf-8", "surrogatepass")) % shards
    return {"pk": {"S": partition(kind_of(key), shard)}, "sk": {"S": key}}


def group_key(name: str) -> Item:
    """Return the item key of a group."""
    return {"pk": {"S": f"g:{name}"}, "sk": {"S": "group"}}


def number(value: float) -> Value:
    """Return a number in DynamoDB's format."""
    return {"N": repr(value)}


def put(record: Record, condition: Condition, expect: int | None, *, stamp: Stamp, shards: int) -> Op:
    """Return the write of *record* under *condition* and *expect*."""
    item = {**key_of(record.key, shards), **_values(record, stamp)}
    if condition is Condition.SAME:
        expect = record.version
    text = " AND ".join(part for part in (_CONDITIONS[condition], _expected(expect)) if part)
    fields: dict[str, Any] = {"Item": item, **_condition(text, stamp.now, expect, rank=record.rank)}
    size = len(record.body) + 4 * (len(record.error or "") + len(record.key)) + 1_000
    return Op(verb="Put", key=record.key, fields=fields, writer=stamp.writer, size=size)


def delete(key: str, expect: int | None, *, now: float, shards: int) -> Op:
    """Return the deletion of the live record *key*, with *expect* only of that version."""
    text = f"attribute_exists(pk) AND {_LIVE}" + ("" if expect is None else " AND record_version = :expect")
    return Op(verb="Delete", key=key, fields={"Key": key_of(key, shards), **_condition(text, now, expect)})


def is_live(item: Item, now: float) -> bool:
    """Return whether an item has not expired; DynamoDB may remove expired items days later."""
    return "live_until" not in item or (_number(item, "live_until") or 0.0) > now


def read_record(item: Item, now: float) -> Record:
    """Return the record of a live item. Skip malformed fields, so that one bad item does not hide other records."""
    until = _number(item, "live_until")
    body = item.get("record_body", {}).get("B", b"")
    return Record(
        key=item["sk"]["S"],
        body=_bytes(body),
        ttl=None if until is None else until - now,
        rank=_whole(item, "record_rank"),
        final=item.get("is_final", {}).get("BOOL") is True,
        version=_whole(item, "record_version"),
        task=_text(item, "task_name"),
        state=_text(item, "task_state"),
        error=_text(item, "task_error"),
        at=_number(item, "moved_at"),
    )


def _values(record: Record, stamp: Stamp) -> Item:
    values: Item = {
        "record_body": {"B": record.body},
        "record_rank": {"N": str(record.rank)},
        "record_version": {"N": str(stamp.version)},
        "is_final": {"BOOL": record.final},
        "written_by": {"S": stamp.writer},
    }
    for field, name in _TEXTS.items():
        text = getattr(record, field)
        if text is not None:
            values[name] = {"S": text.encode("utf-8", "replace").decode()}
    if record.at is not None:
        values["moved_at"] = number(record.at)
    if record.ttl is not None:
        until = round(stamp.now + record.ttl, 3)
        values["live_until"] = number(until)
        values["expires_at"] = {"N": str(math.ceil(until))}  # for DynamoDB's time to live, which needs whole seconds
    return values


def _expected(expect: int | None) -> str:
    if expect is None:
        return ""
    return f"record_version = :expect AND {_LIVE}" if expect else _GONE


def _condition(text: str, now: float, expect: int | None, *, rank: int = 0) -> dict[str, Any]:
    """Return the condition fields of a request, with the values that *text* names."""
    if not text:
        return {}
    values = {":now": number(now), ":expect": {"N": str(expect)}, ":rank": {"N": str(rank)}}
    bound = {name: value for name, value in values.items() if name in text}
    return {"ConditionExpression": text, "ExpressionAttributeValues": bound}


def _bytes(value: bytes | str) -> bytes:
    """Return a value of type ``B``; it is base64 if the client library did not decode it."""
    return base64.b64decode(value) if isinstance(value, str) else bytes(value)


def _text(item: Item, name: str) -> str | None:
    text = item.get(name, {}).get("S")
    return None if text is None else str(text)


def _number(item: Item, name: str) -> float | None:
    value = item.get(name, {}).get("N")
    return None if value is None else float(value)


def _whole(item: Item, name: str) -> int:
    value = str(item.get(name, {}).get("N"))
    return int(value) if _WHOLE.fullmatch(value) else 0
