"""The calls that a test has sent, how they are compared with what it expects, and the text if they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from queuekit.tasks.task import Task

__all__ = ["SentCall", "difference", "failure", "shown"]

_NEAREST = 3
_WIDEST = 110


@attrs.frozen(kw_only=True)
class SentCall:
    """A call that was put on a queue during a test, with its arguments as they arrive.

    Attributes:
        task: Registered name of the task.
        args: Positional arguments, decoded.
        kwargs: Arguments by name, decoded.
        id: Id of the message.
        queue: Queue that it was sent to.
        priority: 0 (last) to 9 (first).
        at: When it was sent.
        due: When it may start.
        reason: Of a dead letter: why it is dead.
        error: Of a dead letter: the error in words.
    """

    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    id: str
    queue: str
    priority: int
    at: datetime
    due: datetime
    reason: str = ""
    error: str = ""

    def __str__(self) -> str:
        return shown(self.task, self.args, self.kwargs)


def shown(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as Python code."""
    parts = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return _cut(f"{task.rpartition('.')[2]}({', '.join(parts)})")


def difference(task: Task[..., Any], call: SentCall, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return how *call* differs from the expected arguments, which may be some of them; ``None`` if it does not."""
    differing: list[str] = []
    if call.task != task.name:
        return "another task"
    found = _bound(task, call.args, call.kwargs)
    expected = {**dict(zip(_places(task, len(args)), args, strict=False)), **kwargs}
    for name, value in expected.items():
        if name not in found:
            differing.append(f"{name}: missing, expected {value!r}")
        elif not _equal(found[name], value):
            differing.append(f"{name}: {found[name]!r}, expected {value!r}")
    return "; ".join(differing) or None


def failure(task: Task[..., Any], wanted: str, calls: Sequence[tuple[SentCall, str]]) -> str:
    """Return the text of a failed assertion: what is there instead, the nearest calls first, in a few lines."""
    if not calls:
        return f"{wanted}, and no other call was sent"
    ranked = sorted(calls, key=lambda pair: (pair[0].task != task.name, pair[1].count("expected")))
    rows = [f"  {call}   <- {why}" for call, why in ranked[:_NEAREST]]
    rest = len(calls) - len(rows)
    more = [f"  and {rest} more"] if rest else []
    return "\n".join([f"{wanted}; sent instead:", *map(_cut, rows), *more])


def _places(task: Task[..., Any], count: int) -> list[str]:
    names = task.parameters.names
    return [names[place] if place < len(names) else f"*{place}" for place in range(count)]


def _bound(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by parameter, with defaults."""
    bound = task.parameters.bind(tuple(args), kwargs)
    if bound is None:  # a follow-up whose last argument is still to come
        return {**dict(zip(_places(task, len(args)), args, strict=False)), **kwargs}
    bound.apply_defaults()
    return {**bound.arguments, **dict(zip(_places(task, len(args)), args, strict=False)), **kwargs}


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values that cannot be compared count as different
        return False


def _cut(text: str) -> str:
    line = text.replace("\n", " ")
    return line if len(line) <= _WIDEST else line[: _WIDEST - 3] + "..."
