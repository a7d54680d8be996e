"""Calls a task in this process, for the commands that run one without a queue."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Never

import click

import queuekit
from queuekit.context import Context, enter, leave
from queuekit.execution.lazy_results import afinished, finished
from queuekit.logs.plaintext import clean
from queuekit.tasks.task import Task

__all__ = ["BodyError", "call_here", "fail"]

_OURS = {Path(queuekit.__file__).parent, Path(__file__).parent}
"""Folders whose frames a traceback leaves out."""


class BodyError(Exception):
    """The body of a task raised; the cause is its exception."""


def call_here(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, context: Context, each: bool = False
) -> Any:
    """Call the function of *task* and return its result.

    Args:
        task: The task.
        args: Its arguments, as a message holds them.
        kwargs: Its arguments by name.
        context: Its context, if it takes one.
        each: Whether the first argument is a list of argument lists.

    Raises:
        ArgumentsError: The arguments do not fit the task.
        BodyError: The body raised.
    """
    made, named = task.parameters.arrived([*args], {**kwargs}, each=each)
    calls = [[*one, *made[1:]] for one in made[0]] if each else [made]
    for call in calls:
        task.parameters.check(tuple(call), named)
    token = enter(context)
    try:
        values = _called(task, context, calls, named)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BodyError from error
    finally:
        leave(token)
    return values if each else values[0]


def _called(
    task: Task[..., Any], context: Context, calls: Sequence[Sequence[Any]], kwargs: Mapping[str, Any]
) -> list[Any]:
    """Return the results of *calls*, which share the resources of the task as the calls of one message do."""
    if task.parameters.injected:
        return _called_with_resources(task, context, calls, kwargs)
    return [_call(task, context, call, kwargs) for call in calls]


def _called_with_resources(
    task: Task[..., Any], context: Context, calls: Sequence[Sequence[Any]], kwargs: Mapping[str, Any]
) -> list[Any]:
    from queuekit.execution.task_scope import TaskScope  # slow to import

    app: Any = task.app
    scope, error = TaskScope(app.resources, context), None
    values: list[Any] = []

    async def on_loop() -> None:
        try:
            given = await scope.avalues(task.parameters.injected)
            values.extend([await afinished(_made(task, context, call, kwargs, given)) for call in calls])
        except BaseException as raised:
            await scope.aclose(raised)
            raise
        _raise(await scope.aclose(None))

    if task.is_async:
        import asyncio

        asyncio.run(on_loop())
        return values
    try:
        given = scope.values(task.parameters.injected)
        values = [finished(_made(task, context, call, kwargs, given), None) for call in calls]
    except BaseException as raised:
        error = raised
        raise
    finally:
        late = scope.close(error)
    _raise(late)
    return values


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


def _made(
    task: Task[..., Any],
    context: Context,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
) -> Any:
    """Return what the function returns, for a coroutine function an awaitable."""
    before = (context,) if task.parameters.have_context else ()
    filled, named = task.parameters.filled(args, kwargs, given)
    return task.function(*before, *filled, **named)


def _call(task: Task[..., Any], context: Context, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    value = _made(task, context, args, kwargs)
    if not isinstance(value, Awaitable):
        return finished(value, None)
    import asyncio  # slow to import

    return asyncio.run(afinished(value))


def fail(task: str, error: BodyError, *, debug: bool = False) -> Never:
    """Print the traceback of the user's code and exit with 1; with *debug*, enter the debugger there first.

    Raises:
        Exit: Always.
    """
    cause = error.__cause__ or error
    frames = _own(cause.__traceback__)
    text = "".join(traceback.format_exception(type(cause), cause, frames))
    click.echo(clean(text, lines=True), err=True, nl=False)
    if debug and frames is not None:
        import pdb  # noqa: T100 - it was asked for

        pdb.post_mortem(frames)
    click.echo(f"Error: {task} raised {type(cause).__name__}.", err=True)
    raise click.exceptions.Exit(1)


def _own(frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame that is not ours."""
    while frames is not None and _is_ours(Path(frames.tb_frame.f_code.co_filename)):
        frames = frames.tb_next
    if frames is not None and Path(frames.tb_frame.f_code.co_filename).is_relative_to(Path(sys.base_prefix) / "lib"):
        inner = frames
        while inner.tb_next is not None and _is_library(inner):
            inner = inner.tb_next
        return inner
    return frames


def _is_library(frames: TracebackType) -> bool:
    """Return whether a frame belongs to asyncio or to us, below which the coroutine of the user runs."""
    path = Path(frames.tb_frame.f_code.co_filename)
    return path.parent.name == "asyncio" or _is_ours(path)


def _is_ours(path: Path) -> bool:
    return not _OURS.isdisjoint(path.parents)
