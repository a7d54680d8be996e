"""Commit items, each by the quickest script that can do it, and all of them in one round trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from queuekit.backend import Record
from queuekit.broker import CommitItem
from queuekit.envelope import Envelope
from queuekit_redis.encoding import pack_due, pack_envelope, pack_record
from queuekit_redis.keys import RESULT, Keys
from queuekit_redis.server import RedisCall, call_script, run
from queuekit_redis.settling import commit_arguments, is_plain, is_plain_ack, milliseconds, send_arguments

__all__ = ["Commit", "Commitment", "quick_send", "send_call", "single_send"]


class Commitment:
    """The calls that commit some items, and the meaning of their replies.

    Args:
        items: The items to commit.
        keys: Names of keys.
        fixed: Seconds that ids are remembered, and the nonce by which a repeated call finds its own work.
        quick: Whether to use the quick scripts.
    """

    def __init__(
        self, items: Sequence[CommitItem], *, keys: Keys, fixed: tuple[int, bytes], quick: bool = True
    ) -> None:
        self._items = items
        self._keys = keys
        self._fixed = fixed
        self._queues: list[str] = []
        self._ways: dict[_Way, list[int]] = {}
        for place, way in enumerate(_ways(items) if quick else [_ANY] * len(items)):
            if way in self._ways:
                self._ways[way].append(place)
            else:
                self._ways[way] = [place]
        self.calls: list[RedisCall] = [
            self._call(way, [items[place] for place in places]) for way, places in self._ways.items()
        ]

    def _call(self, way: _Way, items: Sequence[CommitItem]) -> RedisCall:
        script, queue, kind, ttl = way
        if script == "commit":
            self._queues, arguments = commit_arguments(items, self._keys)
            names = [self._keys.queue(name) for name in self._queues]
            fixed = (self._keys.unique(""), *self._fixed, self._keys.record(""), self._keys.channel(""))
            return call_script("commit", names, (*fixed, *arguments))
        if script == "send":
            return send_call(self._keys, queue, [item.sends[0] for item in items], plain=False)
        if script == "plain":
            return _plain_sends(self._keys, way, items)
        keys = (self._keys.queue(queue),)
        if script == "ack":
            return run("ack", keys, (*self._fixed, *_tokens(items)))
        places = (self._keys.record(""), self._keys.channel(""))
        return run("finish", keys, (*self._fixed, *places, kind, ttl, *_finishing(items)))

    def result(self, replies: Sequence[Any]) -> Commit:
        """Return the result that *replies* describe."""
        result = Commit([True] * len(self._items), [], set())
        for ((script, queue, _, _), places), reply in zip(self._ways.items(), replies, strict=True):
            if script == "commit":
                self._read_commit(places, reply, result)
            elif script in ("ack", "finish"):
                for at in reply:
                    result.done[places[at]] = False
            else:
                if reply[0] == 1:
                    result.new.add(queue)
                if script != "send":
                    result.left.extend(places[at] for at in reply[1:])
        return result

    def _read_commit(self, places: Sequence[int], reply: Sequence[int], result: Commit) -> None:
        """Store the reply of ``commit.lua`` in *result*: whether each item was done, then the new queues."""
        for place, yes in zip(places, reply, strict=False):
            result.done[place] = yes == 1
        result.new.update(self._queues[number - 1] for number in reply[len(places) :])


class Commit(NamedTuple):
    """The result of a commitment."""

    done: list[bool]
    """Whether each item was done."""
    left: list[int]
    """Indexes of items that were sent before, or whose record exists: they need the slower script."""
    new: set[str]
    """Queues that are new."""


_Way = tuple[str, str, str, int]
"""The properties that all items of one call share: the script; the queue, if it serves one; the prefix, before the id
of the message, of the keys of their records; the lifetime of these in milliseconds (-1: forever, 0: no records)."""
_ANY: _Way = ("commit", "", "", 0)


def _ways(items: Sequence[CommitItem]) -> list[_Way]:
    """Return the way of each of *items*; sends with and without a record share a call, to keep their order."""
    ways = [_way(item) for item in items]
    stored = {way[1]: way for way in ways if way[0] == "plain" and way[3]}
    return [stored.get(way[1], way) if way[0] == "plain" and not way[3] else way for way in ways] if stored else ways


def _way(item: CommitItem) -> _Way:
    """Return the way of *item*."""
    if item.joins or len(item.records) > 1:
        return _ANY
    if item.settlement is None:
        return _way_of_sends(item.sends, item.records)
    if item.sends or not is_plain_ack(item.settlement):
        return _ANY
    delivery = item.settlement.delivery
    if not item.records:
        return ("ack", delivery.envelope.queue, "", 0)
    # A message that was claimed before may have a record of any size, and `finish` reads records as a whole.
    return _ANY if delivery.number > 1 else _with_record("finish", delivery.envelope, item.records[0])


def _way_of_sends(sends: Sequence[Envelope], records: Sequence[Record]) -> _Way:
    if len(sends) != 1:
        return _ANY
    (envelope,) = sends
    if not records:
        return ("plain" if is_plain(envelope) else "send", envelope.queue, "", 0)
    return _with_record("plain", envelope, records[0]) if is_plain(envelope) and not records[0].final else _ANY


def _with_record(script: str, envelope: Envelope, record: Record) -> _Way:
    """Return the way by *script*, which derives the key of a record from the id of its message."""
    key, id = record.key, envelope.id
    if key != RESULT + id:  # which is all that this script writes: it lists no record
        return _ANY
    return (script, envelope.queue, RESULT, milliseconds(record.ttl))


def _tokens(items: Sequence[CommitItem]) -> Iterator[str]:
    for item in items:
        if item.settlement is not None:
            delivery = item.settlement.delivery
            yield delivery.envelope.id
            yield delivery.token


def _finishing(items: Sequence[CommitItem]) -> list[Any]:
    """Return the arguments of ``finish.lua`` for acks with one record each."""
    arguments: list[Any] = []
    for item in items:
        if item.settlement is not None:
            delivery = item.settlement.delivery
            arguments += (delivery.envelope.id, delivery.token, pack_record(item.records[0]))
    return arguments


def send_call(keys: Keys, queue: str, envelopes: Sequence[Envelope], *, plain: bool) -> RedisCall:
    """Return the call that sends *envelopes*; if all are *plain*, by the quick script."""
    if plain:
        arguments: list[Any] = [2, b"", 0]
        for envelope in envelopes:
            arguments += (envelope.id, pack_envelope(envelope))
        return run("send_plain", (keys.queue(queue),), arguments)
    texts = [text for envelope in envelopes for text in send_arguments(envelope)]
    return run("send", (keys.queue(queue),), (keys.unique(queue), *texts))


def _plain_sends(keys: Keys, way: _Way, items: Sequence[CommitItem]) -> RedisCall:
    """Return the call that sends one plain message per item, some of them with a record."""
    _, queue, kind, ttl = way
    stored = ttl != 0
    arguments: list[Any] = [3 if stored else 2, keys.record(kind), ttl]
    for item in items:
        envelope = item.sends[0]
        arguments += (envelope.id, pack_envelope(envelope))
        if stored:
            arguments.append(pack_record(item.records[0]) if item.records else b"")
    return run("send_plain", (keys.queue(queue),), arguments)


def quick_send(items: Sequence[CommitItem], keys: Keys) -> RedisCall | None:
    """Return the call that sends a single message without unique key and lane, and its record; ``None`` for others."""
    if len(items) != 1:
        return None
    (item,) = items
    if item.settlement is not None or item.joins or len(item.records) > 1:
        return None
    if len(item.sends) != 1 or item.sends[0].unique is not None or item.sends[0].lane is not None:
        return None
    (envelope,) = item.sends
    if not item.records:
        return single_send(envelope, keys)
    (record,) = item.records
    return None if record.final or not record.key.startswith(RESULT) else single_send(envelope, keys, record)


def single_send(envelope: Envelope, keys: Keys, record: Record | None = None) -> RedisCall:
    """Return the call that sends one message without unique key, with its *record*, which is not final."""
    names, arguments = [keys.queue(envelope.queue)], list[Any]((envelope.id, pack_envelope(envelope)))
    if record is not None:
        names.append(keys.record(record.key))
        arguments += (pack_record(record), milliseconds(record.ttl))
    due = pack_due(envelope)
    if due:
        arguments += (due,) if record is not None else (b"", b"", due)
    return run("send_one", names, arguments)
