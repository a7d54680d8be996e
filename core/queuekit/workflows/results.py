"""The caller's handles on workflows: chains, groups and chords."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from queuekit.engines.waits import Timeout, Wait
from queuekit.errors import DecodeError, NoBackendError, UnavailableError, UnknownIdError
from queuekit.result import Result, ResultSource, unpack
from queuekit.states import FINAL, State
from queuekit.values import frozen
from queuekit.wire.batches import alike
from queuekit.wire.position import link_id, member_id

if TYPE_CHECKING:
    from queuekit.wire.records import Info

__all__ = ["ChainResult", "ChordResult", "Completed", "GroupCounts", "GroupResult"]

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
_FIRST, _AT_ONCE = 100, 500
"""Records to read in the first round trip, when their size is not known yet; the most to read or wait for in any."""


@frozen(kw_only=True)
class GroupCounts:
    """Number of members of a group, by progress.

    Attributes:
        total: All members.
        done: Members that have ended, including failed ones.
        failed: Members that failed, were cancelled or expired.
    """

    total: int
    done: int
    failed: int


class Completed(Generic[T]):
    """Handles on results as they end: an iterator for ``for`` and for ``async for``."""

    def __init__(self, ended: Callable[[], Iterator[T]], as_ended: Callable[[], AsyncIterator[T]]) -> None:
        self._ended: Iterator[T] | None = None
        self._begin = ended
        self._as_ended = as_ended

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._ended is None:
            self._ended = self._begin()
        return next(self._ended)

    def __aiter__(self) -> AsyncIterator[T]:
        return self._as_ended()


class GroupResult(Generic[R_co]):
    """A handle on the members of a group, in the group's order.

    Args:
        id: Id of the group.
        ids: Ids of the members.
        source: Where it looks things up.
        flat: Whether each member returns a list, to be joined into one list.
        stored: Whether outcomes are stored at all.
    """

    def __init__(
        self, id: str, ids: Sequence[str], source: ResultSource, *, flat: bool = False, stored: bool = True
    ) -> None:
        self.id = id
        self.ids = tuple(ids)
        """Ids of the members."""
        self.stored = stored
        self._source = source
        self._flat = flat

    def __repr__(self) -> str:
        return f"<group result {self.id}, {len(self.ids)} members>"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Result[Any]:
        return Result(self.ids[index], self._source, stored=self.stored)

    def __iter__(self) -> Iterator[Result[Any]]:
        """Yield a handle on each member as it ends, the first to end first."""
        return self.as_completed()

    def as_completed(self, timeout: Timeout = None) -> Completed[Result[Any]]:
        """Return an iterator over handles on the members as they end, the first to end first.

        It works with ``for``, and with ``async for`` without blocking the event loop.

        Raises:
            ResultTimeout: Not all members ended within *timeout*.
            UnknownIdError: Nothing is stored for a member, so waiting would never end.
            NoBackendError: Results are not stored.
        """

        def ended() -> Iterator[Result[Any]]:
            for info in self._ended(timeout):
                yield Result(info.id, self._source)

        async def as_ended() -> AsyncIterator[Result[Any]]:
            async for info in self._as_ended(timeout):
                yield Result(info.id, self._source)

        return Completed(ended, as_ended)

    async def acounts(self) -> GroupCounts:
        """Like :meth:`counts`, without blocking the event loop."""
        counts: GroupCounts = await self._source.acall(self.counts)
        return counts

    async def acancel(self) -> bool:
        """Like :meth:`cancel`, without blocking the event loop."""
        return bool(await self._source.acall(self.cancel))

    def counts(self) -> GroupCounts:
        """Return how many members have ended, and how many of those failed.

        One round trip per 500 members, or per 4 MB of results.
        """
        states = [info.state for info in self._infos(self.ids)]
        done = [state for state in states if state in FINAL]
        failed = [state for state in done if state is not State.SUCCESS]
        return GroupCounts(total=len(states), done=len(done), failed=len(failed))

    @property
    def done(self) -> bool:
        """Whether all members have ended."""
        counts = self.counts()
        return counts.done == counts.total

    def get(self, timeout: Timeout = None) -> R_co:
        """Wait for all members and return the list of their results, in the group's order.

        Raises:
            TaskFailed: A member failed; raised as soon as that is known.
            TaskCancelled: A member was cancelled.
            ResultTimeout: Not all members ended within *timeout*.
            UnknownIdError: Nothing is stored for a member, so waiting would never end.
            NoBackendError: Results are not stored.
        """
        values: dict[str, Any] = {}
        for info in self._ended(timeout):
            values[info.id] = unpack(info, self._source)
        return self._in_order(values)

    def _in_order(self, values: dict[str, Any]) -> R_co:
        ordered: Any = [values[id] for id in self.ids]
        if self._flat:
            wrong = [id for id, some in zip(self.ids, ordered, strict=True) if type(some) is not list]
            if wrong:
                raise DecodeError(f"the result of {wrong[0]} is not a list of results")
            ordered = [value for some in ordered for value in some]
        found: R_co = ordered
        return found

    async def aget(self, timeout: Timeout = None) -> R_co:
        """Like :meth:`get`, without blocking the event loop."""
        values: dict[str, Any] = {}
        async for info in self._as_ended(timeout):
            values[info.id] = unpack(info, self._source)
        return self._in_order(values)

    def cancel(self) -> bool:
        """Cancel the whole group: waiting members never run, running ones are notified. True if some had not ended."""
        if "." not in self.id:
            return self._source.cancel(self.id)
        ended = {*FINAL, State.UNKNOWN}
        cancelled = [self._source.cancel(info.id) for info in self._infos(self.ids) if info.state not in ended]
        return any(cancelled)

    def forget(self) -> None:
        """Delete the stored results of the group and its members."""
        for id in (*self.ids, self.id):
            self._source.forget(id)

    def _infos(self, ids: Sequence[str]) -> list[Info]:
        found: list[Info] = []
        count = _FIRST
        while len(found) < len(ids):
            some = self._source.infos(ids[len(found) : len(found) + count])
            found += some
            count = alike([len(info.payload) for info in some], most=_AT_ONCE)
        return found

    def _ended(self, timeout: Timeout) -> Iterator[Info]:
        """Yield the information about each member as it ends."""
        wait, missing = self._begin(timeout), list(self.ids)
        while missing:
            try:
                with wait.limit():
                    ended = self._look(missing)
            except UnavailableError as error:
                self._source.clock.sleep(wait.rest(error))
                ended = []
            else:
                wait.answered()
            yield from ended
            missing = _without(missing, ended)
            if missing and not ended:
                self._pause(missing, wait)

    def _pause(self, missing: list[str], wait: Wait) -> None:
        """Wait briefly for one of *missing* to end.

        Raises:
            ResultTimeout: The timeout has passed.
            UnknownIdError: Nothing is stored for one of them, so it would never end.
        """
        if wait.over:
            raise self._late(missing, wait)
        try:
            with wait.limit():
                self._source.wait(missing[:_AT_ONCE], wait.step)
                self._refuse_unknown(missing)
        except UnavailableError as error:
            self._source.clock.sleep(wait.rest(error))

    async def _as_ended(self, timeout: Timeout) -> AsyncIterator[Info]:
        """Like :meth:`_ended`, without blocking the event loop."""
        import asyncio  # slow to import, and most processes that import tasks never need it

        wait, missing = self._begin(timeout), list(self.ids)
        while missing:
            ended: list[Info] = []
            try:
                ended = await self._source.glance(wait.allowed, self._look, missing)
                if not ended and not wait.over:
                    await self._await_one(missing, wait)
            except UnavailableError as error:
                await asyncio.sleep(wait.rest(error))
            else:
                wait.answered()
            for info in ended:
                yield info
            missing = _without(missing, ended)
            if missing and not ended and wait.over:
                raise self._late(missing, wait)

    async def _await_one(self, missing: list[str], wait: Wait) -> None:
        """Like :meth:`_pause`, without blocking the event loop."""
        found = await self._source.await_any(missing[:_AT_ONCE], wait.step)
        if not any(info.done for info in found):
            await self._source.glance(wait.allowed, self._refuse_unknown, missing)

    def _begin(self, timeout: Timeout) -> Wait:
        if not self.stored:
            self._source.need()
            raise NoBackendError(f"the results of {self.id} are not stored")
        return Wait(timeout, self._source.clock)

    def _late(self, missing: list[str], wait: Wait) -> Exception:
        what = f"{self.id}: {len(missing)} of {len(self.ids)} have not ended"
        return wait.ended(what, fix=self._source.look_up(missing[0]))

    def _look(self, ids: list[str]) -> list[Info]:
        """Return the information about the members that have ended."""
        return [info for info in self._infos(ids) if info.done]

    def _refuse_unknown(self, ids: list[str]) -> None:
        """Raise if a member is unknown, unless the graph is stored: members that wait for others have no record yet."""
        unknown = [info.id for info in self._infos(ids) if info.state is State.UNKNOWN]
        if unknown and self._source.graph(self.id.partition(".")[0]) is None:
            raise UnknownIdError(
                f"nothing is known of {unknown[0]!r}", fix="It was never sent, or is forgotten: see results_expire"
            )


class ChainResult(Result[R_co]):
    """A handle on a chain; its result is the result of its last link.

    Args:
        id: Id of the chain, which is also the id of its last link.
        source: Where it looks things up.
        top: Number of each top-level part, and its size if it is a group.
    """

    __slots__ = ("_top",)

    def __init__(self, id: str, source: ResultSource, *, top: Sequence[Sequence[int | None]] = ()) -> None:
        super().__init__(id, source)
        self._top = tuple((int(part[0] or 0), part[1]) for part in top)

    @property
    def links(self) -> list[Result[Any] | GroupResult[Any]]:
        """Handles on its links, in order; for a group, a handle on its members."""
        found: list[Result[Any] | GroupResult[Any]] = []
        last = len(self._top) - 1
        for index, (number, size) in enumerate(self._top):
            if size is not None:
                found.append(_members(self.id, number, size, self._source))
            else:
                found.append(Result(self.id if index == last else link_id(self.id, number), self._source))
        return found

    def forget(self) -> None:
        """Delete the stored results of the chain and its links."""
        for link in self.links:
            if isinstance(link, GroupResult) or link.id != self.id:
                link.forget()
        super().forget()


class ChordResult(ChainResult[R_co]):
    """A handle on a chord; its result is the result of the callback."""

    __slots__ = ()

    @property
    def members(self) -> GroupResult[Any]:
        """A handle on the members."""
        number, size = self._top[0]
        return _members(self.id, number, size or 0, self._source)


def _without(ids: list[str], ended: list[Info]) -> list[str]:
    gone = {info.id for info in ended}
    return [id for id in ids if id not in gone] if gone else ids


def _members(id: str, number: int, size: int, source: ResultSource) -> GroupResult[Any]:
    return GroupResult(link_id(id, number), [member_id(id, number, index) for index in range(size)], source)


def handle(
    kind: str, id: str, top: Sequence[Sequence[int | None]], source: ResultSource, *, flat: bool, stored: bool = True
) -> Any:
    """Return a handle on a workflow of *kind*."""
    if kind == "group":
        number, size = top[0]
        ids = [member_id(id, number or 0, index) for index in range(size or 0)]
        return GroupResult[Any](id, ids, source, flat=flat, stored=stored)
    if kind == "chord":
        return ChordResult[Any](id, source, top=top)
    return ChainResult[Any](id, source, top=top)
