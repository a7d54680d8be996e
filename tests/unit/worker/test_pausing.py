"""What a worker does when something is paused: nothing of it starts, and what it has fetched goes back, uncounted."""

from collections.abc import Iterator
from typing import Any

import pytest

from queuekit import Queuekit, Signature
from queuekit.backend import Record
from queuekit.broker import Place, Release
from queuekit.clock import VirtualClock
from queuekit.errors import UnavailableError
from queuekit.events import PausesChanged, WorkerStopping
from queuekit.operations.admin import Admin
from queuekit.operations.pauses import pause, resume
from queuekit.wire.pauses import PAUSED, Pause, pauses_record
from queuekit.worker import Worker
from support.working import (
    backend_of,
    burst,
    counts,
    executor_of,
    flaky_app,
    inside,
    make_app,
    prepared,
    seen,
    take_one,
)


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app whose workers serve two queues, one message at a time."""
    made = make_app(worker={"queues": {"default": 1, "mail": 1}, "concurrency": 1, "prefetch": 10})
    yield made
    made.close()


def record_of(*pauses: Pause) -> Record:
    """Return the record of *pauses*."""
    return pauses_record(pauses, now=1.0)


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "coroutine"])
def test_what_is_in_the_pool_is_taken_back(app: Queuekit, is_async: bool) -> None:  # noqa: FBT001 - a row
    """In threads and on the event loop; other messages of the pool stay."""
    ran: list[str] = []
    if is_async:

        async def run(name: str) -> None:
            ran.append(name)

        app.task(name="mail", queue="mail")(run)
        app.task(name="other")(run)
    else:
        app.task(name="mail", queue="mail")(ran.append)
        app.task(name="other")(ran.append)
    worker = Worker(app)
    app.tasks["mail"].send("mail")
    app.tasks["other"].send("other")
    pool: Any = worker._loops() if is_async else worker._threads
    kept: list[Any] = []
    pool.submit = kept.extend
    pool.take_back = lambda _: [kept.pop(0) for _ in list(kept)]
    worker.admit([*take_all(app, "mail"), *take_all(app, "default")])
    settled: list[Any] = []
    settler: Any = worker._settler
    settler.put = settled.append

    worker._pausing.read(record_of(Pause(mark="m", queue="mail")))

    assert [run.message.task for run in kept] == ["other"]
    assert [(outcome.status, outcome.run.message.task) for outcome in settled] == [("returned", "mail")]
    if is_async:
        pool.stop()


def test_a_batch_in_the_hands_of_the_fetcher_is_taken_back(app: Queuekit) -> None:
    """The pause arrives after the batch was compared with what is paused, and before it is in a pool."""
    app.task(name="mail")(print)
    worker = Worker(app)
    app.tasks["mail"].send("mail")
    kept, settled = list[Any](), list[Any]()
    pool: Any = worker._threads
    settler: Any = worker._settler

    def submit(runs: list[Any]) -> None:
        if not kept:
            worker._pausing.read(record_of(Pause(mark="m", queue="default")))
        kept.extend(runs)

    pool.submit, pool.take_back = submit, lambda _: [kept.pop(0) for _ in list(kept)]
    settler.put = settled.append

    worker.admit(take_all(app, "default"))

    assert (kept, [outcome.status for outcome in settled]) == ([], ["returned"])


def take_all(app: Queuekit, queue: str) -> list[Any]:
    """Return the deliveries of a queue."""
    return app.runtime.broker.receive([queue], limit=10, wait=0, lease=30)


def test_a_burst_leaves_a_paused_queue_alone(app: Queuekit) -> None:
    """It ends when the others are empty; it knows the pause before its first fetch."""
    ran: list[str] = []
    app.task(name="mail", queue="mail")(lambda: ran.append("mail"))
    app.task(name="other")(lambda: ran.append("other"))
    pause(Admin(app), queue="mail", by="ann")
    app.tasks["mail"].send()
    app.tasks["other"].send()

    burst(app)

    assert (ran, counts(app, queue="mail")) == (["other"], {"ready": 1})


def test_a_burst_with_nothing_to_serve_ends(app: Queuekit) -> None:
    """All its queues are paused."""
    app.task(name="mail", queue="mail")(print)
    for queue in ("default", "mail"):
        pause(Admin(app), queue=queue)
    app.tasks["mail"].send()
    stopping = seen(app, WorkerStopping)

    assert burst(app).stats == {}
    assert counts(app, queue="mail") == {"ready": 1}
    assert [event.reason for event in stopping] == ["queues are empty but for what is paused"]


def test_a_paused_task_is_held_for_ever() -> None:
    """Longer each time, and unlike an unknown task without an end; its count of crashes and attempts stays."""
    clock = VirtualClock()
    app = make_app(clock=clock, worker={"hold_unknown": 5.0})
    app.task(name="t")(print)
    app.tasks["t"].send()
    worker = Worker(app)
    settler: Any = worker._settler
    settler.put = lambda outcome: app.runtime.broker.settle([outcome.settlement])
    worker._pausing.read(record_of(Pause(mark="m", task="t")))

    delays: list[float] = []
    for _ in range(10):
        worker.admit([take_one(app)])
        (held,) = inside(app, Place.DELAYED)
        delays.append(round((held.due or 0.0) - clock.time()))
        assert (held.envelope.attempt, held.crashes) == (0, 0)
        clock.advance(80)

    assert delays[:6] == sorted(delays[:6])
    assert (delays[0], 60 <= delays[-1] <= 75) == (1, True)
    assert worker.idle() is False
    app.close()


def test_what_is_held_back_returns_at_the_end_of_the_pause(app: Queuekit) -> None:
    """Within a second after it, whatever its delay has grown to."""
    app.task(name="t")(print)
    app.tasks["t"].send()
    settlement = executor_of(app).paused(prepared(app), lasts=0.0).settlement

    assert isinstance(settlement, Release)
    assert 0 <= settlement.delay <= 1
    assert settlement.counted is False


def test_only_the_messages_that_it_selects_are_held(app: Queuekit) -> None:
    """By arguments, positional or by name, by header, under an alias, and in a list of calls."""
    ran: list[Any] = []

    @app.task(name="pay", aliases=["old.pay"])
    def pay(tenant: str) -> None:
        ran.append(tenant)

    pause(Admin(app), task="pay", where=[("tenant", "acme")])
    pause(Admin(app), task="pay", where=[("source", "import")])
    pay.send("acme")
    pay.send(tenant="acme")
    pay.options(headers={"source": "import"}).send("x")
    app.send(Signature("old.pay", ("acme",)))
    pay.map(["other", "acme"], chunk=2).send()
    pay.send("other")
    worker = burst(app)

    assert (ran, worker.stats["held"], counts(app)) == (["other"], 5, {"delayed": 5})


def test_unreadable_arguments_are_not_selected(app: Queuekit) -> None:
    """The message becomes a dead letter, as it would without the pause."""
    app.task(name="t")(print)
    run = prepared_damaged(app)
    worker = Worker(app)
    worker._pausing.read(record_of(Pause(mark="m", task="t", where=(("x", "1"),))))

    assert worker._pausing.of_task(run) is None


def prepared_damaged(app: Queuekit) -> Any:
    """Return a run whose payload is not JSON."""
    import attrs

    app.tasks["t"].send(1)
    delivery = take_one(app)
    head = delivery.envelope.body.partition(b"\n")[0]
    return prepared(app, attrs.evolve(delivery, envelope=attrs.evolve(delivery.envelope, body=head + b"\n{")))


def test_an_expired_message_expires(app: Queuekit) -> None:
    """A pause does not keep it."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    app.task(name="t")(print)
    result = app.tasks["t"].options(expires="1m").send()
    pause(Admin(app), task="t")
    clock.advance(61)

    burst(app)

    assert result.info().state.value == "EXPIRED"
    app.close()


