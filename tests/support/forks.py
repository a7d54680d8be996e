"""Processes that fork at a bad moment."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["status_of_a_fork_beside"]


def status_of_a_fork_beside(lock: AbstractContextManager[Any], work: Callable[[], object]) -> int:
    """Return the wait status of a child that does *work* in 20 seconds, forked while another thread holds *lock*."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)

    child = os.fork()
    if child == 0:
        signal.alarm(20)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    over.set()
    holder.join(60)
    return status
