"""The queue of a test of an application: the worker's own way of running calls, on a clock that the test moves."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from queuekit import Context, Delays, Queuekit, Signature, UniqueKey, chord, cron
from queuekit.errors import ArgumentsError, TaskFailed, UnavailableError
from queuekit.events import EngineBack, Event, LeasesLost, WorkerReady
from queuekit.limits import Rate
from queuekit.operations.why import Reason
from queuekit_testing.application.cases import QueueMixin
from queuekit_testing.application.clock import WouldWaitError
from queuekit_testing.application.queue import AppQueue, Tally
from queuekit_testing.application.swap import queue_of
from support.waiting import wait_until

pytest_plugins = ["pytester"]

NEW_YEAR = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())

app = Queuekit(broker="redis://127.0.0.1:1/0", plugins={"only": []})
ran: list[Any] = []


@app.task
def add(x: int, y: int = 0) -> int:
    """Return a sum."""
    return x + y


@app.task
def total(values: list[int]) -> int:
    """Follow a group."""
    return sum(values)


@app.task(retries=10, retry=Delays([7 * 3600]))
def mail(ctx: Context) -> None:
    """Fail each time."""
    ran.append(ctx.attempt)
    raise OSError("no server")


@app.task
def charge(order: int) -> None:
    """Do something twice if its worker crashes."""
    ran.append(order)


@app.task
async def tick(n: int) -> None:
    """Send itself again, a minute later."""
    await tick.options(delay=60).asend(n + 1)


@app.task(ack="early", expires="10m")
def once() -> None:
    """Run at most once, soon."""
    ran.append("once")


@app.task(unique=UniqueKey(by="site", on_conflict="debounce", quiet="30s", max_wait="40s"))
def build(site: str, version: int) -> None:
    """Run once no call has come for a while."""
    ran.append((site, version))


@app.task(unique=UniqueKey(by="account", on_conflict="latest"), retries=1, retry=Delays([60]))
def sync(account: str, version: int) -> None:
    """Fail the first time."""
    ran.append((account, version))
    if version == 0:
        raise OSError("no server")


@pytest.fixture
def queue() -> Iterator[AppQueue]:
    """Return the queue of the app above."""
    ran.clear()
    with queue_of(app, start=NEW_YEAR) as found:
        yield found


def test_shows_the_arguments_that_a_debounced_message_runs_with(queue: AppQueue) -> None:
    """A call that it took in takes the place of the earlier one, and makes it due later."""
    for version in range(3):
        build.send("x", version)
        queue.advance(10)
    app.send_many([build.s("y", 0), build.s("y", 1)])

    queue.assert_sent(build, "x", 2, within="10s")
    queue.assert_not_sent(build, "x", 0)
    assert [str(call) for call in queue.sent] == ["build('x', 2)", "build('y', 1)"]
    assert [str(call) for call in queue.waiting] == ["build('x', 2)", "build('y', 1)"]
    assert [(call.due - queue.now).total_seconds() for call in queue.sent] == [10, 30]
    queue.run(until="1m")
    assert ran == [("x", 2), ("y", 1)]


def test_shows_the_arguments_of_the_call_that_waits_behind_another(queue: AppQueue) -> None:
    """With ``latest``, one runs and one waits, which takes in what comes meanwhile."""
    sync.send("x", 0)
    queue.run_one()
    for version in (1, 2):
        sync.send("x", version)

    queue.assert_sent(sync, "x", 0)
    queue.assert_sent(sync, "x", 2)
    queue.assert_not_sent(sync, "x", 1)
    queue.run(until="5m", raises=False)
    assert ran == [("x", 0), ("x", 0), ("x", 2)]


def test_runs_what_was_sent_when_the_test_says_so(queue: AppQueue) -> None:
    """A call waits for ``run``, goes through the serializer, and its result is there afterwards."""
    result = add.send(1, 2)

    assert not result.done
    assert queue.run() == Tally(done=1)
    assert result.get() == 3


def test_runs_workflows_to_their_end(queue: AppQueue) -> None:
    """What follows from a message is run in the same call, and counts as sent."""
    result = app.send(chord([add.s(1), add.s(2)], total.s()))

    assert queue.run().done == 3
    assert result.get() == 3
    queue.assert_sent(total)


def test_leaves_what_is_due_later(queue: AppQueue) -> None:
    """The clock stands still unless the test moves it."""
    add.options(delay="1h").send(1)

    assert queue.run() == Tally(waiting=1)
    assert queue.run(until="59m") == Tally(waiting=1)
    queue.advance(60)
    assert queue.run_one() == Tally(done=1)
    assert queue.now == datetime(2026, 1, 1, 1, tzinfo=UTC)


def test_retries_over_days_at_exact_times(queue: AppQueue) -> None:
    """Ten retries over three days pass at once, and the exception of the last one comes through."""
    sent = mail.send()

    with pytest.raises(OSError, match="no server"):
        queue.run(until="4d")

    assert ran == [*range(11)]
    assert queue.now == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=70)
    (dead,) = queue.dead
    assert (dead.id, dead.reason, dead.error) == (sent.id, "failed", "OSError: no server")


def test_counts_failures_if_asked_to(queue: AppQueue) -> None:
    """With ``raises=False`` a test looks at the numbers instead."""
    mail.send()

    assert queue.run(until="4d", raises=False) == Tally(retried=10, failed=1)


def test_sends_the_ticks_of_a_year_at_exact_times() -> None:
    """A schedule keeps its time of day through both changes of clocks."""
    berlin = Queuekit()
    berlin.periodic(cron("30 2 * * 0", tz="Europe/Berlin"))(berlin.task(name="weekly")(lambda: None))

    with queue_of(berlin, start=NEW_YEAR) as queue:
        tally = queue.run(until=datetime(2027, 1, 1, tzinfo=UTC))
        times = [call.at for call in queue.sent]

    assert tally == Tally(done=52)
    changes = {(one, other) for one, other in pairwise(times) if other - one != timedelta(days=7)}
    # On the day on which 02:30 does not exist, the tick comes when the hour has passed.
    assert changes == {
        (datetime(2026, 3, 22, 1, 30, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), datetime(2026, 4, 5, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 11, 1, 1, 30, tzinfo=UTC)),
    }


def test_sends_the_daily_ticks_of_a_year_at_exact_times() -> None:
    """Each day has one, at the same time of that place's clocks."""
    berlin, zone = Queuekit(), ZoneInfo("Europe/Berlin")
    berlin.periodic(cron("30 4 * * *", tz=zone))(berlin.task(name="daily")(lambda: None))

    with queue_of(berlin, start=NEW_YEAR) as queue:
        tally = queue.run(until=datetime(2027, 1, 1, tzinfo=UTC))
        times = [call.at.astimezone(zone) for call in queue.sent]

    assert tally == Tally(done=365)
    assert times == [datetime(2026, 1, 1, 4, 30, tzinfo=zone) + timedelta(days=day) for day in range(365)]


