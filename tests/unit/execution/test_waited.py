"""How long a message has waited when its task starts: since it was due, not since it was sent."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from queuekit import Signature
from queuekit.broker import Delivery
from queuekit.client.codec import Message
from queuekit.client.sender import Sending
from queuekit.envelope import Envelope
from queuekit.events import TaskStarted
from queuekit.execution.due_time import due_moment
from support.calls import AT_HAND, ENGINES, calls_on, each_engine
from support.working import burst, make_app, refused, seen


def claimed(envelope: Envelope, *, at: float) -> Delivery:
    """Return a delivery of what was sent at 100."""
    return Delivery(envelope=envelope, token="1", number=1, sent_at=100.0, claimed_at=at)  # noqa: S106 - no password


def moment(*, delay: float | None = None, **fields: Any) -> float | None:
    """Return when a message that was sent at 100 was due."""
    envelope = Envelope(id="a", queue="q", body=b"", **fields)
    return due_moment(
        claimed(envelope, at=900.0), Message(id="a", task="t", args=[], kwargs={}, headers={}, delay=delay)
    )


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        pytest.param({}, 100.0, id="at-once"),
        pytest.param({"delay": 60.0}, 160.0, id="delayed"),
        pytest.param({"not_before": 200.0}, 200.0, id="eta"),
        pytest.param({"delay": 60.0, "not_before": 200.0}, 200.0, id="the-later"),
        pytest.param({"delay": 60.0, "attempt": 1, "not_before": 300.0}, 300.0, id="retry"),
        pytest.param({"delay": 60.0, "attempt": 1}, None, id="retry-without-a-clock"),
        pytest.param({"delay": 60.0, "hop": 1, "not_before": 160.0}, 160.0, id="delayed-again"),
        pytest.param({"delay": 60.0, "hop": 1}, 100.0, id="put-off"),
    ],
)
def test_a_message_is_due_when_its_last_delay_ends(fields: dict[str, Any], due: float | None) -> None:
    """Nothing that was asked for counts as waiting."""
    assert moment(**fields) == due


@pytest.mark.parametrize("engine", each_engine(()))
def test_a_delay_does_not_count_as_waiting(engine: str, tmp_path: Path) -> None:
    """On every engine, for a delay and for a moment."""
    delay = 0.5 if engine in AT_HAND else 4.0  # some services tell the time in whole seconds
    calls = calls_on(ENGINES[engine](tmp_path))
    started = seen(calls.app, TaskStarted)
    sent = calls.app.runtime.now()
    calls.echo.options(delay=delay).send("delay")
    calls.echo.options(eta=datetime.fromtimestamp(sent + delay, UTC)).send("eta")

    while len(started) < 2:
        burst(calls.app)
    over = calls.app.runtime.now()
    calls.app.close()

    for event in started:
        assert event.waited is not None
        assert event.waited <= over - sent - delay / 2


def test_an_unknown_task_is_held_from_the_moment_it_is_due() -> None:
    """A delay longer than ``hold_unknown`` does not make it dead at once."""
    app = make_app(worker={"hold_unknown": 60})
    envelope = Sending(app.runtime, app.tasks).prepare(Signature("nope", delay=7200)).envelope

    soon, late = (refused(app, claimed(envelope, at=7300.0 + after)) for after in (1.0, 61.0))

    assert (soon.status, late.status) == ("held", "dead")
