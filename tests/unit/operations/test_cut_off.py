"""What pause, stack and kill say of a worker that is cut off from its engines, and what it does once it is back."""

import threading
import time
from collections.abc import Iterator

import pytest

from queuekit import Queuekit, State
from queuekit.cli.pauses import of_workers
from queuekit.cli.stack import no_answer
from queuekit.operations.admin import Admin
from queuekit.operations.kills import kill
from queuekit.operations.pauses import pause, until_obeyed
from queuekit.operations.stacks import ask_stack
from support.waiting import PATIENCE, wait_until
from support.working import backend_of, broker_of, flaky_app, working

CALLS = {"commit", "delete", "extend", "get", "put", "receive", "scan", "settle"}


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return the app of the worker, whose wires a test can cut."""
    made = flaky_app()
    yield made
    made.close()


@pytest.fixture
def operator(app: Queuekit) -> Iterator[Queuekit]:
    """Return the app of an operator on the same engines, with wires of its own."""
    made = Queuekit(broker=app.config.broker, backend=app.config.backend, plugins={"load": ["support.flaky"]})
    yield made
    made.close()


def test_nobody_says_that_it_obeyed(app: Queuekit, operator: Queuekit) -> None:
    """Each command names it and says what is not known; what was asked is done when the worker is back."""
    entered, gate = threading.Event(), threading.Event()

    def body() -> None:
        entered.set()
        gate.wait(PATIENCE)

    app.task(name="body")(body)
    admin = Admin(operator)
    with working(app) as worker:
        sent = app.tasks["body"].send()
        assert entered.wait(PATIENCE)
        worker._watchdog.report()
        wait_until(lambda: [run.id for one in admin.fleet() for run in one.runs] == [sent.id], "its report")
        broker_of(app).wire.cut |= CALLS
        backend_of(app).wire.cut |= CALLS

        made = pause(admin, queue="default", by="ann")
        found = until_obeyed(admin, paused=[made], patience=0.5, sleep=time.sleep)
        report = ask_stack(operator.runtime, sent.id, patience=0.5)
        unanswered = no_answer(admin, sent.id, 0.5)
        killed = kill(admin, sent.id, by="ann", patience=0.5)

        broker_of(app).wire.cut.clear()
        backend_of(app).wire.cut.clear()
        back = until_obeyed(admin, paused=[made], patience=PATIENCE, sleep=time.sleep)
        gate.set()
        wait_until(lambda: operator.result(sent.id).state is State.CANCELLED, "its end")
    assert of_workers(found).startswith(f"obeyed by 0 of 1 workers; not yet by {worker.name} (last seen ")
    assert report is None
    assert f"{worker.name} has reported to run {sent.id} and has not answered within 0.5 s" in unanswered
    assert (killed.cancellation and killed.cancellation.did, killed.info.state) == ("", State.PENDING)
    assert of_workers(back) == "obeyed by the one worker that it affects"
