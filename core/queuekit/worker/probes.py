"""What the probes of a worker answer: whether it is alive, ready, and has started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from queuekit.values import define

__all__ = ["Moves", "Probes", "ProcessFacts", "Pulse", "Still"]

_OBSERVED = 2.0
"""Most seconds between two looks that count: a pause of all processes together, as in a frozen container, does not."""
_OK = (True, "ok")


class Moves(NamedTuple):
    """How far the loops of a worker process have come."""

    fetch: int | None = None
    """Rounds of the fetch loop; ``None`` in a worker that is stopping."""
    late: float = 0.0
    """Seconds for which the fetch loop should have moved on."""
    settle: int | None = None
    """Round trips of the settle loop; ``None`` while it waits."""
    down: bool = False
    """Whether the broker does not answer."""


class Pulse(NamedTuple):
    """For how long the loops of a worker process have not moved, as the process itself observes."""

    fetch: float = 0.0
    settle: float = 0.0
    loop: float = 0.0
    down: bool = False
    """Whether the broker does not answer its fetches."""


@define
class Still:
    """Counts the seconds for which a value has not changed, as far as somebody looked."""

    seconds: float = 0.0
    _value: object = None
    _looked: float | None = None

    def look(self, value: object, now: float) -> float:
        """Return for how many seconds *value* has not changed; ``None`` has nothing to change."""
        passed = 0.0 if self._looked is None else min(now - self._looked, _OBSERVED)
        self.seconds = self.seconds + passed if value == self._value and value is not None else 0.0
        self._value, self._looked = value, now
        return self.seconds


class ProcessFacts(NamedTuple):
    """What a supervisor knows of one process."""

    name: str
    ready: bool
    """Whether it takes messages."""
    silent: float
    """Seconds without a heartbeat; 0 before the first."""
    pulse: Pulse


class Probes:
    """Answers for a worker with all its processes. Any thread may ask; one thread ticks.

    Args:
        processes: Number of processes that must be ready.
        patience: Seconds without a move after which a loop counts as stuck.
        monotonic: The clock.
    """

    def __init__(self, *, processes: int, patience: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._expected = processes
        """Number of processes that must be ready now."""
        self._patience = patience
        self._monotonic = monotonic
        self._last_tick = monotonic()
        self._stuck: tuple[str, ...] = ()
        self._unready: tuple[str, ...] = ("starting",)
        self.started = False
        """Whether all processes have been ready once."""

    def tick(self, processes: Iterable[ProcessFacts], *, stopping: bool, drained: int = 0) -> None:
        """Take note of the processes; the supervisor calls this at least once a second.

        Args:
            processes: Those that live.
            stopping: Whether all of them stop.
            drained: Processes that operators drain, or have drained: nothing follows them, so none of them lacks.
        """
        known = list(processes)
        self._expected = self._processes - drained
        if sum(one.ready for one in known) >= self._expected:
            self.started = True
        self._stuck = tuple(text for one in known for text in self._stuck_parts(one))
        self._unready = tuple(self._unready_parts(known, stopping=stopping))
        self._last_tick = self._monotonic()

    def answer(self, path: str) -> tuple[bool, str] | None:
        """Return whether the probe at *path* passes, and why not; ``None`` if there is none."""
        match path:
            case "/livez":
                return self.live()
            case "/readyz":
                alive, why = self.live()
                lacks = (*(() if alive else (why,)), *self._unready)
                return (False, "\n".join(lacks)) if lacks else _OK
            case "/startupz":
                return _OK if self.started else (False, "starting")
            case _:
                return None

    def live(self) -> tuple[bool, str]:
        """Return whether all loops move; no engine is needed for that."""
        still = self._monotonic() - self._last_tick
        if still > self._patience:
            return False, f"the supervisor has not moved for {still:.0f} s"
        return (False, "\n".join(self._stuck)) if self._stuck else _OK

    def _stuck_parts(self, process: ProcessFacts) -> Iterable[str]:
        name, pulse = process.name or "a process", process.pulse
        if process.silent > self._patience:
            yield f"{name} has given no sign of life for {process.silent:.0f} s"
            return
        for part, still in (("fetch loop", pulse.fetch), ("settle loop", pulse.settle), ("event loop", pulse.loop)):
            if still > self._patience:
                yield f"the {part} of {name} has not moved for {still:.0f} s"

    def _unready_parts(self, known: list[ProcessFacts], *, stopping: bool) -> Iterable[str]:
        if stopping:
            yield "stopping"
        ready = sum(one.ready for one in known)
        if ready < self._expected:
            yield f"{ready} of {self._expected} processes take messages" if self.started else "starting"
        elif self._expected <= 0 and not stopping:
            yield "drained: no process takes messages"
        yield from (f"the broker does not answer {one.name}" for one in known if one.pulse.down)
