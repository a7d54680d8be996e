"""Measure what middleware costs a message: ``python tests/bench/middleware_bench.py``.

What is timed are the very statements that stand on the way of a message, run on the objects that they stand in, with
none, one and three middlewares whose methods do nothing. Nanoseconds of processor time of the best of several rounds,
less those of an empty loop. Nothing here judges.
"""

from __future__ import annotations

import inspect
import textwrap
import time
import timeit
from collections.abc import Iterator, Sequence
from typing import Any

from queuekit import Context, Middleware, Queuekit, Signature
from queuekit.client.sender import Sending, Sent
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.middleware import SentMessage

COUNTS = (0, 1, 3)
LOOPS, ROUNDS = 50_000, 15
STATEMENTS = {
    "before_send": (Sending, "for stage in self._before_send:\n    signature = stage(signature)"),
    "after_send": (Sending, "if self._after:\n    self._stage_after(ready, sent)"),
    "around_run": (Executor, "value = self._invoke(run)"),
    "before_run": (Executor, "if self._before:\n    self._stage_before(run)"),
    "after_run": (Executor, "if self._after:\n    self._stage_after(run, outcome, None)"),
}
"""Stage -> whose statement, and which; one that is no longer in the code is an error."""


class Around(Middleware):
    """Stands around bodies and does nothing."""

    def around_run(self, context: Context) -> Iterator[None]:
        """Do nothing."""
        yield


class Idle(Middleware):
    """Stands before and after everything and does nothing."""

    def after_send(self, sent: Sequence[SentMessage]) -> None:
        """Do nothing."""

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Return it."""
        return signature

    def before_run(self, context: Context) -> None:
        """Do nothing."""

    def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
        """Do nothing."""


def main() -> None:
    """Print a table: a stage a row, a number of middlewares a column."""
    empty = dict.fromkeys(STATEMENTS, _best("pass", {"first": None}))
    empty["around_run"] = _cost("around_run", 0)  # the body itself
    costs = {stage: [_cost(stage, count) - empty[stage] for count in COUNTS] for stage in STATEMENTS}
    print("ns a message".ljust(14) + "".join(f"{f'{count} middlewares':>16}" for count in COUNTS))
    for stage, found in {**costs, "in all": [sum(column) for column in zip(*costs.values(), strict=True)]}.items():
        print(stage.ljust(14) + "".join(f"{nanoseconds:>16.0f}" for nanoseconds in found))


def _cost(stage: str, count: int) -> float:
    """Return the nanoseconds that a stage costs with *count* middlewares."""
    kind, statement = STATEMENTS[stage]
    sources = (textwrap.dedent(inspect.getsource(kind)), statement)
    whole, part = ("".join(line.strip() for line in source.splitlines()) for source in sources)
    assert part in whole, f"{kind.__name__} does it differently now: {statement}"
    app = Queuekit(broker="memory://bench", middlewares=[_kind(stage)() for _ in range(count)])
    app.task(name="idle")(lambda: None)
    owner = (
        Sending(app.runtime, app.tasks)
        if kind is Sending
        else Executor(app.runtime, app.tasks, Sending(app.runtime, app.tasks), worker="bench")
    )
    signature: Signature[Any] = Signature("idle")
    one = Sending(app.runtime, app.tasks).prepare(signature)
    names = {"self": owner, "first": signature, "ready": [one], "sent": [Sent(id=one.envelope.id, stored=True)]}
    return _best(statement, {**names, **_a_run(app)})


def _kind(stage: str) -> type[Middleware]:
    return Around if stage == "around_run" else Idle


def _a_run(app: Queuekit) -> dict[str, Any]:
    """Return a run of a message that was sent and received, and its outcome."""
    executor = Executor(app.runtime, app.tasks, Sending(app.runtime, app.tasks), worker="bench")
    app.send(Signature("idle"))
    (delivery,) = app.runtime.broker.receive(["default"], limit=1, wait=1, lease=60)
    run = executor.prepare(delivery, {})
    assert isinstance(run, Run)
    outcome = executor.call(run)
    assert isinstance(outcome, Outcome)
    return {"run": run, "outcome": outcome}


def _best(statement: str, names: dict[str, Any]) -> float:
    """Return the nanoseconds of one *statement*, of the quickest round."""
    timer = timeit.Timer(statement, setup="signature = first", timer=time.thread_time, globals=names)
    return min(timer.repeat(ROUNDS, LOOPS)) / LOOPS * 1e9


if __name__ == "__main__":
    main()
