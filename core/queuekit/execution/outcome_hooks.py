"""Call the methods of middlewares for outcomes that are stored: retries, skipped messages and dead letters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from queuekit.broker import Dead
from queuekit.client.codec import outline
from queuekit.context import Context
from queuekit.events import TaskFinished
from queuekit.execution.outcome import Outcome
from queuekit.execution.run_context import RunContext
from queuekit.logs.errors import log_error
from queuekit.middleware import Stages

__all__ = ["OutcomeHooks"]

_logger = logging.getLogger("queuekit.middleware")
_SKIPPED = {"cancelled": "cancelled", "expired": "expired", "skipped": "done"}
"""Reasons for ``on_skip``, by status of the outcome."""


class OutcomeHooks:
    """Calls ``on_retry``, ``on_skip`` and ``on_dead``; false if no middleware overrides any of them.

    Args:
        stages: The overridden methods.
        worker: Name of the worker.
    """

    def __init__(self, stages: Stages, *, worker: str) -> None:
        self._stages = stages
        self._worker = worker

    def __bool__(self) -> bool:
        return bool(self._stages.on_retry or self._stages.on_skip or self._stages.on_dead)

    def call(self, outcomes: Iterable[Outcome]) -> None:
        """Call what applies to *outcomes*, which are stored; an error of a middleware is logged."""
        for outcome in outcomes:
            if isinstance(outcome.settlement, Dead) and outcome.status != "lost":
                self._each(self._stages.on_dead, outcome, outcome.settlement.reason, outcome.settlement.error)
            elif outcome.status == "retried" and isinstance(outcome.event, TaskFinished):
                self._each(self._stages.on_retry, outcome, outcome.event.error, outcome.event.retry_in or 0.0)
            elif outcome.status in _SKIPPED and (outcome.run is None or outcome.run.started is None):
                self._each(self._stages.on_skip, outcome, _SKIPPED[outcome.status])

    def set_aside(self, queue: str, id: str, error: str) -> None:
        """Call ``on_dead`` for a message that the broker itself found malformed."""
        if self._stages.on_dead:
            context = RunContext(id=id, task="", queue=queue)
            context.worker = self._worker
            _call(self._stages.on_dead, context, "malformed", error)

    def _each(self, stages: tuple[Callable[..., None], ...] | None, outcome: Outcome, *facts: Any) -> None:
        if stages:
            _call(stages, self._context(outcome), *facts)

    def _context(self, outcome: Outcome) -> Context:
        """Return the context of the run, or one for a message that has none."""
        if outcome.run is not None:
            return outcome.run.context
        envelope = outcome.delivery.envelope
        context = RunContext(
            id=envelope.id,
            task=outline(envelope).task,
            queue=envelope.queue,
            attempt=envelope.attempt,
            generation=envelope.generation,
        )
        context.worker = self._worker
        return context


def _call(stages: tuple[Callable[..., None], ...], context: Context, *facts: Any) -> None:
    for stage in stages:
        try:
            stage(context, *facts)
        except BaseException:  # noqa: BLE001 - also SystemExit: the thread that stores outcomes must go on
            log_error(_logger, "a middleware failed after the outcome of %s was stored", context.id)
