"""What one message has to do with the limits of its task: which apply, where it waits in line, and how it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from queuekit.broker import Release
from queuekit.client.runtime import Runtime
from queuekit.execution.limiter import slot_places
from queuekit.limiting.slot_store import Slots
from queuekit.limiting.slots import SLOTS, SlotKey, SlotState, place_in
from queuekit.limits import Concurrency, Rate
from queuekit.tasks.limit_keys import keys_of
from queuekit.tasks.task import Task
from queuekit.values import frozen

__all__ = ["SlotWait", "find_wait", "leave_line", "rates_of"]


@frozen(kw_only=True)
class SlotWait:
    """What a message waits for that waits for a slot."""

    limit: str
    """Name of the limit, and the key after a slash if it has one."""
    most: int
    holders: tuple[str, ...]
    """Ids of the messages and blocks that hold the slots."""
    before: int
    """How many wait before it."""


def rates_of(task: Task[..., Any] | None, keys: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return the rates that apply to a message of *task*, as ``name`` or ``name/key``; its *keys* by limit."""
    if task is None:
        return ()
    rates = {limit.named(task.name) for limit in task.defaults.limits if isinstance(limit, Rate)}
    return tuple(_named(name, key) for name, key in keys_of(task, keys or {}).items() if name in rates)


def find_wait(
    runtime: Runtime, task: Task[..., Any] | None, keys: Mapping[str, str] | None, id: str
) -> SlotWait | None:
    """Return what message *id* waits for, if it waits for a slot of a limit of its *task*; *keys* by limit."""
    if runtime.backend is None or task is None or not (found := slot_places(task, keys_of(task, keys or {}))):
        return None
    slots = Slots(runtime.backend, runtime.broker, lease=runtime.config.worker.lease)
    for place, state in slots.read(found, runtime.now()).items():
        ids = [one.id for one in slots.waiters(state)]
        if id in ids:
            holders, limit = tuple(state.first_holders()), _named(place.name, place.key)
            return SlotWait(limit=limit, most=state.most, holders=holders, before=ids.index(id))
    return None


def leave_line(runtime: Runtime, task: Task[..., Any] | None, id: str) -> bool:
    """Let message *id* wait for a slot no longer: it is back on its queue. Return false if it did not wait for one.

    Its lease is known from the record of the limit. This reads the records of all keys of the limits of its *task*,
    since a broker that reports no messages does not tell the key.
    """
    if runtime.backend is None or task is None:
        return False
    slots, now = Slots(runtime.backend, runtime.broker, lease=runtime.config.worker.lease), runtime.now()
    for place, state in _lines(runtime, task):
        for waiter in slots.waiters(state):
            if waiter.id == id and waiter.queue:
                # First: a message that had left the line alone would keep its long lease, and nobody would end it.
                lost = runtime.broker.settle([Release(waiter.delivery)])
                slots.release([(place, id, waiter.claim)], now)
                return not lost
    return False


def _lines(runtime: Runtime, task: Task[..., Any]) -> Iterator[tuple[SlotKey, SlotState]]:
    """Yield all keys of the limits of *task* for whose slots something waits."""
    backend = runtime.need_backend("a limit")
    names = {limit.named(task.name) for limit in task.defaults.limits if isinstance(limit, Concurrency)}
    for name in sorted(names):
        for record in backend.walk(f"{SLOTS}{name}:"):
            place = place_in(record)
            if place is not None and (state := SlotState.read(record, place, None)).waiting:
                yield place, state


def _named(name: str, key: str) -> str:
    return f"{name}/{key}" if key else name
