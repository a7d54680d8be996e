"""Processes that fork at a bad moment."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from support.waiting import PATIENCE

__all__ = ["forked", "status_of_a_fork_beside"]


def forked(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the program of :mod:`support.forking` with *settings* in its environment."""
    program = Path(__file__).with_name("forking.py")
    return subprocess.run(
        [sys.executable, program],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def status_of_a_fork_beside(lock: AbstractContextManager[Any], work: Callable[[], object]) -> int:
    """Return the wait status of a child that does *work*, forked while another thread holds *lock*."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(PATIENCE)

    child = os.fork()
    if child == 0:
        signal.alarm(120)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    over.set()
    holder.join(PATIENCE)
    return status
