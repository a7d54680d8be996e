"""When a process has done enough, so that another takes its place between two bodies.

Worker processes and child processes that run bodies keep memory that nothing returns: leaks, caches, fragments. Their
bounds are set by ``worker.max_tasks``, ``worker.max_rss`` and ``worker.max_age``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from queuekit.config.settings import WorkerConfig
from queuekit.values import frozen

__all__ = ["Bounds", "Reached", "Usage"]

_SPREAD = 0.1
"""Largest part of a bound by which a process may be replaced early, so that processes of one age do not end together.
"""


class Usage(NamedTuple):
    """What a process has used."""

    tasks: int = 0
    """Bodies that ran in it."""
    rss: int = 0
    """Bytes of memory; 0 if unknown."""


@frozen
class Reached:
    """A bound that a process has reached."""

    reason: Literal["tasks", "rss", "age"]
    value: float
    """What the process has used: bodies, bytes or seconds."""
    bound: float
    """The bound, in the same unit."""


@frozen(kw_only=True)
class Bounds:
    """The bounds of one process; infinite where there is none."""

    tasks: float = math.inf
    rss: float = math.inf
    age: float = math.inf
    """In seconds."""

    @classmethod
    def of(cls, settings: WorkerConfig, chance: Callable[[], float]) -> Bounds:
        """Return the bounds of a new process; *chance* returns a number in [0, 1)."""
        tasks, age = settings.max_tasks, settings.max_age
        return cls(
            tasks=math.inf if tasks is None else tasks - int(tasks * _SPREAD * chance()),
            rss=math.inf if settings.max_rss is None else settings.max_rss,
            age=math.inf if age is None else age * (1 - _SPREAD * chance()),
        )

    @property
    def measured(self) -> bool:
        """Whether the use of tasks or memory matters."""
        return min(self.tasks, self.rss) < math.inf

    def reached(self, usage: Usage, *, age: float = 0.0) -> Reached | None:
        """Return the first bound that a process of *age* seconds has reached; ``None`` if it may go on."""
        if usage.rss > self.rss:
            return Reached("rss", usage.rss, self.rss)
        if usage.tasks >= self.tasks:
            return Reached("tasks", usage.tasks, self.tasks)
        return Reached("age", age, self.age) if age >= self.age else None
