"""Limited messages on their way through a worker: each starts at its own time, and is delivered twice at most."""

import heapq
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from queuekit import Queuekit, Retry, Snooze
from queuekit.broker import Delivery, Place, Release, Replace
from queuekit.client.requirements import require
from queuekit.client.sender import Sending
from queuekit.clock import VirtualClock
from queuekit.errors import CapabilityError, UnavailableError
from queuekit.execution.commit import write
from queuekit.execution.executor import Executor
from queuekit.execution.limiter import Limiter
from queuekit.execution.outcome import Run
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.limiting.rates import RESERVED
from queuekit.limits import Concurrency, Rate, arg
from queuekit.operations.limits import free_limit, set_limit
from queuekit.signature import Signature
from queuekit.worker import Worker
from support.working import backend_of, burst, counts, executor_of, flaky_app, inside, make_app, take


class Bench:
    """An app in virtual time, and a worker without threads."""

    def __init__(self, app: Queuekit, clock: VirtualClock) -> None:
        self.app, self.clock = app, clock
        self.begun: dict[str, list[float]] = {}
        """When messages began, by key."""
        self.deliveries: Counter[str] = Counter()
        self.due: list[float] = []
        """When messages come back, soonest first."""
        self._parts: tuple[Queuekit, Executor, Limiter, Any] | None = None

    def work(self, *, until: float, size: int = 500) -> None:
        """Process what is due, and move the clock from one due time to the next."""
        end = self.clock.time() + until
        while True:
            while batch := self.app.runtime.broker.receive(["default"], limit=size, wait=0, lease=30):
                self.process(batch)
            while self.due and self.due[0] <= self.clock.time():
                heapq.heappop(self.due)
            if not self.due or self.due[0] > end:
                self.clock.advance(end - self.clock.time())
                return
            self.clock.advance(self.due[0] - self.clock.time())

    def process(self, batch: list[Delivery]) -> None:
        """Do with a batch what a worker does."""
        if self._parts is None or self._parts[0] is not self.app:
            runtime = self.app.runtime
            lose = WorkflowAdvancer(runtime, Sending(runtime, self.app.tasks)).lose
            limiter = Limiter(runtime, runtime.need_backend("a test"), self.app.tasks)
            self._parts = self.app, executor_of(self.app), limiter, lose
        _, executor, limiter, lose = self._parts
        self.deliveries.update(one.id for one in batch)
        prepared = [executor.prepare(one, {}) for one in batch]
        runs = [one for one in prepared if isinstance(one, Run)]
        for number, run in enumerate(runs):
            run.serial = number
        begin, late = limiter.apply(runs)
        outcomes = [*late, *(executor.call(run) for run in begin)]
        assert not write(self.app.runtime, outcomes, lose=lose)
        limiter.settled(outcomes)
        for outcome in outcomes:
            settlement = outcome.settlement
            if isinstance(settlement, Replace):
                heapq.heappush(self.due, settlement.envelope.not_before or self.clock.time())
            elif isinstance(settlement, Release):
                heapq.heappush(self.due, self.clock.time() + settlement.delay)

    def note(self, key: str) -> None:
        """Note a start."""
        self.begun.setdefault(key, []).append(self.clock.time())


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a bench."""
    clock = VirtualClock()
    made = Bench(make_app(clock=clock), clock)
    yield made
    made.app.close()


def pay_task(bench: Bench, *limits: Rate, **options: Any) -> Any:
    """Register a task with *limits* that notes when it starts."""

    @bench.app.task(name="pay", limits=limits or [Rate("100/m", key=arg("tenant"))], ignore_result=True, **options)
    def pay(tenant: str | None) -> None:
        bench.note(str(tenant))

    return pay


def gaps(times: list[float]) -> set[float]:
    """Return the seconds between starts."""
    return {round(after - before, 3) for before, after in pairwise(times)}


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.torture)])
def test_messages_start_evenly(bench: Bench, count: int) -> None:
    """Each message waits for a time of its own: evenly spaced, delivered twice at most, and other keys unhurt."""
    pay = pay_task(bench)
    bench.app.send_many([pay.s("acme") for _ in range(count)])
    bench.app.send_many([pay.s(f"other-{number}") for number in range(20)])

    bench.work(until=count * 0.6)

    assert len(bench.begun["acme"]) == count
    assert gaps(bench.begun["acme"]) == {0.6}
    others = [times[0] for key, times in bench.begun.items() if key != "acme"]
    assert max(others) == bench.begun["acme"][0]
    assert max(bench.deliveries.values()) == 2
    assert counts(bench.app) == {}


def test_leaves_nothing_behind(bench: Bench) -> None:
    """When the last message has run, the records of 500 keys expire."""
    pay = pay_task(bench)
    bench.app.send_many([pay.s(f"t-{number % 500}") for number in range(1_000)])
    bench.work(until=10)

    bench.clock.advance(2)

    assert not list(bench.app.runtime.need_backend("a test").walk(""))


@pytest.mark.parametrize("key", [None], ids=["none"])
def test_missing_key_is_unlimited(bench: Bench, key: None) -> None:
    """Calls without a key do not share one."""
    pay = pay_task(bench, Rate("1/h", key=arg("tenant")))
    bench.app.send_many([pay.s(key) for _ in range(20)])

    bench.work(until=0)

    assert len(bench.begun["None"]) == 20


def test_all_limits_must_let_it_start(bench: Bench) -> None:
    """With two limits, the slower one decides."""
    pay = pay_task(bench, Rate("10/s", name="service"), Rate("1/m", key=arg("tenant"), name="tenant"))
    bench.app.send_many([pay.s("a"), pay.s("a"), pay.s("b")])

    bench.work(until=600)

    assert [round(time - bench.begun["a"][0], 3) for time in bench.begun["a"]] == [0.0, 60.0]
    assert round(bench.begun["b"][0] - bench.begun["a"][0], 3) == 0.2


def test_limits_in_opposite_order_do_not_block_each_other(bench: Bench) -> None:
    """Nothing waits while it keeps another limit busy."""
    one, two = Rate("1/s", name="one"), Rate("1/s", name="two")
    for name, limits in {"first": [one, two], "second": [two, one]}.items():
        bench.app.task(name=name, limits=limits)(lambda: bench.note("x"))
    bench.app.send_many([Signature(name) for name in ("first", "second") * 5])

    bench.work(until=60)

    assert len(bench.begun["x"]) == 10
    assert gaps(bench.begun["x"]) == {1.0}


def test_sender_need_not_know_the_task(bench: Bench) -> None:
    """A call by name has the key that the worker computes."""
    pay_task(bench, Rate("1/m", key=arg("tenant")))
    sender = Queuekit(broker=bench.app.config.broker, clock=bench.clock)
    sender.send_many([Signature("pay", ["a"])] * 2)

    bench.work(until=61)
    sender.close()

    assert gaps(bench.begun["a"]) == {60.0}


def test_key_is_computed_at_the_send(bench: Bench) -> None:
    """What the message carries counts, whatever the worker would compute."""
    pay = pay_task(bench)
    pay.send("acme")

    (stored,) = inside(bench.app, Place.READY)

    assert b'"lim":{"pay":"acme"}' in stored.envelope.body


def test_limit_that_left_the_code_limits_nothing(bench: Bench) -> None:
    """Messages that wait for their turn run then, and later ones at once."""
    pay = pay_task(bench, Rate("1/m"))
    before = bench.app
    before.send_many([pay.s("a") for _ in range(3)])
    bench.work(until=0)
    without = make_app(broker=before.config.broker, clock=bench.clock)
    without.task(name="pay", ignore_result=True)(bench.note)
    bench.app = without
    without.send_many([pay.s("a") for _ in range(5)])

    bench.work(until=120)
    before.close()

    assert [round(time - bench.begun["a"][0]) for time in bench.begun["a"]] == [0, 0, 0, 0, 0, 0, 60, 120]


def test_retry_needs_a_new_start(bench: Bench) -> None:
    """Each attempt counts for the limit."""
    tries = []

    @bench.app.task(limits=[Rate("1/m")], retries=3)
    def pay() -> None:
        tries.append(bench.clock.time())
        if len(tries) < 3:
            raise Retry(after=1)

    pay.send()
    bench.work(until=600)

    assert gaps(tries) == {60.0}


def test_snoozed_message_needs_a_new_start(bench: Bench) -> None:
    """A message that had its turn and was put off counts again."""
    begun: list[float] = []

    @bench.app.task(limits=[Rate("1/m")])
    def poll(number: int) -> None:
        begun.append(bench.clock.time())
        if len(begun) < 6:
            raise Snooze(1)

    bench.app.send_many([poll.s(1), poll.s(2)])
    bench.work(until=3600)

    assert len(begun) == 7
    assert min(gaps(begun)) >= 59.9


def test_messages_of_a_worker_that_died_exceed_no_limit(bench: Bench) -> None:
    """Those that it had fetched may not have begun, so each waits for a start; they are suspects as before."""
    pay = pay_task(bench, Rate("1/m"))
    bench.app.send_many([pay.s("a") for _ in range(5)])
    take(bench.app, 5)
    bench.clock.advance(31)
    bench.work(until=0)
    waiting = inside(bench.app, Place.DELAYED)
    bench.work(until=600)

    assert [stored.crashes for stored in waiting] == [1] * 4
    assert (len(bench.begun["a"]), gaps(bench.begun["a"])) == (5, {60.0})
    assert max(bench.deliveries.values()) == 2


def test_waiting_counts_as_neither_attempt_nor_crash(bench: Bench) -> None:
    """A message that waits for its turn is as it was."""
    pay = pay_task(bench, Rate("1/m"))
    bench.app.send_many([pay.s("a"), pay.s("a")])
    bench.work(until=0)

    (stored,) = inside(bench.app, Place.DELAYED)

    assert (stored.envelope.attempt, stored.envelope.generation, stored.crashes) == (0, 0, 0)
    assert stored.envelope.hop > RESERVED


def test_busy_service_slows_all_workers_down(bench: Bench) -> None:
    """No message of that key starts before the retry, whether it has its turn or not; other keys go on."""
    answers = iter([True])

    @bench.app.task(name="call", limits=[Rate("1/s", key=arg("api"), name="stripe")], retries=3)
    def call(api: str) -> None:
        if api == "a" and next(answers, False):
            raise Retry(after=30, limit="stripe")
        bench.note(api)

    bench.app.send_many([call.s("a") for _ in range(4)] + [call.s("b")])
    start = bench.clock.time()
    bench.work(until=600)

    assert bench.begun["b"] == [start]
    assert len(bench.begun["a"]) == 4
    assert bench.begun["a"][0] >= start + 30
    assert min(gaps(bench.begun["a"])) >= 0.999
    assert max(bench.deliveries.values()) <= 3


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("strpie", "no task declares the limit 'strpie'; did you mean 'stripe'?"),
        ("slots", "'slots' is a concurrency limit, and only a rate can be slowed down"),
        ("stripe", ""),
        ("another", ""),
    ],
)
def test_a_limit_that_cannot_be_slowed_down_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture, name: str, why: str
) -> None:
    """What no task declares may be the rate of a block."""

    @bench.app.task(name="call", limits=[Rate("9/s", name="stripe"), Concurrency(3, name="slots")], retries=1)
    def call() -> None:
        raise Retry(after=1, limit=name)

    bench.app.send_many([call.s(), call.s()])
    bench.work(until=60)

    said = [record.getMessage() for record in caplog.records if "slows nothing down" in record.getMessage()]
    assert said == ([f"Retry(limit=...) in call slows nothing down: {why}"] if why else [])


@pytest.mark.parametrize("away", [60, 3_600], ids=["some", "all"])
def test_messages_that_missed_their_turns_do_not_start_together(bench: Bench, away: float) -> None:
    """After a time without workers, starts are spaced as before; those that still have their turn keep it."""
    pay = pay_task(bench, Rate("1/s"))
    bench.app.send_many([pay.s("a") for _ in range(100)])
    bench.work(until=0)

    bench.clock.advance(away)
    bench.due.clear()
    bench.work(until=200)

    assert len(bench.begun["a"]) == 100
    assert max(sum(0 <= later - time < 60 for later in bench.begun["a"]) for time in bench.begun["a"]) <= 71
    assert max(bench.deliveries.values()) <= 3


def test_numbers_can_be_changed_while_workers_run(bench: Bench) -> None:
    """What an operator sets counts from the next batch on, until it is the numbers of the code again."""
    pay = pay_task(bench, Rate("1/h", name="stripe"))
    set_limit(bench.app, "stripe", "1/10s")
    bench.app.send_many([pay.s("a") for _ in range(3)])

    bench.work(until=60)

    assert gaps(bench.begun["a"]) == {10.0}


def test_operator_can_free_a_key(bench: Bench) -> None:
    """The next message starts at once."""
    pay = pay_task(bench, Rate("1/h", name="stripe", key=arg("tenant")))
    pay.send("a")
    bench.work(until=0)

    assert free_limit(bench.app, "stripe", "a")
    pay.send("a")
    bench.work(until=0)

    assert len(bench.begun["a"]) == 2


def test_chunk_counts_once(bench: Bench) -> None:
    """A message with several lists of arguments is one start, by the key of the first."""
    pay = pay_task(bench, Rate("1/m", key=arg("tenant")))
    pay.starmap([["a"], ["a"], ["a"], ["a"]], chunk=2).send()

    bench.work(until=61)

    assert [round(time - bench.begun["a"][0]) for time in bench.begun["a"]] == [0, 0, 60, 60]


def test_follow_ups_are_limited() -> None:
    """What a task or a workflow sends counts as what a caller sends."""
    clock = VirtualClock()
    app = make_app(clock=clock)

    @app.task(name="pay", limits=[Rate("1/h", key=arg("tenant"))])
    def pay(tenant: str) -> str:
        return tenant

    @app.task(name="start")
    def start() -> None:
        app.send_many([pay.s("a"), pay.s("a")])

    start.send()
    burst(app)

    assert counts(app) == {"delayed": 1}


def test_worker_costs_two_round_trips_a_batch() -> None:
    """Limits read once and write once for each batch; a task without limits costs nothing."""
    app = flaky_app()
    app.task(name="pay", limits=[Rate("1000000/s", burst=100)])(lambda tenant: tenant)
    app.task(name="free")(lambda: None)
    backend = backend_of(app)

    calls = {}
    for name, args in {"pay": ["a"], "free": []}.items():
        app.send_many([Signature(name, args, ignore_result=True) for _ in range(50)])
        worker, before = Worker(app), len(backend.wire.calls)
        worker.admit(take(app, 50))
        calls[name] = backend.wire.calls[before:]
        worker._threads.take_waiting()
    app.close()

    assert calls == {"pay": ["get", "get", "put"], "free": ["get"]}


def test_worker_without_limits_has_no_limiter() -> None:
    """Where no task has limits, nothing is asked of any message."""
    app = make_app()
    app.task(name="free")(lambda: None)

    assert Worker(app)._limiter is None
    app.close()


def test_backend_that_is_away_puts_messages_back() -> None:
    """What cannot be decided now is decided later."""
    app = flaky_app()
    task = app.task(name="pay", limits=[Rate("1/s")])(lambda: None)
    task.send()
    worker = Worker(app)
    backend_of(app).wire.answers["put"] = _raise

    with pytest.raises(UnavailableError):
        worker.admit(take(app))

    outcome = worker._settler._inbox.get_nowait()
    assert outcome is not None
    assert outcome.status == "returned"
    app.close()


def _raise() -> None:
    raise UnavailableError("no answer")


def test_needs_a_backend() -> None:
    """Without a backend no worker starts, and says why."""
    app = make_app(backend="none")
    app.task(name="pay", limits=[Rate("1/s")])(lambda: None)

    with pytest.raises(CapabilityError, match="pay asks for limits, which need a result backend"):
        require(app.runtime, app.tasks)
    app.close()


def test_shared_limit_has_one_set_of_numbers() -> None:
    """Two tasks that share a limit must agree about it."""
    app = make_app()
    app.task(name="a", limits=[Rate("1/s", name="stripe")])(lambda: None)
    app.task(name="b", limits=[Rate("2/s", name="stripe")])(lambda: None)

    with pytest.raises(CapabilityError, match="b and a give different numbers for the limit stripe"):
        require(app.runtime, app.tasks)
    app.close()
