"""The fetcher takes messages off their queues as long as there is room, and outlives every error of an engine."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Signature
from queuekit.broker import Delivery, Place
from queuekit.clock import VirtualClock
from queuekit.errors import UnavailableError
from queuekit.events import EngineBack, EngineDown
from queuekit.worker.fetcher import Fetcher, weighted_order
from support.waiting import wait_until
from support.working import broker_of, flaky_app, make_app, seen


class WorkerPort:
    """Take what they are given, up to their room."""

    def __init__(self, room: int = 100) -> None:
        self.free = room
        self.taken: list[Delivery] = []
        self.refuse: Exception | None = None
        self.busy = False

    def room(self) -> int:
        """Return how much more they take."""
        return self.free

    def capacity(self) -> int:
        """Return how much they hold at most."""
        return self.free + len(self.taken)

    def wait_for_room(self, timeout: float) -> bool:
        """Say at once whether there is room."""
        threading.Event().wait(min(timeout, 0.01))
        return self.free > 0

    def wait_for_end(self, ended: int, timeout: float) -> None:
        """Wait a moment."""
        threading.Event().wait(min(timeout, 0.01))

    def ended(self) -> int:
        """Return how many deliveries have ended."""
        return 0

    def admit(self, deliveries: list[Delivery]) -> None:
        """Take them, or refuse once."""
        error, self.refuse = self.refuse, None
        if error is not None:
            raise error
        self.taken += deliveries
        self.free -= len(deliveries)

    def idle(self) -> bool:
        """Return whether nothing is in hand."""
        return not self.busy


@contextmanager
def fetching(app: Queuekit, worker: WorkerPort, *, burst: bool = False) -> Iterator[list[str]]:
    """Fetch into *worker*, and yield a list that tells the end of a burst."""
    over: list[str] = []
    fetcher = Fetcher(app.runtime, worker, burst=burst, on_empty=lambda: over.append("over"))
    fetcher.start()
    try:
        yield over
    finally:
        fetcher.stop()
        assert not fetcher.thread.is_alive()


def send(app: Queuekit, count: int) -> list[str]:
    """Send *count* messages and return their ids."""
    return [result.id for result in app.send_many([Signature("t") for _ in range(count)])]


def test_fetches_what_is_there_and_what_comes() -> None:
    """In order; a message that is sent while it waits is fetched at once."""
    app, worker = make_app(), WorkerPort()
    ids = send(app, 3)

    with fetching(app, worker):
        wait_until(lambda: len(worker.taken) == 3)
        ids += send(app, 1)
        wait_until(lambda: len(worker.taken) == 4)

    assert [delivery.id for delivery in worker.taken] == ids


def test_takes_no_more_than_there_is_room_for() -> None:
    """The rest stays for others."""
    app, worker = make_app(), WorkerPort(room=2)
    send(app, 5)

    with fetching(app, worker):
        wait_until(lambda: len(worker.taken) == 2)

    assert app.runtime.broker.counts(["default"])["default"].ready == 3


def test_asks_for_no_longer_lease_than_there_is() -> None:
    """A service has a longest lease: where ``worker.lease`` is longer, the worker takes messages for that."""
    app, worker = make_app(worker={"lease": 60}), WorkerPort()
    broker = app.runtime.broker
    broker.limits = attrs.evolve(broker.limits, max_lease=10.0)
    send(app, 1)

    with fetching(app, worker):
        wait_until(lambda: len(worker.taken) == 1)

    (held,) = broker.peek("default", place=Place.LEASED).items
    assert held.due - worker.taken[0].claimed_at == pytest.approx(10.0)
    assert app.runtime.lease == 10.0


def test_does_the_upkeep_while_there_is_no_room() -> None:
    """Leases of dead workers are reclaimed and delays promoted though all slots here are full (QK7)."""
    app, worker = flaky_app(), WorkerPort(room=0)

    with fetching(app, worker):
        wait_until(lambda: broker_of(app).wire.calls.count("receive") >= 2)

    assert worker.taken == []


def test_serves_only_the_queues_that_it_should() -> None:
    """At once, though it waits for messages; with none, it does the upkeep of all and takes nothing."""
    app, worker = flaky_app(worker={"queues": {"default": 1, "mail": 1}}), WorkerPort()
    fetcher = Fetcher(app.runtime, worker, burst=False, on_empty=print)
    calls = broker_of(app).wire.calls
    fetcher.start()
    wait_until(lambda: "receive" in calls)

    fetcher.serve({})
    wait_until(lambda: calls.count("receive") >= 2)
    send(app, 1)
    assert worker.taken == []
    fetcher.serve({"mail": 1})
    app.send(Signature("t", queue="mail"))
    wait_until(lambda: [delivery.queue for delivery in worker.taken] == ["mail"])
    fetcher.serve({"default": 1, "mail": 1})
    wait_until(lambda: [delivery.queue for delivery in worker.taken] == ["mail", "default"])
    fetcher.stop()


def test_a_burst_ends_when_the_queues_are_empty() -> None:
    """All that was there has been fetched."""
    app, worker = make_app(), WorkerPort()
    send(app, 3)

    with fetching(app, worker, burst=True) as over:
        wait_until(lambda: over)

    assert len(worker.taken) == 3


def test_a_burst_waits_for_what_is_in_flight() -> None:
    """It may send more."""
    app, worker = flaky_app(), WorkerPort()
    worker.busy = True

    with fetching(app, worker, burst=True) as over:
        wait_until(lambda: broker_of(app).wire.calls.count("receive") >= 3)
        early = list(over)
        send(app, 1)
        worker.busy = False
        wait_until(lambda: over)

    assert (early, len(worker.taken)) == ([], 1)


def test_a_burst_polls_ever_more_seldom_until_something_ends() -> None:
    """While a body runs, a burst with room looked at empty queues as fast as it could: hundreds of times a second."""
    pauses: list[float] = []

    class Busy(WorkerPort):
        """Hold one body, which ends in the seventh pause; the next is over in the ninth."""

        def wait_for_end(self, ended: int, timeout: float) -> None:
            """Note the pause."""
            pauses.append(timeout)
            self.busy = len(pauses) < 9

        def ended(self) -> int:
            """Return how many bodies have ended."""
            return int(len(pauses) >= 7)

    worker = Busy()
    worker.busy = True
    with fetching(make_app(), worker, burst=True) as over:
        wait_until(lambda: over)

    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 0.05, 0.1]


class LastWord(WorkerPort):
    """WorkerPort whose last task sends one more message just as it ends."""

    def __init__(self, app: Queuekit) -> None:
        super().__init__()
        self.app: Queuekit | None = app

    def idle(self) -> bool:
        """End the task."""
        app, self.app = self.app, None
        if app is not None:
            send(app, 1)
        return True


def test_a_burst_sees_what_the_last_task_has_sent() -> None:
    """It does not end between the look into the queue and the end of that task."""
    app = make_app()
    worker = LastWord(app)

    with fetching(app, worker, burst=True) as over:
        wait_until(lambda: over)

    assert len(worker.taken) == 1


def test_a_silent_broker_is_asked_again_and_again() -> None:
    """Each try is one line, later and later; the return is one; no message is lost."""
    app, worker = flaky_app(), WorkerPort()
    down, back = seen(app, EngineDown), seen(app, EngineBack)
    send(app, 1)
    broker_of(app).wire.cut = {"receive"}

    with fetching(app, worker):
        wait_until(lambda: len(down) >= 3)
        broker_of(app).wire.cut = set()
        wait_until(lambda: worker.taken)
        wait_until(lambda: back)

    assert broker_of(app).wire.calls.count("receive") <= len(down) + 3
    assert (down[0].doing, down[0].error) == ("fetch", "no answer to receive")
    assert 0.05 <= down[0].retry_in <= 0.1
    assert 0.2 <= down[2].retry_in <= 0.4
    assert [event.doing for event in back] == ["fetch"]


def test_waits_no_longer_each_time_for_what_breaks_off_waits() -> None:
    """Where something on the way ends each connection that is idle for a while, a worker is not deaf ever longer."""
    clock = VirtualClock()
    app, worker = flaky_app(clock=clock), WorkerPort()
    down = seen(app, EngineDown)
    wire = broker_of(app).wire

    def break_off() -> None:
        wire.answers["receive"] = break_off
        clock.advance(3.0)
        raise UnavailableError("connection closed")

    wire.answers["receive"] = break_off
    with fetching(app, worker):
        wait_until(lambda: len(down) >= 4)

    assert max(event.retry_in for event in down) <= 0.1


def test_outlives_an_error_that_it_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    """A worker must not live on deaf because of one bug."""
    app, worker = make_app(), WorkerPort()
    worker.refuse = RuntimeError("a bug")
    send(app, 1)

    with fetching(app, worker):
        wait_until(lambda: worker.refuse is None)
        send(app, 1)
        wait_until(lambda: worker.taken)

    assert "RuntimeError: a bug" in caplog.text


def test_stops_at_once_while_it_waits() -> None:
    """An idle broker is interrupted."""
    clock = VirtualClock()
    app, worker = make_app(clock=clock), WorkerPort()

    with fetching(app, worker):
        clock.wait_for_waiters(1)

    assert clock.monotonic() == 0


def test_listens_on_all_queues() -> None:
    """Each of ``worker.queues``."""
    app, worker = make_app(worker={"queues": "high:8,low:1"}), WorkerPort()
    app.send_many([Signature("t", queue="low"), Signature("t", queue="high"), Signature("t", queue="other")])

    with fetching(app, worker):
        wait_until(lambda: len(worker.taken) == 2)

    assert {delivery.queue for delivery in worker.taken} == {"high", "low"}


def test_each_queue_comes_first_as_often_as_its_weight_says() -> None:
    """8 to 1 in the long run, so that the small one is never starved."""
    chance = random.Random(1)

    first = Counter(weighted_order({"high": 8, "low": 1}, chance)[0] for _ in range(9_000))

    assert 7_700 <= first["high"] <= 8_300


@pytest.mark.parametrize("weights", [{"only": 1}, {"a": 1, "b": 2, "c": 3}], ids=["one", "three"])
def test_an_order_names_each_queue_once(weights: dict[str, Any]) -> None:
    """Whatever the chance."""
    assert sorted(weighted_order(weights, random.Random(2))) == sorted(weights)
