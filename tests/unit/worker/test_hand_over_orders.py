"""Slots that workers hand over: a search over the orders in which their threads, and those of others, take steps."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from queuekit.backend import Condition, Record
from queuekit.broker import Delivery, Lease, Release
from queuekit.clock import VirtualClock
from queuekit.execution.executor import Executor
from queuekit.execution.limiter import UPKEEP, Limiter
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.slot_turns import SlotTurns
from queuekit.limiting.slot_store import Slots
from queuekit.limiting.slots import SlotKey, SlotState
from queuekit.limits import Concurrency
from queuekit.worker.hand_over import HandOver
from support.interleaving import Interleaving, Stepping
from support.working import executor_of, make_app

LEASE, COUNT = 30.0, 12
SECONDS = 0.0025
"""What a body takes on average, so that four may have a slot together."""


SEEDS = (*range(8), 16, 23)
"""What the everyday run plays; in the last ones happens what is rare."""
OCCURS = (
    "shared",
    "taken over from another",
    "handed back",
    "let go",
    "lost",
    "died",
    "died while it handed over",
)


class Killed(BaseException):
    """The process is gone."""


class Search:
    """Three processes that run messages with a limit, in an order that *seed* gives.

    Args:
        seed: Also gives the number of calls after which the first process dies.
        most: Slots.
    """

    def __init__(self, seed: int, most: int) -> None:
        self.app = make_app(clock=VirtualClock(), worker={"lease": LEASE})
        self.clock: Any = self.app.clock
        self._begun = self.clock.time()
        pay = self.app.task(name="pay", limits=[Concurrency(most, name="crm")], ignore_result=True)(print)
        self.app.send_many([pay.s()] * COUNT)
        self.place = SlotKey("crm", "", Concurrency(most))
        self.chance, self.turns = random.Random(seed), Interleaving(seed)
        self.running, self.ended, self.most = set[tuple["Process", str]](), Counter[str](), 0
        self.seen, self.twice = Counter[str](), set[str]()
        """What happened how often, and what may run twice, since its process died before it was settled."""
        self.processes = [Process(self, steps=20 + seed % 97), Process(self), Process(self)]
        self.turns.run([thread for one in self.processes for thread in (one.fetch, one.work, one.work)])

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        left = self.app.runtime.broker.counts(["default"])["default"]
        return not left.ready + left.delayed + left.leased and not self.at_work

    @property
    def at_work(self) -> bool:
        """Whether a process has something to do."""
        return any(one.at_work for one in self.processes)

    @property
    def seconds(self) -> float:
        """How long it took; time passes only while nobody is at work."""
        return float(self.clock.time() - self._begun)

    def enter(self, process: "Process", id: str) -> None:
        """Begin a body."""
        self.running.add((process, id))
        self.most = max(self.most, len(self.running))

    def leave(self, process: "Process", id: str) -> None:
        """End a body."""
        self.running.discard((process, id))

    def state(self) -> SlotState:
        """Return what the record of the limit says."""
        slots = Slots(self.app.runtime.need_backend("a test"), self.app.runtime.broker, lease=LEASE)
        return slots.read([self.place], self.clock.time())[self.place]


class Process:
    """A worker of a search: a thread fetches, two run and settle; it dies after *steps* calls of an engine."""

    def __init__(self, search: Search, *, steps: int = 100_000) -> None:
        self._search, self._left, self._dead = search, steps, False
        self._own = set[str]()
        of_app = search.app.runtime
        engines: list[Any] = [Mortal(Stepping(one, search.turns), self) for one in (of_app.broker, of_app.backend)]
        runtime = attrs.evolve(of_app, broker=engines[0], backend=engines[1])
        self._broker, self._backend = engines
        self._limiter = Limiter(runtime, self._backend, search.app.tasks)
        self._hand_over = Observed(search, self._own, runtime, self._limiter, self, seconds_of=lambda _: SECONDS)
        self._executor: Executor = executor_of(search.app)
        self._serials = itertools.count(1)
        self._ready, self._unsettled, self._busy, self._settles = list[Run](), list[Outcome](), 0, False
        self._ended = set[str]()
        """Ids of messages whose bodies have ended, but which are not settled."""

    @property
    def at_work(self) -> bool:
        """Whether it has something to do."""
        return not self._dead and bool(self._busy or self._ready or self._unsettled or self._settles)

    def use_engine(self) -> None:
        """Live for another call."""
        self._left -= 1
        if self._left < 0 and not self._dead:
            self._dead = True
            self._search.seen["died while it handed over"] += self._hand_over.waiting > 0
            self._search.seen["died"] += 1
            self._search.twice |= self._ended
            for process, id in list(self._search.running):
                if process is self:
                    self._search.leave(self, id)
        if self._dead:
            raise Killed

    # -- threads

    def fetch(self) -> None:
        """Fetch messages, and look after those that wait, until nothing is left to do."""
        self._live(self._fetch)

    def work(self) -> None:
        """Run and settle messages until nothing is left to do."""
        self._live(self._work)

    def _live(self, step: Callable[[], None]) -> None:
        try:
            while not self._dead and not self._search.over:
                step()
        except Killed:
            pass

    def _fetch(self) -> None:
        search = self._search
        batch = self._broker.receive(["default"], limit=3, wait=0, lease=LEASE)
        if batch:
            self._own |= {one.token for one in batch}
            self._busy += 1
            self._admit(batch)
            self._busy -= 1
        elif not search.at_work:  # only time can help
            search.clock.advance(LEASE / 8)
            self._limiter.upkeep()
        else:
            search.clock.advance(0.001)  # it writes when it has been, so no two leave the same record
            if (
                search.chance.random() < 0.2
                and self._backend.put([Record(key=UPKEEP, ttl=5.0)], condition=Condition.ABSENT)[0]
            ):
                self._extend()

    def _extend(self) -> None:
        """Extend the leases of those who wait, long before it is time."""
        if self._backend.put([Record(key=UPKEEP, ttl=5.0)], condition=Condition.ABSENT)[0]:
            self._busy += 1
            self._limiter._slots.extend(self._search.place, self._search.clock.time())
            self._backend.delete([UPKEEP])
            self._busy -= 1

    def _admit(self, batch: list[Delivery]) -> None:
        runs = [one for one in self.prepare_all(batch) if isinstance(one, Run)]
        begin, late = self._limiter.apply(runs)
        self._unsettled += late
        self.dispatch(self._kept(begin))

    def _work(self) -> None:
        if self._ready and (not self._unsettled or self._settles or self._search.chance.random() < 0.5):
            self._run(self._ready.pop(0))
        elif self._unsettled and not self._settles:
            self._settle()
        else:
            self._search.turns.step()

    def _run(self, run: Run) -> None:
        search, id = self._search, run.message.id
        if run.decided:
            return
        self._busy += 1
        run.started = search.clock.monotonic()
        search.enter(self, id)
        self._step()
        if search.chance.random() < 0.2:  # as if it took long
            self._hand_over.look(search.clock.monotonic() + 1)
            self._step()
        search.leave(self, id)
        if run.claim():
            search.ended[id] += 1
            self._ended.add(id)
            self._deliver(self._executor.decide.returned(run, None))
        self._busy -= 1

    def _step(self) -> None:
        self._search.turns.step()
        self.use_engine()

    def _deliver(self, outcome: Outcome) -> None:
        self._unsettled.append(outcome)
        self._hand_over.ended(outcome)

    def _settle(self) -> None:
        self._settles, batch, self._unsettled = True, self._unsettled, []
        self._broker.settle([one.settlement for one in batch])
        self._ended -= {one.delivery.id for one in batch}
        self._hand_over.settled(batch)
        self._settles = False

    # -- as a worker does for what hands slots over

    def prepare_all(self, deliveries: list[Delivery]) -> list[Run | Outcome]:
        """Return a run for each delivery."""
        marks = self._backend.get([key for one in deliveries for key in self._executor.keys(one)] or ["none"])
        found = [self._executor.prepare(one, marks) for one in deliveries]
        for one in found:
            if isinstance(one, Run):
                one.serial, one.suspect = next(self._serials), False
        return found

    def may_take(self, run: Run) -> bool:
        """Refuse a few, as if their task were paused."""
        return self._search.chance.random() < 0.95

    def take_on(self, runs: list[Run]) -> list[Run]:
        """Hold the leases of most runs, as if there were no room for some."""
        return self._kept(runs, most=0.9)

    def _kept(self, runs: list[Run], *, most: float = 1.0) -> list[Run]:
        kept = [run for run in runs if self._search.chance.random() < most]
        for run in runs:
            if run not in kept:
                self._search.seen["let go"] += 1
                release = Release(run.delivery)
                self._unsettled.append(Outcome(delivery=run.delivery, settlement=release, status="returned"))
        return kept

    def dispatch(self, runs: list[Run]) -> None:
        """Let *runs* begin."""
        self._ready += runs

    def hand_back(self, runs: list[Run]) -> None:
        """Release *runs*."""
        self._search.seen["handed back"] += len(runs)
        self._unsettled += [self._executor.decide.handed_back(run) for run in runs if run.claim()]


class Observed(HandOver):
    """Counts what it does."""

    def __init__(self, search: Search, own: set[str], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._search, self._own = search, own

    def begin(self, place: SlotKey, runs: list[Run]) -> None:
        """Run messages that have a slot together."""
        self._search.seen["shared"] += len(runs) > 1
        self._search.seen["taken over from another"] += any(run.delivery.token not in self._own for run in runs)
        super().begin(place, runs)

    def take_over(self, runs: Sequence[Run]) -> list[Lease]:
        """Make the leases of *runs* short."""
        lost = super().take_over(runs)
        self._search.seen["lost"] += len(lost)
        return lost


class Mortal:
    """An engine whose calls end with their process."""

    def __init__(self, engine: Any, process: Process) -> None:
        self._engine, self._process = engine, process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            answer = found(*args, **options)
            self._process.use_engine()
            return answer

        return call

    def find(self, *args: Any) -> Any:
        """Find messages: as a method, since its class must have one."""
        return self.__getattr__("find")(*args)


def searched(seed: int, most: int) -> Counter[str]:
    """Look into the orders of one seed, and return what happened how often."""
    search = Search(seed, most)
    state = search.state()
    search.clock.advance(2 * LEASE)
    later = search.state()
    search.app.close()

    assert len(search.ended) == COUNT
    assert search.most <= most
    assert all(times == 1 + (id in search.twice) for id, times in search.ended.items() if times > 1)
    assert (state.waiting, later.in_use) == (0, 0)
    assert search.seconds <= 6 * LEASE
    return search.seen


def test_no_order_exceeds_a_limit_or_forgets_a_message() -> None:
    """Nor does the death of a process at any of its steps; and all that may happen does."""
    seen = Counter[str]()
    for seed in SEEDS:
        seen += searched(seed, 1) + searched(seed, 2)

    assert {name for name in OCCURS if not seen[name]} == set()


@pytest.mark.torture
@pytest.mark.parametrize("most", [1, 2])
def test_no_other_order_does(most: int) -> None:
    """Nor does any of many more."""
    for seed in range(24, 800):
        searched(seed, most)


def let_any_run_go_on(self: SlotTurns[Run], run: Run | None) -> Run | None:
    """Let the next run begin whichever has ended."""
    self.current = None
    return AFTER(self, None)


def start_all(self: HandOver, place: SlotKey, runs: list[Run]) -> None:
    """Run also what the worker has let go."""
    hold = self._worker.take_on
    self._worker.take_on = lambda runs: [*hold(runs), *runs]  # type: ignore[method-assign]
    BEGIN(self, place, runs)
    self._worker.take_on = hold  # type: ignore[method-assign]


AFTER, BEGIN = SlotTurns[Run].after, HandOver.begin
DEFECTS: dict[str, tuple[type, str, Any]] = {
    "two at a time": (SlotTurns, "after", let_any_run_go_on),
    "leases stay long": (HandOver, "take_over", lambda _self, _runs: []),
    "what was let go runs": (HandOver, "begin", start_all),
    "a later delivery shares": (SlotState, "give_up", lambda _self, _id, _claim: None),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_search_finds_defects(monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    """Within a few dozen orders."""
    owner, name, wrong = DEFECTS[defect]
    monkeypatch.setattr(owner, name, wrong)

    with pytest.raises(AssertionError):
        Counter(searched(seed, 1).total() for seed in range(60))
