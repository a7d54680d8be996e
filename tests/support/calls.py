"""Tasks for tests of workflows, and the engines that those run on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from queuekit import Context, Failure, Queuekit, Task
from queuekit.clock import Clock
from support.working import flaky_app, make_app

AppMaker = Callable[..., Queuekit]


@attrs.frozen
class Calls:
    """The tasks of one app, and what they have seen."""

    app: Queuekit
    add: Task[..., int]
    total: Task[..., int]
    product: Task[..., int]
    multiply: Task[..., int]
    echo: Task[..., list[Any]]
    nothing: Task[..., None]
    boom: Task[..., Any]
    told: Task[..., str]
    headers: Task[..., list[Any]]
    seen: list[Any]
    failures: list[Failure]


def _add(x: int, y: int) -> int:
    return x + y


def _product(numbers: list[int]) -> int:
    found = 1
    for number in numbers:
        found *= number
    return found


def _multiply(x: int, y: int) -> int:
    return x * y


def _nothing(*_values: Any) -> None:
    return None


def _boom(text: str, *_values: Any) -> Any:
    raise ValueError(text)


def _headers(ctx: Context, *_values: Any) -> list[Any]:
    return [dict(ctx.headers), ctx.parent]


def calls_on(app: Queuekit) -> Calls:
    """Register the tasks on *app*."""
    seen: list[Any] = []
    failures: list[Failure] = []

    def total(numbers: list[int]) -> int:
        seen.append(numbers)
        return sum(numbers)

    def echo(*values: Any) -> list[Any]:
        seen.append(list(values))
        return list(values)

    def told(failure: Failure) -> str:
        failures.append(failure)
        return failure.error

    functions: dict[str, Callable[..., Any]] = {
        "add": _add,
        "total": total,
        "product": _product,
        "multiply": _multiply,
        "echo": echo,
        "nothing": _nothing,
        "boom": _boom,
        "told": told,
        "headers": _headers,
    }
    tasks: dict[str, Any] = {name: app.task(name=name)(function) for name, function in functions.items()}
    return Calls(app=app, seen=seen, failures=failures, **tasks)


def memory(_folder: Path, **settings: Any) -> Queuekit:
    """Return an app on the memory engine."""
    return make_app(**settings)


def sqlite(folder: Path, **settings: Any) -> Queuekit:
    """Return an app on one file."""
    clock: Clock | None = settings.pop("clock", None)
    return make_app(clock=clock, broker=f"sqlite:///{folder}/queue.db", **settings)


def apart(_folder: Path, **settings: Any) -> Queuekit:
    """Return an app whose broker and backend are separate engines."""
    return flaky_app(**settings)


ENGINES: dict[str, AppMaker] = {"memory": memory, "sqlite": sqlite, "apart": apart}
"""How a test gets an app of its own, given a folder; a plugin adds a line."""
