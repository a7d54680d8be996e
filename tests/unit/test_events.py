"""Events and the one subscriber that writes the log."""

import logging
import threading
from typing import Any

import pytest

from queuekit import events
from queuekit.errors import OptionError
from queuekit.events import (
    BodyCrashed,
    ChildRecycled,
    DeadLettersDropped,
    EngineBack,
    EngineDown,
    Event,
    Events,
    GateChanged,
    LeasesLost,
    LoopBlocked,
    MessageDead,
    MessagesSent,
    MessagesSettled,
    OperatorActed,
    PausesChanged,
    QueuesUnserved,
    SchedulerLeaderElected,
    SchedulerLeaderLost,
    TaskFinished,
    TaskStarted,
    TaskUnknown,
    TickFailed,
    TickSent,
    TickSkipped,
    TicksMissed,
    WorkerCrashed,
    WorkerGaveUp,
    WorkerReady,
    WorkerRecycled,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
)

RUN: dict[str, Any] = {"id": "id-1", "task": "shop.mail", "queue": "q", "attempt": 0}
TRACE = "Traceback\n  ValueError: no\n"

LINES = [
    pytest.param(TaskStarted(**RUN, waited=0.0125), "DEBUG", "start shop.mail id-1 waited 12.5 ms", id="started"),
    pytest.param(TaskFinished(**RUN, state="SUCCESS", duration=0.5), "INFO", "done shop.mail id-1 500.0 ms", id="done"),
    pytest.param(
        TaskFinished(**RUN, state="PENDING", duration=0.1), "INFO", "snoozed shop.mail id-1 100.0 ms", id="snoozed"
    ),
    pytest.param(
        TaskFinished(**RUN, state="EXPIRED", duration=0.0), "INFO", "expired shop.mail id-1 0.0 ms", id="expired"
    ),
    pytest.param(
        TaskFinished(**RUN, state="RETRY", duration=0.1, error="ValueError: no", retry_in=2, retries=3),
        "WARNING",
        "retry shop.mail id-1 after 100.0 ms: ValueError: no; retry 1 of 3 in 2.0 s",
        id="retry",
    ),
    pytest.param(
        TaskFinished(**RUN, state="FAILURE", duration=0.1, error="ValueError: no", traceback=TRACE),
        "ERROR",
        "fail shop.mail id-1 after 100.0 ms: ValueError: no\n  Traceback\n    ValueError: no",
        id="failure",
    ),
    pytest.param(
        TaskFinished(**RUN, state="FAILURE", duration=0.1, error="no"),
        "ERROR",
        "fail shop.mail id-1 after 100.0 ms: no",
        id="failure-without-traceback",
    ),
    pytest.param(
        MessageDead(id="id-1", task="", queue="q", reason="malformed", error="no header line"),
        "ERROR",
        "dead ? id-1 in q: malformed (no header line)",
        id="dead",
    ),
    pytest.param(
        MessageDead(id="id-1", task="t", queue="q", reason="crashed"),
        "ERROR",
        "dead t id-1 in q: crashed",
        id="crashed",
    ),
    pytest.param(
        TaskUnknown(id="id-1", task="left", again_in=0.0, dropped=True),
        "WARNING",
        "no task named left is registered here; its messages are dropped, as they ask for (first: id-1)",
        id="unknown-dropped",
    ),
    pytest.param(
        TaskUnknown(id="id-1", task="gone", again_in=4.0),
        "WARNING",
        "no task named gone is registered here; its messages are released (first: id-1, delayed by 4 s)",
        id="unknown",
    ),
    pytest.param(LeasesLost(count=2, ids=("a", "b")), "WARNING", "2 leases lost: a, b", id="lost"),
    pytest.param(
        OperatorActed(what="purge", by="ann", at=1.0, on="mail", count=3),
        "INFO",
        "purge mail by ann: 3 messages",
        id="acted",
    ),
    pytest.param(
        EngineDown(doing="fetch", error="refused", retry_in=0.25),
        "WARNING",
        "cannot fetch: refused; retry in 0.2 s",
        id="down",
    ),
    pytest.param(
        EngineDown(doing="fetch", error="Connection refused.", retry_in=0.25),
        "WARNING",
        "cannot fetch: Connection refused; retry in 0.2 s",
        id="down-in-a-sentence",
    ),
    pytest.param(EngineBack(doing="fetch", after=3.0), "INFO", "can fetch again after 3.0 s", id="back"),
    pytest.param(SchedulerLeaderElected(worker="w"), "INFO", "w is now the scheduler leader", id="leads"),
    pytest.param(SchedulerLeaderLost(worker="w"), "WARNING", "w has lost the scheduler leadership", id="yields"),
    pytest.param(
        TickSent(schedule="s", at=1.8e9, id="id-1", late=0.01), "INFO", "tick s id-1 2027-01-15T08:00:00Z", id="tick"
    ),
    pytest.param(
        TickSent(schedule="s", at=1.8e9, id="id-1", late=2.5),
        "INFO",
        "tick s id-1 2027-01-15T08:00:00Z, 2.5 s late",
        id="late-tick",
    ),
    pytest.param(
        TicksMissed(schedule="s", count=3, first=1.8e9, last=1.8e9 + 60),
        "WARNING",
        "3 ticks of s missed from 2027-01-15T08:00:00Z to 2027-01-15T08:01:00Z: no scheduler sent them in time",
        id="missed",
    ),
    pytest.param(
        TickSkipped(schedule="s", at=1.8e9, holder="id-1"),
        "INFO",
        "tick of s at 2027-01-15T08:00:00Z skipped: id-1 has not ended",
        id="skipped",
    ),
    pytest.param(
        TickFailed(schedule="s", at=1.8e9, error="KeyError: 'x'"),
        "ERROR",
        "tick of s at 2027-01-15T08:00:00Z cannot be sent: KeyError: 'x'",
        id="tick-failed",
    ),
    pytest.param(WorkerStarted(lines=("queuekit", "broker x")), "INFO", "queuekit\n  broker x", id="worker-started"),
    pytest.param(WorkerReady(worker="w"), "INFO", "w ready", id="ready"),
    pytest.param(
        LoopBlocked(worker="w", seconds=2.5, id="id-1", task="t", waiting=3, stack="  File x, line 1\n"),
        "WARNING",
        "t id-1 has blocked the event loop of w for 2.5 s; 3 others are waiting:\n  File x, line 1",
        id="blocked",
    ),
    pytest.param(
        BodyCrashed(worker="w", id="id-1", task="t", how="killed by SIGKILL: rss 90 MB", again_in=1.0),
        "WARNING",
        "the process of t id-1 was killed by SIGKILL: rss 90 MB; it runs again in 1.0 s",
        id="body-crash",
    ),
    pytest.param(
        WorkerCrashed(name="w", how="killed by SIGKILL", again_in=0.2),
        "ERROR",
        "w killed by SIGKILL; a new process starts in 0.2 s",
        id="crash",
    ),
    pytest.param(
        WorkerCrashed(name="w", how="killed by SIGKILL", again_in=None),
        "ERROR",
        "w killed by SIGKILL; it was draining, so none starts for it",
        id="crash-while-draining",
    ),
    pytest.param(
        WorkerRecycled(worker="w", replacement="x", reason="rss", value=6e8, bound=5e8),
        "INFO",
        "w is recycled: it occupies 600 MB of memory, more than 500 MB; x has taken its place",
        id="recycled-for-memory",
    ),
    pytest.param(
        WorkerRecycled(worker="w", replacement="x", reason="age", value=7.0, bound=7.0),
        "INFO",
        "w is recycled: it is 7 s old; x has taken its place",
        id="recycled-for-age",
    ),
    pytest.param(
        ChildRecycled(worker="w", pid=7, reason="tasks", value=9, bound=9),
        "DEBUG",
        "child process 7 is recycled: it has run 9 tasks",
        id="child-recycled",
    ),
    pytest.param(
        DeadLettersDropped(worker="w", queue="q", reason="age", bound=86_400.0, count=2),
        "INFO",
        "dropped 2 dead letters of q: older than 86400 s",
        id="dead-too-old",
    ),
    pytest.param(
        DeadLettersDropped(worker="w", queue="q", reason="count", bound=3, count=1),
        "INFO",
        "dropped 1 dead letters of q: beyond the latest 3",
        id="dead-too-many",
    ),
    pytest.param(
        QueuesUnserved(lines=("no worker serves 'mail'", "start one")),
        "WARNING",
        "no worker serves 'mail'\n  start one",
        id="unserved",
    ),
    pytest.param(GateChanged(worker="w", why="x is closed"), "INFO", "w takes no messages: x is closed", id="gate"),
    pytest.param(GateChanged(worker="w", why=""), "INFO", "w takes messages: its gates are open", id="gate-open"),
    pytest.param(
        PausesChanged(worker="w", lines=("the queue 'a', by ann", "the task 'b', by bob")),
        "INFO",
        "w: paused: the queue 'a', by ann; the task 'b', by bob",
        id="paused",
    ),
    pytest.param(PausesChanged(worker="w", lines=()), "INFO", "w: nothing is paused any more", id="resumed"),
    pytest.param(
        WorkerGaveUp(number=1, how="exited with code 3", tries=5),
        "CRITICAL",
        "giving up on process 1: it failed to start 5 times in a row (exited with code 3)",
        id="gave-up",
    ),
    pytest.param(
        WorkerStopping(worker="w", reason="SIGTERM", running=3, drain=30),
        "INFO",
        "w is stopping (SIGTERM): 3 running, up to 30 s to finish",
        id="stopping",
    ),
    pytest.param(
        WorkerStopped(worker="w", seconds=2.0, stats={"done": 5, "failed": 0, "retried": 1}),
        "INFO",
        "w stopped after 2.0 s: 5 done, 1 retried",
        id="stopped",
    ),
    pytest.param(
        WorkerStopped(worker="w", seconds=2.0, stats={}), "INFO", "w stopped after 2.0 s: nothing done", id="idle"
    ),
]


