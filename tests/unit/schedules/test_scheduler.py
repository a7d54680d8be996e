"""Each tick is sent once, however many schedulers run and whatever becomes of them; on a clock that tests move."""

from collections import Counter
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuekit import Context, Queuekit, Signature, chain, chord, cron, every, group
from queuekit.broker import Ack, Place
from queuekit.clock import VirtualClock
from queuekit.events import (
    EngineBack,
    EngineDown,
    SchedulerLeaderElected,
    TickFailed,
    TickSent,
    TickSkipped,
    TicksMissed,
)
from queuekit.schedules.due import tick_id
from queuekit.schedules.manager import declare
from queuekit.schedules.schedule import CHANGES
from queuekit.schedules.scheduler import Scheduler
from queuekit.wire.records import pending, succeeded
from support.scheduling import START, Crew, between, crash
from support.waiting import wait_until
from support.working import backend_of, broker_of, flaky_app, inside, make_app, seen, take_one, working

CALL = Signature[Any]("report", (1,))


def crew_with(when: Any = None, *, schedulers: int = 1, **rules: Any) -> Crew:
    """Return schedulers of an app with one schedule, which was added at the start."""
    crew = Crew()
    crew.app.schedules.add("job", when or every("10s"), CALL, **rules)
    crew.hire(schedulers)
    return crew


# -- each tick once


def test_sends_each_tick_at_its_moment() -> None:
    """A tick is sent when it is due, under its own id, with its time in the headers."""
    crew = crew_with()
    events = seen(crew.app, TickSent)

    crew.run(35)

    assert crew.ticks() == ["08:00:10", "08:00:20", "08:00:30"]
    assert [event.at for event in events] == [START + 10, START + 20, START + 30]
    assert max(event.late for event in events) < 0.01
    assert take_one(crew.app).id == tick_id("job", START + 10)


def test_one_of_many_leads() -> None:
    """Five schedulers send each tick once, and one of them does it all."""
    crew = crew_with(every("1s"), schedulers=5)
    leads = seen(crew.app, SchedulerLeaderElected)

    crew.run(60)

    assert crew.ticks() == between("08:00:01", "08:01:00", 1)
    assert len(leads) == 1


def test_another_takes_over_from_the_dead() -> None:
    """Five schedulers, two leaders killed within a minute: each tick once, and the gap at each is the lease at most."""
    crew = crew_with(every("1s"), schedulers=5)
    events = seen(crew.app, TickSent)

    for _ in range(2):
        crew.run(20)
        crew.kill(crew.leader())
    crew.run(20)

    assert crew.ticks() == between("08:00:01", "08:01:00", 1)
    assert 1.0 < max(event.late for event in events) <= 16.0


def test_one_who_stops_gives_the_lead_back() -> None:
    """After a clean stop nobody need wait for the end of a lease."""
    crew = crew_with(every("1s"), schedulers=1)
    crew.run(10)
    leader = crew.leader()
    leader.stop()
    crew.kill(leader)
    leader.run()

    crew.hire()
    crew.run(5)

    assert crew.ticks() == between("08:00:01", "08:00:15", 1)


def test_one_who_stood_still_yields() -> None:
    """A leader that was frozen finds its lease over by its own clock, and does not send beside the new one."""
    crew = crew_with(every("10s"), schedulers=2)
    crew.run(15)
    frozen = crew.leader()
    crew.kill(frozen)
    crew.run(60)

    frozen.turn()

    assert not frozen.is_leader
    assert crew.ticks() == between("08:00:10", "08:01:10", 10)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["send", "put"])
