"""What a process for bodies does with the orders of its worker; the processes themselves are in tests/integration."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from queuekit.worker.isolated import CancelBody, Inbox, Interrupt
from support.working import make_app, prepared


@pytest.mark.parametrize("order", [CancelBody(1), Interrupt(1)], ids=["cancel", "interrupt"])
def test_an_order_reaches_only_the_body_that_it_means(order: CancelBody) -> None:
    """An order may arrive after its body has ended: the next body, which is innocent, goes on."""
    app = make_app()
    app.task(name="t")(print)
    app.tasks["t"].send()
    run = prepared(app)
    inbox = Inbox(current=(2, run))

    inbox.obey(order)
    spared = not run.context.cancelled
    inbox.current = None
    inbox.obey(order)
    inbox.current = (1, run)
    inbox.obey(order)

    assert (spared, run.context.cancelled) == (True, True)
    app.close()


def test_what_interrupts_a_thread_comes_before_its_context_says_so() -> None:
    """Otherwise a body that looks could return in between, and would not have timed out."""
    app = make_app()
    app.task(name="t")(print)
    app.tasks["t"].send()
    run, seen = prepared(app), list[bool | None]()
    run.guard = cast("Any", SimpleNamespace(fire=lambda: seen.append(run.context._cancelled)))

    Inbox(current=(1, run)).obey(Interrupt(1))

    assert (seen, run.context.cancelled) == ([None], True)
    app.close()


def test_a_coroutine_is_cancelled_when_its_context_says_so() -> None:
    """Both happen in one step of its loop."""
    app = make_app()
    app.task(name="t")(print)
    app.tasks["t"].send()
    run, steps, cancelled = prepared(app), list[Callable[[], None]](), list[bool]()
    loop = SimpleNamespace(call_soon_threadsafe=lambda call, *parts: steps.append(lambda: call(*parts)))
    run.coroutine = cast("Any", SimpleNamespace(get_loop=lambda: loop, cancel=lambda: cancelled.append(True)))

    Inbox(current=(1, run)).obey(Interrupt(1))
    before = run.context.cancelled
    for step in steps:
        step()

    assert (before, cancelled, run.context.cancelled, run.timed_out) == (False, [True], True, True)
    app.close()
