"""What a worker does with a message whose task it does not know: as the message says."""

from collections.abc import Iterator
from typing import Any

import pytest

from queuekit import Queuekit, Signature, State, chain
from queuekit.broker import Place
from queuekit.errors import OptionError, TaskFailed
from queuekit.events import MessagesSettled, TaskUnknown
from queuekit.operations.admin import Admin
from queuekit.operations.why import collect, reasons
from support.working import burst, make_app, seen


@pytest.fixture
def sender() -> Iterator[Queuekit]:
    """Return an app with tasks that no worker has."""
    made = make_app()
    made.task(name="warm", on_unknown="drop")(lambda page: page)
    made.task(name="plain")(lambda: None)
    yield made
    made.close()


@pytest.fixture
def worker(sender: Queuekit) -> Iterator[Queuekit]:
    """Return the app of a worker on the same engine, without those tasks."""
    made = Queuekit(broker=sender.config.broker)
    yield made
    made.close()


def places(app: Queuekit) -> list[Place]:
    """Return where the messages of the queue are."""
    return [place for place in Place for _ in app.runtime.broker.walk("default", place)]


def test_drops_with_a_record(sender: Queuekit, worker: Queuekit) -> None:
    """The option of the task goes with the message; it ends as EXPIRED, with a reason, and is counted."""
    unknown, settled = seen(worker, TaskUnknown), seen(worker, MessagesSettled)
    sent = sender.tasks["warm"].send("/")

    burst(worker)

    info, why = sent.info(), reasons(collect(Admin(worker), sent.id))[0]
    assert (places(worker), sent.state) == ([], State.EXPIRED)
    assert "the task 'warm' is not known to" in info.error
    assert "on_unknown='drop'" in info.error
    assert (why.code, why.text) == ("expired", info.error)
    with pytest.raises(TaskFailed, match=f"^warm {sent.id} was dropped: UnknownTask: the task 'warm' is not known"):
        sent.get(timeout=0)
    assert [(event.id, event.dropped) for event in unknown] == [(sent.id, True)]
    assert [one.outcome for event in settled for one in event.messages] == ["expired"]


def test_is_dead_at_once(sender: Queuekit, worker: Queuekit) -> None:
    """With the reason that a message has that waited too long."""
    sent = sender.tasks["plain"].options(on_unknown="dead").send()

    burst(worker)

    (letter,) = Admin(worker).dead()
    assert (letter.id, letter.stored.reason, sent.state) == (sent.id, "unknown", State.DEAD)
    assert "on_unknown='dead'" in letter.stored.error


@pytest.mark.parametrize("given", [{}, {"on_unknown": "hold"}], ids=["default", "hold"])
def test_holds_it(sender: Queuekit, worker: Queuekit, given: dict[str, Any]) -> None:
    """For workers that know it."""
    sender.tasks["plain"].options(**given).send()

    burst(worker)

    assert places(worker) == [Place.DELAYED]


def test_a_call_decides_over_its_task(sender: Queuekit, worker: Queuekit) -> None:
    """Also back to the default."""
    sender.tasks["warm"].options(on_unknown="hold").send("/")

    burst(worker)

    assert places(worker) == [Place.DELAYED]


def test_who_knows_the_task_runs_it(sender: Queuekit) -> None:
    """The option matters to nobody else."""
    sent = sender.tasks["warm"].send("/")

    burst(sender)

    assert sent.get(timeout=0) == "/"


def test_a_word_of_a_newer_release_means_to_hold(sender: Queuekit, worker: Queuekit) -> None:
    """Nothing valid is lost or dead because this release does not know a word."""
    signature = Signature[Any]("plain")
    object.__setattr__(signature, "on_unknown", "later")
    sender.send(signature)

    burst(worker)

    assert places(worker) == [Place.DELAYED]


def test_a_workflow_is_told(sender: Queuekit, worker: Queuekit) -> None:
    """A link that was dropped has failed for those that follow."""
    result = chain(sender.tasks["warm"].s("/"), sender.tasks["warm"].s()).send()

    burst(worker)

    assert result.state in {State.FAILURE, State.EXPIRED, State.DEAD, State.CANCELLED}
    assert places(worker) == []


@pytest.mark.parametrize("value", ["later", "", 1, True, "Drop"], ids=repr)
def test_another_word_is_refused(sender: Queuekit, value: Any) -> None:
    """At the task, the call and the signature."""
    with pytest.raises(OptionError, match="on_unknown"):
        sender.task(name="other", on_unknown=value)(lambda: None)
    with pytest.raises(OptionError, match="on_unknown"):
        sender.tasks["plain"].options(on_unknown=value)
    with pytest.raises(OptionError, match="on_unknown"):
        Signature("plain", on_unknown=value)


def test_it_survives_as_plain_data() -> None:
    """As a follow-up, a schedule, or in a file."""
    signature = Signature[Any]("plain", on_unknown="drop")

    assert Signature.from_dict(signature.to_dict()) == signature