def test_keeps_to_a_rate_at_exact_times() -> None:
    """Of 1,000 calls at 100 a minute, one starts every 0.6 s, in the order of the sends."""
    mailer, starts = Queuekit(), list[tuple[int, float]]()

    @mailer.task(name="letter", limits=[Rate("100/m")])
    def letter(number: int) -> None:
        starts.append((number, round(mailer.clock.time() - NEW_YEAR, 3)))

    with queue_of(mailer, start=NEW_YEAR) as queue:
        mailer.send_many(letter.s(number) for number in range(1_000))
        tally = queue.run(until="10m")

    assert tally == Tally(done=1_000)
    assert starts == [(number, round(number * 0.6, 3)) for number in range(1_000)]


def test_runs_other_tasks_between_those_that_a_rate_puts_off() -> None:
    """What is put off with others of its task ends at the first message of another, which may change what follows."""
    mailer, ran = Queuekit(), list[object]()

    @mailer.task(name="letter", limits=[Rate("100/m")])
    def letter(number: int) -> None:
        ran.append(number)

    @mailer.task(name="stop")
    def stop(id: str) -> None:
        ran.append(f"cancelled: {mailer.result(id).cancel()}")

    with queue_of(mailer, start=NEW_YEAR) as queue:
        sent = mailer.send_many(letter.s(number) for number in range(6))
        stop.send(sent[4].id)
        mailer.send_many(letter.s(number) for number in range(6, 8))
        tally = queue.run(until="1m", at_most={letter: 6})
        left = [call.args for call in queue.waiting]

    assert ran == [0, "cancelled: True", 1, 2, 3, 5, 6]
    assert (tally, left) == (Tally(done=7, waiting=1), [(7,)])


def test_sends_ticks_of_schedules_that_were_added(queue: AppQueue) -> None:
    """A schedule that the application adds at run time ticks as well."""
    app.schedules.add("hourly", cron("0 * * * *"), add.s(1))

    assert queue.run(until="3h").done == 3


def test_stops_a_task_that_sends_itself(queue: AppQueue) -> None:
    """It runs as often as the test allows, and what it sent then does not count as left over."""
    tick.send(0)

    assert queue.run(until="1h", at_most={tick: 3}) == Tally(done=3, waiting=1)
    assert [call.args for call in queue.sent] == [(0,), (1,), (2,), (3,)]
    assert not queue.leftovers


