"""The caller's handle on a message: state, wait, fetch."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from queuekit.durations import parse as parse_duration
from queuekit.errors import NoBackendError, ResultTimeout, TaskCancelled, TaskFailed, UnknownIdError
from queuekit.states import State

if TYPE_CHECKING:
    from queuekit.records import Info

__all__ = ["Result", "ResultSource"]

R_co = TypeVar("R_co", covariant=True)
_SLICE = 5.0


class ResultSource(Protocol):
    """Where a handle looks things up: an app."""

    def info(self, id: str) -> Info:
        """Return what is known of a message."""
        ...

    def wait_final(self, id: str, timeout: float) -> Info | None:
        """Return the final record, waiting at most *timeout* seconds; ``None`` if there is none by then."""
        ...

    def read_value(self, info: Info) -> Any:
        """Return the result that *info* holds."""
        ...

    def progress_of(self, id: str) -> tuple[float, float | None, str] | None:
        """Return the last progress of a task."""
        ...

    def cancel(self, id: str) -> bool:
        """Cancel a message."""
        ...

    def forget(self, id: str) -> None:
        """Delete what is stored of a message."""
        ...

    async def in_thread(self, function: Any, *args: Any) -> Any:
        """Run a blocking call without blocking the event loop."""
        ...


class Result(Generic[R_co]):
    """A handle on one message; two handles of one id are equal, and one can be made from an id anywhere.

    Args:
        id: Id of the message.
        source: The app.
        stored: Whether the outcome is stored at all.
        duplicate: Whether the send found its unique key taken: this is then the handle of the message that holds it.
    """

    __slots__ = ("_source", "duplicate", "id", "stored")

    def __init__(self, id: str, source: ResultSource, *, stored: bool = True, duplicate: bool = False) -> None:
        self.id = id
        self.stored = stored
        self.duplicate = duplicate
        self._source = source

    def __repr__(self) -> str:
        return f"<result {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def state(self) -> State:
        """The state now; UNKNOWN if nobody has stored the id, or it is forgotten. One round trip."""
        return self.info().state

    @property
    def progress(self) -> tuple[float, float | None, str] | None:
        """What the task last reported: done, total, message. One round trip."""
        return self._source.progress_of(self.id)

    def info(self) -> Info:
        """Return all that is known: state, times, attempt, worker, error. One round trip."""
        return self._source.info(self.id)

    def get(self, timeout: float | str | timedelta | None = None) -> R_co:
        """Wait for the outcome and return what the task returned.

        Args:
            timeout: Seconds, or text such as ``"5s"``; ``None`` waits as long as it takes.

        Raises:
            TaskFailed: It failed, expired or was dead-lettered; carries the remote traceback.
            TaskCancelled: It was cancelled.
            ResultTimeout: No outcome within *timeout*.
            UnknownIdError: Nothing is known of the id: waiting would never end.
            NoBackendError: Results are not stored.
        """
        if not self.stored:
            raise NoBackendError(f"the result of {self.id} is not stored: the task ignores its result")
        left = None if timeout is None else parse_duration(timeout)
        while True:
            step = _SLICE if left is None else min(_SLICE, left)
            info = self._source.wait_final(self.id, step)
            if info is not None:
                return self.unpack(info)
            left = None if left is None else left - step
            if self.info().state is State.UNKNOWN:
                raise UnknownIdError(
                    f"nothing is known of {self.id!r}", fix="It was never sent, or is forgotten: see results_expire"
                )
            if left is not None and left <= 0:
                raise ResultTimeout(f"{self.id}: no outcome within {timeout} s")

    async def aget(self, timeout: float | str | timedelta | None = None) -> R_co:
        """Like :meth:`get`, without blocking the event loop."""
        value: R_co = await self._source.in_thread(self.get, timeout)
        return value

    def cancel(self) -> bool:
        """Cancel the message: waiting it never runs, running its task is told. True if it had not ended yet."""
        return self._source.cancel(self.id)

    def forget(self) -> None:
        """Delete what is stored about it."""
        self._source.forget(self.id)

    def unpack(self, info: Info) -> R_co:
        """Return what the final *info* tells, or raise what it tells; see :meth:`get`."""
        if info.state is State.SUCCESS:
            value: R_co = self._source.read_value(info)
            return value
        if info.state is State.CANCELLED:
            raise TaskCancelled(f"{info.task} {self.id} was cancelled")
        text = f"{info.error_type}: {info.error}" if info.error else info.error_type or info.state.lower()
        origin = info.origin or self.id
        error = TaskFailed(f"{info.task} {origin} {_VERBS.get(info.state, 'failed')}: {text}")
        error.task_id, error.error_type, error.traceback = origin, info.error_type, info.traceback
        if info.traceback:
            error.add_note(f"The worker's traceback:\n{info.traceback}")
        raise error


_VERBS = {State.FAILURE: "failed", State.EXPIRED: "was not started in time", State.DEAD: "was dead-lettered"}
