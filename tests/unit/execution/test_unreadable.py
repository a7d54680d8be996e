"""Messages for other workers: of a newer release, or written by a serializer that is missing here, are held."""

import json
from typing import Any

import pytest

from queuekit import Queuekit, State
from queuekit.broker import Place
from queuekit.client.sender import Sending
from queuekit.envelope import Envelope
from queuekit.events import TaskUnknown
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome
from queuekit.operations.admin import Admin
from queuekit.wire.records import cancel_mark
from support.working import burst, make_app, seen

FOLLOWED = {"args": [], "kwargs": {}, "on_success": [{"v": 2, "task": "t"}]}


def body(payload: Any = None, **changes: Any) -> bytes:
    """Return a message's bytes."""
    head = {"v": 1, "id": "id-1", "task": "t", "ct": "json", **changes}
    return json.dumps(head).encode() + b"\n" + json.dumps(payload or {}).encode()


def app_with(message: bytes, **settings: Any) -> Queuekit:
    """Return an app with a task and a message of those bytes."""
    app = make_app(**settings)
    app.task(name="t")(lambda: None)
    app.runtime.broker.send([Envelope(id="id-1", queue="default", body=message)])
    return app


OTHERS = {
    "newer": body(v=2, more=[1]),
    "newer-without-the-rest": b'{"v":7}\n\xff',
    "serializer": body(ct="msgpack"),
    "serializer-with-options": body(ct="msgpack", retries=1),
    "newer-follow-up": body(FOLLOWED, retries=1),
}
BAD = {
    "no-version": body(v=None),
    "true": body(v=True),
    "zero": body(v=0),
    "huge": body(v=10**4000),
    "text": body(v="2"),
    "no-content-type": body(ct=None),
    "odd-content-type": body(ct="\n"),
}


@pytest.mark.parametrize("message", OTHERS.values(), ids=OTHERS.keys())
def test_holds_what_another_worker_can_read(message: bytes) -> None:
    """It goes back with a delay, uncounted, and the log is told what is missing."""
    app = app_with(message)
    unknown = seen(app, TaskUnknown)
    burst(app)

    (stored,) = app.runtime.broker.peek("default", place=Place.DELAYED).items

    assert (stored.envelope.body, stored.crashes) == (message, 0)
    assert unknown[0].why


@pytest.mark.parametrize("message", OTHERS.values(), ids=OTHERS.keys())
def test_gives_up_in_the_end(message: bytes) -> None:
    """After ``hold_unknown`` it is dead with that reason, and its bytes are as they were."""
    app = app_with(message, worker={"hold_unknown": "0s"})
    burst(app)

    (letter,) = Admin(app).dead()

    assert (letter.stored.reason, letter.stored.envelope.body) == ("unknown", message)
    assert app.result("id-1").state is State.DEAD


@pytest.mark.parametrize("message", BAD.values(), ids=BAD.keys())
def test_what_nobody_can_read_is_dead_at_once(message: bytes) -> None:
    """A version or a serializer that cannot be is malformed."""
    app = app_with(message)
    burst(app)

    (letter,) = Admin(app).dead()

    assert letter.stored.reason == "malformed"


def test_can_be_cancelled_meanwhile() -> None:
    """A held message that is cancelled ends as such, though nobody here can read it."""
    app = app_with(OTHERS["newer"])
    app.runtime.need_backend("test").put([cancel_mark("id-1", ttl=60)])
    delivery = app.runtime.broker.receive(["default"], limit=1, wait=0, lease=30)[0]
    executor = Executor(app.runtime, app.tasks, Sending(app.runtime, app.tasks), worker="w")

    outcome = executor.prepare(delivery, app.runtime.need_backend("test").get(["cancel:id-1"]))

    assert isinstance(outcome, Outcome)
    assert outcome.status == "cancelled"