def test_runs_a_message_again_after_a_crash(queue: AppQueue) -> None:
    """A worker that dies after a body has run writes nothing, so that the body runs again when the lease ends."""
    charge.send(7)

    with queue.crash():
        assert queue.run() == Tally(crashed=1, waiting=1)

    assert queue.run() == Tally(waiting=1)
    assert queue.run(until="10m") == Tally(done=1)
    assert ran == [7, 7]


def test_runs_an_early_acknowledged_message_once(queue: AppQueue) -> None:
    """A crash loses it, and one that is late does not run."""
    once.send()
    with queue.crash():
        queue.run()
    once.send()
    queue.advance("11m")

    assert queue.run(until="1h") == Tally(expired=1)
    assert ran == ["once"]


def test_fails_sends_while_the_broker_is_down(queue: AppQueue) -> None:
    """The application sees the error that it would see in production, and nothing was sent."""
    with queue.broker_down(), pytest.raises(UnavailableError, match="took the broker down"):
        add.send(1)

    assert queue.sent == []
    assert add.send(1).id
    assert queue.run().done == 1


def test_refuses_ill_typed_arguments(queue: AppQueue) -> None:
    """Types are checked in tests, scalars as well."""
    ill_typed: Any = "1"

    with pytest.raises(ArgumentsError, match="expected int, got str '1'"):
        add.send(ill_typed)

    assert queue.run() == Tally()


def test_tells_why_a_message_without_an_exception_has_failed(queue: AppQueue) -> None:
    """A message that no body could take fails the test with its reason."""
    app.send(add.s(1).options(args=(1, 2, 3)))

    with pytest.raises((TaskFailed, TypeError), match=r"positional arguments|dead-lettered"):
        queue.run()


def test_does_not_wait_for_what_has_not_run(queue: AppQueue) -> None:
    """A wait in the test's own thread could never end."""
    result = add.send(1)

    with pytest.raises(WouldWaitError, match=r"call queue.run\(\)"):
        result.get(timeout=5)

    assert queue.run().done == 1


def test_finds_calls_by_some_of_their_arguments(queue: AppQueue) -> None:
    """Arguments match by position or by name, with defaults, and with the time at which the call is due."""
    add.send(1)
    add.options(delay="5m").send(1, y=2)

    assert queue.assert_sent(add, 1, y=0) is queue.sent[0]
    assert queue.assert_sent(add, y=2, within="10m") is queue.sent[1]
    queue.assert_not_sent(add, 3)
    queue.run(until="5m")


def test_names_the_nearest_calls_and_what_differs(queue: AppQueue) -> None:
    """The text of a failed assertion has at most twelve lines, the nearest call first."""
    for number in range(8):
        add.send(number, 5)
    charge.send(1)
    queue.run()

    with pytest.raises(AssertionError) as caught:
        queue.assert_sent(add, 3, y=6)

    lines = str(caught.value).splitlines()
    assert len(lines) <= 12
    assert lines[:2] == ["add(3, y=6) was not sent; sent instead:", "  add(3, 5)   <- y: 5, expected 6"]
    assert lines[-1] == "  and 6 more"
    with pytest.raises(AssertionError, match=r"add\(3, 5\) was sent at 00:00:00; expected none"):
        queue.assert_not_sent(add, 3)


def test_tells_why_a_message_has_not_run(queue: AppQueue) -> None:
    """The answer is that of ``queuekit why``, in a place where the test is the only worker."""
    due, later, failed = add.send(1), add.options(delay="1h").send(2), mail.send()

    assert queue.why(due.id) == Reason(code="behind", text="it is due, and runs when the test calls run()")
    assert (queue.why(later.id).code, queue.why(later.id).until) == ("delayed", NEW_YEAR + 3600)
    queue.run(until="4d", raises=False)
    assert queue.why(failed.id).text == "it is a dead letter of 'default' (failed: OSError: no server)"
    assert queue.why("nobody").code == "never_sent"


def test_tells_why_a_message_of_another_app_waits(queue: AppQueue) -> None:
    """A task that the app does not know, and a lease whose worker crashed, are reasons of their own."""
    unknown, crashed = app.send(Signature[Any]("gone")), charge.send(1)
    code = queue.why(unknown.id).code

    with queue.crash():
        queue.run()

    assert code == "unknown_task"
    assert queue.why(crashed.id).code == "leased"
    queue.run(until="2h", raises=False)


