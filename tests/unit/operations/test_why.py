"""Why a message does not run: each reason by the facts that lead to it, and which comes first."""

from typing import Any

import attrs
import pytest

from queuekit import State
from queuekit.broker import Place, QueueCounts, Stored
from queuekit.client.codec import Message
from queuekit.envelope import Envelope
from queuekit.execution.workflow_held import FOLLOW_TASK
from queuekit.limiting.rates import RESERVED
from queuekit.operations.admin import Admin, MessageView, QueuedMessage
from queuekit.operations.slot_lines import SlotWait
from queuekit.operations.why import PREDICATES, Facts, Reason, collect, reasons
from queuekit.wire.merges import CallContent, KeyState, Running, Waiting
from queuekit.wire.pauses import Pause
from queuekit.wire.presence import Presence, RunningTask
from queuekit.wire.records import Cancellation, Info
from support.reasons import WAYS
from support.working import burst, flaky_app, make_app, take_one

NOW = 1_000.0
WORKER = Presence(name="w-1", queues=("default",), rate=5.0)


def stored(place: Place, **fields: Any) -> QueuedMessage:
    """Return a message in *place* of its queue."""
    envelope = Envelope(id="id-1", queue="default", body=b"", attempt=fields.pop("attempt", 0))
    return QueuedMessage(stored=Stored(envelope=envelope, place=place, **fields), task="mail.send")


def view(queued: QueuedMessage | None = None, state: State = State.PENDING, **fields: Any) -> MessageView:
    """Return what is known of it."""
    info = fields.pop("info", {"queue": "default"})
    return MessageView(info=Info(id="id-1", state=state, **info), queued=queued, **fields)


def facts(found: MessageView | None, **fields: Any) -> Facts:
    """Return facts about a queue with one worker."""
    return Facts(**{"id": "id-1", "view": found, "workers": [WORKER], "now": NOW, **fields})


READY = stored(Place.READY, due=NOW - 5)
LIMITED = QueuedMessage(
    stored=Stored(
        envelope=Envelope(id="id-1", queue="default", body=b"", hop=RESERVED + 1, not_before=NOW + 41),
        place=Place.DELAYED,
        due=NOW + 41,
    ),
    task="mail.send",
)
FOLLOWER = Message(id="id-1", task=FOLLOW_TASK, args=["id-9"], kwargs={}, headers={})
WAITING = Waiting(
    id="id-1", queue="default", since=NOW - 1, due=NOW + 2, latest=NOW + 5, content=CallContent(priority=4)
)
CASES = {
    "never_sent": facts(None),
    "dead": facts(view(stored(Place.DEAD, reason="failed", error="E: x\ny", died_at=NOW - 9), State.FAILURE)),
    "cancelled": facts(view(state=State.CANCELLED, cancellation=Cancellation(by="a@b", did="removed"))),
    "expired": facts(view(state=State.EXPIRED)),
    "gone": facts(view(state=State.SUCCESS, info={"worker": "w-1", "finished": NOW - 1})),
    "running": facts(view(stored(Place.LEASED, due=NOW + 20), holder="w-1")),
    "leased": facts(view(stored(Place.LEASED, due=NOW + 20))),
    "cancelling": facts(view(READY, cancellation=Cancellation(by="a@b"))),
    "paused": facts(view(READY), pauses=[Pause(mark="m", queue="default", by="ann", at=NOW - 9, left=60.0)]),
    "delayed": facts(view(stored(Place.DELAYED, due=NOW + 60))),
    "limited": facts(view(LIMITED), rates=("stripe/acme", "smtp")),
    "no_slot": facts(
        view(stored(Place.LEASED, due=NOW + 60)), wait=SlotWait(limit="crm/acme", most=2, holders=("a", "b"), before=12)
    ),
    "held_unique": facts(view(READY, message=FOLLOWER)),
    "latest": facts(view(key_state=KeyState(running=Running(id="id-9", queue="q", since=NOW), waiting=WAITING))),
    "debounced": facts(view(stored(Place.DELAYED, due=NOW + 2), key_state=KeyState(waiting=WAITING))),
    "no_worker": facts(view(READY), workers=[]),
    "workers_draining": facts(view(READY), workers=[Presence(name="w-1", queues=("default",), draining=True)]),
    "held_back": facts(
        view(READY), workers=[Presence(name="w-1", queues=("default",), gate="the gate is_up is closed")]
    ),
    "unknown_task": facts(view(READY), workers=[Presence(name="w-1", queues=("default",), unknown=("mail.send",))]),
    "suspect": facts(view(stored(Place.READY, crashes=2))),
    "behind": facts(view(READY), counts=QueueCounts(ready=11)),
    "missing": facts(view()),
}


