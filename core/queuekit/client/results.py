"""Reads, waits for and deletes the stored results of messages, for handles and for lookups by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from queuekit.client.runtime import Runtime
from queuekit.clock import Clock
from queuekit.errors import OptionError
from queuekit.ids import check_id
from queuekit.states import State
from queuekit.timelimit import time_limit
from queuekit.wire.records import Info, cancel_key, progress_key, read_info, read_infos, result_key

if TYPE_CHECKING:
    from queuekit.client.background import Background
    from queuekit.client.joined_reads import JoinedReads

__all__ = ["Results"]

_GLANCE = 1.0
"""Seconds that a last read of outcomes may take."""


class Results:
    """The stored results of an app's messages; see :class:`~queuekit.result.ResultSource` for the methods.

    Args:
        clock: Whose time counts for timeouts.
        runtime: Returns the engines, which are opened at the first call.
        background: Returns the threads for what an event loop must not wait for.
        cancel: Cancels a message.
        graph: Returns what is stored of a workflow, if it is.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        runtime: Callable[[], Runtime],
        background: Callable[[], Background],
        cancel: Callable[[str], bool],
        graph: Callable[[str], object | None],
    ) -> None:
        self.clock = clock
        self.cancel = cancel
        self.graph = graph
        self._runtime = runtime
        self._background = background
        self._joined: JoinedReads | None = None

    def need(self) -> None:
        """Raise ``NoBackendError`` if no results are stored; the error names the setting."""
        self._runtime().need_backend("a result")

    def infos(self, ids: Sequence[str]) -> list[Info]:
        """Return the information about messages, in order. One round trip."""
        ids, runtime = _checked(ids), self._runtime()
        backend = runtime.need_backend("a result")
        with time_limit(runtime.config.send_timeout):
            return read_infos(backend, ids)

    def wait(self, ids: Sequence[str], timeout: float) -> list[Info]:
        """Wait at most *timeout* seconds for one of the messages to end, and return information about ended ones."""
        keys = {result_key(id): id for id in _checked(ids)}
        found = self._runtime().need_backend("a result").wait([*keys], timeout=timeout)
        return [read_info(keys[key], record) for key, record in found.items()]

    async def await_any(self, ids: Sequence[str], timeout: float) -> list[Info]:
        """Like :meth:`wait`, but also return unknown messages, on timeout or after half a second.

        One thread serves any number of waiting coroutines.

        Raises:
            UnavailableError: On timeout, if the engine does not answer.
        """
        listener = self._background().listener(self._runtime().need_backend("a result"))
        keys = {result_key(id): id for id in _checked(ids)}
        found = await listener.wait([*keys], timeout)
        if found:
            return [read_info(keys[key], record) for key, record in found.items()]
        infos: list[Info] = await self.glance(_GLANCE, self.infos, ids)
        return [info for info in infos if info.done or info.state is State.UNKNOWN]

    async def ainfo(self, id: str) -> Info:
        """Return the information about a message, for a coroutine; those that ask at once share round trips."""
        self.need()
        joined = self._joined
        if joined is None:
            from queuekit.client.joined_reads import JoinedReads  # imports asyncio

            joined = self._joined = JoinedReads(self.infos, run=lambda call: self._background().read(call))
        return await joined.info(check_id(id))

    async def acall(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a blocking call that writes to the engine, for at most ``send_timeout``."""
        return await self._background().send(function, *args, within=self._runtime().config.send_timeout)

    async def glance(self, allowed: float, function: Callable[..., Any], *args: Any) -> Any:
        """Run a call that reads from the engine, for at most *allowed* seconds."""
        return await self._background().glance(allowed, function, *args)

    def value(self, info: Info) -> Any:
        """Return the result that *info* holds."""
        return info.value(self._runtime().accepted)

    def progress(self, id: str) -> tuple[float, float | None, str] | None:
        """Return the last progress of task *id*."""
        key, runtime = progress_key(check_id(id)), self._runtime()
        backend = runtime.need_backend("progress")
        with time_limit(runtime.config.send_timeout):
            record = backend.get([key]).get(key)
        if record is None:
            return None
        done, total, message = runtime.serializer.loads(record.body)
        return done, total, message

    def forget(self, id: str) -> None:
        """Delete the stored result of message *id*."""
        id, runtime = check_id(id), self._runtime()
        backend = runtime.need_backend("forget")
        with time_limit(runtime.config.send_timeout):
            backend.delete([result_key(id), progress_key(id), cancel_key(id)])

    def look_up(self, id: str) -> str:
        """Return how to learn why message *id* has no outcome."""
        from queuekit.client.requirements import look_up  # only errors need it

        return look_up(self._runtime(), id)


def _checked(ids: Sequence[str]) -> Sequence[str]:
    """Return *ids* if they are a list of valid ids."""
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        raise OptionError(f"expected a list of ids, got {ids!r:.60}", fix="Put brackets around it")
    for id in ids:
        check_id(id)
    return ids
