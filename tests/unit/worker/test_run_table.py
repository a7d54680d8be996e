"""The table that says which bodies are being run."""

import math
import tempfile

from queuekit.worker.run_table import Inside, RunTable


def test_tells_who_is_inside() -> None:
    """Serial, time of entry and time limit, until the row is left."""
    slots = RunTable(3)

    slots.enter(0, 7, 10.5, 5)
    slots.enter(2, 8, 11.0)
    both = slots.entered()
    slots.leave(0)

    assert (both, slots.entered()) == (
        {7: Inside(10.5, 15.5), 8: Inside(11.0, math.inf, row=2)},
        {8: Inside(11.0, math.inf, row=2)},
    )


def test_a_limit_may_move() -> None:
    """While another keeps a body waiting, its time stands still."""
    slots = RunTable(2)

    slots.enter(1, 7, 10.5, 5)
    slots.limit(1, 60.0)

    assert slots.entered() == {7: Inside(10.5, 60.0, row=1)}


def test_frees_all_that_are_not_to_blame() -> None:
    """So that what comes next is held against the others only."""
    slots = RunTable(3)
    for row, serial in enumerate((7, 8, 9)):
        slots.enter(row, serial, 1.0)

    slots.keep_only([8])

    assert set(slots.entered()) == {8}


def test_names_what_may_be_to_blame_beside_what_runs() -> None:
    """In free rows, the last ones first."""
    slots = RunTable(3)
    slots.enter(1, 7, 1.0)

    slots.suspect([4, 5, 7, 6], 2.0)

    assert set(slots.entered()) == {7, 6, 5}


def test_tells_when_its_process_was_last_alive() -> None:
    """Beside the rows."""
    slots = RunTable(1)
    before = slots.last_beat

    slots.beat(12.5)

    assert (before, slots.last_beat, slots.entered()) == (0.0, 12.5, {})


def test_is_shared_by_a_file() -> None:
    """Another process with the same file sees it, also after the writer is gone."""
    with tempfile.TemporaryFile() as file:
        file.truncate(RunTable.size(2))
        here, there = RunTable(2, fileno=file.fileno()), RunTable(2, fileno=file.fileno())

    here.enter(1, 9, 1.0)
    here.close()

    assert there.entered() == {9: Inside(1.0, math.inf, row=1)}
