"""The keys by which a call counts for the limits of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from queuekit.signature import Signature
from queuekit.tasks.task import Task

__all__ = ["arguments_of", "computed_keys", "keys_at_send", "keys_of"]


def keys_at_send(call: Signature[Any], task: Task[..., Any]) -> dict[str, str] | None:
    """Return the keys that the message of *call* carries, by limit; ``None`` if no limit has a key.

    Raises:
        OptionError: A value cannot be a key.
    """
    return computed_keys(task, call.args, call.kwargs, each=call.each)


def computed_keys(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, each: bool
) -> dict[str, str] | None:
    """Return the keys of a call by limit; ``None`` if no limit has a key.

    Args:
        task: Its task.
        args: Its positional arguments.
        kwargs: The others.
        each: Whether the first argument is a list of argument lists; the keys are those of the first one.

    Raises:
        OptionError: A value cannot be a key.
    """
    limits = [limit for limit in task.defaults.limits if limit.key is not None]
    if not limits:
        return None
    arguments = arguments_of(task, args, kwargs, each=each)
    found = {one.named(task.name): one.key.of(arguments, task=task.name) for one in limits if one.key is not None}
    return {name: key for name, key in found.items() if key is not None}


def arguments_of(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, each: bool
) -> Mapping[str, Any]:
    """Return the arguments of a call by name; of the first one, if it is a list of calls."""
    values = tuple(args)
    if each and values:
        calls, *rest = values
        values = (*(calls[0] if calls else ()), *rest)
    return task.parameters.by_name(values, kwargs)


def keys_of(task: Task[..., Any], keys: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of a message by limit: *keys*, and an empty one for each limit that is one for all calls."""
    named = {limit.named(task.name): limit for limit in task.defaults.limits}
    found = {name: "" if limit.key is None else keys.get(name) for name, limit in named.items()}
    return {name: key for name, key in found.items() if key is not None}
