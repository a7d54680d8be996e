"""The tasks of the app, and a form for each that sends a call of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from queuekit import durations
from queuekit.cli.arguments import parse_value, readings
from queuekit.errors import OptionError
from queuekit.ids import new_id
from queuekit.operations.redaction import HIDDEN, hidden_parameters
from queuekit.tasks.callables import body_of, signature_of
from queuekit.tasks.task import Task
from queuekit_dashboard.calls import Go, HtmlPage, PageRequest, link

__all__ = ["form", "send_it", "show"]

_FIELD = "arg."
"""Beginning of the names of the fields that hold arguments."""
_SHOWN = 500
"""Tasks on a page."""
_LONGEST_DEFAULT = 200
"""Characters of a default."""


def show(call: PageRequest) -> HtmlPage:
    """Return the tasks; ``find`` selects them by a part of their name."""
    find = call.query.get("find", "")
    found = [task for name, task in sorted(call.app.tasks.items()) if find.casefold() in name.casefold()]
    return HtmlPage(
        template="tasks.html",
        values={
            "title": "Tasks",
            "rows": [_row(call, task) for task in found[:_SHOWN]],
            "find": find,
            "more": max(0, len(found) - _SHOWN),
        },
    )


def form(call: PageRequest) -> HtmlPage:
    """Return the form that sends a call of a task."""
    task = _task(call, call.query.get("name", ""))
    return HtmlPage(
        template="task.html",
        values={
            "title": task.name,
            **_row(call, task),
            "fields": list(_fields(call, task)),
            "id": new_id(),  # a form that is sent twice, by two clicks, sends one message
        },
    )


def send_it(call: PageRequest) -> Go:
    """Send a call of a task."""
    task = _task(call, call.need("name"))
    args, kwargs = _arguments(call, task)
    delay, queue = call.given("delay"), call.given("queue")
    options: dict[str, Any] = {"delay": durations.parse(delay) if delay else None, "queue": queue or None}
    options["id"] = call.given("id") or None
    result = task.options(**options).send(*args, **kwargs)
    if result.duplicate:
        return Go(link("/message", id=result.id), "Not sent: this message holds its unique key.")
    call.admin.acted("send", by=call.by, on=task.name, ids=[result.id])
    return Go(link("/message", id=result.id), "Sent.")


def _arguments(call: PageRequest, task: Task[..., Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that the form holds, as the annotations read them.

    Raises:
        ArgumentsError: They do not match the function, or one does not fit its annotation.
        OptionError: What fills ``*args`` or ``**kwargs`` is not of that kind.
    """
    args, kwargs = list[tuple[Any, ...]](), dict[str, tuple[Any, ...]]()
    for field in _fields(call, task):
        name, text = field["name"], call.given(_FIELD + field["name"])
        if not text:
            continue
        if field["many"]:
            args += [(item,) for item in _items(name, parse_value(text), list)]
        elif field["names"]:
            kwargs |= {key: (item,) for key, item in _items(name, parse_value(text), dict).items()}
        elif field["by_place"]:
            args.append(readings(text))
        else:
            kwargs[name] = readings(text)
    task.parameters.check(tuple(args), kwargs)
    return task.parameters.all_types.typed(args, kwargs)


def _task(call: PageRequest, name: str) -> Task[..., Any]:
    return call.app.tasks.find(name)


def _row(call: PageRequest, task: Task[..., Any]) -> dict[str, Any]:
    return {
        "task": task,
        "signature": str(inspect.Signature(_parameters(call, task))),
        "queue": task.defaults.queue or call.app.config.default_queue,
        "about": inspect.getdoc(body_of(task.function)) or "",
    }


class _Default:
    """Stands for the default of a parameter: the text that shows it, which hides what operators must not see."""

    def __init__(self, value: Any, *, hidden: bool) -> None:
        self._value = value
        self._hidden = hidden

    def __repr__(self) -> str:
        if self._hidden:
            return HIDDEN
        try:
            return repr(self._value)[:_LONGEST_DEFAULT]
        except Exception:  # noqa: BLE001 - the user's code
            return f"<{type(self._value).__name__}>"


def _parameters(call: PageRequest, task: Task[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that callers fill, with defaults that can be shown."""
    found, hidden = signature_of(body_of(task.function)).parameters, hidden_parameters(task, call.app.config.redact)
    return [
        one if one.default is one.empty else one.replace(default=_Default(one.default, hidden=name in hidden))
        for name in task.parameters.names
        for one in [found[name]]
    ]


def _fields(call: PageRequest, task: Task[..., Any]) -> Iterator[dict[str, Any]]:
    """Yield a field for each parameter, as the signature describes it."""
    for one in _parameters(call, task):
        hint = "" if one.annotation is one.empty else inspect.formatannotation(one.annotation).strip("'")
        yield {
            "name": one.name,
            "hint": hint,
            "required": one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD},
            "default": "" if one.default is one.empty else repr(one.default),
            "many": one.kind is one.VAR_POSITIONAL,
            "names": one.kind is one.VAR_KEYWORD,
            "by_place": one.kind is one.POSITIONAL_ONLY,
        }


def _items(name: str, value: Any, kind: type[Any]) -> Any:
    """Return what fills ``*args`` or ``**kwargs``.

    Raises:
        OptionError: It is not of that kind.
    """
    if not isinstance(value, kind):
        what = "a list, e.g. [1, 2]" if kind is list else 'an object, e.g. {"x": 1}'
        raise OptionError(f"{name} is {what}", fix="Go back and change it")
    return value