def test_crash_between_send_and_record_does_no_harm(step: str, when: str) -> None:
    """A leader dies before or after it sends a tick, before or after it records that: the tick is sent once."""
    crew = crew_with(every("1m"), schedulers=2)
    crew.run(59)
    wire = (broker_of(crew.app) if step == "send" else backend_of(crew.app)).wire
    leader = crew.leader()
    crew.clock.advance(1.5)
    backend_of(crew.app).wire.calls.clear()
    (wire.answers if when == "before" else wire.after)[step] = crash

    crew.run(0)
    crew.kill(leader)
    crew.run(90)

    assert crew.ticks() == ["08:01:00", "08:02:00"]


def test_crash_is_remembered_longer_than_by_the_broker() -> None:
    """Sent, run and forgotten by the broker before anybody recorded it: a result still tells that it was sent."""
    crew = crew_with(every("1h"))
    crew.run(3_599)
    (leader,) = crew.wakes
    broker_of(crew.app).wire.after["send"] = crash
    crew.run(2)
    assert crew.wakes[leader] == float("inf")
    crew.kill(leader)
    put_result(crew, take_one(crew.app))
    crew.drain()
    crew.clock.advance(1_000)

    crew.hire()
    crew.run(5)

    assert crew.ticks() == []
    assert crew.app.schedules.get("job").progress.sent == 1


def put_result(crew: Crew, delivery: Any) -> None:
    """Record that a message has succeeded and settle it, so that the broker begins to forget it."""
    times = (START, START)
    record = succeeded(delivery, task="report", value=b"1", content_type="json", ttl=7_200, worker="w", times=times)
    crew.app.runtime.need_backend("a test").put([record])
    crew.app.runtime.broker.settle([Ack(delivery)])


