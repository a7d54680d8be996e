"""Slots that a worker hands over to messages that wait, without another delivery."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.broker import Ack, Lease
from queuekit.execution.limiter import Limiter
from queuekit.execution.outcome import Run
from queuekit.execution.slot_turns import SlotTurns
from queuekit.limiting.slots import SlotKey, Waiter
from queuekit.limits import Concurrency, Rate
from queuekit.operations.limits import list_limits
from queuekit.worker import Worker
from queuekit.worker.hand_over import HandOver
from queuekit_testing.kit import unique_name
from support.waiting import PATIENCE, wait_until
from support.working import broker_of, burst, executor_of, flaky_app, make_app, prepared, take, working


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queuekit]:
    """Return an app whose calls to the broker are counted; nobody looks after its lines."""
    monkeypatch.setattr(Limiter, "upkeep", lambda _self: None)
    made = flaky_app()
    yield made
    made.close()


def deliveries(app: Queuekit) -> Counter[str]:
    """Return a counter of the deliveries of each message from now on."""
    found, broker = Counter[str](), broker_of(app)
    receive = broker.receive

    def counted(*args: Any, **options: Any) -> Any:
        batch = receive(*args, **options)
        found.update(one.id for one in batch)
        return batch

    broker.receive = counted  # type: ignore[method-assign]
    return found


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_line_moves_on_within_a_worker(app: Queuekit, kind: str) -> None:
    """In the order in which they came, one at a time; most are delivered once."""
    inside, most, ran, lock = [0], [0], list[int](), threading.Lock()

    def body(number: int) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            ran.append(number)
        with lock:
            inside[0] -= 1

    async def abody(number: int) -> None:
        body(number)

    task = app.task(name="pay", limits=[Concurrency(1, name="crm")])(body if kind == "threads" else abody)
    app.send_many([task.s(number) for number in range(200)])
    seen = deliveries(app)

    worker = burst(app)

    assert sorted(ran) == list(range(200))
    assert most[0] == 1
    assert worker.stats["done"] == 200
    assert sum(seen.values()) < 250
    assert list_limits(app)[0].holders == ()


def test_line_of_a_worker_that_is_gone_moves_on_in_another(app: Queuekit) -> None:
    """As quickly as if that one had let the messages wait."""
    ran = list[int]()
    task = app.task(name="pay", limits=[Concurrency(1, name="crm")])(ran.append)
    with app.limit("crm"):
        app.send_many([task.s(number) for number in range(60)])
        with working(app):
            wait_until(lambda: list_limits(app)[0].waiting == 60)
    seen = deliveries(app)

    burst(app)

    assert ran == list(range(60))
    assert sum(seen.values()) < 20


def test_limit_that_left_one_of_its_tasks_holds_its_messages_no_longer() -> None:
    """They come back for a slot that they have no need of, and give it to the next when they end."""
    url, ran = f"memory://{unique_name('app')}", list[int]()
    before, after = make_app(broker=url), make_app(broker=url)
    for app in (before, after):
        app.task(name="other", limits=[Concurrency(1, name="crm")])(print)
    task = before.task(name="pay", limits=[Concurrency(1, name="crm")])(ran.append)
    after.task(name="pay")(ran.append)
    with before.limit("crm"):
        before.send_many([task.s(number) for number in range(30)])
        with working(before):
            wait_until(lambda: list_limits(before)[0].waiting == 30)

    burst(after)

    assert ran == list(range(30))
    before.close()
    after.close()


@pytest.mark.parametrize(("queue", "lease", "count"), [("default", 3_600, 2), ("default", 30, 0), ("other", 3_600, 0)])
def test_worker_takes_over_what_surely_waits_in_its_queues(app: Queuekit, queue: str, lease: float, count: int) -> None:
    """Others may wait for the same slot in other queues, or have been claimed just now, after the worker has looked."""
    task = app.task(name="pay", limits=[Concurrency(1, name="crm")])(print)
    app.send_many([task.options(queue=queue).s()] * 2)
    found, worker = take(app, 2, queue=queue, lease=lease), Worker(app)
    assert worker._hand_over is not None
    worker._prefetch.observe("pay", 0.001)

    runs = worker._hand_over.can_run(SlotKey("crm", ""), [*map(Waiter.of, found)], app.runtime.now() - 1)

    assert len(runs) == count


@pytest.mark.parametrize(("extended", "made_short"), [(False, [2, 1, 1]), (True, [2, 3, 1])])
def test_gets_a_record_that_others_write_whenever_leases_are_made_short(
    app: Queuekit, monkeypatch: pytest.MonkeyPatch, *, extended: bool, made_short: list[int]
) -> None:
    """It does not take over the same messages at each attempt, unless their leases were made long meanwhile.

    One of them is lost then: it does not run, however often the record is read.
    """
    task = app.task(name="pay", limits=[Concurrency(1, name="crm")])(print)
    place, begun = SlotKey("crm", ""), list[Run]()
    app.send_many([task.s()] * 60)
    worker, broker, backend = Worker(app), broker_of(app), app.runtime.need_backend("a test")
    others, extend, short = Limiter(app.runtime, backend, app.tasks), broker.extend, list[int]()
    assert worker._limiter is not None
    assert worker._hand_over is not None
    worker._prefetch.observe("pay", 0.0001)
    first, lost, _ = runs = [prepared(app) for _ in range(3)]
    for run in runs:
        worker._limiter.apply([run])

    def meanwhile(leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        if not short:
            broker.settle([Ack(lost.delivery)])
        gone = extend(leases, lease=lease)
        if lease == app.config.worker.lease:
            short.append(len(leases))
            others.apply([prepared(app)])
            if extended and len(short) == 1:
                others._slots.extend(place, app.runtime.now())
        return gone

    broker.extend = meanwhile  # type: ignore[method-assign]
    monkeypatch.setattr(HandOver, "begin", lambda _self, _place, runs: begun.extend(runs))
    assert first.claim()
    worker._hand_over.settled([executor_of(app).decide.returned(first, None)])

    assert short == made_short
    assert len(begun) == 3
    assert lost.message.id not in {run.message.id for run in begun}
    assert list_limits(app)[0].waiting == 1


def test_what_has_another_limit_or_is_slow_is_delivered_again(app: Queuekit) -> None:
    """All is decided anew for it, as its first delivery would be."""
    ran = list[int]()
    slots = Concurrency(1, name="crm")
    quick = app.task(name="quick", limits=[slots])(ran.append)
    both = app.task(name="both", limits=[slots, Rate("1000/s", burst=1_000)])(ran.append)
    app.send_many([task.s(number) for number in range(30) for task in (quick, both)])
    seen = deliveries(app)

    burst(app)

    assert sorted(ran) == sorted([*range(30)] * 2)
    assert max(seen.values()) == 2


def test_slot_of_messages_that_the_worker_cannot_hold_is_free_soon(
    app: Queuekit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go back to their queue, and if nobody takes them from there, nobody would free it for a lease."""
    task = app.task(name="pay", limits=[Concurrency(1, name="crm")])(print)
    app.send_many([task.s()] * 3)
    worker = Worker(app)
    assert worker._limiter is not None
    assert worker._hand_over is not None
    worker._prefetch.observe("pay", 0.001)
    monkeypatch.setattr(Worker, "take_on", lambda _self, _runs: [])
    first, *_ = runs = [prepared(app) for _ in range(3)]
    for serial, run in enumerate(runs):
        run.serial = serial
    worker._limiter.apply(runs)
    assert first.claim()

    worker._hand_over.settled([executor_of(app).decide.returned(first, None)])
    worker._limiter.look_after(Record(key="another worker looks"))

    assert list_limits(app)[0].holders == ()