def test_tells_what_is_paused_once(app: Queuekit) -> None:
    """When it changes, with who did it and why, and not at each look."""
    changed = seen(app, PausesChanged)
    worker = Worker(app)
    pausing, mail = worker._pausing, Pause(mark="m", queue="mail", by="ann", why="full")

    pausing.read(None)
    pausing.read(record_of(mail))
    pausing.read(record_of(mail))
    pausing.read(None)

    assert [event.lines for event in changed] == [("the queue 'mail', by ann: full",), ()]


def test_a_pause_that_ends_by_itself_needs_nobody() -> None:
    """The record has expired, and so has the pause."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    app.task(name="t")(lambda: "ran")
    pause(Admin(app), queue="default", lasts=60.0)
    result = app.tasks["t"].send()
    assert burst(app).stats == {}

    clock.advance(61)
    burst(app)

    assert result.get() == "ran"
    assert app.runtime.need_backend("a test").get([PAUSED]) == {}
    app.close()


def test_pauses_of_others_queues_cost_nothing(app: Queuekit) -> None:
    """A worker that serves none of what is paused does not even look at its batches."""
    worker = Worker(app)

    worker._pausing.read(record_of(Pause(mark="m", queue="elsewhere")))

    assert worker._pausing.active is False
    assert resume_is_refused(app)


def resume_is_refused(app: Queuekit) -> bool:
    """Return whether nothing can be resumed where nothing is recorded."""
    with pytest.raises(LookupError):
        resume(Admin(app), queue="elsewhere")
    return True


def test_keeps_to_what_it_read_last_while_the_backend_is_down() -> None:
    """Whether the pause goes on or has ended is not known then."""
    app = flaky_app()
    app.task(name="t")(print)
    pause(Admin(app), queue="default")
    worker = Worker(app)
    worker._watchdog._look()
    backend_of(app).wire.cut.add("get")

    with pytest.raises(UnavailableError):
        worker._watchdog._look()

    assert worker._pausing.marks == [each.mark for each in saved(app)]
    app.close()


def saved(app: Queuekit) -> list[Pause]:
    """Return what is paused, once the backend answers again."""
    backend_of(app).wire.cut.discard("get")
    return Admin(app).pauses()
