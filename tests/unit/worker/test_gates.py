"""Gates hold back all messages of a worker while they are closed, fail or do not answer."""

import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.events import GateChanged, WorkerStopping
from queuekit.operations.admin import Admin
from queuekit.tasks.callables import DeclarationError
from queuekit.worker.gates import _FIRST, Gates
from support.waiting import PATIENCE, wait_until
from support.working import burst, counts, make_app, seen, working


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app."""
    made = make_app()
    yield made
    made.close()


class Told:
    """Gates, and the reasons that they gave."""

    def __init__(self, *gates: Any) -> None:
        self.now = 0.0
        self.reasons: list[str] = []
        self.gates = Gates(gates, clock=lambda: self.now, change=self.reasons.append)


def test_says_why_only_when_it_changes() -> None:
    """The first closed gate is the reason."""
    answers = {"one": True, "two": False}

    def one() -> bool:
        return answers["one"]

    def two() -> bool:
        return answers["two"]

    told = Told(one, two)
    told.gates.ask()
    told.gates.ask()
    answers.update(one=False)
    told.gates.ask()
    answers.update(one=True, two=True)
    told.gates.ask()

    place = "test_says_why_only_when_it_changes.<locals>"
    assert told.reasons == [f"the gate {place}.two is closed", f"the gate {place}.one is closed", ""]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_an_error_is_a_closed_gate(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises; the first is logged in full, and the end tells how many there were."""
    answers: list[Any] = [error, error, error, True]

    class Gate:
        def __call__(self) -> bool:
            answer = answers.pop(0)
            if answer is True:
                return True
            raise answer

    told = Told(Gate())
    with caplog.at_level(logging.INFO, logger="queuekit.worker"):
        for _ in range(4):
            told.gates.ask()

    assert told.reasons == [f"the gate Gate raised {type(error).__name__}", ""]
    assert [record.getMessage() for record in caplog.records] == [
        "the gate Gate failed, so messages are held back",
        "the gate Gate answers again after 3 failures",
    ]
    assert caplog.records[0].exc_info


def test_one_that_does_not_answer_is_closed() -> None:
    """After five seconds; when it answers at last, that counts."""
    asked, go = threading.Event(), threading.Event()

    def slow() -> bool:
        asked.set()
        return go.wait(PATIENCE)

    told = Told(slow)
    thread = threading.Thread(target=told.gates.ask)
    thread.start()
    assert asked.wait(PATIENCE)
    assert (told.gates.check(), told.reasons) == ("", [])
    told.now = 5.0
    assert told.gates.check() == ""
    go.set()
    thread.join(PATIENCE)

    assert [reason[-29:] for reason in told.reasons] == ["slow has not answered for 5 s", ""]


def test_what_is_found_last_is_told_last() -> None:
    """A gate answers at the moment at which it counts as silent, and two threads find that."""
    told, entered, go = Told(lambda: True), threading.Event(), threading.Event()

    def note(why: str) -> None:
        if "not answered" in why:
            entered.set()
            go.wait(0.2)
        told.reasons.append(why)

    told.gates._change = note
    told.gates._asked, told.now = ("slow", 0.0), 60.0
    silent = threading.Thread(target=told.gates.check)
    silent.start()
    assert entered.wait(PATIENCE)
    told.gates.ask()
    go.set()
    silent.join(PATIENCE)

    assert told.reasons == ["the gate slow has not answered for 5 s", ""]


def test_a_worker_takes_nothing_while_its_gate_is_closed(app: Queuekit) -> None:
    """It reports that, and starts what waits when the gate opens."""
    is_open = threading.Event()
    changed = seen(app, GateChanged)
    app.task(name="t")(lambda: "ran")
    result = app.tasks["t"].send()

    @app.gate
    def ready() -> bool:
        return is_open.is_set()

    with working(app):
        admin = Admin(app)
        wait_until(lambda: [one for one in admin.fleet() if one.gate.endswith("ready is closed")], "the report")
        assert counts(app) == {"ready": 1}
        is_open.set()
        assert result.get(timeout=PATIENCE) == "ran"
        wait_until(lambda: changed[-1].why == "", "the event, which follows the change")

    assert ready() is True


def test_a_burst_with_a_closed_gate_ends(app: Queuekit) -> None:
    """And leaves all messages where they are."""
    app.task(name="t")(print)
    app.tasks["t"].send()
    app.gate(lambda: False)
    stopping = seen(app, WorkerStopping)

    assert burst(app).stats == {}
    assert counts(app) == {"ready": 1}
    assert ["gate" in event.reason for event in stopping] == [True]


def test_a_burst_waits_for_the_first_answer(app: Queuekit) -> None:
    """Longer than a worker does, which goes on without it: a burst would end, and leave its messages."""
    asked = threading.Event()
    app.task(name="t")(lambda: None)
    app.tasks["t"].send()

    @app.gate
    def ready() -> bool:
        if not asked.is_set():
            asked.set()
            threading.Event().wait(_FIRST + 0.2)
        return True

    assert burst(app).stats == {"done": 1}
    assert ready() is True


def test_a_stop_waits_for_no_answer() -> None:
    """A gate may hang for good."""
    go = threading.Event()
    told = Told(lambda: go.wait(PATIENCE))
    starting = threading.Thread(target=partial(told.gates.start, burst=True))
    starting.start()
    wait_until(lambda: told.gates._asked is not None, "the question")
    told.gates.stop()
    starting.join(PATIENCE)
    go.set()
    told.gates.thread.join(PATIENCE)

    assert not starting.is_alive()


async def later() -> bool:
    """Return true."""
    return True


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        (True, "True is not a function"),
        (later, "does not return its answer when called"),
        (lambda name: name, "is called without arguments: missing a required argument: 'name'"),
    ],
    ids=["no-function", "coroutine", "argument"],
)
def test_refuses_what_cannot_answer(app: Queuekit, gate: Any, text: str) -> None:
    """Where it is written."""
    with pytest.raises(DeclarationError, match=text):
        app.gate(gate)
