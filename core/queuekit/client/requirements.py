"""Checks at start that the broker and the backend support what an app's tasks and schedules need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from queuekit.broker import Capabilities
from queuekit.client.runtime import Runtime
from queuekit.client.service_options import valid
from queuekit.envelope import DEFAULT_PRIORITY
from queuekit.errors import CapabilityError, QueuekitError
from queuekit.limits import Concurrency
from queuekit.tasks.task import Task, TaskOptions
from queuekit.unique import UniqueKey
from queuekit.urls import EngineURL

__all__ = ["look_up", "require", "require_shared", "unmet_requirements"]

_SHOWN = 3


def unmet_requirements(
    runtime: Runtime, tasks: Mapping[str, Task[..., Any]], schedules: Iterable[str] = ()
) -> Iterator[str]:
    """Yield a line for each task option and each schedule that the engines do not support."""
    able = runtime.broker.capabilities
    # Without a clock in the service, this reads the backend's clock; so do it only if a task needs one.
    dated = not able.tells_time and any(_needs_clock(task.defaults) for task in tasks.values())
    tells_time = not dated or runtime.tells_time
    for name, task in sorted(tasks.items()):
        yield from (f"{name} asks for {text}" for text in _unmet_options(task.defaults, runtime, tells_time=tells_time))
        yield from _unmet_service_options(runtime, name, task.defaults.broker or {})
    yield from _unequal_limits(tasks)
    yield from _unmet_bounds(runtime)
    needed = "a result backend" if runtime.backend is None else "a backend that can list its records (capability scan)"
    if runtime.backend is None or not runtime.backend.capabilities.scan:
        yield from (f"the schedule {name} needs {needed}" for name in schedules)


def _unmet_bounds(runtime: Runtime) -> Iterator[str]:
    """Yield the bounds of dead letters that nothing could enforce."""
    if not runtime.broker.capabilities.dead_letters:
        why = f"{runtime.broker_url.scheme}:// keeps no dead letters without a backend that can list records"
        names = [name for name in ("dead_max_age", "dead_max_count") if getattr(runtime.config.worker, name)]
        yield from (f"worker.{name} is set, but {why}" for name in names)


def _needs_clock(options: TaskOptions) -> bool:
    debounced = isinstance(options.unique, UniqueKey) and options.unique.on_conflict == "debounce"
    return options.expires is not None or bool(options.limits) or debounced


def _unequal_limits(tasks: Mapping[str, Task[..., Any]]) -> Iterator[str]:
    """Yield the tasks that share a limit, but not its numbers."""
    seen: dict[str, tuple[str, tuple[float, ...]]] = {}
    for name, task in sorted(tasks.items()):
        for limit in task.defaults.limits:
            shared = limit.named(task.name)
            first, numbers = seen.setdefault(shared, (name, limit.numbers))
            if numbers != limit.numbers and first != name:
                yield f"{name} and {first} give different numbers for the limit {shared}"


def _unmet_service_options(runtime: Runtime, name: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield why the broker refuses the options of its service that the task *name* gives."""
    if given and not runtime.config.eager:
        try:
            valid(runtime, given, of=name)
        except QueuekitError as error:
            yield f"{error.what}: {error.fix}" if error.fix else error.what


def _unmet_options(options: TaskOptions, runtime: Runtime, *, tells_time: bool) -> Iterator[str]:
    """Yield the options of a task that the engines do not support, each with the reason."""
    able, scheme = runtime.broker.capabilities, runtime.broker_url.scheme
    if isinstance(options.unique, UniqueKey) and options.unique.merges:
        yield from _unmet_by_merging(options, options.unique.on_conflict, runtime, tells_time=tells_time)
    yield from (f"{name}, which {scheme}:// does not support" for name in _unsupported(options, able))
    if options.expires is not None and not tells_time:
        yield f"expires, but neither {scheme}:// nor the result backend has a clock"
    yield from _unmet_by_limits(options, runtime, tells_time=tells_time)
    if options.track and runtime.backend is None:
        yield "track, which needs a result backend"


