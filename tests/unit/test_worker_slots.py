"""The table that says which bodies are being run."""

import tempfile

from queuekit.worker.slots import Slots


def test_tells_who_is_inside() -> None:
    """Serial and time of entry, until the row is left."""
    slots = Slots(3)

    slots.enter(0, 7, 10.5)
    slots.enter(2, 8, 11.0)
    both = slots.entered()
    slots.leave(0)

    assert (both, slots.entered()) == ({7: 10.5, 8: 11.0}, {8: 11.0})


def test_is_shared_by_a_file() -> None:
    """Another process with the same file sees it, also after the writer is gone."""
    with tempfile.TemporaryFile() as file:
        file.truncate(Slots.size(2))
        here, there = Slots(2, fileno=file.fileno()), Slots(2, fileno=file.fileno())

    here.enter(1, 9, 1.0)
    here.close()

    assert there.entered() == {9: 1.0}
