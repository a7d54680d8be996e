"""When a suspect asks again, and how an end is told; the processes themselves are at work in tests/integration."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from queuekit.broker import Delivery
from queuekit.envelope import Envelope
from queuekit.wire.records import read_info
from queuekit.worker.app_ref import AppRef
from queuekit.worker.isolation import Isolation, _BodyProcess, _put_off
from support.working import executor_of, make_app, prepared


@pytest.mark.parametrize(
    ("number", "crashes", "seconds"), [(3, 2, 1), (6, 2, 8), (500, 2, 60)], ids=["first", "later", "longest"]
)
def test_asks_again_later_and_later(number: int, crashes: int, seconds: float) -> None:
    """By how often it was put off already."""
    delivery = Delivery(
        envelope=Envelope(id="a", queue="q", body=b""),
        token="t",  # noqa: S106 - of a lease
        number=number,
        crashes=crashes,
    )

    assert _put_off(delivery) == seconds


@pytest.mark.parametrize(
    ("closed", "status", "records"), [(True, "returned", []), (False, "failed", ["FAILURE"])], ids=["stop", "crash"]
)
def test_a_body_acknowledged_early_does_not_run_again(*, closed: bool, status: str, records: list[str]) -> None:
    """Its process ends with the worker or by itself: it runs at most once, and a crash is its failure."""
    app = make_app()
    app.task(name="t", ack="early", pool="process")(print)
    app.tasks["t"].send()
    isolation = Isolation(app.runtime, executor_of(app), ref=AppRef(target="tasks:app"), worker="w-1", always=True)
    isolation._closed = closed
    child: Any = SimpleNamespace(cancelled=False, overran=False, exit_reason=lambda: "exited with code 1")

    outcome = isolation._without_answer(child, prepared(app))

    assert (outcome.status, outcome.settlement, outcome.sends) == (status, None, ())
    assert [read_info("", record).state.value for record in outcome.records] == records
    app.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(None, "ended with its fork server", id="unknown"),
        pytest.param(3, "exited with code 3", id="code"),
        pytest.param(-signal.SIGSEGV, "killed by SIGSEGV", id="signal"),
        pytest.param(-200, "killed by signal 200", id="unknown-signal"),
    ],
)
def test_tells_in_words_how_a_body_ended(code: int | None, words: str) -> None:
    """For the dead letter's error."""
    process: Any = SimpleNamespace(code=code, pipe=None)

    assert _BodyProcess(process).exit_reason() == words
