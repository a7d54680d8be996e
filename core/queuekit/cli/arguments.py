"""The arguments of a call as somebody types them: JSON if possible, else text, and of the types that the task takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from queuekit.errors import ArgumentsError
from queuekit.tasks.task import Task

__all__ = ["CallCommand", "parse_value", "readings", "typed_call", "unchecked_option"]

_KEYWORD = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
_NEGATIVE = re.compile(r"-\.?\d")
_OPTION = re.compile(r"--?[A-Za-z]")
_SHIELD = "\0"


class CallCommand(click.Command):
    """Reads ``-5`` as a number, not as an option, unless it follows an option as its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args* with negative numbers shielded."""
        before = ["", *args]
        shielded = [
            _SHIELD + arg if _NEGATIVE.match(arg) and not _OPTION.match(previous) else arg
            for previous, arg in zip(before, args, strict=False)
        ]
        return super().parse_args(ctx, shielded)


unchecked_option: Callable[[Any], Any] = click.option(
    "--unchecked", is_flag=True, help="Take values that do not fit the annotations of the task."
)
"""Lets a call be written whose values are of other types."""


def parse_value(text: str) -> Any:
    """Return the value of *text* if it is JSON, else *text* itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    """Refuse ``NaN`` and infinities, which are not JSON: they stay text."""
    raise ValueError(name)


def readings(text: str) -> tuple[Any, ...]:
    """Return what *text* may mean, the likeliest first: a value that is written as JSON, and the text."""
    value = parse_value(text)
    return (text,) if isinstance(value, str) and value == text else (value, text)


def typed_call(
    task: Task[..., Any], texts: Sequence[str], *, usage: str, unchecked: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call of *task*: positional ones, and those written ``name=value``.

    Args:
        task: The task.
        texts: What was typed.
        usage: The command line before the arguments, for errors.
        unchecked: Whether annotations say nothing.

    Raises:
        ArgumentsError: They do not match the function, or a value does not fit its annotation; says what would.
    """
    texts = [text.removeprefix(_SHIELD) for text in texts]
    named = {name: value for name, _, value in (text.partition("=") for text in texts if _KEYWORD.match(text))}
    args, kwargs = [readings(text) for text in texts if not _KEYWORD.match(text)], _each(named)
    try:
        task.parameters.check(tuple(args), kwargs)
    except ArgumentsError as error:
        names = " ".join(map(str.upper, task.parameters.names))
        error.fix = error.fix or f"Write e.g.:  {usage} {names}".rstrip()
        raise
    if unchecked:
        return [found[0] for found in args], {name: found[0] for name, found in kwargs.items()}
    try:
        return task.parameters.all_types.typed(args, kwargs)
    except ArgumentsError as error:
        error.fix = f"It takes {task.parameters}\nTo take it all the same, add  --unchecked"
        raise


def _each(named: dict[str, str]) -> dict[str, tuple[Any, ...]]:
    return {name: readings(text) for name, text in named.items()}
