"""Batches that are bounded in bytes as well as in number."""

from collections.abc import Iterator

import pytest

from queuekit.wire.batches import READ_BYTES, alike, fitting, in_batches


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([4, 4, 4], [[4, 4], [4]]),
        ([1, 1, 1, 1], [[1, 1, 1], [1]]),
        ([11], [[11]]),
        ([1, 99, 1, 10], [[1], [99], [1], [10]]),
        ([0, 0, 0, 0], [[0, 0, 0], [0]]),
    ],
)
def test_batches_are_bounded_in_both(sizes: list[int], expected: list[list[int]]) -> None:
    """Three at most, and ten bytes at most unless one has more by itself."""
    assert list(in_batches(sizes, lambda size: size, most=3, most_bytes=10)) == expected


def test_reads_one_item_ahead() -> None:
    """What is made while it is sent is not held as a whole."""
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    batches = in_batches(items(), lambda _: 6, most=10, most_bytes=12)

    assert (next(batches), read) == ([0, 1], [0, 1, 2])


@pytest.mark.parametrize(("sizes", "count"), [([], 0), ([11], 1), ([5, 5, 1], 2), ([4, 4], 2), ([11, 11], 1)])
def test_as_many_fit_as_have_room(sizes: list[int], count: int) -> None:
    """The first one fits always: it cannot be parted."""
    assert fitting(sizes, lambda size: size, most_bytes=10) == count


@pytest.mark.parametrize(
    ("sizes", "count"), [([], 500), ([0], 500), ([100, 300], 500), ([READ_BYTES // 10], 10), ([READ_BYTES * 3], 1)]
)
def test_reads_as_many_as_have_room_if_they_are_alike(sizes: list[int], count: int) -> None:
    """What was read before tells how large the next ones will be."""
    assert alike(sizes, most=500) == count
