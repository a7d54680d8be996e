"""Claim messages: at once, or as soon as their queue is notified."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import NoScriptError

from queuekit.broker import Delivery
from queuekit.errors import UnavailableError
from queuekit.interrupts import Interrupts
from queuekit_redis.encoding import Claim, death_record, micros, read_deliveries
from queuekit_redis.engine import Engine, nonce
from queuekit_redis.server import RedisCall, run
from queuekit_redis.waiting import GRACE, Sleep, asleep, sleep_on, sleep_then

__all__ = ["Claims"]

MOST_BYTES = 32_000_000
"""Bytes after which a claim ends, whatever its limit of messages."""
_UNBOUNDED = (MOST_BYTES, 0.0, -1)
_POLL_EVERY = 1.0
"""Seconds after which a worker claims again if it cannot wait on all notifiers."""

Claimed = tuple[list[Delivery], float]
"""The claimed deliveries, and the seconds until the next event."""


class Claims:
    """The claims of one broker.

    Args:
        engine: Server, names of keys, options.
        interrupts: Interrupt a wait.
    """

    def __init__(self, engine: Engine, interrupts: Interrupts) -> None:
        self._engine = engine
        self._interrupts = interrupts
        self.marks: str | None = None
        """Prefix, before the id, of the keys of records that mark messages; ``None`` to check none."""
        self.on_set_aside: Callable[[str, str, str], None] | None = None
        """Called with queue, id and reason of each message that is dead-lettered as malformed."""
        options = engine.options
        oldest = 0 if options.dead_max_age is None else micros(options.dead_max_age)
        most = -1 if options.dead_max_count is None else options.dead_max_count
        self._bounds = (MOST_BYTES, oldest, most)
        """Most bytes of a claim; most age and number of dead letters, 0 and -1 for no limit."""
        self._ahead: float | None = None
        """Seconds by which the server's clock is ahead of the local monotonic one, or slightly less."""

    def claim(self, queues: Sequence[str], *, limit: int, lease: float) -> Claimed:
        """Do the upkeep and claim ready messages."""
        if not self._engine.cluster:
            return self._claim(queues, limit=limit, lease=lease)
        deliveries: list[Delivery] = []
        soonest = float("inf")
        for queue in queues:
            taken, until_event = self._claim([queue], limit=limit - len(deliveries), lease=lease)
            deliveries += taken
            soonest = min(soonest, until_event)
        return deliveries, soonest

    def upkeep(self, queues: Sequence[str]) -> float:
        """Do the upkeep of other *queues*, without discarding dead letters; return the seconds until the next event."""
        parts = [[queue] for queue in queues] if self._engine.cluster else [queues]
        return min(self._claim(part, limit=0, lease=0, bounded=False)[1] for part in parts)

    def claim_when_notified(
        self, queues: Sequence[str], *, limit: int, lease: float, sleep: Sleep, handled: int
    ) -> Claimed:
        """Claim when a queue is notified, after *sleep*, or on an interrupt since *handled*."""
        if sleep.seconds <= 0:
            return self.claim(queues, limit=limit, lease=lease)
        engine, notifiers = self._engine, [self._engine.keys.notifier(queue) for queue in queues]
        with asleep(self._interrupts, handled) as waker:
            if engine.cluster:
                reachable = self._within_reach(notifiers)
                if len(reachable) < len(notifiers) and sleep.seconds > _POLL_EVERY:
                    sleep = Sleep(_POLL_EVERY)
                groups = [[notifier] for notifier in reachable]
                sleep_on(engine.server, groups, sleep=sleep, waker=waker, failures=engine.failures)
                return self.claim(queues, limit=limit, lease=lease)
            call, token = self._call(queues, limit=limit, lease=lease, patience=sleep.seconds + GRACE)
            own = engine.keys.wake(queues[0], nonce().hex())
            reply = sleep_then(engine, [*notifiers, own], call, sleep=sleep, waker=waker)
        if isinstance(reply, NoScriptError):
            return self.claim(queues, limit=limit, lease=lease)
        return self._read(queues, engine.server.raised([reply])[0], token)

    def _within_reach(self, notifiers: Sequence[str]) -> list[str]:
        """Return as many of *notifiers* as half of each node's connections can wait on; the other half stays free."""
        most = max(1, self._engine.options.max_connections // 2)
        by_node = Counter[Hashable]()
        kept = []
        for notifier in notifiers:
            node = self._engine.server.node_of(notifier)
            by_node[node] += 1
            if by_node[node] <= most:
                kept.append(notifier)
        return kept

    def _claim(self, queues: Sequence[str], *, limit: int, lease: float, bounded: bool = True) -> Claimed:
        """Claim from queues on the same node."""
        patience = self._engine.options.timeout
        call, token = self._call(queues, limit=limit, lease=lease, patience=patience, bounded=bounded)
        return self._read(queues, self._engine.server.one(call, again=False), token)

    def _call(
        self, queues: Sequence[str], *, limit: int, lease: float, patience: float, bounded: bool = True
    ) -> tuple[RedisCall, str]:
        """Return the call of a claim, and the prefix of its tokens.

        A server that runs it later than *patience* seconds claims nothing, since the caller has given up by then.
        """
        keys, token = self._engine.keys, nonce().hex() + "."
        until = 0.0 if self._ahead is None else micros(self._ahead + time.monotonic() + patience)
        names = [keys.queue(queue) for queue in queues]
        bounds = self._bounds if bounded else _UNBOUNDED
        what = (max(0, limit), f"{micros(lease):.0f}", token, keys.unique(queues[0]), *bounds)
        return run("claim", names, (*what, self.marks or b"", f"{until:.0f}")), token

    def _read(self, queues: Sequence[str], reply: Sequence[Any], token: str) -> Claimed:
        now, until_event, marked, *taken = reply
        claim = Claim(token, int(now) / 1e6, self.marks is not None and not marked)
        if not self._engine.cluster:  # each node of a Cluster has its own clock
            self._ahead = claim.claimed_at - time.monotonic()
        deliveries, first = list[Delivery](), 0
        for place, queue in enumerate(queues):
            flat, again = taken[place * 2 : place * 2 + 2]
            some, unnamed = read_deliveries(queue, flat, again, first=first, claim=claim)
            if unnamed:
                self._dead_letter(queue, unnamed)
            deliveries += some
            first += len(flat) // 2
        return deliveries, until_event / 1e6 if until_event >= 0 else float("inf")

    def _dead_letter(self, queue: str, unnamed: Sequence[tuple[bytes, str]]) -> None:
        """Dead-letter messages whose id is not text: no settlement could name them (QK9)."""
        keys, why = self._engine.keys, death_record(reason="malformed", error="its id is not text")
        arguments: list[Any] = [keys.unique(queue), round(self._engine.options.dedup_window), nonce()]
        for id, token in unnamed:
            arguments += (b"d", id, token, b"", why)
        if self.on_set_aside is not None:
            for id, _ in unnamed:
                self.on_set_aside(queue, id.decode(errors="backslashreplace"), "its id is not text")
        with suppress(UnavailableError):  # the message is claimed again when its lease ends; others must not wait
            self._engine.server.one(run("settle", [keys.queue(queue)], arguments), again=True)
