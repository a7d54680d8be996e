"""Rate limits around blocks: each waits for its turn, or says when that would be."""

import asyncio
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.clock import VirtualClock
from queuekit.errors import LimitReachedError, NoBackendError, OptionError, UnavailableError
from queuekit.limits import Rate, arg
from support.waiting import PATIENCE
from support.working import make_app


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app with a limited task."""
    made = make_app(clock=VirtualClock())
    made.task(name="pay", limits=[Rate("1/m", key=arg("tenant"), name="stripe")])(lambda tenant: tenant)
    yield made
    made.close()


def clock_of(app: Queuekit) -> VirtualClock:
    """Return the clock of the test."""
    assert isinstance(app.clock, VirtualClock)
    return app.clock


def test_first_block_starts_at_once(app: Queuekit) -> None:
    """Nothing waits without a reason, and other keys are not affected."""
    with app.limit("stripe", key="a", wait=0), app.limit("stripe", key="b", wait=0):
        pass


def test_block_waits_for_its_turn(app: Queuekit) -> None:
    """The second block starts one interval after the first."""
    clock, begun = clock_of(app), []

    def work() -> None:
        with app.limit("stripe", key=7):
            begun.append(clock.monotonic())

    with app.limit("stripe", key="7"):
        thread = threading.Thread(target=work)
        thread.start()
    clock.wait_for_waiters(1, timeout=PATIENCE)
    clock.advance(61)
    thread.join(PATIENCE)

    assert begun == [pytest.approx(61, abs=0.01)]


class Stepping(VirtualClock):
    """A clock that moves by itself, and notes how long it slept each time."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Move the time."""
        self.slept.append(seconds)
        self.advance(seconds)


def test_wait_can_be_interrupted() -> None:
    """A thread that waits looks up each second: cancellations and time limits only reach it then."""
    clock = Stepping()
    app = make_app(clock=clock)

    for _ in range(2):
        with app.limit("login", rate=Rate("1/m")):
            pass
    app.close()

    assert max(clock.slept) <= 1
    assert sum(clock.slept) == pytest.approx(60, abs=1)


@pytest.mark.parametrize(("vain", "refused"), [(25, False), (1_000, True)], ids=["a while", "for ever"])
def test_others_that_reserve_meanwhile_are_no_limit(
    monkeypatch: pytest.MonkeyPatch, *, vain: int, refused: bool
) -> None:
    """A block without *wait* starts in its turn, however often others write the record between its read and write."""
    app, attempts = make_app(clock=Stepping()), itertools.count(1)
    backend = app.runtime.need_backend("a test")
    put_same = backend.put_same

    def contended(records: Sequence[Record]) -> list[bool]:
        return put_same(records) if next(attempts) > vain else [False] * len(records)

    monkeypatch.setattr(backend, "put_same", contended)

    with pytest.raises(UnavailableError, match="no start of the limit 'crm'") if refused else nullcontext():
        app.limit("crm", rate=Rate("1/s")).__enter__()
    app.close()


def test_says_when_it_could_start(app: Queuekit) -> None:
    """A block that may not wait that long raises, and reserves nothing."""
    errors = []
    with app.limit("stripe"):
        for _ in range(2):
            with pytest.raises(LimitReachedError, match="'stripe' lets the next block start in 60 s") as caught:
                app.limit("stripe", wait="59s").__enter__()
            errors.append(caught.value.retry_after)

    assert errors == [pytest.approx(60), pytest.approx(60)]


def test_coroutines_wait_too() -> None:
    """With ``async with``, and without blocking the event loop."""
    app = make_app()

    async def both() -> int:
        done = 0
        for _ in range(2):
            async with app.limit("quick", rate=Rate("1000/s")):
                done += 1
        return done

    assert asyncio.run(both()) == 2
    app.close()


def test_numbers_must_be_known(app: Queuekit) -> None:
    """A name that no task declares needs numbers."""
    with pytest.raises(OptionError, match=r'app.limit\("paypal", rate=Rate\("100/m"\)\)'):
        app.limit("paypal").__enter__()


@pytest.mark.parametrize("rate", ["100/m", Rate("1/s", key=arg("x")), Rate("1/s", name="other")])
def test_refuses_what_is_no_rate(app: Queuekit, rate: Any) -> None:
    """A block has its key, and the name is given already."""
    with pytest.raises(OptionError, match="rate: expected a limit"):
        app.limit("paypal", rate=rate)


def test_needs_a_backend() -> None:
    """Without a backend there is nowhere to keep a limit."""
    app = make_app(backend="none")

    with pytest.raises(NoBackendError, match="a limit needs a result backend"):
        app.limit("paypal", rate=Rate("1/s")).__enter__()
    app.close()
