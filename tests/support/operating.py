"""What an operator sees and does on any engine: the tests of each engine run these scenes."""

import threading
import time
from typing import Any

import pytest

from queuekit import Queuekit, Signature, State
from queuekit.broker import Place
from queuekit.durations import LONGEST
from queuekit.errors import CapabilityError, OptionError
from queuekit.operations.admin import Admin
from queuekit.operations.against_queue import survey
from queuekit.operations.dead_bounds import dropped_before, trim
from queuekit.operations.dead_letters import group, in_steps, seek, select
from queuekit.operations.filters import parse_filter
from queuekit.operations.kills import kill
from queuekit.operations.listing import list_messages
from queuekit.operations.moves import move
from queuekit.operations.pauses import drain, pause, resume, until_obeyed
from queuekit.operations.stacks import ask_stack
from queuekit.operations.why import collect, reasons
from queuekit.wire.pauses import Pause
from support.waiting import PATIENCE, wait_until
from support.working import burst, working

__all__ = [
    "bound_dead_letters",
    "drain_a_worker",
    "hold_back_by_gate",
    "kill_a_body",
    "look",
    "move_messages",
    "pause_and_resume",
    "refuse_a_cursor",
    "sort_dead_letters",
    "survey_waiting",
]


def why(app: Queuekit, id: str) -> str:
    """Return the code of the reason why a message does not run."""
    return reasons(collect(Admin(app), id))[0].code


def whereabouts(app: Queuekit, id: str) -> tuple[str, str, str]:
    """Return which worker runs a message, in what, and in which function."""
    report = ask_stack(app.runtime, id, patience=PATIENCE)
    assert report is not None
    return report.worker, report.kind, report.frames[0].function


def look(app: Queuekit) -> None:
    """Look at a message before, while and after a worker runs it, and at one that dies."""
    entered, gate = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        gate.wait(PATIENCE)

    app.task(name="wait")(wait)
    app.task(name="fail")(lambda: 1 / 0)
    running, late = app.tasks["wait"].send(), app.tasks["wait"].options(delay="1h").send()
    admin = Admin(app)
    assert (why(app, running.id), why(app, late.id), why(app, "nobody")) == ("no_worker", "delayed", "never_sent")
    assert [listed.id for listed in list_messages(admin, "default", Place.READY).messages] == [running.id]
    assert [listed.id for listed in list_messages(admin, "default", Place.DELAYED).messages] == [late.id]

    with working(app) as worker:
        assert entered.wait(PATIENCE)
        worker._watchdog.report()
        wait_until(lambda: [run.id for one in admin.fleet() for run in one.runs] == [running.id], "what it runs")
        (seen,) = admin.fleet()
        assert (seen.name, seen.queues, seen.live, seen.draining) == (worker.name, ("default",), True, False)
        assert why(app, running.id) == "running"
        assert whereabouts(app, running.id) == (worker.name, "thread", "look.<locals>.wait")
        (listed,) = list_messages(admin, "default", Place.LEASED).messages
        assert (listed.id, listed.worker) == (running.id, worker.name)
        gate.set()
        wait_until(lambda: why(app, running.id) == "gone", "its end")
        # Not for another worker: SQS may still hand a message to the long poll of one that has stopped.
        dead = app.tasks["fail"].send()
        wait_until(lambda: why(app, dead.id) == "dead", "its death")
    assert admin.fleet() == []
    (letter,) = list_messages(admin, "default", Place.DEAD).messages
    assert (letter.id, letter.task, letter.reason) == (dead.id, "fail", "failed")


def survey_waiting(app: Queuekit) -> None:
    """Look for waiting messages that the app cannot run; where they are not reported, say what tells of them."""
    app.task(name="pay")(lambda amount: amount)
    app.send_many([Signature("pay", (1,), {}), Signature("pay"), Signature("gone", delay=3600.0)])
    admin = Admin(app)
    if admin.untold:
        with pytest.raises(CapabilityError, match="does not report"):
            survey(admin, app.tasks)
        return

    found = survey(admin, app.tasks)

    assert (found.looked, found.complete) == (3, True)
    assert [(one.task, one.code, one.count) for one in found.unfit] == [
        ("gone", "unknown_task", 1),
        ("pay", "arguments", 1),
    ]


def kill_a_body(app: Queuekit) -> None:
    """End a body with its process: here nothing ends, and what is recorded is the same."""
    entered, gate, ended = threading.Event(), threading.Event(), list[str]()

    def wait() -> None:
        entered.set()
        gate.wait(PATIENCE)

    app.task(name="wait")(wait)
    sent = app.tasks["wait"].send()
    admin = Admin(app)
    with working(app, on_replace=ended.append) as worker:
        assert entered.wait(PATIENCE)
        assert admin.cancel(sent.id, by="bob")
        view = kill(admin, sent.id, by="ann", patience=PATIENCE)
        assert view.info.state is State.CANCELLED
        assert view.cancellation is not None
        assert (view.cancellation.by, view.cancellation.did) == ("ann", "killed")
        assert view.cancellation.worker == worker.name
        wait_until(lambda: ended == [f"{sent.id} was killed by ann"], "the end of its process")
        gate.set()
    assert why(app, sent.id) == "cancelled"


