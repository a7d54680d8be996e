"""The events for batches of messages: sent, claimed, made to wait by limits, and settled."""

from collections import Counter
from collections.abc import Iterator

import pytest

from queuekit import Fixed, Queuekit, chain
from queuekit.control import Cancel, Reject
from queuekit.envelope import Envelope
from queuekit.events import (
    Event,
    MessageDead,
    MessagesClaimed,
    MessagesLimited,
    MessagesSent,
    MessagesSettled,
    SettledMessage,
    TaskFinished,
)
from queuekit.execution.limiter import Limiter
from queuekit.ids import new_id
from queuekit.limits import Concurrency, Rate, arg
from support.working import burst, prepared, seen, take


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app with tasks that end in every way."""
    app = Queuekit(broker=f"memory://{new_id()}", worker={"concurrency": 2})

    @app.task(name="add")
    def _add(x: int, y: int) -> int:
        return x + y

    @app.task(name="fail", retries=1, retry=Fixed(0))
    def _fail() -> None:
        raise ValueError("no")

    @app.task(name="reject")
    def _reject() -> None:
        raise Reject("no")

    @app.task(name="cancel")
    def _cancel() -> None:
        raise Cancel("no")

    @app.task(name="aadd")
    async def _aadd(x: int, y: int) -> int:
        return x + y

    yield app
    app.close()


def settled(events: list[MessagesSettled]) -> list[SettledMessage]:
    """Return the deliveries of all batches."""
    return [message for event in events for message in event.messages]


def test_a_send_is_one_event_a_batch(app: Queuekit) -> None:
    """It names each message that was stored, once for all of them."""
    events = seen(app, MessagesSent)

    results = app.send_many([app.tasks["add"].s(1, number) for number in range(3)])

    (event,) = events
    assert [(one.id, one.task, one.queue, one.attempt, one.duplicate) for one in event.messages] == [
        (result.id, "add", "default", 0, False) for result in results
    ]


def test_a_duplicate_is_marked(app: Queuekit) -> None:
    """A send whose unique key another message holds names that message, and says so."""
    call = app.tasks["add"].s(1, 2).options(unique="key")
    first = app.send(call)
    events = seen(app, MessagesSent)

    app.send(call)

    assert [(one.id, one.duplicate) for one in events[0].messages] == [(first.id, True)]


def test_each_delivery_is_claimed_and_settled_once(app: Queuekit) -> None:
    """The batches hold every delivery, with how it ended, why it is dead, and how long it ran."""
    app.send_many([app.tasks[name].s() for name in ("fail", "reject", "cancel")])
    app.send_many([app.tasks[name].s(1, 2) for name in ("add", "aadd")])
    claims, ends = seen(app, MessagesClaimed), seen(app, MessagesSettled)

    worker = burst(app)

    rows = settled(ends)
    assert {*(event.worker for event in claims), *(event.worker for event in ends)} == {worker.name}
    assert Counter((one.id, one.attempt) for event in claims for one in event.messages) == Counter(
        (one.id, one.attempt) for one in rows
    )
    assert Counter((one.task, one.attempt, one.outcome, one.reason) for one in rows) == Counter(
        [
            ("fail", 0, "retried", ""),
            ("fail", 1, "failed", "failed"),
            ("reject", 0, "failed", "rejected"),
            ("cancel", 0, "cancelled", ""),
            ("add", 0, "done", ""),
            ("aadd", 0, "done", ""),
        ]
    )
    assert all((one.duration or 0.0) >= 0.0 and (one.waited or 0.0) >= 0.0 for one in rows)


def test_what_limits_let_wait_is_one_event_a_batch(app: Queuekit) -> None:
    """Each row names the limit, never its key, and the turn; what may start, and what is not limited, is not in it."""
    app.task(name="pay", limits=[Concurrency(1, key=arg("who"), name="crm")])(lambda who: who)
    app.task(name="mail", limits=[Rate("1/h", name="smtp"), Rate("1/d", name="day")])(lambda: None)
    results = app.send_many([app.tasks["pay"].s("ann"), app.tasks["pay"].s("ann"), app.tasks["add"].s(1, 2)])
    results += app.send_many([app.tasks["mail"].s(), app.tasks["mail"].s()])
    events, began = seen(app, MessagesLimited), app.runtime.now()

    runtime = app.runtime
    limiter = Limiter(runtime, runtime.need_backend("a test"), app.tasks, worker="w-1")
    runs = [prepared(app, delivery) for delivery in take(app, 5)]
    for serial, run in enumerate(runs):
        run.serial = serial
    begin, _ = limiter.apply(runs)

    (event,) = events
    assert [run.message.id for run in begin] == [results[index].id for index in (0, 2, 3)]
    assert (event.worker, [one[:5] for one in event.messages]) == (
        "w-1",
        [(results[1].id, "pay", "default", 0, "crm"), (results[4].id, "mail", "default", 0, "day")],
    )
    slot, turn = (one.until for one in event.messages)
    assert slot is None
    assert turn is not None
    assert turn - began >= 86_400


def test_what_never_ran_has_no_times(app: Queuekit) -> None:
    """A message that cannot be read is dead without a run."""
    app.runtime.broker.send([Envelope(id=new_id(), queue="default", body=b"nonsense")])
    ends = seen(app, MessagesSettled)

    burst(app)

    (row,) = settled(ends)
    assert row[1:] == ("", "default", 0, "dead", "malformed", None, None)


def test_a_failed_run_is_followed_by_its_dead_letter(app: Queuekit, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever counts dead letters sees those of runs; the log has one line for both."""
    app.send(app.tasks["reject"].s())
    events = seen(app, Event)

    worker = burst(app)

    about = [event for event in events if isinstance(event, TaskFinished | MessageDead)]
    assert [type(event) for event in about] == [TaskFinished, MessageDead]
    assert isinstance(about[1], MessageDead)
    assert (about[1].reason, about[1].error, about[1].worker) == ("rejected", "Reject: no", worker.name)
    assert not [line for line in caplog.messages if line.startswith("dead")]


