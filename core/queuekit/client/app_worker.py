"""The interface of a worker that a program runs itself; see :meth:`queuekit.app.Queuekit.worker`."""

from __future__ import annotations

from typing import Protocol

__all__ = ["AppWorker"]


class AppWorker(Protocol):
    """The worker processes of an app and their supervisor; returned by :meth:`queuekit.app.Queuekit.worker`."""

    def run(self) -> int:
        """Run until stopped, or in a burst until the queues are empty; blocks, and may be called only once.

        In the main thread, SIGTERM, SIGINT (Ctrl-C) and SIGHUP stop it as they stop ``queuekit worker``; the previous
        signal handlers are restored afterwards. In another thread, no signal handler is installed: call :meth:`stop`.

        Returns:
            Exit code: 0, 130 if it was stopped at once, or 1 if a process could not be kept running.

        Raises:
            AppError: Other processes cannot import the app, or this was called before.
            CapabilityError: An engine lives inside one process.
            UnavailableError: An engine did not answer within the time to wait at start.
        """
        ...

    def stop(self, *, at_once: bool = False) -> None:
        """Begin to stop; callable from any thread. Running tasks get ``drain`` seconds to finish, unless *at_once*."""
        ...
