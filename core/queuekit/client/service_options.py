"""Check the options of the broker's service that tasks and calls give, against the class that the broker declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from queuekit.client.runtime import Runtime
from queuekit.errors import CapabilityError
from queuekit.plugins.options import read, settable
from queuekit.signature import Signature
from queuekit.tasks.registry import Tasks
from queuekit.wire.call_options import OptionError, known

__all__ = ["ServiceOptions", "valid"]


class ServiceOptions:
    """Checks options once for each set of values, since each message of a task has the same ones.

    Args:
        runtime: Its broker declares the options.
        tasks: The registered tasks, which may set options for their messages.
    """

    _MOST = 1_000
    """Sets of values whose check is remembered."""

    def __init__(self, runtime: Runtime, tasks: Tasks) -> None:
        self._runtime = runtime
        self._tasks = tasks
        self._checked: dict[str, dict[str, Any]] = {}

    def applied(self, signature: Signature[Any]) -> Signature[Any]:
        """Return *signature* with the options of its task and its own, checked, as its message will carry them.

        Raises:
            CapabilityError: The broker has no such options.
            OptionError: An option does not exist, or its value is not valid.
        """
        given = self._given(signature)
        return attrs.evolve(signature, broker=self._valid(given, signature.task)) if given else signature

    def check(self, signature: Signature[Any]) -> None:
        """Raise if *signature*, or a follow-up of it, has options that the broker refuses; as :meth:`applied` does."""
        for one in _all(signature):
            given = self._given(one)
            if given:
                self._valid(given, one.task)

    def _given(self, signature: Signature[Any]) -> dict[str, Any]:
        task = self._tasks.get(signature.task)
        usual = task.defaults.broker if task is not None else None
        return {**(usual or {}), **(signature.broker or {})}

    def _valid(self, given: dict[str, Any], task: str) -> dict[str, Any]:
        key = repr(sorted(given.items()))
        found = self._checked.get(key)
        if found is None:
            found = valid(self._runtime, given, of=task)
            if len(self._checked) < self._MOST:
                self._checked[key] = found
        return found


def valid(runtime: Runtime, given: Mapping[str, Any], *, of: str) -> dict[str, Any]:
    """Return options in the types of the broker's class; *of* is the task that asks for them.

    Raises:
        CapabilityError: The broker has no such options.
        OptionError: An option does not exist, or its value is not valid.
    """
    kind, scheme = runtime.broker.message_options, runtime.broker_url.scheme
    if kind is None:
        names = ", ".join(sorted(given))
        raise CapabilityError(
            f"{of} asks for broker options ({names}), and {scheme}:// has none",
            fix="Leave broker out, or use another broker",
        )
    known(given, settable(kind), of=f"{of}: {scheme}://")
    values, problems = read(kind, given)
    for name, text in problems.items():
        raise OptionError(f"{of}: broker[{name!r}]: {text}")
    try:
        kind(**values)
    except Exception as error:
        raise OptionError(f"{of}: broker: {str(error.args[0] if error.args else error)[:200]}") from error
    return {name: value if _is_plain(value) else given[name] for name, value in values.items()}


def _is_plain(value: Any) -> bool:
    """Return whether JSON keeps *value* as it is; other values travel as they were written."""
    return type(value) in {str, int, float, bool} or value is None


def _all(signature: Signature[Any]) -> Iterator[Signature[Any]]:
    """Yield *signature* and its follow-ups at any depth."""
    yield signature
    for follow_up in (*signature.on_success, *signature.on_error):
        yield from _all(follow_up)
