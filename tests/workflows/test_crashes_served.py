"""The same on engines with servers, whose leases end by themselves: a worker dies while it finishes a member."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queuekit import Result, State, chord
from support.calls import ENGINES, calls_on
from support.waiting import PATIENCE
from support.working import finish

LEASE = 1.0
"""Seconds; the shortest that all services know."""
TORTURE = pytest.mark.torture
EACH_TIME = ("aws", "redis", "sqlite")
"""Broker and backend apart, both in one server, and both in one file; the others are for `tox -e full`."""


class Crash(BaseException):
    """The process is gone."""


def mark(engine: str, *, telling: bool) -> Any:
    """Return the mark of a point of death: the telling ones run each time on one engine of each kind."""
    if not telling:
        return TORTURE
    return () if engine in EACH_TIME else pytest.mark.full


def points(engines: list[str], steps: list[str], *, always: tuple[str, str]) -> list[Any]:
    """Return each point of death on each engine; those that are not the telling ones are for the torture run."""
    return [
        pytest.param(name, step, when, id=f"{name}-{when}-{step}", marks=mark(name, telling=(when, step) == always))
        for name in engines
        for step in steps
        for when in ("before", "after")
    ]


APART = ["aws", "sqlite-redis", "redis-mongo"]
TOGETHER = ["sqlite", "redis", "mongo"]
SUCCEEDING = [
    *points(APART, ["put", "join_many", "send", "settle"], always=("after", "join_many")),
    *points(TOGETHER, ["commit"], always=("after", "commit")),
]
FAILING = [
    *points(APART, ["put", "send", "settle"], always=("after", "put")),
    *points(TOGETHER, ["commit"], always=("after", "commit")),
]


def dies_at(monkeypatch: pytest.MonkeyPatch, app: Any, step: str, when: str) -> None:
    """Let the next *step* be the last of this worker: it dies before or after the engine has done it."""
    engine = app.runtime.backend if step in ("put", "join_many") else app.runtime.broker
    method: Callable[..., Any] = getattr(engine, step)

    def dying(*args: Any, **options: Any) -> None:
        monkeypatch.delattr(engine, step)
        if when == "after":
            method(*args, **options)
        raise Crash

    monkeypatch.setattr(engine, step, dying, raising=True)


def finish_all(app: Any, result: Result[Any]) -> None:
    """Work until the workflow has ended and nothing comes any more, not even what a dead worker has held."""
    broker = app.runtime.broker
    while True:
        deliveries = broker.receive(["default"], limit=1, wait=2 * LEASE, lease=PATIENCE)
        for delivery in deliveries:
            finish(app, delivery)
        if not deliveries and result.info().done:
            return


def finish_some(app: Any, result: Result[Any]) -> None:
    """Work, under short leases, until the workflow has ended."""
    while not result.info().done:
        for delivery in app.runtime.broker.receive(["default"], limit=1, wait=3 * LEASE, lease=LEASE):
            finish(app, delivery)


@pytest.mark.parametrize(("engine", "step", "when"), SUCCEEDING)
def test_callback_runs_once_wherever_a_worker_dies(
    engine: str, step: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last member's worker dies before or after a step; whoever gets the member next completes the chord."""
    calls = calls_on(ENGINES[engine](tmp_path))
    result = chord([calls.add.s(i, i) for i in range(2)], calls.total.s()).send()
    finish(calls.app, calls.app.runtime.broker.receive(["default"], limit=1, wait=PATIENCE, lease=PATIENCE)[0])
    dies_at(monkeypatch, calls.app, step, when)
    with pytest.raises(Crash):
        finish_some(calls.app, result)

    finish_all(calls.app, result)

    assert calls.seen == [[0, 2]]
    assert result.get(timeout=PATIENCE) == 2
    assert result.members.get(timeout=PATIENCE) == [0, 2]
    calls.app.close()


@pytest.mark.parametrize(("engine", "step", "when"), FAILING)
def test_failure_is_told_once_wherever_a_worker_dies(
    engine: str, step: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a member that fails: the chord has failed, and the listener hears of it once."""
    calls = calls_on(ENGINES[engine](tmp_path))
    result = chord([calls.boom.s("no")], calls.total.s(), on_error=[calls.told.s()]).send()
    dies_at(monkeypatch, calls.app, step, when)
    with pytest.raises(Crash):
        finish_some(calls.app, result)

    finish_all(calls.app, result)

    assert result.state is State.FAILURE
    assert [failure.error for failure in calls.failures] == ["no"]
    assert calls.seen == []
    calls.app.close()
