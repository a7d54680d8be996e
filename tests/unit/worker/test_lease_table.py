"""The leases in hand, as the worker writes them and its supervisor reads them."""

import itertools
import os
import random
import signal
import tempfile
import threading
from collections.abc import Iterator

import pytest

from queuekit.worker.lease_table import HeldLease, LeaseTable
from support.waiting import PATIENCE, wait_until

SIZE = 65_536
"""Bytes; small, so that the halves change often."""


def rows(serials: range, *, letters: int = 1) -> list[HeldLease]:
    """Return a lease for each of *serials*."""
    return [HeldLease(serial, "jobs", f"id-{serial}", "t" * letters, 1, 2.5, 3, 4, apart=True) for serial in serials]


def serials(book: LeaseTable) -> list[int]:
    """Return what *book* says is held."""
    return [held_lease.serial for held_lease in book.held()]


def no_memory(*_: object) -> bytes:
    """Fail as what needs memory does."""
    raise MemoryError


@pytest.fixture
def both() -> Iterator[tuple[LeaseTable, LeaseTable]]:
    """Yield the ends of one memory: who writes, and who reads."""
    with tempfile.TemporaryFile() as file:
        file.truncate(SIZE)
        yield LeaseTable(fileno=file.fileno(), size=SIZE), LeaseTable(fileno=file.fileno(), size=SIZE)


def test_tells_what_is_held(both: tuple[LeaseTable, LeaseTable]) -> None:
    """All that is known of a lease crosses, until it is done with; what nobody holds is done with already."""
    worker, supervisor = both
    before = supervisor.held()

    worker.hold(rows(range(1, 4)))
    worker.done([2, 99])
    worker.hold([])

    assert before == []
    assert supervisor.held() == [*rows(range(1, 2)), *rows(range(3, 4))]


def test_holds_any_number_one_after_the_other(both: tuple[LeaseTable, LeaseTable]) -> None:
    """The memory is used again and again, and at every moment says the truth."""
    worker, supervisor = both
    chance, truth, said = random.Random(7), set[int](), []
    for start in range(0, 20_000, 20):
        worker.hold(rows(range(start, start + 20)))
        truth.update(range(start, start + 20))
        gone = chance.sample(sorted(truth), max(0, len(truth) - chance.randrange(60)))
        worker.done(gone)
        truth.difference_update(gone)
        said.append(set(serials(supervisor)) == truth)

    assert worker._turn > 10
    assert all(said)


def test_can_be_read_while_it_is_written(both: tuple[LeaseTable, LeaseTable]) -> None:
    """A reader sees what was held at some moment: what stays in hand is never missing."""
    worker, supervisor = both
    worker.hold(rows(range(3)))
    over, wrong, seen = threading.Event(), list[list[int]](), list[int]()

    def read() -> None:
        while not over.is_set():
            found = serials(supervisor)
            seen.append(len(found))
            if found[:3] != [0, 1, 2] or len(found) not in (3, 13):
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    begun = worker._turn
    for start in range(10, 200_000, 10):
        worker.hold(rows(range(start, start + 10)))
        worker.done(range(start, start + 10))
        if worker._turn > begun + 50 and len(seen) > 100:
            break
    over.set()
    reader.join(PATIENCE)

    assert (wrong, len(seen) > 100) == ([], True)


def test_survives_who_has_written_it(both: tuple[LeaseTable, LeaseTable]) -> None:
    """A process that is killed in the middle leaves what it held, but for what it was just saying."""
    worker, supervisor = both
    worker.hold(rows(range(5)))
    child = os.fork()
    if child == 0:
        for start in range(10, 10_000_000, 10):
            worker.hold(rows(range(start, start + 10)))
            worker.done(range(start, start + 10))
        os._exit(0)
    wait_until(lambda: supervisor._place()[0] > 20, what="many turns")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    found = serials(supervisor)

    assert found[:5] == [0, 1, 2, 3, 4]
    assert len(found) in (5, 15)


def test_what_could_not_be_said_to_be_done_is_said_with_the_next(
    both: tuple[LeaseTable, LeaseTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is not kept until the memory is full some day."""
    worker, supervisor = both
    worker.hold(rows(range(4)))
    with monkeypatch.context() as broken:
        broken.setattr("pickle.dumps", no_memory)
        with pytest.raises(MemoryError):
            worker.done([1, 2])
    worker.hold(rows(range(9, 10)))

    assert serials(supervisor) == [0, 3, 9]


@pytest.mark.parametrize("place", [0, 4, 40], ids=["its length", "its checksum", "its body"])
def test_reads_up_to_a_frame_that_is_not_whole(both: tuple[LeaseTable, LeaseTable], place: int) -> None:
    """What has not arrived yet, or is a leftover, is not taken for a lease."""
    worker, supervisor = both
    worker.hold(rows(range(2)))
    whole = worker._length
    worker.hold(rows(range(2, 4)))
    worker.hold(rows(range(4, 6)))
    worker._memory[worker._start(worker._turn) + whole + place] ^= 0xFF

    assert serials(supervisor) == [0, 1]


@pytest.mark.parametrize("turns", [0, 3])
def test_leftovers_of_an_earlier_turn_are_not_read(both: tuple[LeaseTable, LeaseTable], turns: int) -> None:
    """Even if the length is ahead of what has been written; nor is memory that nobody has written to."""
    worker, supervisor = both
    for start in range(0, 10_000, 10):
        worker.hold(rows(range(start, start + 10)))
        worker.done(range(start, start + 10))
        if worker._turn >= turns:
            break
    worker.hold(rows(range(1, 3)))
    worker._word[0] += 5000

    assert serials(supervisor) == [1, 2]


def test_holds_those_that_fit(both: tuple[LeaseTable, LeaseTable]) -> None:
    """It says how many they are; what was held before still is, and there is room again later."""
    worker, supervisor = both
    worker.hold(rows(range(3)))

    fit = worker.hold(rows(range(10, 30), letters=4000))
    after = serials(supervisor)
    none = worker.hold(rows(range(30, 31), letters=40_000))
    most = worker.most
    worker.done(range(30))
    with pytest.raises(ValueError, match=r"lease of id-31 does not fit: its token has 40,000 char.* 32,764 bytes"):
        worker.hold(rows(range(31, 32), letters=40_000))
    again = worker.hold(rows(range(6)))

    assert (fit, none, most, again) == (5, 0, 8, 6)
    assert after == [0, 1, 2, 10, 11, 12, 13, 14]
    assert serials(supervisor) == serials(worker) == [0, 1, 2, 3, 4, 5]


def test_what_could_not_be_said_is_not_held(
    both: tuple[LeaseTable, LeaseTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would say that it is done, and its lease would be kept for ever."""
    worker, supervisor = both
    worker.hold(rows(range(2)))
    with monkeypatch.context() as broken:
        broken.setattr("pickle.dumps", no_memory)
        with pytest.raises(MemoryError):
            worker.hold(rows(range(2, 4)))
    for _ in range(2000):
        worker.hold(rows(range(9, 10)))
        worker.done([9])

    assert worker._turn > 2
    assert serials(supervisor) == [0, 1]


def test_a_full_memory_empties_again(both: tuple[LeaseTable, LeaseTable]) -> None:
    """With almost as much in hand as there is room for, leases can be done with one by one."""
    worker, supervisor = both
    held = itertools.takewhile(lambda number: worker.hold(rows(range(number, number + 1))), itertools.count())
    count = len(list(held))
    full = serials(supervisor)
    for serial in full:
        worker.done([serial])

    assert full == list(range(count))
    assert supervisor.held() == []
