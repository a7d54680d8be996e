"""Run a body inside the generators of middlewares, for bodies of both kinds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any

from queuekit.context import Context
from queuekit.middleware import AroundRun

__all__ = ["run_inside", "run_inside_async"]


def run_inside(stages: Sequence[AroundRun], context: Context, body: Callable[[], Any]) -> Any:
    """Return what *body* returns; *stages* run around it, the first one outermost."""
    if not stages:
        return body()
    stage = stages[0]
    generator = _begun(stage, stage(context))
    try:
        value = run_inside(stages[1:], context, body)
    except BaseException as error:
        if _swallows(stage, generator, error):
            return None
        raise
    _end(stage, generator, value)
    return value


async def run_inside_async(stages: Sequence[AroundRun], context: Context, body: Callable[[], Awaitable[Any]]) -> Any:
    """Return what awaiting *body* returns; each of *stages* may be of either kind."""
    if not stages:
        return await body()
    stage = stages[0]
    made: Any = stage(context)
    awaits = hasattr(made, "asend")
    generator: Any = await _abegun(stage, made) if awaits else _begun(stage, made)
    try:
        value = await run_inside_async(stages[1:], context, body)
    except BaseException as error:
        swallowed = await _aswallows(stage, generator, error) if awaits else _swallows(stage, generator, error)
        if swallowed:
            return None
        raise
    if awaits:
        await _aend(stage, generator, value)
    else:
        _end(stage, generator, value)
    return value


def _begun(stage: AroundRun, made: Any) -> Generator[None, Any, None]:
    """Return the generator that *stage* has made, at its ``yield``."""
    if not hasattr(made, "send"):
        raise TypeError(f"{_name(stage)} returned {type(made).__name__}, not a generator")
    generator: Generator[None, Any, None] = made
    for _ in generator:
        return generator
    raise RuntimeError(f"{_name(stage)} did not yield, so the body did not run")


def _end(stage: AroundRun, generator: Generator[None, Any, None], value: Any) -> None:
    """Let *generator* come to its end; its ``yield`` returns the body's *value*."""
    try:
        generator.send(value)
    except StopIteration:
        return
    generator.close()
    raise RuntimeError(f"{_name(stage)} yielded more than once")


def _swallows(stage: AroundRun, generator: Generator[None, Any, None], error: BaseException) -> bool:
    """Let *generator* come to its end; its ``yield`` raises the body's *error*. Return whether it does not raise it."""
    traceback = error.__traceback__
    try:
        generator.throw(error)
    except StopIteration as stop:
        return stop is not error
    except BaseException as raised:
        if not _is_same(raised, error):
            raise
        error.__traceback__ = traceback
        return False
    generator.close()
    raise RuntimeError(f"{_name(stage)} yielded more than once") from error


async def _abegun(stage: AroundRun, generator: AsyncGenerator[None, Any]) -> AsyncGenerator[None, Any]:
    """Do as :func:`_begun` for an asynchronous generator."""
    async for _ in generator:
        return generator
    raise RuntimeError(f"{_name(stage)} did not yield, so the body did not run")


async def _aend(stage: AroundRun, generator: AsyncGenerator[None, Any], value: Any) -> None:
    """Do as :func:`_end` for an asynchronous generator."""
    try:
        await generator.asend(value)
    except StopAsyncIteration:
        return
    await generator.aclose()
    raise RuntimeError(f"{_name(stage)} yielded more than once")


async def _aswallows(stage: AroundRun, generator: AsyncGenerator[None, Any], error: BaseException) -> bool:
    """Do as :func:`_swallows` for an asynchronous generator."""
    traceback = error.__traceback__
    try:
        await generator.athrow(error)
    except StopAsyncIteration as stop:
        return stop is not error
    except BaseException as raised:
        if not _is_same(raised, error):
            raise
        error.__traceback__ = traceback
        return False
    await generator.aclose()
    raise RuntimeError(f"{_name(stage)} yielded more than once") from error


def _is_same(raised: BaseException, error: BaseException) -> bool:
    """Return whether *raised* is the body's *error*: Python wraps a stop of iteration that a generator raises."""
    wrapped = isinstance(error, StopIteration | StopAsyncIteration) and isinstance(raised, RuntimeError)
    return raised is error or (wrapped and raised.__cause__ is error)


def _name(stage: AroundRun) -> str:
    """Return class and method of *stage*, for errors."""
    owner, method = getattr(stage, "__self__", None), getattr(stage, "__name__", "around_run")
    return method if owner is None else f"{type(owner).__name__}.{method}"
