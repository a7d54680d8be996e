"""The demo's workers: ``python -m queuekit.demo.workers CONFIG``, like ``queuekit worker``; they end with the demo."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from queuekit.demo.place import TARGET
from queuekit.errors import QueuekitError
from queuekit.loader import AppRef
from queuekit.logs import configure_logging
from queuekit.supervisor import Supervisor

__all__ = ["main"]

_LOG = {"log.level": "INFO", "log.format": "json"}
"""The demo reads the log to see what happens."""


def main(arguments: Sequence[str]) -> int:
    """Supervise worker processes until standard input closes, and return the exit code."""
    configure_logging(level=_LOG["log.level"], style=_LOG["log.format"])
    ref = AppRef(target=TARGET, overrides=_LOG, config_path=arguments[0])
    try:
        supervisor = Supervisor(ref.load(), ref)
        threading.Thread(target=_stop_with_parent, daemon=True).start()
        return supervisor.run()
    except QueuekitError as error:
        sys.stderr.write("\n".join([f"Error {error.code}:", *error.lines()]) + "\n")
        return error.exit_code


def _stop_with_parent() -> None:
    """Stop when standard input ends: the parent closed it, or is gone however it went."""
    # Not sys.stdin: a thread inside its buffer would hang the end of the interpreter.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
