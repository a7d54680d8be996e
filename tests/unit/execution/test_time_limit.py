"""The time limit of a thread: its exception arrives inside the guarded code or not at all."""

import ctypes
import sys
import threading

import pytest

from queuekit.control import Interruption, TaskTimeout
from queuekit.execution.time_limit import Guard, surely
from queuekit_testing.kit import eventually, in_thread
from support.waiting import PATIENCE


def spin(guard: Guard, rounds: int = 10**9) -> str:
    """Run Python code until the guard's exception arrives."""
    try:
        for _ in range(rounds):
            pass
    except TaskTimeout:
        guard.close()
        return "stopped"
    return "came to its end"


def test_stops_code_that_runs() -> None:
    """The exception is raised in the thread that made the guard, while that runs Python code."""
    made: list[Guard] = []
    ready = threading.Event()

    def work() -> str:
        made.append(Guard())
        ready.set()
        return spin(made[0])

    result = in_thread(work)
    ready.wait(PATIENCE)
    made[0].fire()

    assert result.result(PATIENCE) == "stopped"


def test_does_nothing_after_it_is_closed() -> None:
    """Code that is through is not disturbed by a limit that comes too late."""
    guard = Guard()
    late = guard.close()

    guard.fire()

    assert (late, guard.fired, spin(guard, 1000)) == (None, False, "came to its end")


def test_a_limit_that_falls_on_the_end_arrives_in_close() -> None:
    """It was fired and is raised only now: closing returns it, and what comes after is not hit."""
    made: list[Guard] = []
    go = threading.Event()

    def work() -> tuple[BaseException | None, str]:
        made.append(Guard())
        go.wait(PATIENCE)
        return made[0].close(), spin(made[0], 1000)

    result = in_thread(work)
    guard = eventually(lambda: made)[0]
    raise_in, release = ctypes.pythonapi.PyThreadState_SetAsyncExc, guard._lock.release
    thread, error = ctypes.c_ulong(guard._thread), ctypes.py_object(TaskTimeout)
    guard._lock.acquire()
    go.set()
    eventually(lambda: sys._current_frames()[guard._thread].f_code.co_name == "close")
    raise_in(thread, error)
    release()

    late, after = result.result(PATIENCE)
    assert isinstance(late, TaskTimeout)
    assert after == "came to its end"


def test_reaches_code_that_has_swallowed_it() -> None:
    """Fired again it is raised again."""
    guard = Guard()

    with pytest.raises(TaskTimeout):
        fire(guard)
    with pytest.raises(TaskTimeout):
        fire(guard)

    assert (guard.close(), guard.fired, spin(guard, 1000)) == (None, 2, "came to its end")


def test_raises_what_it_is_told() -> None:
    """Other reasons to end a body have exceptions of their own."""

    class Unwanted(Interruption):
        pass

    guard = Guard()

    with pytest.raises(Unwanted):
        fire(guard, Unwanted)

    assert guard.close() is None


def fire(guard: Guard, kind: type[Interruption] = TaskTimeout) -> None:
    """Fire at this thread, and give the exception bytecodes to arrive between."""
    guard.fire(kind)
    for _ in range(10**6):
        pass


def test_a_limit_that_falls_on_the_way_into_close_does_not_leave_it() -> None:
    """The guard is closed in the end, and the last that has arrived is returned."""
    guard, arriving = Guard(), [TaskTimeout("second"), TaskTimeout("third")]

    def close() -> BaseException | None:
        if arriving:
            raise arriving.pop(0)
        return guard.close()

    last = surely(close, TaskTimeout("first"))

    assert (str(last), guard.fire()) == ("third", False)