def refuse_a_cursor(app: Queuekit) -> None:
    """Ask for a page of another list, to which each engine has another answer."""
    app.task(name="t")(lambda: None)
    app.tasks["t"].send()

    with pytest.raises(OptionError, match="is not a place in this list"):
        list_messages(Admin(app), "default", Place.READY, cursor="nonsense")


def sort_dead_letters(app: Queuekit) -> None:
    """Group dead letters, replay those that a filter selects at a rate, and delete the others."""
    app.task(name="mail.send")(lambda to: {}[to])
    app.task(name="pay")(lambda: 1 / 0)
    mails = [app.tasks["mail.send"].send(f"person {number}").id for number in range(5)]
    app.tasks["pay"].send()
    burst(app)
    admin = Admin(app)
    assert [(one.task, one.count) for one in group(admin, None)] == [("mail.send", 5), ("pay", 1)]

    wanted = parse_filter(["task:mail.*", "error:keyerror", "age:<1h"])
    chosen = seek(admin, None, wanted) if admin.searches_dead else select(admin, None, wanted).items()
    pauses: list[float] = []
    replayed = list(in_steps(admin.replay, chosen, rate=2.0, sleep=pauses.append))
    assert (sorted(replayed), pauses) == (sorted(mails), [1.0, 1.0])

    pay = [queued.id for queued in admin.dead()]
    rest = seek(admin, None, ids=pay) if admin.searches_dead else select(admin, None).items()
    dropped = list(in_steps(admin.drop, rest, rate=None, sleep=pauses.append))
    admin.acted("dlq drop", by="ann", ids=dropped)
    assert (len(dropped), admin.dead_count().dead) == (1, 0)
    (action,) = admin.actions()
    assert (action.what, action.by, action.ids) == ("dlq drop", "ann", tuple(dropped))


def obeyed(app: Queuekit, *, paused: tuple[Pause, ...] = (), resumed: tuple[Pause, ...] = ()) -> list[str]:
    """Return the workers that a pause or its end concerns, once all have obeyed."""
    found = until_obeyed(Admin(app), paused=paused, resumed=resumed, patience=PATIENCE, sleep=time.sleep)
    assert found is not None
    assert found.is_complete
    return [worker.name for worker in found.obeyed]


def pause_and_resume(app: Queuekit) -> None:
    """Pause a queue and then some messages of a task, and resume both, under a worker that runs."""
    ran: list[int] = []

    def note(number: int) -> None:
        ran.append(number)

    app.task(name="note")(note)
    send, admin = app.tasks["note"].send, Admin(app)
    with working(app) as worker:
        worker._watchdog._nap = 0.2  # it looks more often than it would
        wait_until(lambda: [found.name for found in admin.workers() or ()] == [worker.name], "its presence")
        queue = pause(admin, queue="default", by="ann", why="the disk is full")
        assert obeyed(app, paused=(queue,)) == [worker.name]
        first = send(1)
        # A fetch that began before the pause may still bring the message, which the worker then puts back.
        wait_until(lambda: why(app, first.id) == "paused", "its return, if it was fetched")
        assert ran == []
        assert resume(admin, queue="default")[0].mark == queue.mark
        wait_until(lambda: ran == [1], "the run of what was paused")

        some = pause(admin, task="no*", where=[("number", "2")], lasts=3_600.0)
        assert obeyed(app, paused=(some,), resumed=(queue,)) == [worker.name]
        second, _ = send(2), send(3)
        wait_until(lambda: ran == [1, 3], "the run of what is not paused")
        wait_until(lambda: why(app, second.id) == "paused", "its return: a worker has to fetch it to see its argument")
        resume(admin, task="no*")
        wait_until(lambda: ran == [1, 3, 2], "the run of what was held back")
    assert (admin.pauses(), [action.what for action in admin.actions()]) == ([], ["resume", "pause"] * 2)


