"""The caller's handle on a message: read its state, wait for its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from queuekit.clock import Clock
from queuekit.engines.waits import Timeout, Wait
from queuekit.errors import NoBackendError, TaskCancelled, TaskFailed, UnavailableError, UnknownIdError
from queuekit.ids import check_id
from queuekit.logs.plaintext import clean
from queuekit.states import State
from queuekit.wire.records import UNKNOWN_TASK

if TYPE_CHECKING:
    from queuekit.wire.records import Info

__all__ = ["Result"]

R_co = TypeVar("R_co", covariant=True)


class ResultSource(Protocol):
    """The stored data that handles read."""

    clock: Clock
    """Clock for timeouts."""
    cancel: Callable[[str], bool]
    """Cancel a message."""
    graph: Callable[[str], object | None]
    """Return the stored graph of a workflow, or ``None``."""

    def need(self) -> None:
        """Raise ``NoBackendError`` if no results are stored at all."""
        ...

    def infos(self, ids: Sequence[str]) -> list[Info]:
        """Return the information about messages, in order."""
        ...

    def wait(self, ids: Sequence[str], timeout: float) -> list[Info]:
        """Wait at most *timeout* seconds for one of the messages to end, and return information about ended ones."""
        ...

    async def await_any(self, ids: Sequence[str], timeout: float) -> list[Info]:
        """Wait at most *timeout* seconds for an ended or unknown message, and return the information about those."""
        ...

    async def ainfo(self, id: str) -> Info:
        """Return the information about a message, in a round trip that coroutines share."""
        ...

    async def acall(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a blocking call that writes to the engine, for at most ``send_timeout``."""
        ...

    async def glance(self, allowed: float, function: Callable[..., Any], *args: Any) -> Any:
        """Run a call that reads from the engine, for at most *allowed* seconds."""
        ...

    def value(self, info: Info) -> Any:
        """Return the result that *info* holds."""
        ...

    def progress(self, id: str) -> tuple[float, float | None, str] | None:
        """Return the last progress of a task."""
        ...

    def forget(self, id: str) -> None:
        """Delete the stored result of a message."""
        ...

    def look_up(self, id: str) -> str:
        """Return how to learn why a message has no outcome."""
        ...


