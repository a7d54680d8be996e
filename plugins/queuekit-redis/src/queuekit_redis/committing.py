"""Whole outcomes: each item goes to the quickest script that can carry it out, all of them in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from queuekit.broker import CommitItem
from queuekit_redis.keys import Keys
from queuekit_redis.packing import pack_record
from queuekit_redis.server import Call, call_script, run
from queuekit_redis.settling import are_plain_acks, commit_arguments, is_plain, milliseconds, send_arguments

__all__ = ["Commitment", "quick_send"]


class Commitment:
    """The calls that carry out some items, and what their replies mean.

    Args:
        items: What is to be done.
        keys: Names of keys.
        window: Seconds that ids are remembered.
        mark: By which a repeated call knows its own work.
    """

    def __init__(self, items: Sequence[CommitItem], *, keys: Keys, window: int, mark: bytes) -> None:
        self._items = items
        self._keys = keys
        self._fixed = (window, mark)
        self.calls: list[Call] = []
        self._places: list[list[int]] = []
        sorted_out: dict[tuple[str, str], list[int]] = {}
        for place, item in enumerate(items):
            sorted_out.setdefault(_way(item), []).append(place)
        for (way, queue), places in sorted_out.items():
            self._places.append(places)
            self.calls.append(self._call(way, queue, [items[place] for place in places]))
        self._ways = [way for way, _ in sorted_out]

    def _call(self, way: str, queue: str, items: Sequence[CommitItem]) -> Call:
        keys, arguments = (self._keys.queue(queue),), list[Any]()
        if way == "send":
            for item in items:
                arguments += send_arguments(item.sends[0])
            return run("send", keys, (self._keys.unique(queue), *arguments))
        if way == "commit":
            queues, arguments = commit_arguments(items, self._keys)
            names = [self._keys.queue(name) for name in queues]
            return call_script("commit", names, (self._keys.unique(""), *self._fixed, *arguments))
        for item in items:
            if item.settlement is not None:
                arguments += (item.settlement.delivery.id, item.settlement.delivery.token)
            for record in item.records:
                channel, ttl = self._keys.channel(record.key), milliseconds(record.ttl)
                arguments += (self._keys.record(record.key), channel, pack_record(record), ttl)
        return run(way, keys, (*self._fixed, *arguments))

    def done(self, replies: Sequence[Any]) -> list[bool]:
        """Return for each item whether it was done."""
        done = [True] * len(self._items)
        for way, places, reply in zip(self._ways, self._places, replies, strict=True):
            if way == "commit":
                for place, yes in zip(places, reply, strict=True):
                    done[place] = yes == 1
            elif way != "send":
                for at in reply:
                    done[places[at]] = False
        return done


def _way(item: CommitItem) -> tuple[str, str]:
    """Return the script for *item*, and its queue where that script serves one."""
    settlement = item.settlement
    if settlement is None:
        lone = len(item.sends) == 1 and not item.records and not item.joins
        return ("send", item.sends[0].queue) if lone else ("commit", "")
    if item.sends or item.joins or len(item.records) > 1 or not are_plain_acks((settlement,)):
        return "commit", ""
    return ("finish" if item.records else "ack"), settlement.delivery.queue


def quick_send(items: Sequence[CommitItem], keys: Keys) -> Call | None:
    """Return the call for a single message that needs no thought, with its record if it has one; else ``None``."""
    if len(items) != 1:
        return None
    (item,) = items
    if item.settlement is not None or item.joins or len(item.records) > 1:
        return None
    if len(item.sends) != 1 or not is_plain(item.sends[0]):
        return None
    names, arguments = [keys.queue(item.sends[0].queue)], list[Any](send_arguments(item.sends[0])[:2])
    for record in item.records:
        if record.final:
            return None
        names.append(keys.record(record.key))
        arguments += (pack_record(record), milliseconds(record.ttl))
    return run("send_one", names, arguments)