def bound_dead_letters(app: Queuekit) -> None:
    """Drop the oldest of some dead letters beyond a number, and all of them by their age."""
    app.task(name="fail")(lambda: 1 / 0)
    ids = [app.tasks["fail"].send().id for _ in range(4)]
    burst(app)
    broker, admin, queue = app.runtime.broker, Admin(app), app.config.default_queue
    wait_until(lambda: admin.dead_count().dead == 4, "all dead")
    order = [stored.envelope.id for stored in broker.walk(queue, Place.DEAD)][::-1]
    assert sorted(order) == sorted(ids)
    assert broker.dead_beyond(queue, count=None, before=None) == []
    assert broker.dead_beyond(queue, count=4, before=1.0) == []
    assert broker.dead_beyond(queue, count=3, before=None) == order[:1]
    assert sorted(broker.dead_beyond(queue, count=0, before=time.time() + 600)) == sorted(ids)

    unbounded = _bounded(app, dead_max_age=LONGEST, dead_max_count=10**30)
    assert list(trim(Admin(unbounded), queue)) == []
    unbounded.close()
    bounded = _bounded(app, dead_max_count=2)
    assert list(trim(Admin(bounded), queue)) == [("count", 2, 2)]
    assert [one.count for one in dropped_before(admin)] == [2]
    bounded.close()
    assert [stored.envelope.id for stored in broker.walk(queue, Place.DEAD)][::-1] == order[2:]
    assert broker.dead_beyond(queue, count=None, before=time.time() + 600, limit=1) == order[2:3]


def _bounded(app: Queuekit, **worker: Any) -> Queuekit:
    """Return an app like *app*, whose workers have bounds."""
    engines: dict[str, Any] = {"broker": app.config.broker, "backend": app.config.backend}
    return Queuekit(**engines, default_queue=app.config.default_queue, worker=worker)


def _search(app: Queuekit, id: str) -> None:
    """Look for a message that is in one of many queues, and for one that is in none."""
    broker = app.runtime.broker
    if broker.capabilities.inspect:
        names = [*(f"queue-{number}" for number in range(20)), app.config.default_queue]
        found = broker.search(names, id)
        assert found is not None
        assert (found.envelope.id, found.envelope.queue) == (id, app.config.default_queue)
        assert (broker.search(names[:-1], id), broker.search(names, "nobody")) == (None, None)


def move_messages(app: Queuekit) -> None:
    """Move what waits, in two parts, there and back: nothing is lost or doubled, and ids and unique keys are kept."""
    app.task(name="pay", unique=True)(lambda amount: amount)
    here, there, pauses = app.config.default_queue, f"{app.config.default_queue}-too", list[float]()
    ids = [app.tasks["pay"].options(priority=9 if number == 3 else 4).send(number).id for number in range(4)]
    late = app.tasks["pay"].options(delay="1h").send(4)
    admin = Admin(app)

    _search(app, ids[0])
    first = list(move(admin, here, there, most=3, rate=2.0, sleep=pauses.append))
    second = list(move(admin, here, there, sleep=pauses.append))

    assert (sorted(first + second), len(first), pauses) == (sorted(ids), 3, [1.0])
    assert [app.tasks["pay"].send(number).id for number in range(5)] == [*ids, late.id]
    assert sorted(move(admin, there, here, sleep=pauses.append)) == sorted(ids)
    assert sorted(move(admin, here, there, sleep=pauses.append)) == sorted(ids)
    assert {admin.show(id).info.queue for id in ids} == {there}
    burst(app)
    assert {app.result(id).state for id in ids} == {State.PENDING}
    assert sorted(move(admin, there, here, sleep=pauses.append)) == sorted(ids)
    burst(app)
    assert [app.result(id).get(timeout=PATIENCE) for id in ids] == list(range(4))
    assert app.tasks["pay"].send(3).id not in ids


def drain_a_worker(app: Queuekit) -> None:
    """Drain a worker that runs a body and holds messages: the body ends, the messages go back, and so does it."""
    entered, gate, ran = threading.Event(), threading.Event(), list[int]()

    def wait(number: int) -> None:
        ran.append(number)
        entered.set()
        gate.wait(PATIENCE)

    app.task(name="wait")(wait)
    app.tasks["wait"].map([(number,) for number in range(20)]).send()
    admin = Admin(app)
    with working(app) as worker:
        assert entered.wait(PATIENCE)
        wait_until(admin.fleet, "its first report, which a body may be ahead of")
        drain(admin, worker.name, by="ann")
        wait_until(lambda: worker.drained, "the request")
        wait_until(lambda: all(one.draining for one in admin.fleet()), "its report")
        gate.set()
        wait_until(lambda: not admin.fleet(), "its end")
    assert ran
    assert admin.queues()[0].counts.ready == 20 - len(ran)
    assert [action.what for action in admin.actions()] == ["drain"]


def hold_back_by_gate(app: Queuekit) -> None:
    """Close the gate of an app and open it: nothing starts in between, and why is told."""
    is_open, ran = threading.Event(), list[int]()
    app.gate(is_open.is_set)
    app.task(name="note")(ran.append)
    admin = Admin(app)
    with working(app):
        app.tasks["note"].send(1)
        wait_until(lambda: any(one.gate for one in admin.fleet()), "why nothing starts")
        assert ran == []
        is_open.set()
        wait_until(lambda: ran == [1], "the message")
        wait_until(lambda: not any(one.gate for one in admin.fleet()), "that it is open")