def _unsupported(options: TaskOptions, able: Capabilities) -> Iterator[str]:
    """Yield the names of the options that a broker itself would have to support."""
    unique, fair = options.unique, options.fair_by
    merges = isinstance(unique, UniqueKey) and unique.merges
    if unique and not merges and not able.unique:
        yield "unique"
    if options.priority not in (None, DEFAULT_PRIORITY) and not able.priority:
        yield "priority"
    if fair is not None and not able.lanes and (fair.weights or not able.approximate_lanes):
        yield "weights of fair_by" if able.approximate_lanes else "fair_by"


def _unmet_by_merging(options: TaskOptions, conflict: str, runtime: Runtime, *, tells_time: bool) -> Iterator[str]:
    """Yield why the engines cannot let the newest arguments of a unique key win."""
    if conflict == "debounce" and not tells_time:
        scheme = runtime.broker_url.scheme
        yield f'on_conflict="debounce", but neither {scheme}:// nor the result backend has a clock'
    what = f'on_conflict="{conflict}", which'
    if runtime.backend is None:
        yield f"{what} needs a result backend"
    if not runtime.broker.capabilities.delay:
        yield f"{what} needs delays, and {runtime.broker_url.scheme}:// does not support those"
    if conflict == "latest" and options.ack == "early":
        yield f'{what} needs ack="late": else nobody knows that a message has ended when its worker dies'


def _unmet_by_limits(options: TaskOptions, runtime: Runtime, *, tells_time: bool) -> Iterator[str]:
    if not options.limits:
        return
    scheme = runtime.broker_url.scheme
    if runtime.backend is None:
        yield "limits, which need a result backend"
    elif not tells_time:
        yield f"limits, but neither {scheme}:// nor the result backend has a clock"
    able = runtime.broker.capabilities
    if not able.delay:
        yield f"limits, which need delays, and {scheme}:// does not support those"
    if not any(isinstance(limit, Concurrency) for limit in options.limits):
        return
    if not able.portable_leases:
        yield f"Concurrency, which needs leases that any process can end, and {scheme}:// ties them to a connection"
    if runtime.backend is not None and not runtime.backend.capabilities.scan:
        yield "Concurrency, which needs a result backend that can list its records"


def require(runtime: Runtime, tasks: Mapping[str, Task[..., Any]], schedules: Iterable[str] = ()) -> None:
    """Raise if the engines do not support the app's tasks and schedules.

    Raises:
        CapabilityError: Names tasks, options and broker.
    """
    lines = list(unmet_requirements(runtime, tasks, schedules))
    if lines:
        more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise CapabilityError(
            f"{runtime.broker_url} does not support everything that the app asks for",
            where="\n".join([f"  {line}" for line in lines[:_SHOWN]] + more),
            fix="Leave these options out, or use another broker; to list all:  queuekit check",
        )


def require_shared(runtime: Runtime) -> None:
    """Raise if an engine lives inside one process.

    Raises:
        CapabilityError: The broker or backend does; other processes do not see its data.
    """
    for side, url in _in_this_process(runtime):
        raise CapabilityError(
            f"{url.scheme}:// lives inside one process; other processes do not see its data",
            where=f'{side} = "{url}" from {runtime.config.origin(side)}',
            fix=f'Use one that processes share, e.g.  {side} = "sqlite:///.queuekit.db"',
        )


def look_up(runtime: Runtime, id: str) -> str:
    """Return how to learn why message *id* waits; no command sees an engine that lives inside this process."""
    for _, url in _in_this_process(runtime):
        return (
            f"{url.scheme}:// lives inside this process: only a worker in it, or queue.run() in a test, runs the "
            "message, and commands do not see it"
        )
    return f"See:  queuekit why {id}"


def _in_this_process(runtime: Runtime) -> Iterator[tuple[str, EngineURL]]:
    """Yield the settings and URLs of the engines that other processes do not see."""
    if not runtime.broker.capabilities.processes:
        yield "broker", runtime.broker_url
    if runtime.backend is not None and runtime.backend_url is not None and not runtime.backend.capabilities.processes:
        yield "backend", runtime.backend_url
