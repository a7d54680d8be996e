"""Bounds of dead letters: what is too old or too many goes, once, and is counted."""

from collections.abc import Iterator

import attrs
import pytest

from queuekit import Queuekit
from queuekit.broker import Broker, Place
from queuekit.clock import VirtualClock
from queuekit.engines.dead_letters import WithDeadLetters
from queuekit.errors import CapabilityError
from queuekit.events import DeadLettersDropped
from queuekit.operations.admin import Admin
from queuekit.operations.dead_bounds import Dropped, dropped_before, trim
from queuekit.worker import Worker
from queuekit.worker.dead_bounds import DeadBounds
from support.waiting import wait_until
from support.working import burst, make_app, seen, working


@pytest.fixture
def clock() -> VirtualClock:
    """Return the clock of the app."""
    return VirtualClock()


@pytest.fixture
def app(clock: VirtualClock) -> Iterator[Queuekit]:
    """Return an app that keeps three dead letters for a day, of mail one for ever."""
    made = make_app(
        clock=clock,
        worker={
            "queues": {"default": 1, "mail": 1},
            "concurrency": 1,  # what is sent first dies first
            "dead_max_age": {"default": "1d"},
            "dead_max_count": {"*": 3, "mail": 1},
        },
    )
    made.task(name="fail", ignore_result=False)(lambda: 1 / 0)
    yield made
    made.close()


def die(app: Queuekit, count: int, *, queue: str = "default") -> list[str]:
    """Return the ids of so many new dead letters, oldest first."""
    ids = [app.tasks["fail"].options(queue=queue).send().id for _ in range(count)]
    burst_without_bounds(app)
    return ids


def burst_without_bounds(app: Queuekit) -> None:
    """Run what waits, with a worker that drops nothing."""
    worker = Worker(app, burst=True)
    worker._dead_bounds = None
    worker.run()


def dead(app: Queuekit, queue: str = "default") -> set[str]:
    """Return the ids of the dead letters of a queue."""
    return {stored.envelope.id for stored in app.runtime.broker.walk(queue, Place.DEAD)}


def test_keeps_the_latest(app: Queuekit) -> None:
    """Beyond the number of its own queue, the oldest go."""
    ids, mails = die(app, 5), die(app, 3, queue="mail")

    parts = [part for queue in ("default", "mail") for part in trim(Admin(app), queue)]

    assert parts == [("count", 3, 2), ("count", 1, 2)]
    assert (dead(app), dead(app, "mail")) == (set(ids[2:]), {mails[2]})


def test_keeps_the_young(app: Queuekit, clock: VirtualClock) -> None:
    """What died before that age goes; a queue without one keeps it."""
    old, mail = die(app, 2), die(app, 1, queue="mail")
    clock.advance(86_000)
    young = die(app, 1)
    clock.advance(401)

    parts = [part for queue in ("default", "mail") for part in trim(Admin(app), queue)]

    assert parts == [("age", 86_400.0, 2)]
    assert (dead(app), dead(app, "mail")) == ({*young}, {*mail})
    assert old


def test_counts_what_went(app: Queuekit, clock: VirtualClock) -> None:
    """By reason, over several looks; its results expire like others."""
    admin, ids = Admin(app), die(app, 4)
    list(trim(admin, "default"))
    clock.advance(90_000)

    list(trim(admin, "default"))

    assert dropped_before(admin) == [Dropped(queue="default", age=3, count=1, at=clock.time())]
    record = app.runtime.need_backend("a test").get([f"result:{ids[1]}"])[f"result:{ids[1]}"]
    assert record.ttl is not None
    assert record.ttl <= app.config.results_expire


def test_nothing_at_all_may_be_kept(app: Queuekit) -> None:
    """A bound of 0 drops every dead letter, however many parts that takes."""
    ids, broker = die(app, 3), app.runtime.broker

    assert broker.dead_beyond("default", count=0, before=None, limit=2) == ids[:2]
    assert broker.dead_beyond("default", count=0, before=None) == ids


def test_a_worker_tells_what_it_drops(app: Queuekit) -> None:
    """At once when it starts, by an event for each queue and reason."""
    die(app, 4)
    dropped = seen(app, DeadLettersDropped)

    with working(app) as worker:
        wait_until(lambda: len(dropped) == 1, "the look")

    assert dropped == [DeadLettersDropped(worker=worker.name, queue="default", reason="count", bound=3, count=1)]


def test_a_broker_of_others_needs_nothing_for_it(app: Queuekit) -> None:
    """The public methods are enough: the base body finds what the engine finds."""
    ids, broker = die(app, 5), app.runtime.broker
    before = min(stored.died_at or 0.0 for stored in broker.find("default", ids[3:]))

    assert Broker.dead_beyond(broker, "default", count=3, before=None) == ids[:2]
    assert Broker.dead_beyond(broker, "default", count=None, before=before) == [
        id for id in ids if (broker.find("default", [id])[0].died_at or 0.0) < before
    ]
    assert Broker.dead_beyond(broker, "default", count=None, before=None) == []


def test_records_of_a_backend_have_bounds_too() -> None:
    """As on SQS and RabbitMQ."""
    app = make_app(worker={"dead_max_count": 1})
    app.task(name="fail")(lambda: 1 / 0)
    broker = app.runtime.broker
    emulated = WithDeadLetters(broker, app.runtime.need_backend("a test"))
    object.__setattr__(app.runtime, "broker", emulated)
    ids = die(app, 3)

    assert list(trim(Admin(app), "default")) == [("count", 1, 2)]
    assert len(dead(app) & {*ids}) == 1
    app.close()


def test_where_nothing_can_keep_them_the_worker_does_not_start(app: Queuekit) -> None:
    """It names the settings, and what lacks."""
    broker = app.runtime.broker
    broker.capabilities = attrs.evolve(broker.capabilities, dead_letters=False)

    with pytest.raises(CapabilityError, match=r"(?s)dead_max_age is set.*dead_max_count is set"):
        Worker(app)


def test_without_bounds_nobody_looks() -> None:
    """There is no thread for it."""
    app = make_app()

    assert Worker(app)._dead_bounds is None
    app.close()


def test_an_engine_that_is_down_is_asked_again(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that fails ends neither the thread nor the worker."""
    looks: list[int] = []

    def look(self: DeadBounds) -> None:
        looks.append(1)
        raise ValueError

    monkeypatch.setattr(DeadBounds, "look", look)
    monkeypatch.setattr("queuekit.worker.dead_bounds._PAUSE", 0.0)
    monkeypatch.setattr("queuekit.worker.dead_bounds._SHARE", 0.0)
    monkeypatch.setattr("queuekit.worker.dead_bounds.log_error", lambda *_: None)
    made = DeadBounds(app, worker="w")

    made.start()
    wait_until(lambda: len(looks) > 2, "more looks")
    made.stop(60.0)

    assert not made.thread.is_alive()
    burst(app)