def test_what_waits_behind_a_slow_body_goes_back(app: Queuekit) -> None:
    """Another slot may be free for it meanwhile."""
    entered, leave, ran = threading.Event(), threading.Event(), list[int]()

    @app.task(name="pay", limits=[Concurrency(2, name="crm")])
    def pay(number: int) -> None:
        if number == 100:
            entered.set()
            assert leave.wait(PATIENCE)
        ran.append(number)

    app.send_many([pay.s(number) for number in range(200)])
    with working(app) as worker:
        assert entered.wait(PATIENCE)
        wait_until(lambda: len(ran) == 199, lambda: f"{len(ran)} of the others")
        leave.set()
        wait_until(lambda: worker.stats["done"] == 200)

    assert sorted(ran) == list(range(200))


def test_stop_hands_back_what_waits_for_its_turn(app: Queuekit) -> None:
    """Uncounted, and nothing of it is forgotten."""
    entered, leave, ran = threading.Event(), threading.Event(), list[int]()

    @app.task(name="pay", limits=[Concurrency(1, name="crm")])
    def pay(number: int) -> None:
        if number == 20:
            entered.set()
            assert leave.wait(PATIENCE)
        ran.append(number)

    app.send_many([pay.s(number) for number in range(60)])
    with working(app) as worker:
        assert entered.wait(PATIENCE)
        worker.stop("asked to")
        leave.set()
    burst(app)

    assert sorted(ran) == list(range(60))


def test_decided_run_has_no_turn(app: Queuekit) -> None:
    """Such as one whose message was cancelled; and each run is followed once."""
    task = app.task(name="pay", limits=[Concurrency(1, name="crm")])(print)
    app.send_many([task.s()] * 3)
    first, second, third = (prepared(app) for _ in range(3))
    turns = SlotTurns(SlotKey("crm", ""), [first, second, third])
    assert second.claim()

    assert turns.after(None) is first
    assert turns.after(second) is None
    assert turns.after(first) is third
    assert turns.after(first) is None
    assert (turns.after(third), turns.current, turns.waiting) == (None, None, 0)


def test_worker_without_slots_makes_none(app: Queuekit) -> None:
    """Nothing is paid where no task has a concurrency limit."""
    app.task(name="pay", limits=[Rate("1000/s")])(print)

    assert Worker(app)._hand_over is None
