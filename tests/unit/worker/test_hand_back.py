"""What was fetched and cannot begin soon goes back."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from queuekit.execution.outcome import Run
from queuekit.worker.hand_back import HandBack
from queuekit.worker.prefetch import Prefetch


def run(serial: int, *, started: float | None = None, number: int = 1, early: bool = False) -> Any:
    """Return as much of a run as is looked at."""
    delivery = SimpleNamespace(number=number)
    return SimpleNamespace(serial=serial, started=started, delivery=delivery, early=early)


class Pool:
    """Places, and what waits for them."""

    def __init__(self, running: Sequence[Any], waiting: Sequence[Any]) -> None:
        self.running: dict[int, Run] = dict(enumerate(running))
        self.queue = list(waiting)

    @property
    def waiting(self) -> int:
        """How many have not begun."""
        return len(self.queue)

    def take_back(self, keep: int) -> list[Run]:
        """Take back all but the first *keep*."""
        taken = self.queue[keep:]
        del self.queue[keep:]
        return taken

    def submit(self, runs: Sequence[Run]) -> None:
        """Hand over *runs*."""
        self.queue += runs


class Looked:
    """A look at pools at the moment 100, one second after the last, in which *done* runs have ended."""

    def __init__(self, *pools: Pool, done: int = 0) -> None:
        self.prefetch = Prefetch(concurrency=2, most=1000)
        self.prefetch.observe("t", 0.001)
        self.prefetch.saw({"t"})
        self.back: list[Any] = []
        counts = iter([0, done])
        self.hand_back = HandBack(
            self.prefetch,
            pools=lambda: pools if self.begun else (),
            done=lambda: next(counts),
            give_back=self.back.append,
        )
        self.begun = False
        self.hand_back.look(99.0)
        self.begun = True
        self.again = self.hand_back.look(100.0)


def serials(runs: Sequence[Any]) -> list[int]:
    """Return which they are."""
    return [run.serial for run in runs]


def test_what_waits_for_long_bodies_goes_back() -> None:
    """Others may have a place for it."""
    pool = Pool([run(1, started=99.0), run(2, started=99.0)], [run(3), run(4)])

    looked = Looked(pool)

    assert (serials(looked.back), pool.queue, looked.prefetch.size()) == ([3, 4], [], 0)


def test_what_begins_soon_stays() -> None:
    """At the rate at which runs have ended of late."""
    pool = Pool([run(1, started=99.0), run(2, started=99.99)], [run(serial) for serial in range(3, 13)])

    looked = Looked(pool, done=20)

    assert (serials(looked.back), serials(pool.queue)) == ([7, 8, 9, 10, 11, 12], [3, 4, 5, 6])


def test_a_slow_machine_hands_nothing_back() -> None:
    """Short bodies that come to their turn late would do so elsewhere, too."""
    pool = Pool([run(1, started=99.95), run(2, started=99.9)], [run(3), run(4)])

    looked = Looked(pool)

    assert (looked.back, pool.waiting, looked.again) == ([], 2, True)


@pytest.mark.parametrize("options", [{"number": 3}, {"early": True}], ids=["twice-before", "acknowledged"])
def test_some_stay_in_any_case(options: dict[str, Any]) -> None:
    """What was handed back twice, or is acknowledged already, is not passed round."""
    pool = Pool([run(1, started=99.0)], [run(3, **options), run(4, number=2)])

    looked = Looked(pool)

    assert (serials(looked.back), serials(pool.queue)) == ([4], [3])


def test_holds_ready_for_the_places_that_are_free() -> None:
    """Those that long bodies take are not counted; nobody looks often at a worker that holds nothing ready."""
    one, both, none = (Looked(Pool([run(n, started=99.0) for n in range(count)], [])) for count in (1, 2, 0))

    assert [looked.prefetch.size() for looked in (one, both, none)] == [100, 0, 200]
    assert [looked.again for looked in (one, both, none)] == [True, True, True]


def test_holds_nothing_ready_until_runs_are_short_again() -> None:
    """On average, since messages were handed back."""
    prefetch = Prefetch(concurrency=2, most=1000)
    prefetch.observe("t", 0.001)
    prefetch.saw({"t"})
    prefetch.handed_back(0.3)
    sizes = [prefetch.size()]

    for _ in range(8):
        prefetch.observe("t", 0.001)
        sizes.append(prefetch.size())

    assert sizes == [0] * 5 + [200] * 4
