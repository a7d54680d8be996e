"""Schedules in the backend: declared, added, changed, paused and removed by several at a time."""

from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Signature, chain, chord, every, group
from queuekit.broker import Place
from queuekit.clock import VirtualClock
from queuekit.envelope import Unique, split_frame
from queuekit.errors import DecodeError, NoBackendError, ScheduleError, TooLargeError, UnknownScheduleError
from queuekit.schedules.manager import declare
from queuekit.schedules.schedule import (
    Progress,
    StoredSchedule,
    about,
    progress_key,
    read_entry,
    read_progress,
    ticking,
)
from queuekit.signature import Signature as Call
from support.working import backend_of, flaky_app, inside, make_app

ADD = Signature[Any]("add", (1, 2))
START = 1_800_000_000.0


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock."""
    return VirtualClock(int(START))


@pytest.fixture
def app(clock: VirtualClock) -> Queuekit:
    """Return an app whose task has options of its own."""
    app = flaky_app(clock=clock)
    app.task(name="add", queue="sums", priority=8, expires=60, ignore_result=True)(_add)
    return app


def _add(x: int, y: int) -> int:
    return x + y


def stored_call(app: Queuekit, name: str) -> Any:
    """Return what a schedule calls, as the backend has it."""
    return app.schedules.get(name).entry.call(app.runtime.accepted)


# -- adding and looking


def test_added_schedule_is_seen(app: Queuekit) -> None:
    """What was added is active, has come nowhere, and is next due at its next moment."""
    app.schedules.add("job", every("1m"), ADD, misfire="all", grace=5)

    (view,) = app.schedules.all()

    assert (view.entry.name, view.entry.about, view.entry.source) == ("job", "add", "added")
    assert (view.entry.misfire, view.entry.overlap, view.entry.grace) == ("all", "allow", 5.0)
    assert (view.state, view.next, view.progress) == ("active", START + 60, Progress())
    assert app.schedules.upcoming("job", 3) == [START + 60, START + 120, START + 180]


def test_call_is_stored_complete(app: Queuekit) -> None:
    """Who sends it need not know the task: its queue, priority and other options stand in the call."""
    app.schedules.add("job", every("1m"), ADD)
    app.schedules.add("own", every("1m"), ADD.options(queue="mine", priority=0, ignore_result=False))

    job, own = stored_call(app, "job"), stored_call(app, "own")

    assert (job.queue, job.priority, job.expires, job.ignore_result) == ("sums", 8, 60.0, True)
    assert (own.queue, own.priority, own.expires) == ("mine", 0, 60.0)


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (chain(ADD, ADD, Signature("mul")), "chain of 3: add, mul"),
        (group(ADD for _ in range(9)), "group of 9: add"),
        (chord([ADD, chain(ADD)], Signature("total")), "chord of 2: add, ..., then total"),
        (group(Signature(f"t{n}") for n in range(5)), "group of 5: t0, t1, t2, ..."),
    ],
    ids=["chain", "group", "chord", "many"],
)
def test_workflow_is_stored_complete(app: Queuekit, flow: Any, text: str) -> None:
    """Each call in a workflow gets its task's options; people read what it is in a few words."""
    app.schedules.add("flow", every("1m"), flow)

    found = stored_call(app, "flow")

    assert about(flow) == app.schedules.get("flow").entry.about == text
    assert {call.queue for call in _calls(found) if call.task == "add"} <= {"sums"}
    assert {call.queue for call in _calls(found) if call.task != "add"} <= {"default"}


def _calls(part: Any) -> list[Call[Any]]:
    return [part] if isinstance(part, Signature) else [call for inner in part.parts() for call in _calls(inner)]


def test_name_is_taken_once(app: Queuekit) -> None:
    """A second schedule of one name is refused; the first stays as it is."""
    app.schedules.add("job", every("1m"), ADD)

    with pytest.raises(ScheduleError, match="already"):
        app.schedules.add("job", every("2m"), ADD)

    assert app.schedules.get("job").entry.when == every("1m")


