"""Outcomes are written in batches, kept while an engine is down, and parted from one that cannot be written."""

import sys
import threading
from typing import Any

import pytest

from queuekit import Queuekit, Signature, State
from queuekit.broker import Ack, Place
from queuekit.client.sender import Sending
from queuekit.errors import TooLargeError, UnavailableError
from queuekit.events import EngineBack, EngineDown, LeasesLost
from queuekit.execution.outcome import Outcome
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.worker.settler import Settler
from queuekit_testing.kit import in_thread
from support.waiting import PATIENCE, wait_until
from support.working import backend_of, broker_of, counts, executor_of, flaky_app, make_app, prepared, seen


def echo(value: int) -> int:
    """Return the argument."""
    return value


def outcomes(app: Queuekit, count: int, **options: Any) -> list[Outcome]:
    """Return the outcomes of *count* runs, not written yet."""
    app.task(name="echo")(echo)
    app.send_many([Signature("echo", args=(n,), id=f"id-{n}").options(**options) for n in range(count)])
    executor = executor_of(app)
    return [executor.call(prepared(app)) for _ in range(count)]


class Settled:
    """A settler, and what it reports."""

    def __init__(self, app: Queuekit) -> None:
        self.batches: list[list[Outcome]] = []
        self.settler = Settler(
            app.runtime, WorkflowAdvancer(app.runtime, Sending(app.runtime, app.tasks)), on_settled=self.batches.append
        )

    def write(self, found: list[Outcome]) -> None:
        """Write all, and return when that is done."""
        for outcome in found:
            self.settler.put(outcome)
        self.settler.start()
        self.settler.stop(10)

    @property
    def words(self) -> list[str]:
        """How each outcome is counted."""
        return [outcome.status for batch in self.batches for outcome in batch]


@pytest.mark.parametrize("make", [make_app, flaky_app], ids=["one-engine", "separate-engines"])
def test_writes_all_that_has_piled_up_at_once(make: Any) -> None:
    """Natural batching: what came during the last round trip goes with the next."""
    app = make()
    settled = Settled(app)

    settled.write(outcomes(app, 5))

    assert [len(batch) for batch in settled.batches] == [5]
    assert [app.info(f"id-{n}").state for n in range(5)] == [State.SUCCESS] * 5
    assert counts(app) == {}


def test_separate_engines_get_record_follow_ups_and_settlement_in_this_order() -> None:
    """Each is there before the next may rest on it (QK12)."""
    app = flaky_app()
    found = outcomes(app, 1, on_success=[Signature("after")])
    backend_of(app).wire.calls.clear()
    broker_of(app).wire.calls.clear()
    order: list[str] = []
    backend_of(app).wire.answers["put"] = lambda: order.append("put")
    broker_of(app).wire.answers["send"] = lambda: order.append("send")
    broker_of(app).wire.answers["settle"] = lambda: order.append("settle")

    Settled(app).write(found)

    assert order == ["put", "send", "settle"]


def test_one_engine_gets_all_in_one_commit() -> None:
    """Result, follow-ups and settlement together."""
    app = make_app()

    Settled(app).write(outcomes(app, 1, on_success=[Signature("after")]))

    assert counts(app) == {"ready": 1}
    assert app.info("id-0").state is State.SUCCESS


def test_splits_what_is_more_than_a_batch() -> None:
    """The broker's limit holds."""
    app = flaky_app()
    found = outcomes(app, 5)
    broker_of(app).limits = type(broker_of(app).limits)(max_batch=2)
    settled = Settled(app)

    settled.write(found)

    assert [len(batch) for batch in settled.batches] == [2, 2, 1]


@pytest.mark.parametrize("make", [make_app, flaky_app], ids=["one-engine", "separate-engines"])
def test_large_outcomes_are_written_a_megabyte_at_a_time(make: Any) -> None:
    """A round trip is bounded in bytes as well as in number, and a single outcome is never parted."""
    app = make()
    app.send_many(Signature("large", args=(size,)) for size in (*[300_000] * 7, 3_000_000, 10))
    app.task(name="large")(lambda size: "x" * size)
    executor = executor_of(app)
    found = [executor.call(prepared(app)) for _ in range(9)]
    settled = Settled(app)

    settled.write(found)

    assert [len(batch) for batch in settled.batches] == [3, 3, 1, 1, 1]
    assert settled.words == ["done"] * 9
    assert counts(app) == {}


def test_results_that_are_off_cost_no_record() -> None:
    """There is nothing to put."""
    app = flaky_app()
    found = outcomes(app, 1, ignore_result=True)

    Settled(app).write(found)

    assert backend_of(app).wire.calls == []


@pytest.mark.parametrize("engine", ["put", "settle"], ids=["backend", "broker"])
def test_keeps_outcomes_while_an_engine_is_down(engine: str) -> None:
    """They are written on its return; each try is one line, and so is the end."""
    app = flaky_app()
    found = outcomes(app, 3)
    down, back = seen(app, EngineDown), seen(app, EngineBack)
    wire = (backend_of(app) if engine == "put" else broker_of(app)).wire
    wire.cut = {engine}
    settled = Settled(app)

    writing = in_thread(lambda: settled.write(found))
    wait_until(lambda: len(down) >= 2)
    wire.cut = set()
    writing.result(PATIENCE)

    assert settled.words == ["done"] * 3
    assert (down[0].doing, down[0].error) == ("settle", f"no answer to {engine}")
    assert [event.doing for event in back] == ["settle"]
    assert counts(app) == {}