def test_follow_ups_are_settled_with_the_rest(app: Queuekit) -> None:
    """The links of a chain are deliveries like others; those that a worker stored are not sends."""
    sends, ends = seen(app, MessagesSent), seen(app, MessagesSettled)

    app.send(chain(app.tasks["add"].s(1, 2), app.tasks["add"].s(3)))
    burst(app)

    assert (len(sends), [one.outcome for one in settled(ends)]) == (1, ["done", "done"])


def test_eager_mode_emits_them_too() -> None:
    """An app without a worker tells the same."""
    app = Queuekit(broker="memory://", eager=True)

    @app.task(name="twice")
    def twice(x: int) -> int:
        return 2 * x

    kinds = (MessagesSent, MessagesClaimed, MessagesSettled)
    events = [seen(app, kind) for kind in kinds]

    twice.send(2)

    assert [len(some) for some in events] == [1, 1, 1]


def test_batches_that_nobody_wants_are_not_made(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the log alone, a worker builds no batch."""

    def refuse(*_: object) -> None:
        raise AssertionError("made for nobody")

    monkeypatch.setattr("queuekit.execution.announce._settled", refuse)
    monkeypatch.setattr("queuekit.execution.announce._claimed", refuse)
    monkeypatch.setattr("queuekit.execution.announce._limited", refuse)
    monkeypatch.setattr("queuekit.client.sender.MessageFacts", refuse)
    app.task(name="pay", limits=[Rate("1/h")])(lambda: None)

    app.send_many([app.tasks["add"].s(1, 2), app.tasks["pay"].s(), app.tasks["pay"].s()])

    assert burst(app).stats == {"done": 2, "held": 1}
