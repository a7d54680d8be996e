"""Concurrency limits in a worker: what takes a slot, and all that frees it."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from queuekit import Cancel, Queuekit, Reject, Retry, Snooze
from queuekit.backend import Record
from queuekit.broker import Release
from queuekit.client.requirements import require
from queuekit.clock import VirtualClock
from queuekit.errors import CapabilityError
from queuekit.execution.limiter import UPKEEP, Limiter
from queuekit.limiting.slot_store import Slots
from queuekit.limiting.slots import SlotKey
from queuekit.limits import Concurrency, Rate, arg
from queuekit.operations.admin import Admin
from queuekit.operations.limits import free_limit, list_limits, set_limit
from queuekit.operations.why import collect, reasons
from queuekit.worker import Worker
from support.waiting import PATIENCE, wait_until
from support.working import backend_of, broker_of, burst, counts, flaky_app, make_app, take, working


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app."""
    made = make_app()
    yield made
    made.close()


def held(app: Queuekit, name: str = "crm", key: str = "") -> tuple[int, int]:
    """Return how many slots of a limit are held, and how many messages wait."""
    runtime, place = app.runtime, SlotKey(name, key)
    slots = Slots(runtime.need_backend("a test"), runtime.broker, lease=30)
    state = slots.read([place], runtime.now())[place]
    return len(state.holders), state.waiting


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
def test_worker_runs_no_more_at_a_time(app: Queuekit, kind: str) -> None:
    """Threads and coroutines: the limit counts, not the slots of the worker."""
    inside, most, ended, lock = [0], [0], list[int](), threading.Lock()

    def step(change: int) -> None:
        with lock:
            inside[0] += change
            most[0] = max(most[0], inside[0])

    def pay(number: int) -> None:
        step(+1)
        ended.append(number)
        step(-1)

    async def apay(number: int) -> None:
        step(+1)
        await asyncio.sleep(0)
        ended.append(number)
        step(-1)

    task = app.task(name="pay", limits=[Concurrency(2, name="crm")])(pay if kind == "threads" else apay)
    app.send_many([task.s(number) for number in range(20)])

    burst(app)

    assert sorted(ended) == list(range(20))
    assert most[0] <= 2
    assert held(app) == (0, 0)


