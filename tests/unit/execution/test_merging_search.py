"""A search over interleavings and crashes of senders and workers whose calls share a unique key.

Each call of an engine is a step; a seed decides whose step is next, and who dies at which of its steps.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Signature, UniqueKey
from queuekit.backend import Backend
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sending
from queuekit.clock import VirtualClock
from queuekit.control import Retry
from queuekit.execution.commit import write
from queuekit.execution.executor import Executor
from queuekit.execution.merging import Merger
from queuekit.execution.outcome import Run
from queuekit.execution.workflow_advance import WorkflowAdvancer
from support.interleaving import Interleaving
from support.working import flaky_app, make_app

SEEDS = (19, 7)
"""What the everyday run plays; with the first one, an early version lost calls."""
MANY = range(100, 200)
LEASE = 5.0
LATEST = UniqueKey(key="k", on_conflict="latest")
DEBOUNCE = UniqueKey(key="k", on_conflict="debounce", quiet=2, max_wait=5)


class Killed(BaseException):
    """The process is gone."""


@attrs.define
class Life:
    """The life of one process: it steps, and dies at a step."""

    step: Callable[[], None]
    left: int
    """Steps until it dies."""

    def pass_by(self) -> None:
        """Take a step."""
        self.step()
        self.left -= 1
        if self.left < 0:
            raise Killed


class SteppingClock(VirtualClock):
    """A virtual clock on which a sleep is a step."""

    search: Interleaving

    def sleep(self, seconds: float) -> None:
        """Let others go on for a while."""
        self.search.step()


class Through:
    """An engine whose calls are steps: one before the call and one after it."""

    def __init__(self, engine: Any, life: Life) -> None:
        self._engine, self._life = engine, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if not callable(found) or name in {"now", "close"}:
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._life.pass_by()
            answer = found(*args, **options)
            self._life.pass_by()
            return answer

        return call


class Scene:
    """Senders and workers on one app; what they did, by the order of steps."""

    def __init__(self, unique: UniqueKey, seed: int, *, shared: bool) -> None:
        self.chance = random.Random(seed)
        self.clock = SteppingClock(1_800_000_000)
        self.app: Queuekit = (make_app if shared else flaky_app)(clock=self.clock)
        self.unique = unique
        self.clock.search = self.search = Interleaving(seed)
        self.moments = 0
        self.inside, self.busy, self.most, self.kills = 0, 0, 0, 0
        self.sends: dict[int, tuple[int, int]] = {}
        """Of each send that has returned: when it began and when it returned."""
        self.runs: list[tuple[int, int]] = []
        """Each start of a body: when, and with which call's argument."""
        self.tries: Counter[int] = Counter()
        self.alive: Life | None = None
        self.app.task(name="work", unique=unique, retries=3)(self.work)

    def moment(self) -> int:
        """Return a number that grows."""
        self.moments += 1
        return self.moments

    def work(self, n: int) -> None:
        """Note the run; fail now and then, and take a few steps."""
        self.runs.append((self.moment(), n))
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            for _ in range(2):
                self.search.step()
            self.tries[n] += 1
            if n % 3 == 0 and self.tries[n] == 1:
                raise Retry(after=1.0)
        finally:
            self.inside -= 1

    def life(self, *, mortal: bool) -> Life:
        """Return the life of another process."""
        dies = mortal and self.chance.random() < 0.5
        self.kills += dies
        return Life(self.search.step, self.chance.randrange(1, 60) if dies else 1_000_000)

    def runtime(self, life: Life) -> Runtime:
        """Return the parts of the app, as a process uses them."""
        base = self.app.runtime
        broker: Any = Through(base.broker, life)
        backend: Any = Through(base.backend, life)
        return attrs.evolve(base, broker=broker, backend=backend)

    def sender(self, numbers: range, life: Life) -> Callable[[], None]:
        """Return a process that sends a call for each number."""

        def send() -> None:
            sending = Sending(self.runtime(life), self.app.tasks)
            try:
                for n in numbers:
                    begun = self.moment()
                    sending.send_one(Signature[Any]("work", (n,)))
                    self.sends[n] = (begun, self.moment())
            except Killed:
                pass

        return send

    def worker(self, life: Life, until: Callable[[], bool]) -> Callable[[], None]:
        """Return a process that works until *until*, or its death."""

        def run() -> None:
            try:
                runtime = self.runtime(life)
                sending = Sending(runtime, self.app.tasks)
                executor = Executor(runtime, self.app.tasks, sending, worker="w")
                merger = Merger(runtime, now=sending.now, again=lambda one: executor.prepare(one, {}))
                flow = WorkflowAdvancer(runtime, sending)
                while not until():
                    self._turn(runtime, executor, merger, flow)
            except Killed:
                self.busy = max(0, self.busy - 1)

        return run

    def _turn(self, runtime: Runtime, executor: Executor, merger: Merger, flow: WorkflowAdvancer) -> None:
        self.busy += 1
        for delivery in runtime.broker.receive(["default"], limit=1, wait=0, lease=LEASE):
            backend = runtime.backend
            assert backend is not None
            prepared = merger.one(executor.prepare(delivery, backend.get(executor.keys(delivery))))
            outcome = executor.call(prepared) if isinstance(prepared, Run) else prepared
            flow.expand([outcome])
            write(runtime, [outcome], lose=flow.lose)
            self.busy -= 1
            return
        self.busy -= 1
        if not self.busy:  # else time could end the lease of a process that is well
            self.clock.advance(0.5)
        self.search.step()

    @property
    def backend(self) -> Backend:
        """The backend, without steps."""
        return self.app.runtime.need_backend("a test")

    def is_empty(self) -> bool:
        """Return whether the broker has no message."""
        counts = self.app.runtime.broker.counts(["default"]).get("default")
        return counts is None or not (counts.ready or counts.delayed or counts.leased)

    def leftovers(self) -> list[str]:
        """Return the keys of the records that are left of unique keys."""
        prefixes = ("merge:", "taken:", "ended:")
        return [record.key for record in self.backend.walk("") if record.key.startswith(prefixes)]

    def play(self, *, mortal: bool) -> None:
        """Let two senders and two workers work at the same time, and a last worker to the end."""
        done = [0]
        senders = [self.sender(range(k, 12, 2), self.life(mortal=mortal)) for k in range(2)]

        def counted(body: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                body()
                done[0] += 1

            return run

        workers = [self.worker(self.life(mortal=mortal), lambda: done[0] == 2) for _ in range(2)]
        self.search.run([*map(counted, senders), *workers])
        self.busy = 0
        last = Life(lambda: None, 1_000_000)
        turns = [0]

        def ended() -> bool:
            turns[0] += 1
            assert turns[0] < 500, "messages are left"
            return self.is_empty()

        self.worker(last, ended)()

    def unserved(self) -> list[int]:
        """Return the calls whose sends have returned, and after whose begin nothing ran with them or with newer ones.

        A call is newer unless its send had returned before the other one began.
        """
        lost = []
        for n, (begun, _) in self.sends.items():
            old = {other for other, (_, back) in self.sends.items() if back < begun}
            if not any(at > begun and ran not in old for at, ran in self.runs):
                lost.append(n)
        return lost


def played(unique: UniqueKey, seed: int, *, shared: bool, mortal: bool) -> Scene:
    """Return a scene that was played, in which no call was lost and no two messages of a ``latest`` key ran at once."""
    scene = Scene(unique, seed, shared=shared)
    try:
        scene.play(mortal=mortal)
    finally:
        scene.app.close()
    assert scene.unserved() == [], seed
    assert scene.most == 1 or unique is DEBOUNCE, seed
    return scene


CASES = [
    pytest.param(unique, shared, id=f"{unique.on_conflict}-{'shared' if shared else 'apart'}")
    for unique in (LATEST, DEBOUNCE)
    for shared in (True, False)
]


@pytest.mark.parametrize(("unique", "shared"), CASES)
def test_the_newest_arguments_run_and_nothing_is_left(unique: UniqueKey, *, shared: bool) -> None:
    """In no order of steps is a call lost, do two messages of a ``latest`` key run at once, or records stay behind."""
    for seed in SEEDS:
        scene = played(unique, seed, shared=shared, mortal=False)

        assert scene.leftovers() == [], seed


@pytest.mark.parametrize(("unique", "shared"), CASES)
def test_a_crash_at_any_step_loses_nothing(unique: UniqueKey, *, shared: bool) -> None:
    """Whoever dies, at whichever step: what a send has returned for runs, and one message at a time."""
    for seed in SEEDS:
        played(unique, seed, shared=shared, mortal=True)


@pytest.mark.full
@pytest.mark.parametrize("mortal", [False, True])
@pytest.mark.parametrize(("unique", "shared"), CASES)
def test_many_orders_of_steps(unique: UniqueKey, *, shared: bool, mortal: bool) -> None:
    """The same, in many more orders."""
    for seed in MANY:
        scene = played(unique, seed, shared=shared, mortal=mortal)

        assert mortal or scene.leftovers() == [], seed
