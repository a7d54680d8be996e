"""Bodies that return an awaitable or a generator: run, or a failure, never a success that did nothing."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from queuekit import Queuekit, State, TaskFailed
from support.working import burst, make_app

RAN: list[str] = []


async def _work(name: str) -> str:
    await asyncio.sleep(0)
    RAN.append(name)
    return name


def _generate(name: str) -> Iterator[str]:
    RAN.append(name)
    yield name


async def _agenerate(name: str) -> AsyncIterator[str]:
    RAN.append(name)
    yield name


@functools.wraps(_work)
def wrapped(name: str) -> Any:
    """Return what a coroutine function makes, as decorators do that know nothing of coroutines."""
    return _work(name)


async def twice(name: str) -> Any:
    """Return a coroutine."""
    return _work(name)


async def started(name: str) -> Any:
    """Return a task of asyncio's."""
    return asyncio.create_task(_work(name))


def generating(name: str) -> Any:
    """Return a generator."""
    return _generate(name)


def agenerating(name: str) -> Any:
    """Return an async generator."""
    return _agenerate(name)


async def generating_async(name: str) -> Any:
    """Return a generator, out of a coroutine."""
    return _generate(name)


def _app(mode: str) -> Queuekit:
    return make_app(eager=mode == "eager")


def _ended(app: Queuekit, function: Callable[..., Any], name: str, **options: Any) -> Any:
    result = app.task(name="t", track=True, **options)(function).send(name)
    if not app.config.eager:
        burst(app)
    return result


@pytest.mark.parametrize("mode", ["worker", "eager"])
@pytest.mark.parametrize("function", [wrapped, twice, started], ids=["wrapped", "coroutine", "task"])
def test_an_awaitable_is_run_to_its_end(function: Callable[..., Any], mode: str) -> None:
    """Its result is that of the task."""
    name = f"{function.__name__}-{mode}"

    assert _ended(_app(mode), function, name).get(timeout=60) == name
    assert name in RAN


@pytest.mark.parametrize("mode", ["worker", "eager"])
@pytest.mark.parametrize("function", [wrapped, twice], ids=["wrapped", "coroutine"])
def test_an_awaitable_is_run_though_results_are_ignored(function: Callable[..., Any], mode: str) -> None:
    """Nobody would notice that the body never ran."""
    name = f"ignored-{function.__name__}-{mode}"

    _ended(_app(mode), function, name, ignore_result=True)

    assert name in RAN


@pytest.mark.parametrize("mode", ["worker", "eager"])
@pytest.mark.parametrize("function", [generating, agenerating, generating_async], ids=["sync", "async", "of-async"])
def test_a_generator_is_a_failure(function: Callable[..., Any], mode: str) -> None:
    """Its body has not run, and the error says what to write."""
    result = _ended(_app(mode), function, "never")

    with pytest.raises(TaskFailed, match="returned a generator, whose body never ran; return a list instead"):
        result.get(timeout=60)
    assert "never" not in RAN


def test_a_generator_is_a_failure_though_results_are_ignored() -> None:
    """The message is dead-lettered, not done."""
    app = _app("worker")
    _ended(app, generating, "never", ignore_result=True)

    assert app.runtime.broker.counts(["default"])["default"].dead == 1


def test_chunks_run_their_awaitables() -> None:
    """Each call of a chunk counts."""
    app = _app("worker")
    task = app.task(name="t")(wrapped)
    result = task.starmap([("chunk-1",), ("chunk-2",), ("chunk-3",)], chunk=2).send()
    burst(app)

    assert result.get(timeout=60) == ["chunk-1", "chunk-2", "chunk-3"]


def test_an_awaitable_has_the_time_limit_of_its_task() -> None:
    """What a function returns is a part of its body."""

    async def forever() -> None:
        await asyncio.Event().wait()

    def endless(_name: str) -> Any:
        return forever()

    result = _ended(_app("worker"), endless, "endless", timeout=0.5)

    with pytest.raises(TaskFailed, match=r"ran longer than 0\.5 s"):
        result.get(timeout=60)
    assert result.state is State.FAILURE


def test_eager_mode_runs_an_awaitable_beside_a_loop() -> None:
    """The caller may be a coroutine itself."""

    async def caller() -> Any:
        return _ended(_app("eager"), wrapped, "beside").get(timeout=60)

    assert asyncio.run(caller()) == "beside"