def test_waits_longer_from_try_to_try() -> None:
    """With jitter, at most some seconds."""
    app = flaky_app()
    found = outcomes(app, 1)
    down = seen(app, EngineDown)
    broker_of(app).wire.cut = {"settle"}
    settled = Settled(app)

    settled.settler.start()
    settled.settler.put(found[0])
    wait_until(lambda: len(down) >= 3)
    settled.settler.stop(0)

    assert 0.025 <= down[0].retry_in <= 0.05
    assert 0.1 <= down[2].retry_in <= 0.2
    assert settled.batches == []


@pytest.mark.parametrize("make", [make_app, flaky_app], ids=["one-engine", "separate-engines"])
def test_an_outcome_whose_lease_is_gone_is_refused_and_counted(make: Any) -> None:
    """The others of its batch are written (QK4, QK8)."""
    app = make()
    found = outcomes(app, 3)
    app.runtime.broker.settle([Ack(found[1].delivery)])
    lost = seen(app, LeasesLost)
    settled = Settled(app)

    settled.write(found)

    assert settled.words == ["done", "lost", "done"]
    assert [event.ids for event in lost] == [("id-1",)]


def test_the_first_outcome_stays() -> None:
    """A second run of one message cannot overwrite what the first recorded (QK5)."""
    app = flaky_app()
    (first,) = outcomes(app, 1)
    second = Outcome(delivery=first.delivery, settlement=None, records=first.records)
    Settled(app).write([first])

    Settled(app).write([second])

    assert app.result("id-0").get(timeout=1) == 0


def test_an_outcome_that_no_engine_takes_is_parted_from_its_batch(caplog: pytest.LogCaptureFixture) -> None:
    """It becomes a dead letter that says so; all others are written."""
    app = flaky_app()
    found = outcomes(app, 5)
    wire = backend_of(app).wire

    def refuse() -> None:
        wire.answers["put"] = refuse
        if any(record.key == "result:id-3" for record in wire.subject):
            raise TooLargeError("above the limit")

    wire.answers["put"] = refuse
    settled = Settled(app)

    settled.write(found)

    assert sorted(settled.words) == ["done"] * 5
    (dead,) = app.runtime.broker.peek("default", place=Place.DEAD).items
    assert (dead.envelope.id, dead.reason) == ("id-3", "failed")
    assert "TooLargeError: above the limit" in dead.error
    assert "the outcome of id-3 cannot be written" in caplog.text


@pytest.mark.parametrize("count", [1, 3])
def test_an_exit_raised_in_its_thread_is_blamed_on_no_outcome(count: int) -> None:
    """A body can raise it there, in whatever is being written."""
    app = flaky_app()
    found = outcomes(app, count)
    backend_of(app).wire.answers["put"] = sys.exit
    settled = Settled(app)

    settled.write(found)

    assert settled.words == ["done"] * count
    assert [app.info(f"id-{n}").state for n in range(count)] == [State.SUCCESS] * count
    assert counts(app) == {}


def test_an_outcome_that_cannot_even_be_buried_frees_its_place() -> None:
    """Its lease will end, and the message comes again."""
    app = flaky_app()
    (outcome,) = outcomes(app, 1)
    outcome.records, outcome.sends = (), ()
    broker_of(app).wire.answers["settle"] = lambda: broker_of(app).wire.calls.index("never called")
    settled = Settled(app)

    settled.write([outcome])

    assert settled.words == ["lost"]


def test_stops_when_all_is_written() -> None:
    """What was put before the stop is written before the end."""
    app = make_app()
    found = outcomes(app, 3)
    settled = Settled(app)
    settled.settler.start()
    for outcome in found:
        settled.settler.put(outcome)

    settled.settler.stop(10)

    assert len(settled.words) == 3
    assert not any(thread.name == "queuekit-settler" for thread in threading.enumerate())


def test_a_batch_that_an_engine_is_too_slow_for_shrinks() -> None:
    """What is too much for it at once is written in parts, each outcome once."""
    app = flaky_app()
    settled, found = Settled(app), outcomes(app, 10)
    wire = broker_of(app).wire
    sizes: list[int] = []
    slow = broker_of(app).settle

    def settle(settlements: Any) -> Any:
        sizes.append(len(settlements))
        if len(settlements) > 3:
            raise UnavailableError("no answer in time")
        return slow(settlements)

    broker_of(app).settle = settle  # type: ignore[method-assign]
    settled.write(found)

    assert sorted(outcome.delivery.id for batch in settled.batches for outcome in batch) == [
        f"id-{n}" for n in range(10)
    ]
    assert [app.info(f"id-{n}").state for n in range(10)] == [State.SUCCESS] * 10
    assert sizes[:3] == [10, 10, 5]
    assert sum(size for size in sizes if size <= 3) == 10
    assert wire.calls.count("settle") == len([size for size in sizes if size <= 3])
