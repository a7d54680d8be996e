"""A time limit on code in a thread: an exception is raised in it, which it sees when it next runs Python code."""

from __future__ import annotations

import threading

from queuekit.control import TaskTimeout

__all__ = ["Guard"]


class Guard:
    """Made in the thread that it guards; :meth:`fire` is called from another."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._open = True
        self.fired = False

    def fire(self) -> None:
        """Raise :class:`TaskTimeout` in the guarded thread, once, unless it is through."""
        import ctypes

        with self._lock:
            if self._open and not self.fired:
                self.fired = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(TaskTimeout))

    def close(self) -> BaseException | None:
        """End the guarding; return the exception if it arrives only now. Never raises, and none arrives later."""
        late: BaseException | None = None
        try:
            with self._lock:
                self._open = False
            _let_it_arrive()
        except TaskTimeout as error:
            late = error
        if self._open:
            with self._lock:
                self._open = False
        return late


def _let_it_arrive() -> None:
    """Run a few bytecodes: an exception set from another thread is raised between them."""
    for _ in range(100):
        pass
