"""Run ``queuekit`` as ``python -m queuekit_dev.attended``: as a program of a developer, which ends with its parent.

Its standard input is a pipe that the parent holds open and never writes to. So it ends too where the parent is killed.
"""

from __future__ import annotations

import os
import signal
import threading

from queuekit.cli import main

__all__: list[str] = []


def _end_with_parent() -> None:
    """Send this process SIGTERM once its standard input ends, and give it an empty one meanwhile."""
    held = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)

    def wait() -> None:
        while os.read(held, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="queuekit-parent", daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    main()