@pytest.mark.parametrize("verb", ["get", "pause", "resume", "remove", "run", "change"])
def test_unknown_name_is_told(app: Queuekit, verb: str) -> None:
    """A name that is nearly right is answered with the right one."""
    app.schedules.add("nightly", every("1m"), ADD)

    with pytest.raises(UnknownScheduleError, match="Did you mean 'nightly'"):
        getattr(app.schedules, verb)("nigthly")


def test_schedules_need_a_backend() -> None:
    """Without a backend there is nowhere to keep them."""
    with pytest.raises(NoBackendError):
        make_app(backend="none").schedules.add("job", every("1m"), ADD)


def test_large_call_is_refused(app: Queuekit) -> None:
    """A call that no record can hold is refused when it is added."""
    backend = backend_of(app)
    backend.limits = attrs.evolve(backend.limits, max_record=5_000)

    with pytest.raises(TooLargeError, match="schedule job"):
        app.schedules.add("job", every("1m"), Signature("add", ("x" * 2_000,)))


# -- changing


def test_change_keeps_what_is_not_given(app: Queuekit, clock: VirtualClock) -> None:
    """Another rule leaves call and moments alone; another pace counts from now."""
    app.schedules.add("job", every("1m"), ADD, misfire="all")
    clock.advance(600)

    first = app.schedules.change("job", overlap="skip").entry
    second = app.schedules.change("job", when=every("5m"), call=Signature("mul")).entry

    assert (first.misfire, first.overlap, first.since) == ("all", "skip", START)
    assert (second.misfire, second.when, second.since) == ("all", every("5m"), START + 600)
    assert second.about == "mul"


def test_changes_of_two_at_a_time_both_count(app: Queuekit) -> None:
    """Somebody who changes the same schedule at that moment is not overwritten: the change is made anew."""
    app.schedules.add("job", every("1m"), ADD)
    backend_of(app).wire.answers["put"] = lambda: app.schedules.pause("job")

    app.schedules.change("job", misfire="skip")

    view = app.schedules.get("job")
    assert (view.state, view.entry.misfire) == ("paused", "skip")


def test_change_gives_up_on_a_crowd(app: Queuekit) -> None:
    """Where others change it each time, it ends with an error and not never."""
    app.schedules.add("job", every("1m"), ADD)
    backend = backend_of(app)

    def again() -> None:
        backend.wire.answers["get"] = rival

    def rival() -> None:
        record = super(type(backend), backend).get(["cron:job"])["cron:job"]
        super(type(backend), backend).put([record])
        backend.wire.answers["put"] = again_later

    def again_later() -> None:
        record = super(type(backend), backend).get(["cron:job"])["cron:job"]
        super(type(backend), backend).put([record])
        again()

    again()
    with pytest.raises(ScheduleError, match="other processes keep changing"):
        app.schedules.pause("job")


def test_paused_schedule_has_no_next_tick(app: Queuekit, clock: VirtualClock) -> None:
    """A pause holds until it is resumed, and what was due in it counts for nothing."""
    app.schedules.add("job", every("1m"), ADD)

    paused = app.schedules.pause("job")
    clock.advance(600)
    resumed = app.schedules.resume("job")

    assert (paused.state, paused.next) == ("paused", None)
    assert (resumed.state, resumed.next, resumed.entry.since) == ("active", START + 660, START + 600)
    assert app.schedules.resume("job").entry.since == START + 600


def test_removed_schedule_leaves_nothing(app: Queuekit) -> None:
    """Neither the schedule nor its progress stays."""
    app.schedules.add("job", every("1m"), ADD)
    backend = backend_of(app)
    backend.put([Progress(at=START).record("job")])

    app.schedules.remove("job")

    assert app.schedules.all() == []
    assert backend.get([progress_key("job")]) == {}


def test_run_sends_the_call_now(app: Queuekit) -> None:
    """A call besides its ticks knows its schedule, and counts as no tick."""
    app.schedules.add("job", every("1m"), ADD)

    result = app.schedules.run("job")

    (stored,) = inside(app, Place.READY, queue="sums")
    assert stored.envelope.id == result.id
    assert split_frame(stored.envelope.body)[0]["headers"]["cron"] == "job"
    assert app.schedules.get("job").progress == Progress()


# -- declaring


