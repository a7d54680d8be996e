"""Reads the information about messages for coroutines: those that ask during a read share the next one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from queuekit.client.event_loop import running_loop
from queuekit.wire.records import Info

__all__ = ["JoinedReads"]

_AT_ONCE = 100
"""Most messages of one read, since records may be large."""


class JoinedReads:
    """Joins the reads of coroutines, of any event loops, so that each costs part of a round trip and no thread.

    Args:
        read: Reads the information about messages, in order; blocks.
        run: Runs a call in another thread.
    """

    def __init__(
        self, read: Callable[[Sequence[str]], list[Info]], *, run: Callable[[Callable[[], None]], object]
    ) -> None:
        self._read = read
        self._run = run
        self._lock = threading.Lock()
        self._asked: list[tuple[str, Future[Info]]] = []
        self._reading = False

    async def info(self, id: str) -> Info:
        """Return the stored information about message *id*.

        Raises:
            UnavailableError: The engine did not answer in time.
        """
        loop, future = running_loop(), Future[Info]()
        with self._lock:
            self._asked.append((id, future))
            begins, self._reading = not self._reading, True
        if begins:
            try:
                self._run(self._work)
            except BaseException:
                self._fail_all()
                raise
        return await asyncio.wrap_future(future, loop=loop)

    def _work(self) -> None:
        while True:
            with self._lock:
                some, self._asked = self._asked[:_AT_ONCE], self._asked[_AT_ONCE:]
                if not some:
                    self._reading = False
                    return
            # A coroutine that no longer waits has cancelled its future.
            some = [(id, future) for id, future in some if future.set_running_or_notify_cancel()]
            if not some:
                continue
            try:
                infos = self._read([id for id, _ in some])
            except BaseException as error:  # noqa: BLE001 - raised in the coroutines
                for _, future in some:
                    future.set_exception(error)
                continue
            for (_, future), info in zip(some, infos, strict=True):
                future.set_result(info)

    def _fail_all(self) -> None:
        """Forget what was asked: no thread could be started."""
        with self._lock:
            asked, self._asked, self._reading = self._asked, [], False
        for _, future in asked:
            future.cancel()
