"""How a supervisor replaces its processes one after the other; real ones are at work in tests/integration."""

import time
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

from queuekit import Queuekit
from queuekit.events import WorkerCrashed, WorkerRecycled
from queuekit.worker.app_ref import AppRef
from queuekit.worker.lease_table import LeaseTable
from queuekit.worker.protocol import Drains, Recycle, Serves, Start, Stop
from queuekit.worker.run_table import RunTable
from queuekit.worker.supervisor import Supervisor, _Child
from support.working import make_app, seen

BOUND = 100.0
"""Seconds, all processes' bound."""
OLD = 1_000.0
"""Seconds, beyond that."""


class Process:
    """A process that ends when it is told to."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code = 0

    def wait(self) -> int:
        """Return its exit code."""
        return self.code


class Processes(Supervisor):
    """A supervisor whose processes a test speaks for."""

    def __init__(self, app: Queuekit, *, burst: bool = False) -> None:
        super().__init__(app, AppRef(target="tasks:app"), burst=burst)
        self.ends: dict[str, Any] = {}
        """The other end of the pipe of each process, by its name."""

    def _make(self, number: int) -> _Child:
        here, there = Pipe()
        name = f"w-{len(self.ends) + 1}"
        self.ends[name] = there
        answers: Any = SimpleNamespace(close=lambda: True, look=lambda *_: None, doomed="")
        process: Any = Process(len(self.ends))
        child = _Child(number, process, here, RunTable(2), LeaseTable(), None, answers, time.monotonic(), name=name)
        child.ready = True
        return child

    @property
    def names(self) -> dict[int, str]:
        """The names of the living processes, by number."""
        return {number: child.name for number, child in sorted(self._children.items())}

    def orders(self, name: str) -> list[object]:
        """Return what a process was told since its start."""
        end, told = self.ends[name], []
        while end.poll():
            told.append(end.recv())
        return [order for order in told if not isinstance(order, Start)]

    def says(self, name: str, word: object) -> None:
        """Have a process say something."""
        self.ends[name].send(word)
        self._hear(self._named(name))

    def ended(self, name: str, code: int = 0) -> None:
        """Let a process end."""
        child: Any = self._named(name)
        child.process.code = code
        self._handle_exit(child)
        for helper in self._helpers:
            helper.join()

    def _named(self, name: str) -> _Child:
        return next(child for child in self._children.values() if child.name == name)


def two_old(*, burst: bool = False, **settings: Any) -> Processes:
    """Return a supervisor of two processes, both beyond their bound."""
    app = make_app(worker={"processes": 2, "max_age": BOUND, "drain": 30, **settings})
    processes = Processes(app, burst=burst)
    for number in range(2):
        processes._start(number)
        processes._children[number].started -= OLD + number
    return processes


def test_replaces_one_after_the_other() -> None:
    """The old one goes on until its replacement takes messages; the next one's turn comes when it has ended."""
    processes = two_old()
    recycled = seen(processes.app, WorkerRecycled)

    processes._recycle(time.monotonic())
    processes._recycle(time.monotonic())
    assert (processes.names, processes.orders("w-2")) == ({0: "w-1", 1: "w-2", 3: "w-3"}, [])
    processes.says("w-3", Serves())
    assert (processes.names, processes.orders("w-2")) == ({0: "w-1", 1: "w-3", 3: "w-2"}, [Recycle("age")])
    processes._recycle(time.monotonic())
    assert 2 not in processes.names
    processes.ended("w-2")
    processes._recycle(time.monotonic())

    assert processes.names == {0: "w-1", 1: "w-3", 2: "w-4"}
    assert processes._restarts == {}
    assert [(event.worker, event.replacement, event.reason) for event in recycled] == [("w-2", "w-3", "age")]


def test_one_that_does_not_end_holds_up_no_other() -> None:
    """After the time of a stop the next is replaced; in its own place, nobody is before it has ended."""
    processes = two_old()
    processes._recycle(time.monotonic())
    processes.says("w-3", Serves())
    processes._children[1].started -= OLD

    processes._recycle(time.monotonic() + 31)
    processes.says("w-4", Serves())
    processes._recycle(time.monotonic() + 62)

    assert processes.names == {0: "w-4", 1: "w-3", 2: "w-1", 3: "w-2"}


def test_a_replacement_that_cannot_start_costs_nothing_but_a_try() -> None:
    """The old one goes on, and it is tried again after a growing pause, however often that fails."""
    processes = two_old()
    crashes = seen(processes.app, WorkerCrashed)

    processes._recycle(time.monotonic())
    for number in range(3, 10):
        processes.ended(f"w-{number}", code=3)
        processes._restarts[3] = (0.0, processes._restarts[3][1])
        processes._start_again()

    assert processes.names == {0: "w-1", 1: "w-2", 3: "w-10"}
    assert processes.orders("w-2") == []
    assert {event.name for event in crashes} == {"the replacement of w-2"}
    assert processes._code == 0


def test_a_process_that_died_meanwhile_is_replaced_as_usual() -> None:
    """Its replacement has nobody to replace, and ends."""
    processes = two_old()
    processes._recycle(time.monotonic())
    processes.ended("w-2", code=-9)
    processes._start_again()
    assert processes.names == {0: "w-1", 1: "w-4", 3: "w-3"}

    processes.says("w-3", Serves())
    told = processes.orders("w-3")
    processes.ended("w-3")

    assert [type(order) for order in told] == [Stop]
    assert (processes.names, processes._restarts) == ({0: "w-1", 1: "w-4"}, {})


def test_no_other_follows_a_process_that_an_operator_drains() -> None:
    """Not even the replacement that has begun to start."""
    processes = two_old()
    processes._recycle(time.monotonic())
    processes.says("w-2", Drains())

    processes.says("w-3", Serves())

    assert [type(order) for order in processes.orders("w-3")] == [Stop]
    assert processes.orders("w-2") == []


def test_the_death_of_one_that_was_replaced_starts_no_other() -> None:
    """It is told, and the process in its place goes on."""
    processes = two_old()
    crashes = seen(processes.app, WorkerCrashed)
    processes._recycle(time.monotonic())
    processes.says("w-3", Serves())

    processes.ended("w-2", code=-9)

    assert (processes.names, processes._restarts) == ({0: "w-1", 1: "w-3"}, {})
    assert [(event.name, event.again_in) for event in crashes] == [("w-2", None)]


def test_a_burst_takes_what_one_that_was_replaced_held_when_it_died() -> None:
    """Its replacement has found the queues empty, and has ended."""
    processes = two_old(burst=True)
    processes._recycle(time.monotonic())
    processes.says("w-3", Serves())
    processes.ended("w-3")
    assert (processes.names, processes._restarts) == ({0: "w-1", 3: "w-2"}, {})

    processes.ended("w-2", code=-9)
    processes._start_again()

    assert processes.names == {0: "w-1", 1: "w-4"}


def test_nobody_is_replaced_in_a_stop() -> None:
    """All of them end."""
    processes = two_old()
    processes._signals = 1

    processes._recycle(time.monotonic())

    assert processes.names == {0: "w-1", 1: "w-2"}
