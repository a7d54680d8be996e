"""Who finds what blocks the event loop."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from queuekit import Queuekit, Signature
from queuekit.events import LoopBlocked
from queuekit.execution.outcome import Outcome, Run
from queuekit.worker.async_pool import LoopPool
from queuekit.worker.blocked import BlockedLoop
from queuekit.worker.run_table import RunTable
from support.waiting import wait_until
from support.working import executor_of, make_app, prepared, seen


class Blocking:
    """A loop with a neighbour on it, and a body that blocks it until the end of the test."""

    def __init__(self, app: Queuekit) -> None:
        self.app = app
        self.run_table = RunTable(4)
        self.outcomes: list[Outcome] = []
        self.overdue: list[Run] = []
        self.hung: list[str] = []
        self.told = seen(app, LoopBlocked)
        self.pool = LoopPool(
            executor_of(app), size=2, run_table=self.run_table, first_row=2, deliver=self.outcomes.append
        )
        self.blocked = BlockedLoop(
            worker="w-1",
            events=app.events,
            run_table=self.run_table,
            pool=lambda: self.pool,
            on_overdue=self.note,
            on_hung=self.note_hung,
        )

    def note(self, run: Run) -> str:
        """Hear of what is past its time."""
        self.overdue.append(run)
        return "overdue"

    def note_hung(self, task: str) -> str:
        """Hear of what belongs to no run."""
        self.hung.append(task)
        return "hung"

    def submit(self, task: str, serial: int) -> Run:
        """Have a call of *task* run."""
        self.app.send(Signature(task))
        run = prepared(self.app)
        run.serial = serial
        self.pool.submit([run])
        return run


GO = threading.Event()
INSIDE = threading.Event()


async def wait() -> None:
    """Wait without blocking."""
    await asyncio.Event().wait()


async def block() -> None:
    """Keep the loop from turning."""
    INSIDE.set()
    GO.wait(60)


async def block_in_a_child() -> None:
    """Start what does so."""
    await asyncio.gather(block())


@contextmanager
def blocking(
    body: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Iterator[tuple[Blocking, Run]]:
    """Yield a loop that *body* blocks, and its run."""
    monkeypatch.setattr("queuekit.worker.blocked._BLOCKED", 0.0)
    monkeypatch.setattr("queuekit.worker.blocked._GRACE", 0.0)
    for event in (GO, INSIDE):
        event.clear()
    app = make_app()
    app.task(name="neighbour", timeout=30)(wait)
    app.task(name="blocks", **options)(body)
    made = Blocking(app)
    made.submit("neighbour", 1)
    wait_until(lambda: 1 in made.run_table.entered())
    run = made.submit("blocks", 2)
    assert INSIDE.wait(60)
    try:
        yield made, run
    finally:
        GO.set()
        made.pool.stop()


@pytest.mark.parametrize("body", [block, block_in_a_child])
def test_names_what_blocks(body: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with where it is, also when it is something that a body has started; the neighbour's time stands still."""
    with blocking(body, monkeypatch) as (made, run):
        answers = [made.blocked.check() for _ in range(3)]
        limits = {serial: inside.limit for serial, inside in made.run_table.entered().items()}

    (event,) = made.told
    assert answers == ["", "", ""]
    assert (event.id, event.task, event.worker, event.waiting) == (run.message.id, "blocks", "w-1", 1)
    assert "GO.wait(60)" in event.stack
    assert "asyncio" not in event.stack
    assert limits == {1: math.inf, 2: math.inf}


def test_says_when_what_blocks_is_past_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the worker cannot go on."""
    with blocking(block, monkeypatch, timeout=0.001) as (made, run):
        wait_until(made.blocked.check)

    assert made.overdue[0] is run


def test_a_loop_that_turns_is_not_blocked() -> None:
    """It answers, and is asked again; a worker without a loop is fine."""
    app = make_app()
    app.task(name="neighbour")(wait)
    made = Blocking(app)
    made.submit("neighbour", 1)
    wait_until(made.run_table.entered)

    answers = []
    for _ in range(3):
        answers.append(made.blocked.check())
        wait_until(lambda: made.pool.asked is None)
    made.pool.stop()

    assert (answers, made.told) == (["", "", ""], [])


async def leave_behind() -> None:
    """End, and have the loop blocked by a callback afterwards."""
    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, _block_now)


def _block_now() -> None:
    INSIDE.set()
    GO.wait(60)


def test_what_a_body_has_left_behind_is_named_and_may_not_block_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no body runs, and messages wait for one to begin; after some looks the worker cannot go on."""
    with blocking(leave_behind, monkeypatch) as (made, run):
        wait_until(lambda: 2 not in made.run_table.entered())
        answers = [made.blocked.check() for _ in range(15)]

    (event,) = made.told
    assert (event.id, event.task, event.waiting) == (run.message.id, "blocks", 1)
    assert answers == [""] * 14 + ["hung"]
    assert made.hung == [f"blocks {run.message.id}"]


def test_messages_that_wait_for_a_loop_without_bodies_have_it_asked() -> None:
    """It is blocked by what no body is: somebody has to notice."""
    app = make_app()
    app.task(name="neighbour")(wait)
    made = Blocking(app)
    GO.clear()
    INSIDE.clear()
    made.pool._loop.call_soon_threadsafe(_block_now)
    assert INSIDE.wait(60)

    before = made.pool.ask(1.0), made.pool.ask(3.0)
    made.submit("neighbour", 1)
    after = made.pool.ask(5.0), made.pool.ask(7.0)
    GO.set()
    wait_until(made.run_table.entered)
    made.pool.stop()

    assert (before, after) == ((0.0, 0.0), (0.0, 2.0))
