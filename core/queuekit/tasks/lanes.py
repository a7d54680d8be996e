"""The lane of a call, by the option ``fair_by``."""

from __future__ import annotations

from typing import Any

from queuekit.envelope import Lane
from queuekit.errors import OptionError
from queuekit.fair import Fair
from queuekit.limits import Argument, shortened
from queuekit.signature import Signature
from queuekit.tasks.limit_keys import arguments_of
from queuekit.tasks.task import Task

__all__ = ["COMMON", "lane_of"]

COMMON = Lane()
"""The lane of calls without a key, where others have one."""


def lane_of(fair: Fair, call: Signature[Any], task: Task[..., Any] | None) -> Lane:
    """Return the lane of *call*: the value of the argument that *fair* names, or the common one.

    Raises:
        OptionError: The value cannot be a key, or the task is unknown here and the call does not name the argument.
    """
    argument = Argument(tuple(fair.by.split(".")))
    if task is not None:
        task.parameters.check_names(argument.path[:1], of="to be fair by")
        arguments = arguments_of(task, call.args, call.kwargs, each=call.each)
    elif argument.path[0] in call.kwargs:
        arguments = call.kwargs
    else:
        text = f"{call.task} is unknown here, so which of its arguments is {argument.path[0]} is unknown, too"
        raise OptionError(text, fix='Pass it by name, or give the lane itself:  fair_by="acme"')
    key = argument.of(arguments, task=call.task, what="fair_by")
    if key is None:
        return COMMON
    if not key.isprintable():  # SQLite's JSON ends at a null character, and operators see the key
        key = shortened("".join(one if one.isprintable() else ascii(one)[1:-1] for one in key))
    return Lane(key, fair.weights.get(key, 1.0))
