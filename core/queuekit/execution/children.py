"""Children that a task's body forks: they handle signals as usual, end with their parent, and settle nothing.

A forked child is a copy of the worker in the middle of a body. Without precautions it would act as a worker: store an
outcome, take the next message, ignore SIGTERM. So a worker process calls :func:`guard_children`. Code that runs a body
compares ``forks.generation`` before and after; if it differs, this process is a child and must :func:`leave`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = [
    "STOPS",
    "die_with_parent",
    "end_processes",
    "forks",
    "guard_children",
    "leave",
    "listen",
    "restore",
    "stop_signals",
]

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals by which service managers and terminals stop a program, often with its whole group."""

_PR_SET_PDEATHSIG = 1
"""Source: ``man 2 prctl``. Linux only."""
_OURS = "queuekit"
"""Prefix of the names of a worker's own threads."""


class _Forks:
    """The state that a fork changes."""

    generation = 0
    """Number of forks between the process that first imported this module and the current one."""
    guarded = False
    """Whether children that this process forks must end with it."""
    handlers: dict[int, Any] = {}  # noqa: RUF012 - a singleton
    """Signal handlers of the worker."""
    prctl: Callable[..., int] | None = None


forks = _Forks()


def listen(number: int, handler: Callable[..., object]) -> Any:
    """Handle a signal in this process, but not in children that it forks; return the previous handler.

    To ignore a signal, pass a handler that does nothing: programs that are started inherit ``SIG_IGN``.
    """
    before = signal.signal(number, handler)
    forks.handlers[number] = handler
    return before


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return those of :data:`STOPS` that this program heeds: ``nohup`` lets it outlive a closed terminal."""
    return STOPS[:-1] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else STOPS


def restore(number: int, handler: Any) -> None:
    """Undo :func:`listen`."""
    signal.signal(number, handler)
    forks.handlers.pop(number, None)


def guard_children() -> None:
    """End children that bodies fork when this process ends, as far as the system supports that.

    This holds for children of the threads that run bodies. Processes that detach by a second fork survive, and so do
    programs that were started.
    """
    if forks.prctl is None and sys.platform == "linux":
        import ctypes

        forks.prctl = ctypes.CDLL(None, use_errno=True).prctl
    forks.guarded = True


def die_with_parent(parent: int) -> None:
    """Have the system kill this process when the thread of *parent* that forked it ends."""
    if forks.prctl is not None:
        forks.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)


def end_processes() -> None:
    """Kill processes that bodies started through ``multiprocessing``: Python waits for all of them at exit."""
    module = sys.modules.get("multiprocessing.process")
    for process in () if module is None else module.active_children():
        with contextlib.suppress(Exception):
            process.kill()


def leave(error: BaseException | None) -> NoReturn:
    """End a forked child after its copy of a body, with the exit code of an ordinary program."""
    code = _exit_code(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        with contextlib.suppress(Exception):
            traceback.print_exception(error)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    with contextlib.suppress(Exception):
        print(error.code, file=sys.stderr)  # noqa: T201 - as Python does
    return 1


class _Forking(threading.local):
    """What the forking thread keeps across the fork."""

    parent = 0
    mask: set[int] | None = None


_forking = _Forking()


def _before_fork() -> None:
    _forking.parent = os.getpid()
    if forks.handlers:
        # A signal that arrives before the child has reset its handlers would be lost.
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, forks.handlers)


def _unblock() -> None:
    mask, _forking.mask = _forking.mask, None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    forks.generation += 1
    for number, handler in forks.handlers.items():
        if signal.getsignal(number) == handler:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if forks.handlers:
        signal.set_wakeup_fd(-1)
    forks.handlers = {}
    if forks.guarded:
        forks.guarded = False
        if threading.current_thread().name.startswith((_OURS, "MainThread")):
            die_with_parent(_forking.parent)
    _unblock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_unblock, after_in_child=_after_fork_in_child)
