"""Leases are kept alive as long as they are held."""

import pytest

from queuekit import Queuekit, Signature
from queuekit.broker import Ack, Delivery, Limits
from queuekit.clock import VirtualClock
from queuekit.events import EngineBack, EngineDown
from queuekit.worker.lease_renewer import LeaseRenewer
from queuekit.worker.lease_table import HeldLease, LeaseTable
from support.waiting import wait_until
from support.working import broker_of, flaky_app, make_app, seen, take


def held(app: Queuekit, count: int = 1, *, lease: float = 30.0) -> list[Delivery]:
    """Send *count* messages and take them."""
    app.send_many([Signature("t") for _ in range(count)])
    return take(app, count, lease=lease)


def renewer_of(app: Queuekit, book: LeaseTable, lost: list[int], *, lease: float = 30.0) -> LeaseRenewer:
    """Return a renewer of what *book* says that tells *lost*."""
    return LeaseRenewer(app.runtime, book, lease=lease, on_lost=lost.extend)


def held_in(deliveries: list[Delivery]) -> LeaseTable:
    """Return a book with *deliveries*, numbered from 1."""
    book = LeaseTable()
    book.hold([HeldLease(serial, *delivery.lease) for serial, delivery in enumerate(deliveries, 1)])
    return book


def test_extends_what_is_held() -> None:
    """A message whose lease would long have ended is still nobody else's."""
    clock, lost = VirtualClock(), list[int]()
    app = flaky_app(clock=clock)
    renewer = renewer_of(app, held_in(held(app, lease=0.2)), lost, lease=0.2)
    calls = broker_of(app).wire.calls

    renewer.start()
    for count in range(1, 5):
        wait_until(lambda count=count: calls.count("extend") > count)
        clock.advance(0.15)
    others = app.runtime.broker.receive(["default"], limit=1, wait=0, lease=30)
    renewer.stop()

    assert (others, lost) == ([], [])


def test_tells_of_lost_leases() -> None:
    """Once each, and only of those that are still held."""
    app, lost = make_app(), list[int]()
    first, second, third = held(app, 3)
    book = held_in([first, second, third])
    renewer = renewer_of(app, book, lost)
    app.runtime.broker.settle([Ack(first), Ack(second)])
    book.done([2])

    renewer.extend()
    renewer.extend()

    assert lost == [1]
    assert [held_lease.serial for held_lease in book.held()] == [1, 3]


def test_a_lease_that_is_settled_meanwhile_is_not_lost() -> None:
    """Between the round trip and the report it may have been done."""
    app, lost = flaky_app(), list[int]()
    (delivery,) = held(app)
    book = held_in([delivery])
    renewer = renewer_of(app, book, lost)
    app.runtime.broker.settle([Ack(delivery)])
    broker_of(app).wire.answers["extend"] = lambda: book.done([1])

    renewer.extend()

    assert lost == []


def test_shows_that_the_holders_of_slots_are_alive() -> None:
    """As long as their leases are extended, and no longer."""
    app = make_app()
    alive, lost, other = held(app, 3)
    book = LeaseTable()
    book.hold([HeldLease(serial, *one.lease, slot=one is not other) for serial, one in enumerate([alive, lost, other])])
    app.runtime.broker.settle([Ack(lost)])

    renewer_of(app, book, []).extend()

    assert [record.key for record in app.runtime.need_backend("a test").walk("beat:")] == [f"beat:{alive.id}"]


def test_extends_in_batches() -> None:
    """As many in one call as the broker takes."""
    app = flaky_app()
    renewer = renewer_of(app, held_in(held(app, 25)), [])
    broker_of(app).limits = Limits(max_batch=10)

    renewer.extend()

    assert broker_of(app).wire.calls.count("extend") == 3


def test_leaves_those_alone_that_do_not_deserve_it() -> None:
    """The supervisor decides; it knows frozen processes and bodies past their time."""
    app = flaky_app()
    book = held_in(held(app))
    renewer = LeaseRenewer(app.runtime, book, lease=30, on_lost=list[int]().extend, may_extend=lambda _: [])

    renewer.extend()

    assert "extend" not in broker_of(app).wire.calls


def test_a_silent_broker_is_asked_again_later() -> None:
    """One line, no loss; and one when it answers again."""
    app, lost = flaky_app(), list[int]()
    down, back = seen(app, EngineDown), seen(app, EngineBack)
    book = held_in(held(app))
    renewer = renewer_of(app, book, lost)
    broker_of(app).wire.cut = {"extend"}

    renewer.extend()
    broker_of(app).wire.cut = set()
    renewer.extend()
    renewer.extend()

    assert [(event.doing, event.retry_in) for event in down] == [("extend leases", 10.0)]
    assert [event.doing for event in back] == ["extend leases"]
    assert (lost, len(book.held())) == ([], 1)


def test_survives_a_broker_with_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever an engine raises, the renewer goes on."""
    app = flaky_app()
    renewer = renewer_of(app, held_in(held(app)), [])
    broker_of(app).wire.answers["extend"] = lambda: broker_of(app).wire.calls.index("never called")

    renewer.extend()
    renewer.extend()

    assert "ValueError" in caplog.text
    assert broker_of(app).wire.calls.count("extend") == 2


def test_stops_while_it_waits_for_its_next_round() -> None:
    """An idle renewer ends at once."""
    renewer = renewer_of(make_app(), LeaseTable(), [], lease=3600)
    renewer.start()

    renewer.stop()

    assert not renewer.thread.is_alive()
