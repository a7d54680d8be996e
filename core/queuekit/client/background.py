"""Threads for blocking calls made from an event loop; a fork starts its own."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from queuekit.backend import Backend
from queuekit.client.event_loop import running_loop
from queuekit.client.joined_sends import JoinedSends
from queuekit.client.listener import ResultListener
from queuekit.errors import UnavailableError
from queuekit.timelimit import LIMITS, time_limit

__all__ = ["Background"]

T = TypeVar("T")
_SENDERS, _READERS = 16, 4
"""Number of threads. Separate pools, so that sends never wait for reads or for results."""


class Background:
    """The threads of one app; each starts when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._senders: ThreadPoolExecutor | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._listener: ResultListener | None = None
        self._last_sent = 0.0
        self.joined = JoinedSends(self._submit)
        """Sends of single calls, on engines that recognize a repeated send."""

    async def send(self, function: Callable[..., T], *args: Any, within: float = math.inf) -> T:
        """Run a blocking call in the pool for sends.

        Args:
            function: Function to call.
            *args: Its arguments.
            within: Seconds for the call, from now or, if later, from the end of the last successful call: thousands may
                be queued.
        """
        loop, begun = running_loop(), time.monotonic()

        def call() -> T:
            end = max(begun, self._last_sent) + within
            if time.monotonic() > end:
                raise UnavailableError(f"not sent: the engine has not answered a send for {within:g} s")
            LIMITS.here.end = end  # never reset: only these calls use the thread, and each sets its own
            try:
                done = function(*args)
            except StopIteration as error:  # no future can hold it, so the caller would wait for ever
                raise RuntimeError("the call raised StopIteration") from error
            self._last_sent = time.monotonic()
            return done

        pool = self._senders or self._start_senders()
        return await loop.run_in_executor(pool, call)

    def _submit(self, work: Callable[[], None]) -> None:
        (self._senders or self._start_senders()).submit(work)

    def _start_senders(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._senders is None:
                self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="queuekit-async")
            return self._senders

    async def glance(self, allowed: float, function: Callable[..., T], *args: Any) -> T:
        """Run a blocking call that only reads from an engine.

        Raises:
            UnavailableError: The engine did not answer within *allowed* seconds, which may be infinite.
        """

        def look() -> T:
            with time_limit(allowed):
                return function(*args)

        running_loop()
        try:
            async with asyncio.timeout(None if math.isinf(allowed) else allowed):
                return await asyncio.wrap_future(self.read(look))
        except TimeoutError:
            raise UnavailableError(f"the engine did not answer within {allowed:.1f} s") from None

    def read(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Run a blocking call in the pool for reads."""
        with self._lock:
            if self._readers is None:
                self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="queuekit-read")
            return self._readers.submit(function, *args)

    def listener(self, backend: Backend) -> ResultListener:
        """Return the listener for results in *backend*."""
        with self._lock:
            if self._listener is None or self._listener.backend is not backend:
                self._listener = ResultListener(backend, run=self.read)
            return self._listener

    def close(self) -> None:
        """End the threads once they have finished their current calls; they start again when needed."""
        with self._lock:
            pools, listener = (self._senders, self._readers), self._listener
            self._senders = self._readers = self._listener = None
        for pool in pools:
            if pool is not None:
                pool.shutdown(wait=False)
        if listener is not None:
            listener.close()
