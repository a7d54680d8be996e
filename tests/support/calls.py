"""Tasks for tests of workflows, and the engines that those run on."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Context, Failure, Queuekit, Task
from queuekit.clock import Clock
from queuekit_testing.kit import unique_name
from support.waiting import UNHURRIED, unhurried
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
    return make_app(clock=clock, broker=unhurried(f"sqlite:///{folder}/queue.db", "busy_timeout"), **_patient(settings))


def apart(_folder: Path, **settings: Any) -> Queuekit:
    """Return an app whose broker and backend are separate engines."""
    return flaky_app(**settings)


def redis(_folder: Path, **settings: Any) -> Queuekit:
    """Return an app on Redis."""
    return make_app(broker=_redis_url(), **_patient(settings))


def mongo(_folder: Path, **settings: Any) -> Queuekit:
    """Return an app on MongoDB."""
    return make_app(broker=_mongo_url(), **_patient(settings))


def aws(_folder: Path, **settings: Any) -> Queuekit:
    """Return an app on SQS, with its results in DynamoDB."""
    from support.aws_servers import shared_ministack

    server, prefix = shared_ministack(), unique_name("w")
    return make_app(broker=server.sqs(prefix), backend=server.dynamodb("workflows"), **_patient(settings))


def sqlite_redis(folder: Path, **settings: Any) -> Queuekit:
    """Return an app with a file for its queues, and its results on Redis."""
    return sqlite(folder, backend=_redis_url(), **settings)


def redis_mongo(_folder: Path, **settings: Any) -> Queuekit:
    """Return an app with its queues on Redis, and its results on MongoDB."""
    return make_app(broker=_redis_url(), backend=_mongo_url(), **_patient(settings))


def _patient(settings: dict[str, Any]) -> dict[str, Any]:
    """Return *settings* by which a send bears with an engine that takes its time."""
    return {"send_timeout": UNHURRIED, **settings}


def _redis_url() -> str:
    from support.redis_servers import shared_url

    url = unhurried(shared_url("valkey"), "timeout", "connect_timeout")
    return f"{url}&key_prefix={unique_name('w')}"


def _mongo_url() -> str:
    pytest.importorskip("pymongo")
    from support.mongod import shared_url

    url = unhurried(shared_url("workflows"), "timeout")
    return f"{url}&prefix={unique_name('w')}"


AT_HAND: dict[str, AppMaker] = {"memory": memory, "sqlite": sqlite, "apart": apart}
"""How a test gets an app of its own, given a folder, where no server is needed."""
SERVED: dict[str, AppMaker] = {
    "redis": redis,
    "mongo": mongo,
    "aws": aws,
    "sqlite-redis": sqlite_redis,
    "redis-mongo": redis_mongo,
}
"""... and where one is; a pair names broker and backend. A plugin adds a line."""
ALONE = ("redis", "mongo", "aws")
"""Those that are not mixed."""
MIXED = tuple(name for name in SERVED if name not in ALONE)
"""... and those that are."""
ENGINES: dict[str, AppMaker] = AT_HAND | SERVED


def each_engine(always: Collection[str], nightly: Collection[str] = ()) -> list[Any]:
    """Return the names of all engines as parameters; those with servers are for the torture run.

    Save for *always*, and for *nightly*, which `tox -e full` runs.
    """
    marks = {**dict.fromkeys(SERVED, pytest.mark.torture), **dict.fromkeys(nightly, pytest.mark.full)}
    left = [pytest.param(name, marks=() if name in always else marks[name], id=name) for name in SERVED]
    return [*AT_HAND, *left]
