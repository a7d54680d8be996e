"""``after_send``: what a middleware sees of stored messages, in whose context, and that it harms no send."""

import asyncio
import contextvars
import threading
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from queuekit import Middleware, Queuekit, Result, Signature, chain, group
from queuekit.errors import UnavailableError
from queuekit.middleware import SentMessage
from support.working import broker_of, burst, flaky_app, make_app

trace = contextvars.ContextVar("trace", default="none")


class Sent(Middleware):
    """Keeps what was sent, and in which context."""

    def __init__(self) -> None:
        self.batches: list[Sequence[SentMessage]] = []
        self.traces: list[str] = []
        self.threads: list[int] = []

    def after_send(self, sent: Sequence[SentMessage]) -> None:
        """Keep it."""
        self.batches.append(sent)
        self.traces.append(trace.get())
        self.threads.append(threading.get_ident())

    @property
    def ids(self) -> list[str]:
        """The ids of all messages."""
        return [message.id for batch in self.batches for message in batch]


class Tagger(Middleware):
    """Sets a header to the trace of the sender."""

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Set it."""
        return attrs.evolve(signature, headers={"trace": trace.get()})


@pytest.fixture
def sent() -> Sent:
    """The middleware."""
    return Sent()


@pytest.fixture(params=["plain", "eager"])
def app(request: pytest.FixtureRequest, sent: Sent) -> Queuekit:
    """An app with it, with a task."""
    made = make_app(middlewares=[sent, Tagger()], eager=request.param == "eager")
    made.task(name="t")(lambda x=0: x)
    return made


def test_sees_a_send(app: Queuekit, sent: Sent) -> None:
    """Id and call, as ``before_send`` left it."""
    result: Result[Any] = app.send(Signature("t", args=(1,)))

    ((message,),) = sent.batches
    assert (message.id, message.duplicate) == (result.id, False)
    assert (message.signature.args, message.signature.headers) == ((1,), {"trace": "none"})


def test_sees_the_ids_of_a_batch(app: Queuekit, sent: Sent) -> None:
    """One call for all that one round trip stored, in order."""
    results = app.send_many([Signature("t", args=(n,)) for n in range(7)])

    assert sent.ids == [result.id for result in results]
    assert len(sent.batches) == 1


def test_sees_each_batch_of_many(sent: Sent) -> None:
    """More than one round trip takes are as many calls."""
    app = make_app(middlewares=[sent])
    app.task(name="t")(lambda: None)

    results = app.send_many(Signature("t") for _ in range(1_001))

    assert [len(batch) for batch in sent.batches] == [500, 500, 1]
    assert sent.ids == [result.id for result in results]


def test_names_the_holder_of_a_unique_key(sent: Sent) -> None:
    """What is not stored again is told apart."""
    app = make_app(middlewares=[sent])
    app.task(name="t", unique=True)(lambda: None)

    first: Result[Any] = app.send(Signature("t"))
    app.send(Signature("t"))

    assert [(message.id, message.duplicate) for (message,) in sent.batches] == [(first.id, False), (first.id, True)]


@pytest.mark.parametrize("workflow", [group, chain], ids=["group", "chain"])
def test_sees_what_a_workflow_sends_at_its_start(sent: Sent, workflow: Any) -> None:
    """Members of a group; of a chain its first link, and not what a worker sends later."""
    app = make_app(middlewares=[sent])
    task = app.task(name="t")(lambda *_: None)

    app.send(workflow(task.s(), task.s()))
    burst(app)

    assert len(sent.ids) == (2 if workflow is group else 1)


def test_an_error_does_not_fail_the_send(caplog: pytest.LogCaptureFixture) -> None:
    """The message is stored: the caller must not send it again. The next middleware is called too."""

    class Clumsy(Middleware):
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def after_send(self, sent: Sequence[SentMessage]) -> None:
            raise self.error("slipped")

    app = make_app(middlewares=[Clumsy(RuntimeError), Clumsy(SystemExit), last := Sent()])
    app.task(name="t")(lambda: 1)

    result: Result[Any] = app.send(Signature("t"))
    burst(app)

    assert (result.get(timeout=1), last.ids) == (1, [result.id])
    assert caplog.text.count("a middleware failed after 1 messages were sent") == 2


def test_is_not_called_for_a_send_that_failed() -> None:
    """Nothing is known to be stored."""
    app = flaky_app(middlewares=[sent := Sent()], send_timeout=0.05)
    app.task(name="t")(lambda: None)
    broker_of(app).wire.cut = {"send"}

    with pytest.raises(UnavailableError):
        app.send(Signature("t"))

    assert not sent.batches


def test_stands_in_the_thread_and_context_of_a_send(app: Queuekit, sent: Sent) -> None:
    """It sees the caller's context variables."""
    trace.set("mine")

    app.send(Signature("t"))

    assert (sent.traces, sent.threads) == (["mine"], [threading.get_ident()])


@pytest.mark.parametrize("times", [1, 3])
def test_stands_in_the_context_of_an_asynchronous_send(app: Queuekit, sent: Sent, times: int) -> None:
    """In a thread of the app's, yet with the variables of the task that sends, before and after."""

    async def send(name: str) -> None:
        trace.set(name)
        await app.asend(Signature("t"))

    async def main() -> None:
        for name in "abc"[:times]:
            await asyncio.create_task(send(name))

    asyncio.run(main())
    app.close()

    assert sent.traces == list("abc"[:times])
    assert [message.signature.headers for (message,) in sent.batches] == [{"trace": name} for name in "abc"[:times]]
    assert threading.get_ident() not in sent.threads