@pytest.mark.parametrize("code", CASES)
def test_names_the_reason(code: str) -> None:
    """Each reason is the answer where it is the only one that matters."""
    assert reasons(CASES[code])[0].code == code


def test_each_predicate_has_a_case() -> None:
    """A reason that is added needs a case here."""
    assert len(CASES) == len(PREDICATES)
    assert set(CASES) == set(WAYS)


@pytest.mark.parametrize(
    ("code", "text", "command"),
    [
        ("dead", "it is a dead letter of 'default' (failed: E: x)", "dlq retry id-1"),
        ("cancelled", "it was cancelled by a@b", ""),
        ("gone", "it has ended as SUCCESS on w-1", "show id-1"),
        ("held_unique", "its unique key is held by id-9, whose outcome it will take", "why id-9"),
        (
            "latest",
            "it waits until id-9 has ended, which runs with its unique key; a newer call replaces its arguments",
            "why id-9",
        ),
        ("paused", "the queue 'default' is paused by ann", "resume default"),
        ("limited", "it waits for its turn: Rate stripe/acme, smtp", "limits"),
        ("no_slot", "it waits for a slot: Concurrency crm/acme: 2 of 2 held by a, b, 12 before it", "limits"),
        ("held_back", "all workers of its queue 'default' are held back by gate: the gate is_up is closed", "workers"),
        ("no_worker", "no worker serves its queue 'default'", "worker -q default"),
        ("unknown_task", "its task 'mail.send' is not in the code of w-1", "workers"),
    ],
)
def test_says_it_in_a_sentence(code: str, text: str, command: str) -> None:
    """With the command that helps."""
    first = reasons(CASES[code])[0]

    assert (first.text, first.command) == (text, command)


def test_all_reasons_that_hold_are_listed() -> None:
    """A delayed message whose queue nobody serves would not run when it is due either."""
    found = reasons(facts(view(stored(Place.DELAYED, due=NOW + 60)), workers=[]))

    assert [reason.code for reason in found] == ["delayed", "no_worker"]
    assert found[0].until == NOW + 60


def test_commands_quote_what_came_from_outside() -> None:
    """A command is ready to paste, so a name from a message or a record must not run as one."""
    hostile = attrs.evolve(FOLLOWER, args=["$(reboot)"])
    queue = {"queue": "a; reboot"}
    found = reasons(facts(view(state=State.PENDING, silent="X", message=hostile, info=queue), workers=[]))

    assert {"why '$(reboot)'", "worker -q 'a; reboot'"} <= {reason.command for reason in found}


def test_estimates_when_its_turn_is() -> None:
    """From the messages before it, and what the workers of its queue finish at present."""
    (reason,) = reasons(CASES["behind"])

    assert reason.until == NOW + 10 / 5.0
    assert "10 others wait in 'default'" in reason.text


@pytest.mark.parametrize(
    ("workers", "text"),
    [
        ([Presence(name="w-1", queues=("defualt",))], "did you mean 'defualt'?"),
        ([Presence(name="w-1", queues=("mail",))], "workers serve 'mail'"),
        ([Presence(name="w-1", queues=("default",), quiet=60.0)], "w-1 did, and has been silent for 60 s"),
    ],
)
def test_names_the_nearest_worker(workers: list[Presence], text: str) -> None:
    """One of a queue with a similar name, of another one, or one that fell silent."""
    assert text in reasons(facts(view(READY), workers=workers))[0].text


