"""The resources of one run: opened before its body, closed in reverse order once its outcome is known."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from queuekit.context import Context, current
from queuekit.execution.worker_scope import WorkerScope, close_error, manager_of, noted
from queuekit.resources import Resource
from queuekit.values import define

__all__ = ["OpenResource", "TaskScope"]

T = TypeVar("T")


@define(eq=False)
class _Open:
    """A resource that is open, or being opened."""

    resource: Resource[Any]
    manager: Any
    entered: bool = False
    variables: contextvars.Context | None = None
    """The context variables with which it was opened in a thread, and is closed: a token can only be reset there."""

    @property
    def is_open(self) -> bool:
        """Whether it was opened, even if the thread was interrupted just after that."""
        generator = getattr(self.manager, "gen", None)
        if self.entered or not inspect.isgenerator(generator):
            return self.entered
        return inspect.getgeneratorstate(generator) == inspect.GEN_SUSPENDED


class TaskScope:
    """Gives a run the values of its resources.

    Args:
        worker: The resources of the process.
        context: Context of the run.
    """

    def __init__(self, worker: WorkerScope, context: Context) -> None:
        self._worker = worker
        self._context = context
        self._values: dict[Resource[Any], Any] = {}
        self._open: list[_Open] = []

    def values(self, resources: Mapping[str, Resource[Any]]) -> dict[str, Any]:
        """Open *resources* and return their values by name."""
        return {name: self._value(resource) for name, resource in resources.items()}

    async def avalues(self, resources: Mapping[str, Resource[Any]]) -> dict[str, Any]:
        """Like :meth:`values`, on the running event loop; resources that would block it are opened in threads."""
        return {name: await self._avalue(resource) for name, resource in resources.items()}

    def close(self, error: BaseException | None) -> BaseException | None:
        """Close the resources, the last one first; *error*, if there is one, is raised in each.

        Returns:
            What the first one to fail raised, if there was no *error* before; further errors are logged.
        """
        first: BaseException | None = None
        for one in self._taken():
            seen = error or first
            late = one.manager.close(seen) if isinstance(one.manager, _OnLoop) else _leave(one, seen)
            first = first or _judge(one, late, seen)
        return first

    async def aclose(self, error: BaseException | None) -> BaseException | None:
        """Like :meth:`close`, on the running event loop. A cancellation does not keep the others from closing."""
        first: BaseException | None = None
        for one in self._taken():
            seen = error or first
            late = await (_aleave(one, seen) if one.resource.is_async else _leave_in_thread(one, seen))
            first = first or _judge(one, late, seen)
        return first

    def _taken(self) -> list[_Open]:
        taken, self._open = [one for one in reversed(self._open) if one.is_open], []
        return taken

    # -- opening

    def _value(self, resource: Resource[Any]) -> Any:
        other = self._worker.overrides.get(resource, resource)
        if not isinstance(other, Resource):
            return other
        if other.scope == "worker":
            return self._worker.get(other)
        if other not in self._values:
            given = self.values(other.needs) | self._context_for(other)
            self._values[other] = self._enter(other, given)
        return self._values[other]

    async def _avalue(self, resource: Resource[Any]) -> Any:
        other = self._worker.overrides.get(resource, resource)
        if not isinstance(other, Resource):
            return other
        if other.scope == "worker":
            return await self._worker.aget(other)
        if other not in self._values:
            given = await self.avalues(other.needs) | self._context_for(other)
            self._values[other] = await self._aenter(other, given)
        return self._values[other]

    def _context_for(self, resource: Resource[Any]) -> dict[str, Any]:
        return {resource.takes_context: self._context} if resource.takes_context else {}

    def _enter(self, resource: Resource[Any], given: Mapping[str, Any]) -> Any:
        try:
            manager = _OnLoop(self._worker, resource, given) if resource.is_async else manager_of(resource, given)
            one = _Open(resource, manager)
            self._open.append(one)
            value = manager.__enter__()
            one.entered = True
        except BaseException as error:
            if (shown := noted(error, resource)) is not error:
                raise shown from error
            raise
        return value

    async def _aenter(self, resource: Resource[Any], given: Mapping[str, Any]) -> Any:
        try:
            if not resource.is_async:
                return await self._enter_in_thread(resource, given)
            manager = manager_of(resource, given)
            value = await manager.__aenter__()
            self._open.append(_Open(resource, manager, entered=True))
        except BaseException as error:
            noted(error, resource)
            raise
        return value

    async def _enter_in_thread(self, resource: Resource[Any], given: Mapping[str, Any]) -> Any:
        """Open a resource in a thread; if the run is cancelled meanwhile, it is closed as soon as it is open."""
        one = _Open(resource, None, variables=(variables := contextvars.copy_context()))

        def enter() -> Any:
            try:
                one.manager = manager_of(resource, given)
                value = one.manager.__enter__()
            except StopIteration as error:
                raise noted(error, resource) from error
            one.entered = True
            return value

        opening = asyncio.get_running_loop().run_in_executor(None, variables.run, enter)
        try:
            value = await asyncio.shield(opening)
        except asyncio.CancelledError as cancelled:
            error = cancelled
            opening.add_done_callback(lambda done: _close_late(one, done, error))
            raise
        self._open.append(one)
        return value


class OpenResource(Generic[T]):
    """A resource in a ``with`` or ``async with`` block outside of tasks; returned by ``app.open``."""

    def __init__(self, worker: Callable[[], WorkerScope], resource: Resource[T]) -> None:
        self._worker = worker
        self._resource = resource
        self._scope: TaskScope | None = None

    def _begin(self) -> TaskScope:
        context = current() or Context(id="", task="", queue="")
        self._scope = TaskScope(self._worker(), context)
        return self._scope

    def __enter__(self) -> T:
        scope = self._begin()
        try:
            return cast("T", scope.values({"": self._resource})[""])
        except BaseException as error:
            scope.close(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._scope is not None  # noqa: S101 - the block was entered
        late = self._scope.close(error)
        if late is not None:
            raise late

    async def __aenter__(self) -> T:
        scope = self._begin()
        try:
            return cast("T", (await scope.avalues({"": self._resource}))[""])
        except BaseException as error:
            await scope.aclose(error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._scope is not None  # noqa: S101 - the block was entered
        late = await self._scope.aclose(error)
        if late is not None:
            raise late


class _OnLoop:
    """An asynchronous resource of a plain task: opened and closed by one asyncio task on the loop of the process."""

    def __init__(self, worker: WorkerScope, resource: Resource[Any], given: Mapping[str, Any]) -> None:
        self._worker = worker
        self._resource = resource
        self._given = given
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[Any] | None = None
        self._ended: asyncio.Future[BaseException | None] | None = None
        self._closed: asyncio.Task[None] | None = None

    def __enter__(self) -> Any:
        try:
            return self._worker.run(self._start)
        except BaseException as error:
            loop = self._loop
            if loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._abandon, error)
            raise

    def close(self, error: BaseException | None) -> BaseException | None:
        """Close it, and return what that raised."""
        try:
            self._worker.run(lambda _: self._end(error))
        except BaseException as raised:  # noqa: BLE001 - the caller decides
            return raised
        return None

    def _start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        self._loop, self._opened, self._ended = loop, loop.create_future(), loop.create_future()
        self._closed = loop.create_task(self._live(self._opened, self._ended))
        return self._opened

    def _abandon(self, error: BaseException) -> None:
        """End the opening, or close what was opened, for a thread that no longer waits."""
        if self._closed is not None and self._opened is not None and not self._opened.done():
            self._closed.cancel()
        elif self._ended is not None and not self._ended.done():
            self._ended.set_result(error)

    def _end(self, error: BaseException | None) -> asyncio.Future[Any]:
        assert self._ended is not None  # noqa: S101 - it was opened
        assert self._closed is not None  # noqa: S101 - it was opened
        if not self._ended.done():
            self._ended.set_result(error)
        return self._closed

    async def _live(self, opened: asyncio.Future[Any], ended: asyncio.Future[BaseException | None]) -> None:
        try:
            manager = manager_of(self._resource, self._given)
            value = await manager.__aenter__()
        except BaseException as error:  # noqa: BLE001 - raised in the thread
            opened.set_exception(noted(error, self._resource) if isinstance(error, StopIteration) else error)
            return
        opened.set_result(value)
        late = await _aleave(_Open(self._resource, manager, entered=True), await ended)
        if late is not None:
            raise late


def _leave(one: _Open, error: BaseException | None) -> BaseException | None:
    """Close *one*, and return what that raised."""
    leave: Callable[..., object] = one.manager.__exit__
    if one.variables is not None:
        leave = functools.partial(one.variables.run, leave)
    try:
        leave(*_details(error))
    except BaseException as raised:  # noqa: BLE001 - the others are closed as well
        return raised
    return None


async def _aleave(one: _Open, error: BaseException | None) -> BaseException | None:
    """Like :func:`_leave`, for one that an event loop closes."""
    try:
        await one.manager.__aexit__(*_details(error))
    except BaseException as raised:  # noqa: BLE001 - the others are closed as well
        return raised
    return None


def _details(error: BaseException | None) -> tuple[Any, ...]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def _judge(one: _Open, late: BaseException | None, seen: BaseException | None) -> BaseException | None:
    """Return the error that closing raised if it is the first; log it if another came before, unless it is that one."""
    if late is None or late is seen or (seen is not None and isinstance(late, asyncio.CancelledError)):
        return None
    if seen is None:
        return late
    close_error(one.resource, late)
    return None


async def _leave_in_thread(one: _Open, error: BaseException | None) -> BaseException | None:
    """Like :func:`_leave`, in a thread; a cancellation meanwhile is returned after it."""
    running = asyncio.get_running_loop().run_in_executor(None, _leave, one, error)
    cancelled: BaseException | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as raised:
            cancelled = raised
    return running.result() or cancelled


def _close_late(one: _Open, done: asyncio.Future[Any], error: BaseException) -> None:
    """Close in a thread what was opened for a run that is over."""
    if not done.cancelled() and done.exception() is None and one.is_open:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            done.get_loop().run_in_executor(None, _leave, one, error)