@pytest.mark.parametrize("count", [40, pytest.param(5_000, marks=pytest.mark.torture)])
def test_line_of_empty_bodies_does_not_stand_still(app: Queuekit, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """One at a time, from four producers at once: each slot that is freed starts the next, without the upkeep."""
    monkeypatch.setattr(Limiter, "upkeep", lambda _self: None)
    ended = list[int]()
    task = app.task(name="pay", limits=[Concurrency(1, name="crm")], ignore_result=True)(ended.append)
    producers = [
        threading.Thread(target=lambda: [task.send(number) for number in range(count)], daemon=True) for _ in range(4)
    ]

    with working(app):
        for producer in producers:
            producer.start()
        wait_until(lambda: len(ended) == 4 * count, timeout=PATIENCE * max(1, count // 40))
        wait_until(lambda: held(app) == (0, 0))

    assert sorted(ended) == sorted([*range(count)] * 4)


@pytest.mark.parametrize("removes", [True, False], ids=["removed", "dropped"])
def test_cancel_ends_a_message_that_waits_for_a_slot(
    app: Queuekit, monkeypatch: pytest.MonkeyPatch, *, removes: bool
) -> None:
    """At once, where the broker can remove it, else by the next worker: it waited for an hour under its lease."""
    entered, leave, ran = threading.Event(), threading.Event(), list[int]()

    @app.task(name="pay", limits=[Concurrency(1, name="crm", key=arg("who"))])
    def pay(number: int, who: str) -> None:
        ran.append(number)
        entered.set()
        assert leave.wait(PATIENCE)

    broker, admin = app.runtime.broker, Admin(app)
    monkeypatch.setattr(broker, "capabilities", attrs.evolve(broker.capabilities, remove=removes))
    with working(app, name="w"):
        pay.send(0, "ann")
        assert entered.wait(PATIENCE)
        second, third = pay.send(1, "ann"), pay.send(2, "ann")
        wait_until(lambda: held(app, key="ann") == (1, 2))
        admin.cancel(second.id)
        view = admin.after_cancel(second.id, patience=PATIENCE)
        before = reasons(collect(admin, third.id))[0].text
        leave.set()
        wait_until(lambda: third.done)

    assert view.cancellation is not None
    assert view.info.state.value == "CANCELLED"
    assert view.cancellation.did in {"dropped", *(["removed"] if removes else [])}  # the worker may be faster
    assert before.endswith("0 before it")
    assert ran == [0, 2]


@pytest.mark.parametrize(
    "error", [ValueError, Retry, Snooze, Reject, Cancel, SystemExit], ids=lambda kind: kind.__name__
)
def test_slot_is_free_however_a_run_ends(app: Queuekit, error: Any) -> None:
    """The next starts after a failure, a retry, a snooze and all else."""
    ended = list[int]()

    @app.task(name="pay", limits=[Concurrency(1, name="crm")], retries=1, ignore_result=True)
    def pay(number: int) -> None:
        ended.append(number)
        if number == 0 and ended.count(0) == 1:
            raise error(60) if error in {Retry, Snooze} else error()

    app.send_many([pay.s(0), pay.s(1)])
    burst(app)

    assert 1 in ended
    assert held(app)[1] == 0


def test_cancelled_message_does_not_keep_its_slot(app: Queuekit) -> None:
    """A message that is cancelled while it waits is dropped at its turn, and the next one starts."""
    opened, ended = threading.Event(), list[int]()

    @app.task(name="pay", limits=[Concurrency(1, name="crm")])
    def pay(number: int) -> None:
        ended.append(number)
        assert opened.wait(PATIENCE)

    with working(app):
        first = app.send_many([pay.s(number) for number in range(3)])
        wait_until(lambda: held(app) == (1, 2))
        app.cancel(next(one.id for one in first if one.id not in list_limits(app)[-1].holders))
        opened.set()
        wait_until(lambda: held(app) == (0, 0))

    assert len(ended) == 2


def test_worker_that_stops_frees_its_slots(app: Queuekit) -> None:
    """Messages that it hands back do not keep slots from other workers."""
    begun, opened = threading.Event(), threading.Event()

    @app.task(name="pay", limits=[Concurrency(3, name="crm")])
    def pay() -> None:
        begun.set()
        assert opened.wait(PATIENCE)

    app.send_many([pay.s()] * 6)
    with working(app) as worker:
        assert begun.wait(PATIENCE)
        worker.stop("a test")
        opened.set()

    assert held(app)[0] <= 3
    burst(app)
    assert (held(app), counts(app)) == ((0, 0), {})


def test_operator_sees_and_changes_it(app: Queuekit) -> None:
    """Who holds, who waits and why; another number from the next batch on; and one that starts beside the others."""
    opened, begun = threading.Event(), list[str]()

    @app.task(name="pay", limits=[Concurrency(1, name="crm")])
    def pay(text: str) -> None:
        begun.append(text)
        assert opened.wait(PATIENCE)

    with working(app):
        sent = app.send_many([pay.s(text) for text in "abcde"])
        wait_until(lambda: held(app) == (1, 4) and len(begun) == 1)
        (view,) = list_limits(app)
        waiting = next(one.id for one in sent if one.id not in view.holders)
        why = reasons(collect(Admin(app), waiting))[0]
        assert free_limit(app, "crm")
        wait_until(lambda: len(begun) == 2)
        set_limit(app, "crm", "4")
        wait_until(lambda: len(begun) == 4)
        opened.set()
        wait_until(lambda: held(app) == (0, 0))

    assert (view.limit, len(view.holders), view.waiting) == ("1", 1, 4)
    assert why.text.startswith(f"it waits for a slot: Concurrency crm: 1 of 1 held by {view.holders[0]}, ")


@pytest.mark.parametrize("count", [5, 300, pytest.param(10_000, marks=pytest.mark.torture)])
def test_limit_that_left_the_code_lets_all_go(count: int) -> None:
    """Workers of code without the limit find the line, however long, and end it."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    app.task(name="pay", limits=[Concurrency(1, name="crm")])(lambda: None)
    app.send_many([app.tasks["pay"].s() for _ in range(count)])
    limited, broker = Worker(app), app.runtime.broker
    limiter = Limiter(app.runtime, app.runtime.need_backend("a test"), app.tasks)
    while deliveries := broker.receive(["default"], limit=1_000, wait=0, lease=30):
        limiter.apply(limited._prepared(deliveries))
    assert held(app) == (1, count - 1)
    without = make_app(broker=app.config.broker, clock=clock)
    without.task(name="pay")(lambda: None)

    Limiter(without.runtime, without.runtime.need_backend("a test"), without.tasks).look_seldom()

    assert held(app) == (0, 0)
    assert counts(app) == {"ready": count - 1, "leased": 1}
    assert not list(app.runtime.need_backend("a test").walk("line:"))
    app.close()
    without.close()


def test_worker_without_concurrency_limits_asks_for_them_once_a_minute() -> None:
    """What it reads every two seconds costs money on some engines, and does not tell about limits."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    app.task(name="pay")(lambda: None)
    worker = Worker(app)
    backend = app.runtime.need_backend("a test")
    wrote = []

    for _ in range(80):
        worker._watchdog._look()
        wrote.append(bool(backend.get([f"{UPKEEP}-removed"])))
        backend.delete([f"{UPKEEP}-removed"])
        clock.advance(1.0)

    assert UPKEEP not in worker._standing()
    assert [second for second, one in enumerate(wrote) if one] == [0, 65]
    app.close()


def test_upkeep_leaves_the_lines_of_other_apps_alone() -> None:
    """Another app on the same backend may have its messages on another broker."""
    clock = VirtualClock()
    one, other = make_app(clock=clock), make_app(clock=clock)
    one.task(name="pay", limits=[Concurrency(1, name="crm")])(lambda: None)
    other.task(name="else", limits=[Concurrency(1, name="db")])(lambda: None)
    one.send_many([one.tasks["pay"].s() for _ in range(3)])
    backend = one.runtime.need_backend("a test")
    runs = Worker(one)._prepared(one.runtime.broker.receive(["default"], limit=5, wait=0, lease=30))
    Limiter(one.runtime, backend, one.tasks).apply(runs)
    clock.advance(31)

    Limiter(other.runtime, backend, other.tasks).upkeep()
    assert held(one) == (0, 2)
    Limiter(one.runtime, backend, one.tasks).upkeep()

    assert held(one) == (1, 1)
    one.close()
    other.close()


@pytest.mark.parametrize(("name", "warnings"), [("crm", 1), ("db", 0)], ids=["shared", "other"])
def test_worker_warns_of_another_broker_whose_messages_wait_for_its_limits(
    caplog: pytest.LogCaptureFixture, name: str, warnings: int
) -> None:
    """Neither can hand a slot to a message of the other, which waits until its long lease ends."""
    one, other = make_app(), make_app()
    one.task(name="pay", limits=[Concurrency(1, name="crm")])(print)
    other.task(name="pay", limits=[Concurrency(1, name=name)])(print)
    backend = one.runtime.need_backend("a test")
    mine, theirs = (Limiter(app.runtime, backend, app.tasks) for app in (one, other))

    theirs.look_after(None)
    for _ in range(2):
        mine.look_after(backend.get([UPKEEP])[UPKEEP])
        theirs.look_after(backend.get([UPKEEP])[UPKEEP])
        mine.look_after(Record(key=UPKEEP, body=b"[" * 9_999))

    texts = [record.getMessage() for record in caplog.records if record.name == "queuekit.worker"]
    assert len(texts) == warnings
    assert all("keep the limit crm in one result backend" in text for text in texts)
    one.close()
    other.close()


def test_refuses_a_backend_that_cannot_list(app: Queuekit) -> None:
    """Nobody would find the slots of those that died."""
    import attrs

    app.task(name="pay", limits=[Concurrency(1)])(lambda: None)
    backend = app.runtime.need_backend("a test")
    backend.capabilities = attrs.evolve(backend.capabilities, scan=False)

    with pytest.raises(CapabilityError, match="needs a result backend that can list its records"):
        require(app.runtime, app.tasks)


def test_send_many_of_limited_messages_costs_what_others_cost() -> None:
    """Keys are computed where the call is, and nothing is asked."""
    app = flaky_app()
    free = app.task(name="free", ignore_result=True)(lambda _tenant: None)
    pay = app.task(name="pay", limits=[Concurrency(1), Rate("1/s")], ignore_result=True)(lambda _tenant: None)
    calls = list[list[str]]()
    for task in (free, pay):
        wires = [broker_of(app).wire.calls, backend_of(app).wire.calls]
        for wire in wires:
            wire.clear()
        app.send_many([task.s("a") for _ in range(3_000)])
        calls.append([call for wire in wires for call in wire])

    assert calls[0] == calls[1]
    app.close()


def test_eager_calls_have_no_limits() -> None:
    """They run one after another."""
    app = make_app(eager=True)
    task = app.task(name="pay", limits=[Concurrency(1)])(lambda: 7)

    assert [result.get() for result in app.send_many([task.s(), task.s()])] == [7, 7]
    app.close()


def test_both_kinds_of_limits_of_a_task_need_no_names() -> None:
    """A task may have a rate and a concurrency limit, and a message needs both."""
    app = make_app()
    begun = list[int]()
    task = app.task(name="pay", limits=[Concurrency(2), Rate("1/h", burst=3)])(begun.append)
    app.send_many([task.s(number) for number in range(5)])

    burst(app)

    assert len(begun) == 3
    assert counts(app) == {"delayed": 2}
    assert held(app, "pay.concurrency") == (0, 0)
    app.close()


def test_costs_two_round_trips_a_batch_and_one_when_it_ends() -> None:
    """Limits read and write once for a batch that runs, and write once when it is settled."""
    app = flaky_app()
    task = app.task(name="pay", limits=[Concurrency(100)], ignore_result=True)(lambda: None)
    app.send_many([task.s() for _ in range(4)])
    wire = backend_of(app).wire
    worker = Worker(app)
    runs = worker._prepared(app.runtime.broker.receive(["default"], limit=9, wait=0, lease=30))
    limiter = worker._limiter
    assert limiter is not None
    wire.calls.clear()

    begin, late = limiter.apply(runs)
    claimed = list(wire.calls)
    limiter.settled([worker._executor.call(run) for run in begin])

    assert (len(begin), late, claimed) == (4, [], ["get", "put"])
    assert wire.calls[2:] == ["put"]
    app.close()


@pytest.mark.parametrize(("waits", "names"), [(True, ["crm"]), (False, ["db", "crm"])], ids=["slot", "otherwise"])
def test_message_that_comes_back_for_its_slot_has_no_other(*, waits: bool, names: list[str]) -> None:
    """So other limits of the app cost nothing. What comes back otherwise may have one; no record says it has not."""
    app = flaky_app()
    task = app.task(name="pay", limits=[Concurrency(1, name="crm")], ignore_result=True)(lambda: None)
    app.task(name="other", limits=[Concurrency(1, name="db")])(print)
    app.send_many([task.s() for _ in range(2)])
    worker = Worker(app)
    limiter = worker._limiter
    assert limiter is not None
    (first,), _ = limiter.apply(worker._prepared(take(app, 2 if waits else 1)))
    limiter.settled([worker._executor.call(first)])
    if not waits:
        app.runtime.broker.settle([Release(one) for one in take(app)])

    (second,), _ = limiter.apply(worker._prepared(take(app)))
    limiter.settled([worker._executor.call(second)])

    assert second.delivery.number == 2
    assert [place.name for place in second.slots] == names
    assert [record.key for record in backend_of(app).walk("slots:db")] == []
    app.close()


def test_refuses_a_broker_that_ties_leases_to_a_connection(app: Queuekit) -> None:
    """Nobody else could end the lease of a message that waits."""
    import attrs

    app.task(name="pay", limits=[Concurrency(1)])(lambda: None)
    broker = app.runtime.broker
    broker.capabilities = attrs.evolve(broker.capabilities, portable_leases=False)

    with pytest.raises(CapabilityError, match="pay asks for Concurrency, which needs leases that any process can end"):
        require(app.runtime, app.tasks)