@pytest.mark.no_cover  # what it runs through others do as well, and it takes three times as long measured
@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_any_crashes_at_any_time(data: st.DataObject) -> None:
    """Leaders that die at any step, as often as you like: no tick is lost and none is sent twice."""
    crew = crew_with(every("5s"), schedulers=2, grace=1e6)
    for _ in range(data.draw(st.integers(1, 4), "crashes")):
        crew.run(data.draw(st.floats(0, 30), "seconds"))
        step = data.draw(st.sampled_from(["send", "put", "get", "scan"]), "step")
        after = step in ("send", "put") and data.draw(st.booleans(), "after")
        wire = (broker_of(crew.app) if step == "send" else backend_of(crew.app)).wire
        (wire.after if after else wire.answers)[step] = crash
        crew.run(data.draw(st.floats(0, 20), "until it dies"))
        crew.hire()
    broker_of(crew.app).wire.answers.clear()
    backend_of(crew.app).wire.answers.clear()
    broker_of(crew.app).wire.after.clear()
    backend_of(crew.app).wire.after.clear()
    crew.hire()

    crew.run(40)

    passed = int((crew.clock.time() - START) // 5)
    assert len(crew.ticks()) in (passed, passed - 1)
    assert set(crew.counts().values()) == {1}


# -- outages


def test_restart_after_an_outage_sends_what_the_policy_says() -> None:
    """Nobody was there for ten minutes: one tick for all of them, and how many were missed is known."""
    crew = crew_with(every("1m"))
    crew.run(90)
    crew.kill(crew.leader())
    crew.clock.advance(600)
    missed = seen(crew.app, TicksMissed)

    crew.hire()
    crew.run(1)

    assert crew.ticks() == ["08:01:00", "08:11:00"]
    assert [event.count for event in missed] == [9]
    assert crew.app.schedules.get("job").progress.missed == 9


def test_restart_after_an_outage_sends_all() -> None:
    """Where each tick matters, all are sent, in order, however many there are."""
    crew = crew_with(every("1m"), misfire="all")
    crew.run(1)
    crew.kill(crew.leader())
    crew.clock.advance(3 * 3_600)

    crew.hire()
    crew.run(1)

    assert crew.ticks() == between("08:01:00", "11:00:00", 60)


def test_outage_of_the_backend_is_waited_for() -> None:
    """While the backend is away nothing is sent; then what was due is, once."""
    crew = crew_with(every("10s"))
    crew.run(15)
    backend_of(crew.app).wire.cut = {"get", "put", "scan"}
    crew.run(20)
    backend_of(crew.app).wire.cut.clear()

    crew.run(10)

    assert crew.ticks() == between("08:00:10", "08:00:40", 10)


def test_outage_of_the_broker_is_waited_for() -> None:
    """A tick that the broker does not take is sent when it is back."""
    clock = VirtualClock(START)
    crew = Crew(clock=clock, app=flaky_app(clock=clock, send_timeout=0))
    crew.app.schedules.add("job", every("10s"), CALL)
    crew.hire(1)
    broker_of(crew.app).wire.cut = {"send"}
    crew.run(25)

    broker_of(crew.app).wire.cut.clear()
    crew.run(5)

    assert crew.ticks() == ["08:00:10", "08:00:20", "08:00:30"]


def test_clock_of_a_leader_does_not_matter() -> None:
    """A leader whose own clock is a day ahead sends nothing early: the backend's time counts (QK11)."""
    crew = Crew()
    crew.app._runtime = attrs.evolve(crew.app.runtime, clock=_Ahead(crew.clock))
    crew.app.schedules.add("job", every("1h"), CALL)
    crew.hire()

    crew.run(3_590)
    early = crew.ticks()
    crew.run(20)

    assert (early, crew.ticks()) == ([], ["09:00:00"])


class _Ahead(VirtualClock):
    """A clock that is a day ahead of another."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def time(self) -> float:
        return self._clock.time() + 86_400

    def monotonic(self) -> float:
        return self._clock.monotonic() + 86_400


# -- one schedule and the others


def test_schedule_that_cannot_be_sent_does_not_hold_up_the_others() -> None:
    """A call that is too large fails and is told; the others of that moment are sent."""
    clock = VirtualClock(START)
    crew = Crew(clock=clock, app=flaky_app(clock=clock, max_message_bytes=500))
    crew.app.schedules.add("big", every("10s"), Signature[Any]("report", ("x" * 999,)))
    crew.app.schedules.add("job", every("10s"), CALL)
    failures = seen(crew.app, TickFailed)
    crew.hire()

    crew.run(15)

    assert crew.ticks() == ["08:00:10"]
    assert [event.schedule for event in failures] == ["big"]
    assert crew.app.schedules.get("big").progress.error.startswith("TooLargeError")
    assert crew.app.schedules.get("job").progress.error == ""


def test_schedule_that_cannot_be_read_does_not_hold_up_the_others() -> None:
    """A schedule whose time zone this machine does not know is told of; the others go on."""
    crew = crew_with()
    backend = backend_of(crew.app)
    bad = backend.get(["cron:job"])["cron:job"]
    body = bad.body.replace(b'{"every":10.0}', b'{"cron":"* * * * *","tz":"Mars/North"}')
    backend.put([attrs.evolve(bad, key="cron:mars", body=body)])
    backend.put([attrs.evolve(bad, key="cron:junk", body=b"\xff")])
    failures = seen(crew.app, TickFailed)

    crew.run(45)

    assert crew.ticks() == between("08:00:10", "08:00:40", 10)
    assert sorted(event.schedule for event in failures) == ["junk", "mars"]
    assert crew.app.schedules.get("mars").next is None


def test_many_schedules_are_due_at_once() -> None:
    """Hundreds of schedules with one moment are all sent."""
    crew = Crew()
    for number in range(250):
        crew.app.schedules.add(f"job-{number}", every("1m"), CALL)
    crew.hire(2)

    crew.run(65)

    assert crew.counts() == {"08:01:00": 250}


# -- changes while it runs


def test_new_schedule_is_heard_of() -> None:
    """What is added while a leader runs begins with its next tick, which counts from then."""
    crew = Crew()
    crew.hire()
    crew.run(33)

    crew.app.schedules.add("job", every("10s"), CALL)
    crew.run(20)

    assert crew.ticks() == ["08:00:40", "08:00:50"]


@pytest.mark.parametrize("before", [(), ("other",)], ids=["none", "one"])
@pytest.mark.parametrize("idle", [30.1, 31.0, 31.9, 32.7])
def test_new_schedule_is_heard_of_within_two_seconds(idle: float, before: tuple[str, ...]) -> None:
    """Whenever it is added, be it the first of all or one beside another whose ticks fall between two looks."""
    crew = Crew()
    for name in before:
        crew.app.schedules.add(name, every("1.9s"), Signature[Any]("report", (1,), queue="others"))
    crew.hire()
    crew.run(idle)

    crew.app.schedules.add("job", every("500ms"), CALL)
    crew.run(2.01)

    assert crew.ticks() != []


def test_reading_of_all_schedules_is_rarer_where_it_takes_long() -> None:
    """An engine that walks over all that it holds does so for a hundredth of the time; a change is heard of at once."""
    crew = crew_with(every("1h"))
    crew.run(1)
    wire = backend_of(crew.app).wire

    def walk() -> None:
        wire.answers["scan"] = walk
        crew.clock.advance(1.0)

    wire.answers["scan"] = walk
    crew.run(200)
    readings = wire.calls.count("scan")
    crew.app.schedules.add("late", every("5s"), CALL)
    crew.run(20)

    assert 2 <= readings <= 4
    assert len(crew.ticks()) >= 3


def test_pause_counts_at_once() -> None:
    """A schedule that was paused a moment before its tick is not sent, though the leader has not heard of it."""
    crew = crew_with()
    crew.run(9.99)

    crew.app.schedules.pause("job")
    crew.run(30)

    assert crew.ticks() == []


def test_resumed_schedule_goes_on_from_now() -> None:
    """Ticks of the pause were not missed."""
    crew = crew_with(misfire="all")
    crew.app.schedules.pause("job")
    crew.run(600)

    crew.app.schedules.resume("job")
    crew.run(12)

    assert crew.ticks() == ["08:10:10"]


def test_removed_schedule_ends_at_once() -> None:
    """A schedule that was removed a moment before its tick is not sent."""
    crew = crew_with()
    crew.run(19.99)

    crew.app.schedules.remove("job")
    crew.run(30)

    assert crew.ticks() == ["08:00:10"]


def test_changed_schedule_is_heard_of() -> None:
    """Another pace counts from the change."""
    crew = crew_with()
    crew.run(15)

    crew.app.schedules.change("job", when=every("1m"))
    crew.run(50)

    assert crew.ticks() == ["08:00:10", "08:01:00"]


# -- overlap


def test_overlap_is_left_out() -> None:
    """Under ``skip`` a tick is left out while what an earlier one sent has not ended."""
    crew = crew_with(overlap="skip")
    skips = seen(crew.app, TickSkipped)
    crew.run(35)
    waiting = crew.drain()

    crew.run(10)

    assert (waiting, crew.ticks()) == (["08:00:10"], ["08:00:40"])
    assert [event.holder for event in skips] == [tick_id("job", START + 10)] * 2
    assert crew.app.schedules.get("job").progress.skipped == 2


def test_overlap_of_a_workflow_is_left_out() -> None:
    """Under ``skip`` a chain is not begun again before its last link has ended."""
    crew = Crew()
    crew.app.schedules.add("flow", every("10s"), chain(CALL, CALL), overlap="skip")
    crew.hire()
    crew.run(25)
    waiting = crew.ticks()
    backend_of(crew.app).delete([f"result:{tick_id('flow', START + 10)}"])

    crew.run(10)

    assert (waiting, crew.ticks()) == (["08:00:10"], ["08:00:10", "08:00:30"])


def test_overlap_of_a_group_is_left_out() -> None:
    """Under ``skip`` a group is not begun again while a member waits."""
    crew = Crew()
    crew.app.schedules.add("flow", every("10s"), group(CALL, CALL), overlap="skip")
    crew.hire()

    crew.run(25)

    assert crew.ticks() == ["08:00:10", "08:00:10"]
    assert crew.app.schedules.get("flow").progress.skipped == 1


# -- workflows


@pytest.mark.parametrize(
    ("flow", "sent"),
    [(chain(CALL, CALL), 1), (group(CALL, CALL, CALL), 3), (chord([CALL, CALL], CALL), 2)],
    ids=["chain", "group", "chord"],
)
def test_workflow_begins_at_each_tick(flow: Any, sent: int) -> None:
    """A chain, group or chord is begun once a tick, and what it begins with knows the tick."""
    crew = Crew()
    crew.app.schedules.add("flow", every("10s"), flow)
    crew.hire(2)

    crew.run(25)

    assert crew.counts() == {"08:00:10": sent, "08:00:20": sent}


# -- declared in code


def declaring_app(clock: VirtualClock, broker: str, name: str = "job", period: str = "10s") -> Queuekit:
    """Return an app whose code declares a schedule."""
    app = make_app(clock=clock, broker=broker)

    @app.periodic(every(period), name=name)
    @app.task(name=name, queue="mail", priority=7)
    def job() -> None: ...

    return app


def test_declared_schedule_is_sent_by_any_worker() -> None:
    """A leader whose app does not know the task sends it to the task's own queue, with its own priority."""
    clock = VirtualClock(START)
    crew = Crew(clock=clock, app=make_app(clock=clock, broker="memory://declared"))
    crew.app.schedules.add("other", every("1h"), CALL)
    (leader,) = crew.hire()
    crew.run(1)
    crew.app = declaring_app(clock, "memory://declared")
    crew.hire()

    crew.run(15)

    assert crew.leader() is leader
    (stored,) = inside(crew.app, Place.READY, queue="mail")
    assert (stored.envelope.queue, stored.envelope.priority) == ("mail", 7)


def test_schedule_that_no_code_declares_sleeps() -> None:
    """Once no live worker declares a schedule it is not sent; declared again, it goes on by its policy."""
    clock = VirtualClock(START)
    declares = declaring_app(clock, "memory://asleep")
    crew = Crew(clock=clock, app=make_app(clock=clock, broker="memory://asleep"))
    declare(declares)
    crew.hire()
    crew.run(60)
    asleep = (crew.ticks("mail"), crew.app.schedules.get("job").state)

    crew.kill(crew.leader())
    crew.app = declares
    crew.hire()
    crew.run(30)

    assert asleep == ([], "asleep")
    assert crew.ticks("mail")[-1] == "08:01:30"
    assert crew.app.schedules.all()[0].entry.orphaned is None


def test_schedule_that_sleeps_for_a_week_is_forgotten() -> None:
    """What was taken out of the code does not stay in the backend for good."""
    clock = VirtualClock(START)
    declares = declaring_app(clock, "memory://forgotten")
    crew = Crew(clock=clock, app=make_app(clock=clock, broker="memory://forgotten"))
    declare(declares)
    crew.hire()
    crew.run(5)

    crew.clock.advance(8 * 86_400)
    crew.run(30)

    assert crew.app.schedules.all() == []


# -- the thread


def test_worker_sends_ticks() -> None:
    """A worker is a scheduler too: what code declares is sent and run, and the task knows the tick."""
    ticks: Counter[str] = Counter()
    app = make_app()

    @app.periodic(every("200ms"))
    @app.task
    def job(ctx: Context) -> None:
        ticks[ctx.headers["cron-time"]] += 1

    with working(app):
        wait_until(lambda: len(ticks) >= 3, "three ticks")

    assert set(ticks.values()) == {1}


def test_worker_may_be_told_not_to() -> None:
    """With ``worker.schedules = false`` a worker only runs tasks."""
    app = make_app(worker={"schedules": False})
    app.periodic(every("100ms"), CALL, name="job")

    with working(app) as worker:
        assert worker._scheduler is None


def test_thread_reports_an_outage_once_it_is_over() -> None:
    """An outage is told with when it is tried again, and its end with how long it took."""
    app = flaky_app()
    app.periodic(every("1h"), CALL, name="job")
    down, back = seen(app, EngineDown), seen(app, EngineBack)
    backend_of(app).wire.cut = {"get"}
    one = Scheduler(app, name="s")

    one.start()
    wait_until(lambda: down, "the outage")
    backend_of(app).wire.cut.clear()
    wait_until(lambda: back, "its end")
    one.stop()

    assert (down[0].doing, back[0].doing) == ("send ticks", "send ticks")


def test_an_outage_is_over_when_the_backend_answers() -> None:
    """A duty that failed is not done: no turn without a question to the backend counts as a sign of life."""
    app = flaky_app()
    app.periodic(every("1h"), CALL, name="job")
    leads, down, back = seen(app, SchedulerLeaderElected), seen(app, EngineDown), seen(app, EngineBack)
    one = Scheduler(app, name="s")

    one.start()
    wait_until(lambda: leads, "the lead")
    backend_of(app).wire.cut = {"delete", "get", "put", "scan"}
    wait_until(lambda: len(down) >= 3, "three failures")
    meanwhile = list(back)
    backend_of(app).wire.cut.clear()
    wait_until(lambda: back, "its end")
    one.stop()

    assert meanwhile == []


def test_who_uses_no_schedules_pays_little() -> None:
    """Without any schedule a scheduler asks one question, and writes nothing."""
    crew = Crew()
    crew.hire()
    wire = backend_of(crew.app).wire

    crew.run(60)

    assert set(wire.calls) == {"get"}
    assert len(wire.calls) <= 31


def test_scheduler_that_is_told_of_changes_reads_nothing_without_schedules() -> None:
    """It costs no call at all until the record of changes, which its worker reads with others, is there."""
    crew = Crew()
    one = Scheduler(crew.app, name="told", is_told=True)
    crew.wakes[one] = crew.clock.time()
    wire = backend_of(crew.app).wire
    crew.run(60)
    before = list(wire.calls)
    crew.app.schedules.add("job", every("5s"), CALL)

    one.note_changes(crew.app.runtime.need_backend("a test").get([CHANGES])[CHANGES])
    crew.run(12)

    assert before == []
    assert len(crew.ticks()) == 2


def test_worker_starts_a_schedule_that_is_added_while_it_runs() -> None:
    """It reads the record of changes with what is paused, so the first schedule is noticed within two seconds."""
    app = make_app()

    with working(app):
        app.schedules.add("job", every("100ms"), CALL)
        wait_until(lambda: app.schedules.get("job").progress.id, "the first tick")


@pytest.mark.no_cover  # what it runs through others do as well, and it takes three times as long measured
def test_cron_runs_once_in_the_night_when_clocks_go_back() -> None:
    """From the first coming of an hour to its second: one tick, whoever leads."""
    night = VirtualClock(1_792_879_200)  # 2026-10-25 00:00 in Berlin
    crew = Crew(clock=night)
    crew.app.schedules.add("nightly", cron("30 2 * * *", tz="Europe/Berlin"), CALL)
    crew.hire(2)

    crew.run(2.75 * 3_600)
    crew.kill(crew.leader())
    crew.run(1.5 * 3_600)

    assert crew.ticks() == ["00:30:00"]


def test_pending_record_is_made_for_a_tick() -> None:
    """The outcome of the last tick can be looked at from the moment it is sent."""
    crew = crew_with()

    crew.run(12)

    view = crew.app.schedules.get("job")
    expected = pending(id=view.progress.id, task="report", queue="default", ttl=1.0, at=0.0)
    assert view.outcome.state == expected.state