class Result(Generic[R_co]):
    """A handle on one message. Handles with the same id are equal; any process can create one from an id.

    Args:
        id: Id of the message.
        source: Where it looks things up.
        stored: Whether the outcome is stored at all.
        duplicate: Whether the unique key was taken: then this is a handle on the message that holds the key.
        merged: Whether that message has taken in the arguments of the call, and runs with them or with newer ones.
    """

    __slots__ = ("_source", "duplicate", "id", "merged", "stored")

    def __init__(
        self, id: str, source: ResultSource, *, stored: bool = True, duplicate: bool = False, merged: bool = False
    ) -> None:
        self.id = id if type(id) is str else check_id(id)
        self.stored = stored
        self.duplicate = duplicate
        self.merged = merged
        self._source = source

    def __repr__(self) -> str:
        return f"<result {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def state(self) -> State:
        """The current state; UNKNOWN if nothing is stored for the id, or its result has expired. One round trip."""
        return self.info().state

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever state; false if nothing is stored for the id. One round trip."""
        return self.info().done

    @property
    def progress(self) -> tuple[float, float | None, str] | None:
        """The last progress that the task reported: done, total, message. One round trip."""
        return self._source.progress(self.id)

    def info(self) -> Info:
        """Return all stored information: state, times, attempt, worker, error. One round trip."""
        return self._source.infos([self.id])[0]

    async def ainfo(self) -> Info:
        """Like :meth:`info`, without blocking the event loop; coroutines that ask at once share round trips.

        Raises:
            UnavailableError: The engine did not answer within ``send_timeout``.
        """
        return await self._source.ainfo(self.id)

    async def aprogress(self) -> tuple[float, float | None, str] | None:
        """Like :attr:`progress`, without blocking the event loop."""
        found: tuple[float, float | None, str] | None = await self._source.acall(self._source.progress, self.id)
        return found

    async def acancel(self) -> bool:
        """Like :meth:`cancel`, without blocking the event loop."""
        return bool(await self._source.acall(self.cancel))

    def get(self, timeout: Timeout = None) -> R_co:
        """Wait for the outcome and return what the task returned.

        Args:
            timeout: Seconds, or text such as ``"5s"``; ``None`` waits without limit. If the engine does not answer, it
                may take one second longer.

        Raises:
            TaskFailed: It failed, expired or was dead-lettered; carries the remote traceback.
            TaskCancelled: It was cancelled.
            ResultTimeout: No outcome within *timeout*. If the engine did not answer, the cause says so.
            UnavailableError: The engine refuses the connection, e.g. for a wrong password. During an outage, such as a
                restart, the wait continues.
            UnknownIdError: Nothing is stored for the id, so waiting would never end.
            NoBackendError: Results are not stored.
        """
        wait = self._begin(timeout)
        while True:
            try:
                with wait.limit():
                    found = self._source.wait([self.id], wait.step)
                    info = found[0] if found else self._ended(self.info())
            except UnavailableError as error:
                self._source.clock.sleep(wait.rest(error))
            else:
                wait.answered()
                if info is not None:
                    return self._unpacked(info)
            if wait.over:
                raise wait.ended(f"{self.id}: no outcome", fix=self._source.look_up(self.id))

    async def aget(self, timeout: Timeout = None) -> R_co:
        """Like :meth:`get`, without blocking the event loop; one thread serves any number of waiting coroutines."""
        import asyncio  # slow to import, and most processes that import tasks never need it

        wait = self._begin(timeout)
        while True:
            try:
                infos = await self._source.await_any([self.id], wait.left)
            except UnavailableError as error:
                await asyncio.sleep(wait.rest(error))
            else:
                wait.answered()
                for info in filter(self._ended, infos):
                    return self._unpacked(info)
            if wait.over:
                raise wait.ended(f"{self.id}: no outcome", fix=self._source.look_up(self.id))

    def _unpacked(self, info: Info) -> R_co:
        value: R_co = unpack(info, self._source)
        return value

    def _begin(self, timeout: Timeout) -> Wait:
        if not self.stored:
            self._source.need()
            raise NoBackendError(f"the result of {self.id} is not stored: the task ignores its result")
        return Wait(timeout, self._source.clock)

    def _ended(self, info: Info) -> Info | None:
        """Return *info* if it is final; raise if the id is unknown, since waiting would never end."""
        if info.state is State.UNKNOWN:
            raise UnknownIdError(
                f"nothing is known of {self.id!r}", fix="It was never sent, or is forgotten: see results_expire"
            )
        return info if info.done else None

    def cancel(self) -> bool:
        """Cancel the message: if waiting, it never runs; if running, its task is notified. True if it had not ended."""
        return self._source.cancel(self.id)

    def forget(self) -> None:
        """Delete its stored result."""
        self._source.forget(self.id)


def unpack(info: Info, source: ResultSource) -> Any:
    """Return the result in the final *info*, or raise its error; see :meth:`Result.get`."""
    if info.state is State.SUCCESS:
        return source.value(info)
    if info.state is State.CANCELLED:
        raise TaskCancelled(f"{info.task} {info.id} was cancelled")
    text = f"{info.error_type}: {info.error}" if info.error else info.error_type or info.state.lower()
    origin = info.origin or info.id
    verb = "was dropped" if info.error_type == UNKNOWN_TASK else _VERBS.get(info.state, "failed")
    what = f"{info.task} {origin} {verb}: {text}"
    error = TaskFailed(clean(what, lines=True))
    error.task_id, error.error_type, error.traceback = origin, info.error_type, info.traceback
    if info.traceback:
        error.add_note(f"The worker's traceback:\n{clean(info.traceback, lines=True)}")
    raise error


_VERBS = {State.FAILURE: "failed", State.EXPIRED: "was not started in time", State.DEAD: "was dead-lettered"}
