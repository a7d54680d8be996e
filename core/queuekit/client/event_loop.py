"""The event loop of a caller: the awaitable calls of queuekit need that of asyncio."""

from __future__ import annotations

import asyncio

from queuekit.errors import QueuekitError

__all__ = ["running_loop"]


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        QueuekitError: No loop of asyncio runs here, but, for example, one of trio.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise QueuekitError(
            "awaitable calls of queuekit need an event loop of asyncio, and none runs here",
            fix="With trio, call the blocking form in a thread: await trio.to_thread.run_sync(task.send, 1)",
        ) from None
