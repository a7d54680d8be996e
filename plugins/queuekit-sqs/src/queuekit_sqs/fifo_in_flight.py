"""Track messages of FIFO queues in flight: at most one of each group, so that they keep their order.

If messages are requested one at a time, SQS delivers none of a group whose first message is held. A further message was
claimed twice, by a fault or after a lease had ended; it is released while the first one is in flight.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import attrs

from queuekit_sqs.fifo_attempts import Turn

__all__ = ["Arriving", "InFlight"]

_LEAST_WAIT = 1.0
_MOST = 20_000


@attrs.frozen(kw_only=True)
class Arriving:
    """A claimed message."""

    group: tuple[str, str]
    """The queue, and the group in it."""
    token: str
    turn: Turn
    claimed: float
    """Monotonic time at which the lease began."""
    until: float
    """Monotonic time at which the lease ends, unless it is extended."""


@attrs.define
class _Held:
    arriving: Arriving
    claims: int
    """Known claims of this message; it may have been claimed again meanwhile."""


class InFlight:
    """The messages that this process holds. After its first lease, a message no longer blocks its group."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], _Held] = {}
        self._groups: dict[str, tuple[str, str]] = {}

    def after_fork(self) -> None:
        """Reset the state in a child process."""
        self._lock = threading.Lock()
        self._held, self._groups = {}, {}

    def take(self, some: Sequence[Arriving]) -> dict[str, tuple[float, Turn]]:
        """Add *some*, and return, by token, those that must wait: for how many seconds, and their turn."""
        waiting: dict[str, tuple[float, Turn]] = {}
        now = time.monotonic()
        with self._lock:
            for one in some:
                held = self._held.get(one.group)
                if held is None or now >= held.arriving.until:
                    self._hold(one)
                else:
                    waiting[one.token] = self._delay(one, held, now)
        return waiting

    def claims(self, token: str) -> int:
        """Return the known number of claims of a message; 0 if it is not in flight."""
        with self._lock:
            held = self._held.get(self._groups.get(token, ("", "")))
            return held.claims if held is not None and held.arriving.token == token else 0

    def release(self, tokens: Sequence[str]) -> None:
        """Remove settled messages."""
        with self._lock:
            for token in tokens:
                group = self._groups.pop(token, None)
                if group is not None and group in self._held and self._held[group].arriving.token == token:
                    del self._held[group]

    def _hold(self, one: Arriving) -> None:
        before = self._held.get(one.group)
        if before is not None:
            self._groups.pop(before.arriving.token, None)
        elif len(self._held) >= _MOST:
            oldest = next(iter(self._held))
            self._groups.pop(self._held.pop(oldest).arriving.token, None)
        self._held[one.group] = _Held(one, one.turn.claims)
        self._groups[one.token] = one.group

    def _delay(self, one: Arriving, held: _Held, now: float) -> tuple[float, Turn]:
        """Return how long *one* must wait, which grows, and its turn, which counts no crash for the claim in flight."""
        turn = one.turn
        if turn.message == held.arriving.turn.message:
            held.claims = max(held.claims, turn.claims)
            turn = attrs.evolve(held.arriving.turn, claims=turn.claims)
        left = held.arriving.until - now
        return max(_LEAST_WAIT, min(left, now - held.arriving.claimed)), turn
