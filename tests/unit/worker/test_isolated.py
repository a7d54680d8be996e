"""What a process for bodies does with the orders of its worker; the processes themselves are in tests/integration."""

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
