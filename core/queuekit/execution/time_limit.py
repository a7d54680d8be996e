"""Limit code in a thread: raise an exception there, which arrives when the thread next runs Python code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from queuekit.control import Interruption, TaskTimeout

__all__ = ["Guard", "surely"]

_Late = TypeVar("_Late", bound=BaseException | None)


class Guard:
    """Raises exceptions in a thread; other threads call :meth:`fire`.

    Args:
        thread: Identifier of the guarded thread; default: the current one.
    """

    def __init__(self, thread: int | None = None) -> None:
        self._thread = threading.get_ident() if thread is None else thread
        self._lock = threading.Lock()
        self._open = True
        self.fired = 0
        """How many times :meth:`fire` raised an exception."""
        self.again = 0.0
        """Monotonic time before which callers do not fire again; they set and read it."""

    def fire(self, kind: type[Interruption] = TaskTimeout) -> bool:
        """Raise *kind* in the guarded thread, unless the guard is closed; call it again if the code swallowed it.

        Returns:
            Whether it was raised.
        """
        import ctypes

        with self._lock:
            if self._open:
                self.fired += 1
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(kind))
            return self._open

    def close(self) -> BaseException | None:
        """Stop guarding; return the exception if it arrives only now. Never raises, and no exception arrives later."""
        late: BaseException | None = None
        while True:
            try:
                with self._lock:
                    self._open = False
                _let_it_arrive()
            except Interruption as error:
                late = error
            else:
                return late


def surely(close: Callable[[], BaseException | None], late: _Late) -> BaseException | _Late:
    """Call *close* until it returns: an exception may still arrive while it is being called.

    Returns:
        The result of *close*, or else the last exception that arrived, starting with *late*.
    """
    last: BaseException | _Late = late
    while True:
        try:
            return close() or last
        except Interruption as error:
            last = error


def _let_it_arrive() -> None:
    """Run a few bytecodes: Python raises an exception set by another thread between them."""
    for _ in range(100):
        pass
