"""A limit on code in a thread: an exception is raised in it, which it sees when it next runs Python code."""

from __future__ import annotations

import threading

from queuekit.control import Interruption, TaskTimeout

__all__ = ["Guard"]


class Guard:
    """Made in the thread that it guards; :meth:`fire` is called from another."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._open = True
        self.fired = 0
        """How many times :meth:`fire` has raised."""
        self.again = 0.0
        """Monotonic seconds before which whoever fires leaves the code alone; kept here for them."""

    def fire(self, kind: type[Interruption] = TaskTimeout) -> None:
        """Raise *kind* in the guarded thread, unless it is through; call it again for code that has swallowed it."""
        import ctypes

        with self._lock:
            if self._open:
                self.fired += 1
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(kind))

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


def _let_it_arrive() -> None:
    """Run a few bytecodes: an exception set from another thread is raised between them."""
    for _ in range(100):
        pass
