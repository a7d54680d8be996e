"""Splits items into batches limited in bytes and in number, so that many large messages cannot slow a round trip.

The deadline of a round trip then only has to cover one batch, not everything that is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

__all__ = ["READ_BYTES", "alike", "fitting", "in_batches"]

T = TypeVar("T")
READ_BYTES = 4_000_000
"""Approximate bytes of bodies to read in one round trip."""


def in_batches(items: Iterable[T], size: Callable[[T], int], *, most: int, most_bytes: int) -> Iterator[list[T]]:
    """Yield *items* in order, in lists of at most *most* items and *most_bytes* bytes.

    A larger item is alone in its list. At most one item is read ahead.

    Args:
        items: Items to split.
        size: Returns the bytes of an item.
        most: Most items per list.
        most_bytes: Most bytes per list.
    """
    batch: list[T] = []
    held = 0
    for item in items:
        here = size(item)
        if batch and (held + here > most_bytes or len(batch) >= most):
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += here
    if batch:
        yield batch


def fitting(items: Sequence[T], size: Callable[[T], int], *, most_bytes: int) -> int:
    """Return how many of the first *items* have at most *most_bytes* in total; the first one always counts."""
    held = 0
    for count, item in enumerate(items):
        held += size(item)
        if held > most_bytes:
            return count or 1
    return len(items)


def alike(sizes: Sequence[int], *, most: int) -> int:
    """Return how many items to read next, assuming that they are of the same size as those read before.

    Args:
        sizes: Bytes of the items read before.
        most: Most items to read.
    """
    average = sum(sizes) / len(sizes) if sizes else 0
    return most if average * most <= READ_BYTES else max(1, int(READ_BYTES / average))
