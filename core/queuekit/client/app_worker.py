"""A worker that a program runs itself, as :meth:`queuekit.app.Queuekit.worker` returns it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["AppWorker"]


class AppWorker(Protocol):
    """The worker processes of an app, and what looks after them; made by :meth:`queuekit.app.Queuekit.worker`."""

    def run(self) -> int:
        """Work until told to stop, or in a burst until the queues are empty; blocks, and may be called once.

        In the main thread SIGTERM and SIGINT (Ctrl-C) stop it as they stop ``queuekit worker``, and afterwards do what
        they did before. In another thread no signal is touched: :meth:`stop` it.

        Returns:
            An exit code: 0, or 130 if it was told to stop at once, or 1 if a process cannot be kept running.

        Raises:
            AppError: Other processes cannot import the app, or it was called before.
            CapabilityError: An engine lives inside one process.
            UnavailableError: An engine cannot be reached, and the time to wait for that is over.
        """
        ...

    def stop(self, *, at_once: bool = False) -> None:
        """Begin to stop, from any thread: running tasks may finish, for the time ``drain``, unless *at_once*."""
        ...
