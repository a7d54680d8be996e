"""Calls the function of a run: with its context if it takes one, once or for each of a list of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from queuekit.execution.lazy_results import READY, afinished, finished
from queuekit.execution.run import Run

__all__ = ["ainvoke", "invoke"]


def _call(run: Run, args: Sequence[Any]) -> Any:
    """Call the function with its context in front if it takes one, and with its resources."""
    task = run.task
    if task.parameters.plain:
        return task.function(*args, **run.message.kwargs)
    before = (run.context,) if task.parameters.have_context else ()
    filled, named = task.parameters.filled(args, run.message.kwargs, run.injected)
    return task.function(*before, *filled, **named)


def invoke(run: Run) -> Any:
    """Call the function of *run* with its arguments, or once for each list of arguments."""
    message = run.message
    if not message.each:
        value = _call(run, message.args)
        return value if type(value) in READY else finished(value, run.timeout)
    return [finished(_call(run, [*args, *message.args[1:]]), run.timeout) for args in message.args[0]]


async def ainvoke(run: Run) -> Any:
    """Call the coroutine function of *run* like :func:`invoke`, one call after the other."""
    message = run.message
    if not message.each:
        value = await _call(run, message.args)
        return value if type(value) in READY else await afinished(value)
    return [await afinished(await _call(run, [*args, *message.args[1:]])) for args in message.args[0]]
