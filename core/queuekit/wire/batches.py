"""Batches that are bounded in bytes as well as in number, so that no round trip grows with a pile of large messages.

A deadline that holds for one round trip is then one for progress: it does not have to cover all that is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

__all__ = ["READ_BYTES", "alike", "fitting", "in_batches"]

T = TypeVar("T")
READ_BYTES = 4_000_000
"""Bytes of bodies to read in one round trip, about."""


def in_batches(items: Iterable[T], size: Callable[[T], int], *, most: int, most_bytes: int) -> Iterator[list[T]]:
    """Yield *items* in order, in lists of up to *most* that together have up to *most_bytes*.

    An item that is larger by itself is alone. No more is read ahead than one item.

    Args:
        items: What to part.
        size: Returns the bytes of an item.
        most: Most items of a list.
        most_bytes: Most bytes of a list.
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
    """Return how many of *items*, from the first on, have up to *most_bytes* together; the first one fits always."""
    held = 0
    for count, item in enumerate(items):
        held += size(item)
        if held > most_bytes:
            return count or 1
    return len(items)


def alike(sizes: Sequence[int], *, most: int) -> int:
    """Return how many items to read next, if they are like those read before.

    Args:
        sizes: Bytes of those read before.
        most: Most items to read.
    """
    average = sum(sizes) / len(sizes) if sizes else 0
    return most if average * most <= READ_BYTES else max(1, int(READ_BYTES / average))