def test_gives_events_to_the_subscribers(queue: AppQueue) -> None:
    """What a test cannot bring about, it can tell; an error of a subscriber comes through."""
    seen: list[Event] = []

    def fail(_event: Event) -> None:
        raise ZeroDivisionError

    app.events.subscribe(seen.append, to=[LeasesLost])
    app.events.subscribe(fail, to=[EngineBack])
    lost = LeasesLost(count=1, ids=("a",), worker="w")

    queue.emit(lost)
    queue.emit(WorkerReady(worker="w"))

    assert seen == [lost]
    with pytest.raises(ZeroDivisionError):
        queue.emit(EngineBack(doing="receive", after=1.0))
    with pytest.raises(TypeError, match="expected an event"):
        queue.emit("lost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_works_inside_a_running_loop(queue: AppQueue) -> None:
    """Tests with pytest-asyncio or anyio send and read without blocking their loop."""

    async def main() -> int:
        result = await add.asend(1, 2)
        queue.run()
        return await result.aget(timeout=60)

    assert asyncio.run(main()) == 3


def test_leaves_the_app_as_it_was() -> None:
    """After a test the app has its own settings, connections and subscribers, and no thread is left."""
    before, kept, threads = app.config.broker, {**vars(app)}, threading.active_count()

    with queue_of(app) as queue:
        asyncio.run(add.asend(1))
        queue.run()
        app.events.subscribe(lambda _event: None)
        assert app.config.broker.startswith("memory://")

    assert app.config.broker == before
    assert {**vars(app)} == kept
    assert not app.events.observed
    wait_until(lambda: threading.active_count() <= threads, "the threads of the app end")


def test_gives_unittest_the_same_queue() -> None:
    """A test case fails if it leaves messages, unless it says that it may."""

    class Case(QueueMixin):
        queue_app = app

        def test_runs(self) -> None:
            """Run what it sends."""
            add.send(1)
            assert self.queue.run().done == 1

        def test_leaves(self) -> None:
            """Leave what it sends."""
            add.send(1)

    good, bad = Case("test_runs").run(), Case("test_leaves").run()

    assert good is not None
    assert good.wasSuccessful()
    assert bad is not None
    assert "messages that are left: 1, first add(1)" in bad.failures[0][1]


TASKS = """
    from queuekit import Queuekit

    app = Queuekit(broker="sqlite:///never.db")

    @app.task
    def add(x: int, y: int = 0) -> int:
        return x + y
"""
TESTS = """
    import datetime
    import pytest
    from tasks import add

    def test_passes(queue):
        add.send(1)
        assert queue.run().done == 1

    def test_leaves(queue):
        add.send(1, 2)

    @pytest.mark.queuekit(leftovers=True, start=datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))
    def test_may_leave(queue):
        add.options(delay="1h").send(1)
        assert queue.now.year == 2030

    def test_moves_the_clock(queue):
        add.options(delay=60).send(1)
        assert queue.run(until="1m").done == 1
"""


@pytest.mark.parametrize(
    ("options", "outcomes", "line"),
    [
        pytest.param((), {"passed": 3, "failed": 1}, "  add(1, 2)   due *", id="memory", marks=pytest.mark.full),
        pytest.param(
            ("--queuekit-url", "sqlite:///shared.db", "-rs"),
            {"passed": 1, "failed": 1, "skipped": 1},
            "*run(until=...) needs the virtual clock, and this engine has its own",
            id="sqlite",
        ),
    ],
)
def test_finds_the_app_as_commands_do(
    pytester: pytest.Pytester,
    options: tuple[str, ...],
    outcomes: dict[str, int],
    line: str,
) -> None:
    """One line in ``conftest.py`` is all that the tests of an app need; they run on another engine by an option."""
    pytester.syspathinsert()
    pytester.makepyfile(tasks=TASKS, test_app=TESTS)
    pytester.makeconftest('pytest_plugins = ["queuekit.testing"]')

    chosen = ("-k", "not may_leave") if options else ()
    result = pytester.runpytest_subprocess(*options, *chosen, timeout=120)

    result.assert_outcomes(**outcomes, deselected=1 if options else 0)
    result.stdout.fnmatch_lines([line])
    assert not list(pytester.path.glob("never.db*"))


def test_gives_application_code_the_time_of_the_test(queue: AppQueue) -> None:
    """With time-machine, ``time.time()`` follows the clock of the test."""
    pytest.importorskip("time_machine")

    with queue.time_machine():
        queue.advance("1h")

        assert time.time() == NEW_YEAR + 3600


def test_brings_no_suite_to_tests_of_an_application(pytester: pytest.Pytester) -> None:
    """Each process of a user's tests imports the plugin, so it brings neither the suites nor what they alone need."""
    script = """
        import sys
        before = {*sys.modules}  # a measurement of coverage imports some of its own
        import queuekit.testing
        unwanted = ("queuekit_testing.kit", "hypothesis", "multiprocessing", "ssl")
        print([name for name in unwanted if name in {*sys.modules} - before])
        print(queuekit.testing.eventually, queuekit.testing.BrokerConformance)
    """

    result = pytester.runpython(pytester.makepyfile(script))

    result.stdout.fnmatch_lines(["[[][]]", "<function eventually *BrokerConformance'>"])
