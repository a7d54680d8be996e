"""A limit on code in a thread: an exception is raised in it, which it sees when it next runs Python code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from queuekit.control import Interruption, TaskTimeout

__all__ = ["Guard", "surely"]

_Late = TypeVar("_Late", bound=BaseException | None)


class Guard:
    """What makes a thread hear of something; :meth:`fire` is called from another.

    Args:
        thread: Identifier of the guarded thread; default: the one that makes it.
    """

    def __init__(self, thread: int | None = None) -> None:
        self._thread = threading.get_ident() if thread is None else thread
        self._lock = threading.Lock()
        self._open = True
        self.fired = 0
        """How many times :meth:`fire` has raised."""
        self.again = 0.0
        """Monotonic seconds before which whoever fires leaves the code alone; kept here for them."""

    def fire(self, kind: type[Interruption] = TaskTimeout) -> bool:
        """Raise *kind* in the guarded thread, unless it is through; call it again for code that has swallowed it.

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
        """End the guarding; return the exception if it arrives only now. Never raises, and none arrives later."""
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
    """Call *close* until it comes to its end: an exception may arrive on the way into it, after the code has ended.

    Returns:
        What it returns, or else the last that has arrived, *late* being the first.
    """
    last: BaseException | _Late = late
    while True:
        try:
            return close() or last
        except Interruption as error:
            last = error


def _let_it_arrive() -> None:
    """Run a few bytecodes: an exception set from another thread is raised between them."""
    for _ in range(100):
        pass