def test_a_running_message_began_some_time_ago() -> None:
    """As long as its worker says, and until its lease ends unless that is renewed."""
    run = RunningTask(id="id-1", task="mail.send", queue="default", seconds=3.0)
    worker = Presence(name="w-1", queues=("default",), runs=(run,))

    first = reasons(facts(view(stored(Place.LEASED, due=NOW + 20), holder="w-1"), workers=[worker]))[0]

    assert (first.since, first.until) == (NOW - 3, NOW + 20)


def test_a_broker_that_tells_nothing_leaves_what_records_say() -> None:
    """The message waits, as far as its record goes, and no worker reports to run it."""
    found = reasons(facts(view(silent="SQS"), counts=QueueCounts(ready=4)))

    assert [reason.code for reason in found] == ["behind"]


def test_a_lower_bound_of_others_is_said_to_be_one() -> None:
    """Where not all that wait are counted, nobody is promised when the message starts."""
    found = reasons(facts(view(READY), counts=QueueCounts(ready=11, at_least=frozenset({Place.READY}))))[-1]

    assert (found.code, found.until) == ("behind", None)
    assert "at least 10 others wait" in found.text


def first_reason(app: Any, id: str) -> Reason:
    """Return the first reason of a message on real engines."""
    return reasons(collect(Admin(app), id))[0]


def test_follows_a_message_through_its_life() -> None:
    """Waiting, held, ended."""
    app = make_app()
    app.task(name="add")(lambda: 1)
    result = app.tasks["add"].send()
    found = [first_reason(app, result.id).code]
    take_one(app)
    found.append(first_reason(app, result.id).code)
    later = app.tasks["add"].send()
    burst(app)
    found.append(first_reason(app, later.id).code)

    assert found == ["no_worker", "leased", "gone"]


def test_without_backend_workers_are_not_known() -> None:
    """That is not the same as none, and the command that helps is one that works without a backend."""
    app = flaky_app(backend="none")
    app.task(name="add")(lambda: 1)
    result = app.tasks["add"].send()

    reason = first_reason(app, result.id)
    assert (reason.code, reason.command) == ("behind", "queues")


SECOND = Message(id="id-1", task="mail.send", args=["ann"], kwargs={}, headers={"tenant": "acme"})


@pytest.mark.parametrize(
    ("pause", "code"),
    [
        (Pause(mark="m", task="mail.*"), "paused"),
        (Pause(mark="m", task="mail.send", where=(("tenant", "acme"),)), "paused"),
        (Pause(mark="m", task="mail.send", where=(("to", "ann"),)), "paused"),
        (Pause(mark="m", task="mail.send", where=(("to", "bob"),)), "behind"),
        (Pause(mark="m", task="pay"), "behind"),
        (Pause(mark="m", queue="high"), "behind"),
    ],
    ids=["any-task", "header", "argument", "other-argument", "other-task", "other-queue"],
)
def test_a_pause_explains_the_messages_that_it_selects(pause: Pause, code: str) -> None:
    """And no others."""
    case = facts(view(READY, message=SECOND), pauses=[pause], parameters=("to",), counts=QueueCounts(ready=1))

    assert reasons(case)[0].code == code


def test_a_delay_beyond_the_end_of_a_pause_is_the_reason() -> None:
    """What is due tomorrow does not wait for a pause of ten minutes; what comes back at its end does."""
    pause = Pause(mark="m", queue="default", left=600.0)
    late, held = (facts(view(stored(Place.DELAYED, due=NOW + due)), pauses=[pause]) for due in (86_400.0, 600.5))

    assert (reasons(late)[0].code, reasons(held)[0].code) == ("delayed", "paused")
