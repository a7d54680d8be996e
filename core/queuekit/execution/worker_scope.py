"""The resources that are opened once in a process, and the event loop on which plain tasks use asynchronous ones."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import attrs

from queuekit.forks import renew_in_forks
from queuekit.logs.errors import log_error
from queuekit.resources import Resource
from queuekit.values import define, frozen

__all__ = ["WorkerScope", "close_error", "manager_of", "noted"]

_logger = logging.getLogger("queuekit.resources")
_STEP = 0.05
"""Seconds between two looks of a thread that waits: an interruption arrives only when Python code runs."""
_Future = concurrent.futures.Future[Any]


@define(eq=False)
class _Shared:
    """A resource that is open, or being opened."""

    resource: Resource[Any]
    value: _Future = attrs.field(factory=concurrent.futures.Future)
    close: Callable[[], object] = attrs.field(default=lambda: None)
    """Closes it, or asks its loop to."""
    closed: _Future = attrs.field(factory=concurrent.futures.Future)


class WorkerScope:
    """Opens resources of scope ``worker`` when they are first needed, and closes them in reverse order.

    A resource that an event loop opens belongs to that loop, and coroutines use the one of their own loop.

    Args:
        overrides: What takes the place of resources: a value, or another resource.
    """

    def __init__(self, overrides: Mapping[Resource[Any], Any] | None = None) -> None:
        self.overrides: Mapping[Resource[Any], Any] = overrides or {}
        """What takes the place of resources."""
        self.loop_of_worker: Callable[[], asyncio.AbstractEventLoop] | None = None
        """Returns the loop of the worker in this process, if there is one."""
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Begin anew in a forked child: what is open belongs to the parent."""
        self._lock = threading.RLock()
        self._shared: dict[tuple[Resource[Any], asyncio.AbstractEventLoop | None], _Shared] = {}
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.loop_of_worker = None
        self._workers = 0

    def again(self, overrides: Mapping[Resource[Any], Any] | None = None) -> WorkerScope:
        """Return a scope with nothing open and the same overrides, and *overrides* in addition."""
        new = WorkerScope({**self.overrides, **(overrides or {})})
        new.loop_of_worker = self.loop_of_worker
        return new

    # -- opening

    def get(self, resource: Resource[Any]) -> Any:
        """Return the value of *resource*, opening it if needed; blocks the calling thread."""
        loop = self.loop() if resource.is_async else None
        shared = self._shared.get((resource, loop)) or self._begin(resource, loop)
        return self.wait(shared.value)

    async def aget(self, resource: Resource[Any]) -> Any:
        """Return the value of *resource*, opening it if needed: on the running loop, or in a thread."""
        loop = asyncio.get_running_loop() if resource.is_async else None
        shared = self._shared.get((resource, loop)) or self._begin(resource, loop)
        return await asyncio.shield(asyncio.wrap_future(shared.value))

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop on which threads open asynchronous resources: the worker's, or one of our own."""
        if self.loop_of_worker is not None:
            return self.loop_of_worker()
        with self._lock:
            if self._own_loop is None or self._own_loop.is_closed():
                self._own_loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_turn, args=(self._own_loop,), name="queuekit-resources", daemon=True
                )
                self._thread.start()
            return self._own_loop

    def run(self, start: Callable[[asyncio.AbstractEventLoop], asyncio.Future[Any]]) -> Any:
        """Call *start* on the loop, and wait in this thread for the future that it returns."""
        loop, done = self.loop(), concurrent.futures.Future[Any]()
        if _is_here(loop):
            raise RuntimeError("an asynchronous resource is opened on its own event loop: write  async with")

        def begin() -> None:
            try:
                future = start(loop)
            except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
                done.set_exception(error)
            else:
                future.add_done_callback(lambda ended: _pass_on(ended, done))

        loop.call_soon_threadsafe(begin)
        return self.wait(done)

    @staticmethod
    def wait(future: _Future) -> Any:
        """Return the result of *future*; an exception that is raised in this thread from outside ends the wait."""
        while not future.done():
            concurrent.futures.wait([future], timeout=_STEP)
        return future.result()

    def _begin(self, resource: Resource[Any], loop: asyncio.AbstractEventLoop | None) -> _Shared:
        """Open *resource* in a thread or task of its own, so that what ends one run does not end the opening."""
        with self._lock:
            known = self._shared.get((resource, loop))
            if known is not None:
                return known
            shared = _Shared(resource)
            # Begin before others can wait for it: no thread may be available, or a time limit may end this run here.
            if loop is None:
                threading.Thread(target=self._open, args=(shared,), name="queuekit-resource", daemon=True).start()
            else:
                loop.call_soon_threadsafe(lambda: _keep(loop.create_task(self._live(shared, loop))))
            return self._shared.setdefault((resource, loop), shared)

    def _is_first(self, shared: _Shared, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Return whether nothing else opens this resource; else *shared* gets the value of what does.

        A time limit may have ended the run that began this opening before it became known.
        """
        with self._lock:
            known = self._shared.setdefault((shared.resource, loop), shared)
        if known is not shared:
            known.value.add_done_callback(lambda ended: _pass_on(ended, shared.value))
        return known is shared

    def _open(self, shared: _Shared) -> None:
        """Open a resource that needs no loop."""
        if not self._is_first(shared, None):
            return
        resource, variables = shared.resource, contextvars.copy_context()  # a token can only be reset where it was set
        try:
            given = {name: self.resolve(need) for name, need in resource.needs.items()}
            manager = variables.run(manager_of, resource, given)
            value = variables.run(manager.__enter__)
        except BaseException as error:  # noqa: BLE001 - raised in the tasks that need it
            self._forget(shared, None)
            shared.value.set_exception(noted(error, resource))
            return
        shared.close = lambda: variables.run(_finish, shared, manager)
        self._opened(shared, None, value)

    async def _live(self, shared: _Shared, loop: asyncio.AbstractEventLoop) -> None:
        """Open a resource on *loop*, and close it in the same asyncio task when asked to, or when the loop ends."""
        if not self._is_first(shared, loop):
            return
        resource, ended = shared.resource, asyncio.Event()
        try:
            given = {name: await self.aresolve(need) for name, need in resource.needs.items()}
            manager = manager_of(resource, given)
            value = await manager.__aenter__()
        except BaseException as error:  # noqa: BLE001 - raised in the tasks that need it
            self._forget(shared, loop)
            shared.value.set_exception(noted(error, resource))
            return
        shared.close = lambda: loop.call_soon_threadsafe(ended.set)
        self._opened(shared, loop, value)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the loop ends
                await ended.wait()
            await manager.__aexit__(None, None, None)
        except BaseException as error:  # noqa: BLE001 - the others are closed as well
            close_error(resource, error)
        finally:
            self._forget(shared, loop)
            shared.closed.set_result(None)

    def resolve(self, resource: Resource[Any]) -> Any:
        """Return the value of a resource of this scope, or what takes its place."""
        other = self.overrides.get(resource, resource)
        if not isinstance(other, Resource):
            return other
        return self.get(other)

    async def aresolve(self, resource: Resource[Any]) -> Any:
        """Like :meth:`resolve`, on an event loop."""
        other = self.overrides.get(resource, resource)
        if not isinstance(other, Resource):
            return other
        return await self.aget(other)

    def _opened(self, shared: _Shared, loop: asyncio.AbstractEventLoop | None, value: Any) -> None:
        with self._lock:  # to the end, so that what it needs is closed after it
            self._shared.pop((shared.resource, loop), None)
            self._shared[shared.resource, loop] = shared
        shared.value.set_result(value)

    def _forget(self, shared: _Shared, loop: asyncio.AbstractEventLoop | None) -> None:
        with self._lock:
            if self._shared.get((shared.resource, loop)) is shared:
                del self._shared[shared.resource, loop]

    # -- closing

    def hold(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """Count a worker that begins in this process; threads open asynchronous resources on its *loop*."""
        with self._lock:
            self._workers += 1
            self.loop_of_worker = loop

    def release(self, within: float) -> None:
        """Count a worker that ends, and close all resources with the last one; see :meth:`close`."""
        with self._lock:
            self._workers -= 1
            left = self._workers
        if left <= 0:
            self.close(within)
            self.loop_of_worker = None

    def close(self, within: float | None = None) -> None:
        """Close all resources, the last one first; they open again when needed. Errors are logged.

        Does nothing while a worker runs in this process.

        Args:
            within: Seconds after which the rest is left open; ``None``: no limit.
        """
        if self._workers > 0 or (not self._shared and self._own_loop is None):
            return
        if within is None:
            self._close(None)
            return
        closing = threading.Thread(target=self._close, args=(within,), name="queuekit-closing", daemon=True)
        closing.start()
        closing.join(within)
        if closing.is_alive():
            _logger.warning("resources did not close within %.1f s", within)

    def _close(self, within: float | None) -> None:
        end = None if within is None else time.monotonic() + within
        while True:
            with self._lock:
                if not self._shared:
                    break
                (_, loop), shared = self._shared.popitem()
            left = None if end is None else max(0.0, end - time.monotonic())
            if loop is None or loop.is_running():
                self._close_one(shared, loop, left)
            elif not loop.is_closed():
                _logger.warning("cannot close the resource %s: its event loop has stopped", shared.resource.name)
        self._end_loop()

    @staticmethod
    def _close_one(shared: _Shared, loop: asyncio.AbstractEventLoop | None, left: float | None) -> None:
        concurrent.futures.wait([shared.value], timeout=left)
        if not shared.value.done() or shared.value.exception() is not None:
            return
        shared.close()
        if not _is_here(loop):  # a loop cannot wait for itself; it closes the resource next
            concurrent.futures.wait([shared.closed], timeout=left)

    def _end_loop(self) -> None:
        with self._lock:
            loop, thread, self._own_loop, self._thread = self._own_loop, self._thread, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()


_kept: set[asyncio.Future[Any]] = set()
"""Tasks that nobody awaits: a loop holds only weak references to its tasks."""


def _keep(task: asyncio.Future[Any]) -> None:
    _kept.add(task)
    task.add_done_callback(_kept.discard)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    """Run *loop* until it is stopped, and close it."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        if rest:
            loop.run_until_complete(asyncio.wait(rest, timeout=1.0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _is_here(loop: asyncio.AbstractEventLoop | None) -> bool:
    return loop is not None and asyncio._get_running_loop() is loop  # noqa: SLF001 - the public one raises


def _pass_on(ended: asyncio.Future[Any] | _Future, done: _Future) -> None:
    if ended.cancelled():
        done.set_exception(asyncio.CancelledError())
    elif (error := ended.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(ended.result())


def _finish(shared: _Shared, manager: AbstractContextManager[Any]) -> None:
    try:
        manager.__exit__(None, None, None)
    except BaseException as error:  # noqa: BLE001 - the others are closed as well
        close_error(shared.resource, error)
    finally:
        shared.closed.set_result(None)


def close_error(resource: Resource[Any], error: BaseException) -> None:
    """Log the *error* that the closing of *resource* raised."""
    log_error(_logger, "cannot close the resource %s", resource.name, error=error)


def noted(error: BaseException, resource: Resource[Any]) -> BaseException:
    """Return *error* with a note that names the resource which could not be opened.

    A StopIteration becomes a RuntimeError, as in generators: no future can hold it, so coroutines would wait for ever.
    """
    if isinstance(error, StopIteration):
        problem = RuntimeError(f"{resource.name} raised StopIteration")
        problem.__cause__ = error
        error = problem
    with contextlib.suppress(Exception):
        error.add_note(f"The resource {resource.name} could not be opened.")
    return error


def manager_of(resource: Resource[Any], given: Mapping[str, Any]) -> Any:
    """Return a context manager, of the kind that ``resource.is_async`` says, that opens and closes *resource*."""
    function = resource.function
    if resource.kind == "generator":
        make: Callable[..., Any] = contextlib.asynccontextmanager if resource.is_async else contextlib.contextmanager
        return make(function)(**given)
    made = function(**given)
    if resource.kind == "manager":
        return made
    if resource.is_async:
        return _Awaited(made)
    if isinstance(made, Coroutine):
        made.close()
        raise TypeError(f"{resource.name} is a plain function and returned a coroutine: declare it with async def")
    if _is_manager(made, AbstractAsyncContextManager) and not _is_manager(made, AbstractContextManager):
        raise TypeError(f"{resource.name} returned an asynchronous context manager: declare it with async def")
    return made if _is_manager(made, AbstractContextManager) else contextlib.nullcontext(made)


def _is_manager(value: Any, kind: type) -> bool:
    """Return whether a class derives from *kind*; a lock or a file, which only looks like one, is a value."""
    return kind in type(value).__mro__


class _Awaited:
    """The value of a coroutine as a context manager."""

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self._manager: Any = None

    async def __aenter__(self) -> Any:
        value = await self._coroutine
        if _is_manager(value, AbstractAsyncContextManager):
            self._manager = value
            return await value.__aenter__()
        if _is_manager(value, AbstractContextManager):
            self._manager = _Plain(value)
            return value.__enter__()
        return value

    async def __aexit__(self, *error: object) -> Any:
        return None if self._manager is None else await self._manager.__aexit__(*error)


@frozen
class _Plain:
    """A plain context manager that a coroutine returned."""

    manager: Any

    async def __aexit__(self, *error: object) -> Any:
        return self.manager.__exit__(*error)
