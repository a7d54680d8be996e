"""The stack of a body that runs, in whatever it runs, and what is said where there is none."""

import pytest

from queuekit.operations.stacks import ask_stack
from queuekit.wire.stacks import StackReport
from support.fault_tasks import ahold, hog, hold
from support.fleet import Fleet, freeze
from support.waiting import PATIENCE, wait_until

HOG = "ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))"


def report_of(fleet: Fleet, id: str) -> StackReport:
    """Return the answer of whoever runs a message."""
    report = ask_stack(fleet.app.runtime, id, patience=PATIENCE)
    assert report is not None, fleet.logs()
    return report


@pytest.mark.parametrize(
    ("pool", "kinds"),
    [
        pytest.param("thread", ["thread", "coroutine"], id="thread"),
        pytest.param("process", ["process", "process"], id="process", marks=pytest.mark.full),
    ],
)
def test_shows_where_a_body_is(fleet: Fleet, pool: str, kinds: list[str]) -> None:
    """From its own first line on: of a plain function, and of a coroutine that waits."""
    fleet.start_ready(concurrency=2, pool=pool)
    sent = [task.send(str(fleet.gate())) for task in (hold, ahold)]
    fleet.reached("begin", 2)

    reports = [report_of(fleet, each.id) for each in sent]

    assert [each.kind for each in reports] == kinds
    assert [each.task for each in reports] == [hold.name, ahold.name]
    assert [each.frames[0].function for each in reports] == ["hold", "ahold"]
    assert all(each.frames[0].code for each in reports)
    fleet.gate().touch()


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_shows_a_body_that_holds_the_interpreter(fleet: Fleet, pool: str) -> None:
    """No thread of its process can answer: its supervisor does, or its worker, from a signal handler."""
    fleet.start_ready(concurrency=2, pool=pool)
    result = hog.send(3 * PATIENCE)
    fleet.reached("begin", 1)

    # It has written that it begins one line before.
    report = wait_until(lambda: (found := report_of(fleet, result.id)).frames[0].code == HOG and found, what=HOG)

    assert report.kind == pool


def test_says_that_a_process_is_stopped(fleet: Fleet) -> None:
    """Its supervisor answers for it. Where all is frozen nobody does, and no request is left behind."""
    group = fleet.start_ready(concurrency=1)
    result = hold.send(str(fleet.gate()))
    fleet.reached("begin", 1)
    freeze(group.workers()[0])

    report = report_of(fleet, result.id)
    freeze(group.pid)
    nobody = ask_stack(fleet.app.runtime, result.id, patience=0.3)

    assert (report.frames, report.note) == ((), "its worker process is stopped by a signal, as SIGSTOP does")
    assert nobody is None
    assert not fleet.app.runtime.need_backend("a test").get([f"ask:{result.id}"])
