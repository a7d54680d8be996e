"""What a supervisor and its worker processes say to each other, over a pipe that only the two hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import attrs

from queuekit.loader import AppRef
from queuekit.worker.keeper import Holding

__all__ = ["Done", "Held", "Lost", "Ready", "Start", "Stop"]


@attrs.frozen
class Start:
    """Supervisor to worker, first: what to run."""

    ref: AppRef
    burst: bool
    rows: int
    """Rows of the shared table of :class:`~queuekit.worker.slots.Slots`."""
    log_level: str
    log_style: str


@attrs.frozen
class Stop:
    """Supervisor to worker: stop, or stop at once."""

    reason: str
    at_once: bool = False


@attrs.frozen
class Lost:
    """Supervisor to worker: these leases are gone."""

    serials: list[int]


@attrs.frozen
class Ready:
    """Worker to supervisor: messages are being taken."""

    name: str


@attrs.frozen
class Held:
    """Worker to supervisor, before any body runs: keep these leases."""

    rows: list[tuple[Any, ...]]
    """Plain tuples, which cross the pipe for a tenth of what objects cost."""

    @classmethod
    def of(cls, holdings: Iterable[Holding]) -> Self:
        """Return the word for *holdings*."""
        return cls([tuple(holding) for holding in holdings])

    def holdings(self) -> list[Holding]:
        """Return what it was made of."""
        return [Holding._make(row) for row in self.rows]


@attrs.frozen
class Done:
    """Worker to supervisor: keep these no longer."""

    serials: list[int]
