"""Move waiting messages to another queue.

A message is claimed like any other, and its settlement puts it on the other queue: in one step if the engine can, else
there first. If this process dies in between, nothing is lost: what it holds is delivered again when the lease ends, and
counts one crash.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import attrs

from queuekit.broker import Delivery, Place, Release, Replace, Stored
from queuekit.envelope import Envelope
from queuekit.errors import CapabilityError, OptionError
from queuekit.execution.run import re_delayed
from queuekit.ids import check_name, is_name
from queuekit.operations.admin import Admin
from queuekit.wire.batches import alike
from queuekit.wire.records import on_queue, result_key

__all__ = ["move"]

_FIRST, _STEP = 20, 100
"""Messages to move in the first step, when their size is not known yet, and the most in any."""
_WAIT = 1.0
"""Seconds to look for messages if the service does not report them: SQS asks some of its servers at once, not all."""


def move(
    admin: Admin,
    queue: str,
    to: str | None = None,
    *,
    most: int | None = None,
    rate: float | None = None,
    sleep: Callable[[float], None],
) -> Iterator[str]:
    """Move the messages of *queue* that are ready, in the order of delivery, and yield their ids.

    Those that arrive meanwhile stay if the broker reports messages; otherwise this ends when it finds none. Ids,
    priorities and unique keys are kept, and so is the number of attempts. A key that is held until the start of its
    message is free from then on.

    Args:
        admin: The operator's interface to the app.
        queue: Where they are.
        to: Where they go; ``None`` for the queue that each of them was sent to, see :meth:`Broker.strays`.
        most: Most messages to move; ``None`` for all.
        rate: Most messages per second; ``None`` for no limit.
        sleep: Blocks for so many seconds.

    Raises:
        OptionError: *to* is *queue*, or missing although the messages do not tell their queue.
        CapabilityError: The broker does not move messages between queues.
    """
    if to is not None and check_name(to, what="queue") == queue:
        raise OptionError(f"the messages are on {queue!r} already", fix="Name another queue")
    first: dict[str, Envelope] = {}
    for found in _batches(admin, queue, sys.maxsize if most is None else most, rate, sleep):
        _reject(admin, [one for one in found if first.get(one.id) == attrs.evolve(one.envelope, queue=to or queue)])
        moved = _settle(admin, queue, found, to)
        if not first:
            first = {one.id: one for one in moved}
            _reject(admin, _reported(admin, queue, list(first)))
        yield from (one.id for one in moved)


def _batches(
    admin: Admin, queue: str, most: int, rate: float | None, sleep: Callable[[float], None]
) -> Iterator[list[Delivery]]:
    """Claim the messages of *queue* that are ready, and yield them in batches of a limited number of bytes."""
    left = min(most, _ready(admin, queue))
    step = _STEP if rate is None else max(1, min(_STEP, int(rate)))
    size = min(_FIRST, step)
    while left > 0 and (found := _claim(admin, queue, min(size, left))):
        yield found
        left -= len(found)
        size = alike([len(one.envelope.body) for one in found], most=step)
        if rate is not None and left > 0:
            sleep(len(found) / rate)


def _ready(admin: Admin, queue: str) -> int:
    """Return how many messages of *queue* are ready; no limit where that is not known, roughly, or a lower bound."""
    counts = admin.counts_of(queue) if admin.reports(Place.READY) else None
    return sys.maxsize if counts is None or Place.READY in counts.at_least else counts.ready


def _claim(admin: Admin, queue: str, limit: int) -> list[Delivery]:
    broker = admin.runtime.broker
    wait = 0.0 if broker.capabilities.inspect else _WAIT
    with admin.in_time():
        return broker.receive([queue], limit=limit, wait=wait, lease=admin.config.worker.lease)


def _reported(admin: Admin, queue: str, ids: Sequence[str]) -> list[Stored]:
    """Return those of *ids* that *queue* holds, if the broker reports messages."""
    if not admin.reports(Place.READY):
        return []
    with admin.in_time():
        return admin.runtime.broker.find(queue, ids)


def _reject(admin: Admin, stayed: Sequence[object]) -> None:
    """Raise if messages have *stayed* that were to move: a plugin may ignore the queue of a :class:`Replace`."""
    if stayed:
        raise CapabilityError(f"{type(admin.runtime.broker).__name__} does not move messages to another queue")


def _settle(admin: Admin, queue: str, found: Sequence[Delivery], to: str | None) -> list[Envelope]:
    """Move what was claimed, and return what was moved; what knows no other queue goes back."""
    moving = [each for each in found if (to or each.envelope.queue) != queue]
    changes = [Replace(each, re_delayed(each.envelope, queue=to or each.queue, delay=0.0)) for each in moving]
    with admin.in_time():
        stay = [Release(each) for each in found if (to or each.envelope.queue) == queue]
        lost = {each.token for each in admin.runtime.broker.settle([*changes, *stay])}
    moved = [change.envelope for change in changes if change.delivery.token not in lost]
    _tell_records(admin, moved)
    if stay:
        raise OptionError(
            f"message {stay[0].delivery.id} does not tell to which queue it belongs", fix="Name the queue to move to"
        )
    return moved


def _tell_records(admin: Admin, moved: Sequence[Envelope]) -> None:
    """Write the new queue into the records of messages that have not ended."""
    backend = admin.runtime.backend
    ids = {result_key(one.id): one.queue for one in moved if is_name(one.id)}
    if backend is None or not ids:
        return
    with admin.in_time():
        found = [on_queue(record, ids[key]) for key, record in backend.get(list(ids)).items() if not record.final]
        backend.put_same([record for record in found if record is not None])
