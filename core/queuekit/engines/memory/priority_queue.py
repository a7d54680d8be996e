"""Things kept in order: the first one, a new one or one out of the middle in O(log n)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Line", "Order"]

T = TypeVar("T")

Order = tuple[float, ...]
"""Where something stands in a line; smaller is earlier."""

_SPARE = 64
"""Leftovers in the heap that are not worth a rebuild."""


class Line(Generic[T]):
    """Named items in the order that they were given.

    A heap whose entries are dropped when they come to the front and no longer count, or all at once when they
    outnumber those that do: so it never holds more than a constant factor over what is in it (QK14).
    """

    __slots__ = ("_heap", "_items")

    def __init__(self) -> None:
        self._heap: list[tuple[Order, str]] = []
        self._items: dict[str, tuple[Order, T]] = {}

    def add(self, name: str, order: Order, item: T) -> None:
        """Put *item* in its place; one of that name that is already here is moved."""
        self._items[name] = (order, item)
        heapq.heappush(self._heap, (order, name))
        self._tidy()

    def discard(self, name: str) -> None:
        """Take out what has that name, if it is here."""
        if self._items.pop(name, None) is not None:
            self._tidy()

    def first(self) -> T | None:
        """Return the item at the front without taking it out."""
        while self._heap:
            order, name = self._heap[0]
            found = self._items.get(name)
            if found is not None and found[0] == order:
                return found[1]
            heapq.heappop(self._heap)
        return None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """Yield the items in no particular order."""
        return (item for _, item in self._items.values())

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._items) + _SPARE:
            self._heap = [(order, name) for name, (order, _) in self._items.items()]
            heapq.heapify(self._heap)
