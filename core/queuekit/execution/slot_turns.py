"""Runs of one worker that have a slot of a concurrency limit one after the other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from queuekit.limiting.slots import Claim, SlotKey

__all__ = ["SlotTurns"]


class _Decided(Protocol):
    """A run, as far as this needs one."""

    @property
    def decided(self) -> bool:
        """Whether its outcome is decided."""
        ...


R = TypeVar("R", bound=_Decided)


class SlotTurns(Generic[R]):
    """Whose turn it is in a slot, and when the slot is free.

    Args:
        place: Key of the limit.
        runs: The runs, in their order.
    """

    def __init__(self, place: SlotKey, runs: Iterable[R]) -> None:
        self._place = place
        self._waiting = deque(runs)
        self._open = len(self._waiting)
        self._ends: list[tuple[SlotKey, str, Claim]] = []
        self._lock = threading.Lock()
        self.current: R | None = None
        """The run whose turn it is; ``None`` before the first and after the last one."""

    @property
    def waiting(self) -> int:
        """How many have not had their turn."""
        return len(self._waiting)

    def after(self, run: R | None) -> R | None:
        """Return the run that begins after *run*; ``None`` if it is not the turn of *run*, or nothing waits."""
        with self._lock:
            if self.current is not run:
                return None
            self.current = None
            while self._waiting and self.current is None:
                following = self._waiting.popleft()
                self.current = None if following.decided else following
            return self.current

    def take_back(self) -> list[R]:
        """Take back the runs that have not had their turn."""
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        return taken

    def settled(self, id: str, claim: Claim) -> list[tuple[SlotKey, str, Claim]]:
        """Note that a run is settled, and return what frees the slot if it was the last one."""
        with self._lock:
            self._ends.append((self._place, id, claim))
            self._open -= 1
            return [] if self._open else self._ends