def test_declaration_is_written_when_it_says_something_else(app: Queuekit) -> None:
    """A worker that says what is there already writes nothing; another pace counts from now, and a pause stays."""
    app.periodic(every("1m"), ADD, name="job")
    declare(app)
    app.schedules.pause("job")
    first = app.schedules.get("job").entry
    declare(app)
    second = app.schedules.get("job").entry
    app.declared.clear()
    app.periodic(every("2m"), ADD, name="job")

    declare(app)

    third = app.schedules.get("job").entry
    assert (first.version, first.paused) == (second.version, True)
    assert (third.when, third.paused, third.source) == (every("2m"), True, "code")


def test_declaration_takes_over_what_was_added(app: Queuekit, clock: VirtualClock) -> None:
    """What moves from the command line into the code goes on from where it was."""
    app.schedules.add("job", every("1m"), ADD)
    clock.advance(30)
    app.periodic(every("1m"), ADD, name="job")

    declare(app)

    entry = app.schedules.get("job").entry
    assert (entry.source, entry.since) == ("code", START)


# -- records


def test_records_of_others_are_no_schedules(app: Queuekit) -> None:
    """Bytes that nobody can read are left out of a listing, and refused by name."""
    app.schedules.add("job", every("1m"), ADD)
    backend = backend_of(app)
    good = backend.get(["cron:job"])["cron:job"]
    bodies = [b"\xff", b"{}\n", b'{"v":9}\n', b'{"v":1}\n', good.body.replace(b'"every"', b'"lunar"')]
    backend.put([attrs.evolve(good, key=f"cron:bad-{index}", body=body) for index, body in enumerate(bodies)])

    listed = [view.entry.name for view in app.schedules.all()]

    assert listed == ["job"]
    for index in range(len(bodies)):
        with pytest.raises(DecodeError):
            read_entry(backend.get([f"cron:bad-{index}"])[f"cron:bad-{index}"])


def test_call_of_another_serializer_is_refused(app: Queuekit) -> None:
    """What a worker does not accept in messages it does not accept in schedules."""
    app.schedules.add("job", every("1m"), ADD)
    entry = attrs.evolve(app.schedules.get("job").entry, content_type="pickle")

    with pytest.raises(DecodeError, match="not accepted"):
        entry.call(app.runtime.accepted)


def test_unreadable_progress_keeps_its_place() -> None:
    """Counters may be lost; the last tick that was dealt with is not, since it is the record's rank."""
    record = attrs.evolve(Progress(at=START).record("job"), body=b"rubbish")

    assert read_progress(record).at == START
    assert read_progress(None) == Progress()


# -- a tick


def entry_with(app: Queuekit, **rules: Any) -> StoredSchedule:
    """Return an entry."""
    return app.schedules.add("job", every("1m"), ADD, **rules).entry


def test_tick_carries_its_name_and_moment(app: Queuekit) -> None:
    """Headers of the call's own win over ours."""
    entry = entry_with(app)

    tick = ticking(entry, ADD.options(headers={"trace": "t"}), id="x", moment="now")

    assert isinstance(tick, Signature)
    assert (tick.id, tick.headers) == ("x", {"cron": "job", "cron-time": "now", "trace": "t"})


def test_workflow_carries_it_where_it_begins(app: Queuekit) -> None:
    """What a workflow begins with knows the tick; what follows inherits it."""
    flow: Any = chord([chain(ADD, ADD), ADD], Signature("total"))

    tick: Any = ticking(entry_with(app), flow, id="x", moment="now")

    begins = [tick.group.members[0].links[0], tick.group.members[1]]
    assert [bool(call.headers) for call in begins] == [True, True]
    assert not tick.group.members[0].links[1].headers
    assert not tick.callback.headers
    assert tick.id == "x"


def test_overlap_is_kept_off_by_a_unique_key(app: Queuekit) -> None:
    """Under ``skip`` a call has a key of the schedule's, unless it has one of its own."""
    entry = entry_with(app, overlap="skip")

    tick = ticking(entry, ADD, id="x", moment="now")
    own = ticking(entry, ADD.options(unique="mine"), id="x", moment="now")

    assert isinstance(tick, Signature)
    assert isinstance(own, Signature)
    assert isinstance(tick.unique, Unique)
    assert tick.unique.key == "cron:job"
    assert own.unique == "mine"