@pytest.mark.parametrize(("event", "level", "text"), LINES)
def test_writes_one_record(caplog: pytest.LogCaptureFixture, event: Event, level: str, text: str) -> None:
    """Each event is one record: news at INFO, what is tried again at WARNING, what is given up at ERROR."""
    caplog.set_level(logging.DEBUG, "queuekit")

    Events().emit(event)

    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (level, text)
    assert record.name.startswith("queuekit.")


def test_every_event_has_a_line() -> None:
    """No event goes by unlogged, except batches of messages, and none is missing in the table above."""
    others = {"Event", "Events", "LogSubscriber", "LimitedMessage", "MessageFacts", "SettledMessage"}
    batches = {"MessagesSent", "MessagesClaimed", "MessagesLimited", "MessagesSettled"}
    kinds = {name for name in events.__all__ if name not in others | batches}

    assert {type(row.values[0]).__name__ for row in LINES} == kinds


def test_carries_its_fields_under_one_key(caplog: pytest.LogCaptureFixture) -> None:
    """Handlers find the event's own data in ``record.queuekit``, where no name clashes with logging's own."""
    Events().emit(LeasesLost(count=1, ids=("a",)))

    (record,) = caplog.records
    assert record.__dict__["queuekit"] == {"event": "LeasesLost", "count": 1, "ids": ("a",), "worker": ""}


