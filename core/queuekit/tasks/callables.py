"""Checks and describes callables that may become tasks: functions, methods, and other callables with a given name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from queuekit.errors import QueuekitError
from queuekit.ids import InvalidNameError, check_name, module_of

__all__ = [
    "DeclarationError",
    "body_of",
    "check_function",
    "default_name",
    "gate_of",
    "is_coroutine_function",
    "place_of",
    "signature_of",
]

NAMED = '@app.task(name="...")'


class DeclarationError(QueuekitError, TypeError):
    """The object given to ``@app.task`` cannot be a task."""

    code = "QK217"
    exit_code = 3


def check_function(function: Any) -> None:
    """Raise if *function* cannot be a task.

    Raises:
        DeclarationError: It is not callable, or is a generator function; says what to write instead.
    """
    if not callable(function):
        fix = f"To name a task write {NAMED} above it" if isinstance(function, str) else "Register a function"
        raise DeclarationError(f"{_shown(function)} is not a function", fix=fix)
    for body in (function, body_of(function)):
        if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
            raise DeclarationError(
                f"{place_of(function)} is a generator function: a worker would call it, but its body would not run",
                fix="Return a list instead of using yield, or send a message for each item",
            )


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Return whether calling *function* creates a coroutine; also for objects whose ``__call__`` is ``async``."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(body_of(function))


def body_of(function: Any) -> Any:
    """Return the code that runs when *function* is called: the function in a partial, or an object's ``__call__``."""
    while isinstance(function, functools.partial):
        function = function.func
    plain = inspect.isroutine(function) or isinstance(function, type)
    return function if plain else getattr(type(function), "__call__", function)  # noqa: B004 - needs the method, not whether there is one


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of *function*; ``(*args, **kwargs)`` for a C function without one."""
    try:
        return inspect.signature(function)
    except ValueError:
        kinds = {"args": inspect.Parameter.VAR_POSITIONAL, "kwargs": inspect.Parameter.VAR_KEYWORD}
        return inspect.Signature([inspect.Parameter(name, kind) for name, kind in kinds.items()])


def gate_of(function: Callable[[], object]) -> Callable[[], object]:
    """Return *function*, which says whether workers may take messages.

    Raises:
        DeclarationError: It is not a function that can be called without arguments, or it is asynchronous.
    """
    if not callable(function):
        raise DeclarationError(f"{_shown(function)} is not a function", fix="Give app.gate() a function")
    body = body_of(function)
    if any(map(inspect.iscoroutinefunction, (function, body))) or inspect.isgeneratorfunction(body):
        raise DeclarationError(
            f"{place_of(function)} does not return its answer when called", fix="Use a plain function"
        )
    try:
        signature_of(function).bind()
    except TypeError as error:
        raise DeclarationError(f"the gate {place_of(function)} is called without arguments: {error}") from None
    return function


def default_name(function: Callable[..., Any]) -> str:
    """Return module and qualified name; for a script's function, the module's name under which a worker imports it.

    Raises:
        DeclarationError: It has no name, like partials and objects.
        InvalidNameError: Its name is not a valid task name.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    unnamed = not isinstance(module, str) and not inspect.isfunction(function)
    if unnamed or not isinstance(name, str) or name.endswith("<lambda>"):
        raise DeclarationError(f"{place_of(function)} has no name of its own", fix=f"Give it one: {NAMED}")
    # Functions that exec() defines in a namespace without __name__ have no module.
    full = (name if module is None else f"{module_of(function)}.{name}").replace("<locals>.", "")
    try:
        return check_name(full, what="task")
    except InvalidNameError as error:
        error.fix = f"Give it another: {NAMED}, 1 to 120 characters out of A-Z a-z 0-9 _ . : -"
        raise


def place_of(function: Any) -> str:
    """Return the qualified name of *function*, for errors."""
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str):
        return _shown(function)
    module = getattr(function, "__module__", None)
    return name if module is None else f"{module}.{name}"


def _shown(value: object) -> str:
    if isinstance(value, functools.partial):
        return f"a partial of {place_of(value.func)}"
    if value is None or isinstance(value, str | int | float | bytes):
        return repr(value)[:60]
    return f"an object of {type(value).__qualname__}"
