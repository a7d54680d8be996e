"""The server that forks processes for bodies, as its worker sees it."""

from queuekit.worker.app_ref import AppRef
from queuekit.worker.forkserver import ForkServer, Plan
from support.waiting import PATIENCE


def server() -> ForkServer:
    """Return a server for the app of the fault tests, not started."""
    plan = Plan(ref=AppRef(target="support.fault_tasks:app"), worker="w-1", modules=(), idle=None)
    return ForkServer(plan)


def test_may_be_started_before_it_is_needed() -> None:
    """It imports the app meanwhile; started twice it is one, and it is the one that forks."""
    made = server()

    made.start()
    process = made._process
    made.start()
    forked = made.fork()

    assert made._process is process
    assert process is not None
    made.close()
    assert not forked.alive(patience=PATIENCE)
    forked.close()


def test_does_not_start_once_it_is_closed() -> None:
    """A worker that ends may still hear that suspects will come."""
    made = server()

    made.close()
    made.start()

    assert made._process is None


def test_is_started_when_it_is_needed_first() -> None:
    """Most workers never need it."""
    made = server()
    before = made._process

    forked = made.fork()

    assert (before, made._process is None, forked.alive()) == (None, False, True)
    made.close()
    forked.close()