def test_mentions_an_unknown_task_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand messages for one unknown task are one line; another task is another."""
    told = Events()

    for task in ("gone", "gone", "gone", "lost"):
        told.emit(TaskUnknown(id="id-1", task=task, again_in=1.0))

    assert [record.__dict__["queuekit"]["task"] for record in caplog.records] == ["gone", "lost"]


def test_a_subscriber_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The others get the event, and the log says which event it failed on."""
    told, got = Events(), list[Event]()
    told.subscribe(got.remove)
    told.subscribe(got.append)

    told.emit(WorkerReady(worker="w"))

    assert got == [WorkerReady(worker="w")]
    assert "a subscriber failed on WorkerReady" in caplog.text


def test_ctrl_c_goes_past_subscribers(caplog: pytest.LogCaptureFixture) -> None:
    """It ends the command whatever that was doing; raised in a thread by a subscriber, it is one of its failures."""

    def interrupted(_event: Event) -> None:
        raise KeyboardInterrupt

    told = Events()
    told.subscribe(interrupted)

    with pytest.raises(KeyboardInterrupt):
        told.emit(WorkerReady(worker="w"))
    thread = threading.Thread(target=told.emit, args=[WorkerReady(worker="w")])
    thread.start()
    thread.join()

    assert caplog.text.count("a subscriber failed on WorkerReady") == 1


