"""Bodies that return unfinished work instead of a result: awaitables are awaited, generators are a failure."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import Any

from queuekit.control import TaskTimeout
from queuekit.execution.time_limit import surely

__all__ = ["READY", "afinished", "finished"]

_LATER = 0.1
"""Seconds by which the loop's limit follows the thread's. It wakes a loop that sleeps past the thread's limit. If both
fired at the same time, the exception could arrive in a loop that is being closed."""
READY = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset})
"""Classes of results that are never awaitables or generators."""


def finished(value: Any, timeout: float | None) -> Any:
    """Return *value*; if it is an awaitable, await it for at most *timeout* seconds.

    Raises:
        TypeError: It is a generator, whose body has not run.
        TaskTimeout: It did not finish in time.
    """
    if not isinstance(value, Awaitable):
        return _not_lazy(value)
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _on_own_loop(value, timeout)
    # In eager mode a loop may be running in the caller's thread.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(contextvars.copy_context().run, _on_own_loop, value, timeout).result()


async def afinished(value: Any) -> Any:
    """Like :func:`finished`, on the running loop."""
    while isinstance(value, Awaitable):
        value = await value
    return _not_lazy(value)


def _on_own_loop(value: Any, timeout: float | None) -> Any:
    """Like ``asyncio.run``, but close the loop even if an interruption arrives meanwhile."""
    import asyncio

    runner = asyncio.Runner()
    try:
        return runner.run(_within(value, timeout))
    finally:
        surely(runner.close, None)


async def _within(value: Any, timeout: float | None) -> Any:
    import asyncio

    limit = asyncio.timeout(None if timeout is None else timeout + _LATER)
    try:
        async with limit:
            return await afinished(value)
    except TimeoutError:
        if not limit.expired():
            raise
        raise TaskTimeout(f"ran longer than {timeout:g} s") from None


def _not_lazy(value: Any) -> Any:
    if isinstance(value, Generator | AsyncGenerator):
        if isinstance(value, Generator):
            value.close()
        raise TypeError("returned a generator, whose body never ran; return a list instead")
    return value
