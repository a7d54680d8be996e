"""The program ``queuekit``. It asks a worker for its health without importing queuekit: a probe runs every few seconds.

Anything else is a command of :mod:`queuekit.cli`.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]

_WITH_VALUE = frozenset({"-A", "--app", "--config", "--set"})
"""Options before the command that take the next argument."""
_SERVICES = frozenset({"worker", "scheduler", "dev"})
"""Commands that run until told to stop."""


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    if sys.argv[1:2] == ["health"]:
        code = _health(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    # The imports make few cycles, and looking for them as often as usual takes a twentieth of a start.
    gc.set_threshold(10_000, *gc.get_threshold()[1:])
    if _command(sys.argv[1:]) in _SERVICES:
        _end_in_peace()
    try:
        from queuekit.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(130)
    command_line()


def _command(arguments: Sequence[str]) -> str | None:
    """Return the name of the command; ``None`` if there is none."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            return word
        if word in _WITH_VALUE:
            next(words, None)
    return None


def _end_in_peace() -> None:
    """End with 0 at a signal to stop, as a service does later, until it handles signals itself: nothing has begun."""
    program = os.getpid()

    def end(number: int, _frame: object) -> None:
        if os.getpid() == program:
            os._exit(0)  # an exception might end in an import of the app, or in an ``except`` of its code
        signal.signal(number, signal.SIG_DFL)  # a process that the app has forked
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as ``nohup`` has it
        signal.signal(signal.SIGHUP, end)


def _health(arguments: list[str]) -> int | None:
    """Ask as ``queuekit health`` does; ``None`` if the arguments need the whole command line."""
    from importlib.util import find_spec, module_from_spec, spec_from_file_location

    package = find_spec("queuekit")
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        return None
    # By its path: an import of the package would take ten times the time of the question.
    spec = spec_from_file_location("queuekit_ask_health", f"{folders[0]}/worker/ask_health.py")
    if spec is None or spec.loader is None:
        return None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    code: int | None = module.quick(arguments)
    return code
