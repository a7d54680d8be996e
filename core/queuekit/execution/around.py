"""Run a body inside the generators of middlewares, for bodies of both kinds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self

from queuekit.context import Context
from queuekit.middleware import AroundRun

__all__ = ["run_inside", "run_inside_async"]


def run_inside(stages: Sequence[AroundRun], context: Context, body: Callable[[], Any]) -> Any:
    """Return what *body* returns; *stages* run around it, the first one outermost."""
    if not stages:
        return body()
    with _Around(stages[0], context) as around:
        around.value = run_inside(stages[1:], context, body)
    return around.value


async def run_inside_async(stages: Sequence[AroundRun], context: Context, body: Callable[[], Awaitable[Any]]) -> Any:
    """Return what awaiting *body* returns; each of *stages* may be of either kind."""
    if not stages:
        return await body()
    made = stages[0](context)
    if hasattr(made, "asend"):
        async with _AsyncAround(stages[0], made) as around:
            around.value = await run_inside_async(stages[1:], context, body)
        return around.value
    with _Around(stages[0], context, made) as plain:
        plain.value = await run_inside_async(stages[1:], context, body)
    return plain.value


class _Around:
    """A generator as a context manager: unlike ``contextlib.contextmanager``, it sends the body's value into it."""

    def __init__(self, stage: AroundRun, context: Context, made: Any = None) -> None:
        self._name = _name(stage)
        generator: Any = stage(context) if made is None else made
        self._generator: Generator[None, Any, None] = generator
        self.value: Any = None
        """The value that the body returned; ``None`` if the generator swallowed its error."""

    def __enter__(self) -> Self:
        if not hasattr(self._generator, "send"):
            raise TypeError(f"{self._name} returned {type(self._generator).__name__}, not a generator")
        try:
            next(self._generator)
        except StopIteration:
            raise RuntimeError(f"{self._name} did not yield, so the body did not run") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            if error is None:
                self._generator.send(self.value)
            else:
                self._generator.throw(error)
        except StopIteration as stop:
            return stop is not error
        except BaseException as raised:
            if not _is_same(raised, error):
                raise
            raised.__traceback__ = traceback
            return False
        self._generator.close()
        raise RuntimeError(f"{self._name} yielded more than once") from error


class _AsyncAround:
    """The same for an asynchronous generator."""

    def __init__(self, stage: AroundRun, made: Any) -> None:
        self._name = _name(stage)
        self._generator: AsyncGenerator[None, Any] = made
        self.value: Any = None

    async def __aenter__(self) -> Self:
        try:
            await anext(self._generator)
        except StopAsyncIteration:
            raise RuntimeError(f"{self._name} did not yield, so the body did not run") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            if error is None:
                await self._generator.asend(self.value)
            else:
                await self._generator.athrow(error)
        except StopAsyncIteration as stop:
            return stop is not error
        except BaseException as raised:
            if not _is_same(raised, error):
                raise
            raised.__traceback__ = traceback
            return False
        await self._generator.aclose()
        raise RuntimeError(f"{self._name} yielded more than once") from error


def _is_same(raised: BaseException, error: BaseException | None) -> bool:
    """Return whether *raised* is the body's *error*: Python wraps a stop of iteration that a generator raises."""
    wrapped = isinstance(error, StopIteration | StopAsyncIteration) and isinstance(raised, RuntimeError)
    return error is not None and (raised is error or (wrapped and raised.__cause__ is error))


def _name(stage: AroundRun) -> str:
    """Return class and method of *stage*, for errors."""
    owner, method = getattr(stage, "__self__", None), getattr(stage, "__name__", "around_run")
    return method if owner is None else f"{type(owner).__name__}.{method}"
