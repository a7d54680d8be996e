"""How a worker is woken from elsewhere, and what a fork leaves of that."""

import os
import select
import signal
from collections.abc import Callable

import pytest

from queuekit_redis.broker import RedisBroker
from queuekit_redis.waiting import Waker
from queuekit_testing.kit import eventually, in_thread
from support.forks import status_of_a_fork_beside
from support.waiting import PATIENCE


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_does_not_wait_for_a_lock_of_its_parents_threads(broker: RedisBroker) -> None:
    """A process that forks while another thread is about to sleep has a child that can use and close its broker."""

    def work() -> None:
        broker.receive(["jobs"], limit=1, wait=0.05, lease=60)
        broker.close()

    status = status_of_a_fork_beside(broker._interrupts._lock, work)

    assert status == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_wakes_nobody_in_its_parent(connect: Callable[..., RedisBroker]) -> None:
    """A child that closes its broker leaves those asleep who sleep in its parent."""
    broker = connect()
    waiting = in_thread(lambda: broker.receive(["jobs"], limit=1, wait=60, lease=60))
    eventually(lambda: broker._interrupts._waits, what="somebody sleeps")
    (waker,) = broker._interrupts._waits
    assert isinstance(waker, Waker)

    child = os.fork()
    if child == 0:
        signal.alarm(120)
        broker.close()
        os._exit(0)
    os.waitpid(child, 0)
    woken = bool(select.select([waker], [], [], 0)[0])
    broker.interrupt()

    assert not woken
    assert waiting.result(timeout=PATIENCE) == []
