"""Unique keys, with their holders and expiry times."""

from __future__ import annotations

import attrs

from queuekit.engines.memory.priority_queue import PriorityQueue
from queuekit.envelope import Unique
from queuekit.values import frozen

__all__ = ["Holder", "UniqueKeys"]

Holder = tuple[str, str]
"""Queue and id of the message that holds a key."""


@frozen
class _Held:
    key: str
    holder: Holder
    ends: float


class UniqueKeys:
    """Keys across all queues; at most one message holds a key, for at most its ``ttl``."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._by_end: PriorityQueue[_Held] = PriorityQueue()

    def holder(self, key: str, now: float) -> Holder | None:
        """Return the holder of *key*, or ``None``."""
        held = self._held.get(key)
        return held.holder if held is not None and held.ends > now else None

    def take(self, unique: Unique, holder: Holder, now: float) -> None:
        """Give the key to *holder*, even if another message holds it."""
        held = _Held(unique.key, holder, now + unique.ttl)
        self._held[unique.key] = held
        self._by_end.add(unique.key, (held.ends,), held)

    def free(self, key: str, holder: Holder) -> None:
        """Free *key* if *holder* holds it."""
        held = self._held.get(key)
        if held is not None and held.holder == holder:
            self._forget(key)

    def hand_over(self, key: str, old: Holder, new: Holder) -> None:
        """Pass *key* from *old* to *new*, for the remaining time."""
        held = self._held.get(key)
        if held is not None and held.holder == old:
            self._held[key] = attrs.evolve(held, holder=new)

    def expire(self, now: float, *, at_most: int) -> None:
        """Forget expired keys."""
        for _ in range(at_most):
            first = self._by_end.first()
            if first is None or first.ends > now:
                return
            self._forget(first.key)

    def __len__(self) -> int:
        return len(self._held)

    def _forget(self, key: str) -> None:
        self._held.pop(key, None)
        self._by_end.discard(key)
