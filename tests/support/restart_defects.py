"""What a service may lose when it restarts, each done to the memory engine."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterator

import attrs

from queuekit.broker import Place
from queuekit.engines.memory import MemoryBroker
from queuekit.engines.memory.queue import Entry, Queue


def nothing(_: MemoryBroker) -> None:
    """Lose nothing, which is right."""


def all_messages(broker: MemoryBroker) -> None:
    """Keep everything in memory."""
    broker._engine.messages._queues.clear()


def tokens(broker: MemoryBroker) -> None:
    """Keep messages, but not who holds them: all are ready again."""
    for queue, entry in _entries(broker, Place.LEASED):
        queue.put(entry, Place.READY)


def settlements(broker: MemoryBroker) -> None:
    """Keep sends only: a retry is undone."""
    for _, entry in _entries(broker, Place.READY):
        object.__setattr__(entry.envelope, "attempt", 0)


def leased(broker: MemoryBroker) -> None:
    """Keep what waits, and forget what is leased."""
    for queue, entry in _entries(broker, Place.LEASED):
        queue.drop(entry, remember_until=0.0)


def live_ids(broker: MemoryBroker) -> None:
    """Keep messages under ids of the service's own, so that a repeated send adds another."""
    for queue, entry in _entries(broker, Place.READY):
        queue.drop(entry, remember_until=0.0)
        queue.forget(1e12, at_most=1_000)
        broker.send([attrs.evolve(entry.envelope, id=f"{entry.id}~")])


def ids(broker: MemoryBroker) -> None:
    """Keep no ids of messages that are gone."""
    for queue in broker._engine.messages._queues.values():
        queue.forget(1e12, at_most=1_000)


def delays(broker: MemoryBroker) -> None:
    """Keep messages, but not their delays."""
    for queue, entry in _entries(broker, Place.DELAYED):
        entry.due = 0.0
        queue.put(entry, Place.READY)


def reasons(broker: MemoryBroker) -> None:
    """Keep dead letters without their reasons."""
    for _, entry in _entries(broker, Place.DEAD):
        entry.reason = ""


def _entries(broker: MemoryBroker, place: Place) -> Iterator[tuple[Queue, Entry]]:
    """Yield the messages in *place*, each with its queue."""
    for queue in broker._engine.messages._queues.values():
        for entry in [*queue.entries.values()]:
            if entry.place is place:
                yield queue, entry
