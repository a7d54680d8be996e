"""A worker dies at any point of finishing a member: the callback runs to completion once, with the right results."""

from collections.abc import Callable
from typing import Any

import pytest

from queuekit import Queuekit, State, chain, chord
from queuekit.broker import Place
from queuekit.clock import VirtualClock
from queuekit.execution.outcome import Outcome
from support.calls import Calls, calls_on
from support.working import backend_of, broker_of, finish, flaky_app, inside, take_one

LEASE = 30.0


class Crash(BaseException):
    """The process is gone."""


class Bench:
    """One message after the other through the steps of a worker, which can die between any two of them."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.calls: Calls = calls_on(flaky_app(clock=self.clock))
        self.app: Queuekit = self.calls.app

    def finish_one(self) -> Outcome:
        """Take a message, run it and write its outcome."""
        return finish(self.app, take_one(self.app, lease=LEASE))

    def finish_all(self) -> list[str]:
        """Do so until nothing is left and return how each outcome counts."""
        words = []
        while inside(self.app, Place.READY):
            words.append(self.finish_one().status)
        return words

    def dies_at(self, step: str, *, after: bool) -> None:
        """Let the next *step* be the last of this worker: it dies before or after it is done."""
        wire = backend_of(self.app).wire if step in ("put", "join") else broker_of(self.app).wire
        crash: Callable[[], Any] = _crash
        (wire.after if after else wire.answers)[step] = crash

    def recover(self) -> None:
        """Let the lease of the dead worker end."""
        self.pass_time(LEASE + 1)

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* pass, and the broker see to what is due."""
        self.clock.advance(seconds)
        self.app.runtime.broker.receive(["default"], limit=0, wait=0, lease=LEASE)


def _crash() -> None:
    raise Crash


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["put", "join", "send", "settle"])
def test_callback_runs_once_whenever_the_last_member_dies(step: str, when: str) -> None:
    """The last member's worker dies before or after each step of finishing it; the next one completes the chord."""
    bench = Bench()
    calls = bench.calls
    result = chord([calls.add.s(i, i) for i in range(3)], calls.total.s()).send()
    bench.finish_one()
    bench.finish_one()
    bench.dies_at(step, after=when == "after")
    with pytest.raises(Crash):
        bench.finish_one()

    bench.recover()
    bench.finish_all()

    assert calls.seen == [[0, 2, 4]]
    assert result.get(timeout=0) == 6
    assert result.members.get(timeout=0) == [0, 2, 4]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["put", "send", "settle"])
def test_failure_is_told_whenever_the_failing_member_dies(step: str, when: str) -> None:
    """The same for the member that fails: the callback is failed and the listener is told, once."""
    bench = Bench()
    calls = bench.calls
    result = chord([calls.boom.s("no"), calls.add.s(1, 1)], calls.total.s(), on_error=[calls.told.s()]).send()
    bench.dies_at(step, after=when == "after")
    with pytest.raises(Crash):
        bench.finish_one()

    bench.recover()
    bench.finish_all()

    assert result.state is State.FAILURE
    assert [failure.error for failure in calls.failures] == ["no"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["put", "send", "settle"])
def test_chain_goes_on_once_whenever_a_link_dies(step: str, when: str) -> None:
    """The same for a link of a chain: the next one runs once."""
    bench = Bench()
    calls = bench.calls
    result = chain(calls.add.s(1, 1), calls.echo.s("next"), calls.echo.s("end")).send()
    bench.dies_at(step, after=when == "after")
    with pytest.raises(Crash):
        bench.finish_one()

    bench.recover()
    bench.finish_all()

    assert result.get(timeout=0) == ["end", ["next", 2]]
    assert calls.seen == [["next", 2], ["end", ["next", 2]]]


def test_member_that_comes_again_late_does_not_run_the_callback_again() -> None:
    """Long after the broker has forgotten the callback's id, a member that arrives again adds nothing."""
    bench = Bench()
    calls = bench.calls
    result = chord([calls.add.s(1, 1), calls.add.s(2, 2)], calls.total.s()).send()
    bench.finish_one()
    bench.dies_at("settle", after=False)
    with pytest.raises(Crash):
        bench.finish_one()
    envelope = next(stored for stored in inside(bench.app, Place.READY)).envelope
    assert envelope.id == result.id
    bench.finish_one()

    bench.pass_time(1_000)
    words = bench.finish_all()

    assert words == ["skipped", "skipped"]
    assert calls.seen == [[2, 4]]
