"""A priority queue that can also remove items from the middle, each step in O(log n)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["PriorityQueue", "SortKey"]

T = TypeVar("T")

SortKey = tuple[float, ...]
"""Position of an item in a priority queue; smaller is earlier."""

_SPARE = 64
"""Number of stale heap entries up to which a rebuild is not worthwhile."""


class PriorityQueue(Generic[T]):
    """Named items, sorted by the key given with each.

    A heap that drops stale entries when they reach the front, or all at once when they outnumber the live ones, so its
    size is always proportional to the number of items (QK14).
    """

    __slots__ = ("_heap", "items")

    def __init__(self) -> None:
        self._heap: list[tuple[SortKey, str]] = []
        self.items: dict[str, tuple[SortKey, T]] = {}
        """The items by name, each with its sort key."""

    def add(self, name: str, sort_key: SortKey, item: T) -> None:
        """Insert *item*; an item of the same name is replaced."""
        self.items[name] = (sort_key, item)
        heapq.heappush(self._heap, (sort_key, name))
        if len(self._heap) > 2 * len(self.items) + _SPARE:
            self._tidy()

    def discard(self, name: str) -> None:
        """Remove the item called *name*, if present."""
        if self.items.pop(name, None) is not None and len(self._heap) > 2 * len(self.items) + _SPARE:
            self._tidy()

    def first(self) -> T | None:
        """Return the first item without removing it."""
        heap, items = self._heap, self.items
        while heap:
            sort_key, name = heap[0]
            found = items.get(name)
            if found is not None and found[0] == sort_key:
                return found[1]
            heapq.heappop(heap)
        return None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        """Yield the items in no particular order."""
        return (item for _, item in self.items.values())

    def _tidy(self) -> None:
        self._heap = [(sort_key, name) for name, (sort_key, _) in self.items.items()]
        heapq.heapify(self._heap)
