"""What a worker does with the context that a body sees."""

import threading

import pytest

from queuekit import Context, Signature
from queuekit.execution.run_context import RunContext
from support.waiting import PATIENCE


def make() -> RunContext:
    """Return a context."""
    return RunContext(id="id-1", task="shop.mail", queue="q")


def test_a_body_sees_the_public_class() -> None:
    """A task that logs the type of its context names the class that the reference describes."""
    assert [type(make()).__name__, type(make()).__qualname__] == ["Context", "Context"]
    assert isinstance(make(), Context)


def test_tells_when_it_is_cancelled() -> None:
    """A task looks at ``cancelled``; telling it twice is telling it once."""
    context = make()
    before = context.cancelled

    context.cancel()
    context.cancel()

    assert (before, context.cancelled) == (False, True)


def test_what_interrupts_a_body_comes_first() -> None:
    """Whoever looks meanwhile waits, and whatever fails there, the body is told."""
    context, order = make(), list[str]()

    def interrupt() -> None:
        reader.start()
        reader.join(0.05)
        order.append("interrupted")
        raise RuntimeError("the loop is closed")

    reader = threading.Thread(target=lambda: order.append(f"sees {context.cancelled}"), daemon=True)
    with pytest.raises(RuntimeError, match="closed"):
        context.cancel(interrupt)
    reader.join(PATIENCE)

    assert order == ["interrupted", "sees True"]


def test_progress_goes_where_the_worker_says() -> None:
    """Done, total and message come with the id; without a worker they go nowhere."""
    context, told = make(), list[tuple[object, ...]]()
    context.progress(1)

    context.report_to(lambda *values: told.append(values))
    context.progress(3, 10, "a third")

    assert told == [("id-1", 3, 10, "a third")]


def test_a_plain_call_has_no_signature() -> None:
    """Where nothing was sent there is none; otherwise it is made when asked for."""
    context, call = make(), Signature[int]("shop.mail")
    before = context.signature

    context.made_of(lambda *parts: parts[0], call, 1)

    assert (before, context.signature) == (None, call)