def test_an_event_of_ones_own_is_handed_out_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Plugins may emit what the log knows nothing of."""

    class Mine(Event):
        """News of a plugin."""

    told, got = Events(), list[Event]()
    told.subscribe(got.append)

    told.emit(Mine())

    assert len(got) == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("level", "subscribers", "wanted"),
    [
        pytest.param("WARNING", 0, False, id="nobody"),
        pytest.param("INFO", 0, True, id="the-log"),
        pytest.param("WARNING", 1, True, id="a-subscriber"),
    ],
)
def test_knows_whether_single_runs_are_wanted(
    caplog: pytest.LogCaptureFixture,
    level: str,
    subscribers: int,
    wanted: bool,  # noqa: FBT001 - a row of the table
) -> None:
    """A busy worker leaves out the events of single runs if neither the log nor anybody else wants them."""
    caplog.set_level(level, "queuekit.task")
    told = Events()
    for _ in range(subscribers):
        told.subscribe(list[Event]().append)

    assert told.wants_runs() is wanted


@pytest.mark.parametrize("to", [MessagesSettled, "any", ["MessagesSettled"], [Event], [int], [()]])
def test_refuses_to_ask_for_what_is_no_event(to: Any) -> None:
    """Of which the subscriber would never hear."""
    told = Events()

    with pytest.raises(OptionError, match="expected a list of event classes"):
        told.subscribe(print, to=to)

    assert not told.wants(MessagesSettled)


def test_a_subscriber_gets_the_events_that_it_asks_for() -> None:
    """Others are not passed to it, and need not be made."""
    told, got = Events(), list[Event]()
    told.subscribe(got.append, to=[EngineDown])

    told.emit(WorkerReady(worker="w"))
    told.emit(EngineDown(doing="fetch", error="no", retry_in=1.0))

    assert [type(event) for event in got] == [EngineDown]
    assert [told.wants(kind) for kind in (EngineDown, WorkerReady, MessagesSent)] == [True, False, False]


def test_who_wants_batches_does_not_want_single_runs(caplog: pytest.LogCaptureFixture) -> None:
    """A worker makes no event for each run if all subscribers ask for batches."""
    caplog.set_level("WARNING", "queuekit.task")
    told = Events()
    told.subscribe(list[Event]().append, to=[MessagesSettled, MessagesSent])

    assert (told.wants_runs(), told.observed, told.wants_sends) == (False, False, True)


def test_a_dead_letter_after_a_run_has_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """The line of the failed run says it."""
    Events().emit(MessageDead(id="id-1", task="t", queue="q", reason="failed", error="ValueError: no"))

    assert not caplog.records
