"""Moving what waits to another queue."""

from collections.abc import Callable, Sequence

import attrs
import pytest

from queuekit import Queuekit, State
from queuekit.broker import Ack, Delivery, Place, Release, Replace, Settlement
from queuekit.clock import VirtualClock
from queuekit.errors import CapabilityError, OptionError, UnavailableError
from queuekit.ids import InvalidNameError
from queuekit.operations.admin import Admin
from queuekit.operations.moves import move
from support.working import broker_of, flaky_app, take, with_same


def moved(app: Queuekit, to: str | None = "other", *, queue: str = "default", most: int | None = None) -> list[str]:
    """Move the messages of a queue, and return their ids."""
    return list(move(Admin(app), queue, to, most=most, sleep=lambda _: None))


def waiting(app: Queuekit, queue: str) -> list[str]:
    """Return the ids of what is ready."""
    return [stored.envelope.id for stored in app.runtime.broker.walk(queue, Place.READY)]


@pytest.fixture
def app() -> Queuekit:
    """Return an app whose broker and backend can be cut off."""
    return with_same(flaky_app(clock=VirtualClock()))


def test_moves_many_in_order(app: Queuekit) -> None:
    """In steps, also more than one step takes; records name the new queue."""
    ids = [result.id for result in app.send_many(app.tasks["same"].s(number) for number in range(250))]

    assert moved(app, most=130) == ids[:130]
    assert (waiting(app, "other"), waiting(app, "default")) == (ids[:130], ids[130:])
    assert {app.result(id).info().queue for id in ids[:130]} == {"other"}
    assert app.result(ids[0]).state is State.PENDING


def test_leaves_what_arrives_meanwhile(app: Queuekit) -> None:
    """Or a move from a busy queue would never end."""
    same = app.tasks["same"]
    ids = [same.send(number).id for number in range(25)]
    steps = move(Admin(app), "default", "other", sleep=lambda _: None)

    first = next(steps)
    late = same.send(25).id

    assert [first, *steps] == ids
    assert waiting(app, "default") == [late]


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_loses_and_doubles_nothing_if_it_is_cut_off(app: Queuekit, lost: str) -> None:
    """What it held is delivered again; what it had moved is there once."""
    ids = [app.tasks["same"].send(number).id for number in range(3)]
    broker, clock = broker_of(app), app.runtime.clock
    assert isinstance(clock, VirtualClock)

    def cut() -> None:
        raise UnavailableError("cut")

    (broker.wire.answers if lost == "request" else broker.wire.after)["settle"] = cut
    with pytest.raises(UnavailableError):
        moved(app)
    clock.advance(app.config.worker.lease + 1)
    take(app, 0)

    assert sorted(waiting(app, "default") + waiting(app, "other")) == sorted(ids)


def test_does_not_move_what_it_no_longer_holds(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else runs such a message."""
    id = app.tasks["same"].send(1).id
    broker = broker_of(app)

    def late(
        settlements: Sequence[Settlement], settle: Callable[..., list[Delivery]] = broker.settle
    ) -> list[Delivery]:
        settle([Release(each.delivery) for each in settlements])
        return settle(settlements)

    monkeypatch.setattr(broker, "settle", late)

    assert moved(app) == []
    assert (waiting(app, "default"), waiting(app, "other")) == ([id], [])


def test_stops_where_the_broker_keeps_the_queue(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin may put a message back where it was: nothing is lost, and the command says so."""
    broker = broker_of(app)
    ids = [app.tasks["same"].send(number).id for number in range(3)]

    def stubborn(
        settlements: Sequence[Settlement], settle: Callable[..., list[Delivery]] = broker.settle
    ) -> list[Delivery]:
        return settle(
            [
                attrs.evolve(each, envelope=attrs.evolve(each.envelope, queue=each.delivery.queue))
                if isinstance(each, Replace)
                else each
                for each in settlements
            ]
        )

    monkeypatch.setattr(broker, "settle", stubborn)

    with pytest.raises(CapabilityError, match="does not move messages"):
        moved(app)
    assert sorted(waiting(app, "default")) == sorted(ids)


def test_needs_a_queue_unless_messages_tell_it(app: Queuekit) -> None:
    """They stay, and the error names one."""
    first, second = app.tasks["same"].send(1).id, app.tasks["same"].send(2).id

    with pytest.raises(OptionError, match=f"message {first} does not tell"):
        moved(app, None)
    assert waiting(app, "default") == [first, second]


@pytest.mark.parametrize(("to", "error"), [("default", OptionError), ("a b", InvalidNameError), ("", InvalidNameError)])
def test_rejects_a_queue_that_cannot_be(app: Queuekit, to: str, error: type[Exception]) -> None:
    """Its own, and what is no name."""
    id = app.tasks["same"].send(1).id

    with pytest.raises(error):
        moved(app, to)
    assert waiting(app, "default") == [id]
    assert app.runtime.broker.settle([Ack(one) for one in take(app)]) == []
