"""Taking messages off their queues: at once, or as soon as a bell rings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import NoScriptError

from queuekit.broker import Delivery
from queuekit.errors import UnavailableError
from queuekit_redis.encoding import Claim, grave, micros, read_deliveries
from queuekit_redis.engine import Engine, nonce
from queuekit_redis.server import Call, run
from queuekit_redis.waiting import GRACE, Interrupts, Sleep, sleep_on, sleep_then

__all__ = ["Claims"]

MOST_BYTES = 32_000_000
"""Bytes after which a claim ends, however many messages it may still take."""
_UNBOUNDED = (MOST_BYTES, 0.0, -1)
_UNHEARD = 1.0
"""Seconds after which a worker looks again where there are more bells than it can wait on."""

Claimed = tuple[list[Delivery], float]
"""What was taken, and the seconds until something happens by itself."""


class Claims:
    """Claims of one broker.

    Args:
        engine: Server, names of keys, options.
        interrupts: End a sleep.
    """

    def __init__(self, engine: Engine, interrupts: Interrupts) -> None:
        self._engine = engine
        self._interrupts = interrupts
        self.marks: str | None = None
        """What the key of a record begins with that marks a message, whose id follows; ``None``: nobody asks."""
        self.hear: Callable[[str, str, str], None] | None = None
        """Told of messages that are set aside: queue, id and reason."""
        options = engine.options
        oldest = 0 if options.dead_max_age is None else micros(options.dead_max_age)
        most = -1 if options.dead_max_count is None else options.dead_max_count
        self._bounds = (MOST_BYTES, oldest, most)
        """Bytes of a claim; age and number of dead letters, 0 and -1 for any."""
        self._ahead: float | None = None
        """Seconds by which the server's clock is ahead of the monotonic one here, or somewhat less."""

    def now(self, queues: Sequence[str], *, limit: int, lease: float) -> Claimed:
        """Do the upkeep and claim what is ready."""
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
        """Do the upkeep of *queues*, whose dead letters are not ours to bound; return the seconds until an event."""
        parts = [[queue] for queue in queues] if self._engine.cluster else [queues]
        return min(self._claim(part, limit=0, lease=0, bounded=False)[1] for part in parts)

    def when_rung(self, queues: Sequence[str], *, limit: int, lease: float, sleep: Sleep, heard: int) -> Claimed:
        """Do the same when a bell rings, after *sleep*, or at an interrupt since *heard*."""
        if sleep.seconds <= 0:
            return self.now(queues, limit=limit, lease=lease)
        engine, bells = self._engine, [self._engine.keys.bell(queue) for queue in queues]
        with self._interrupts.asleep(heard) as waker:
            if engine.cluster:
                heard_bells = self._within_reach(bells)
                if len(heard_bells) < len(bells) and sleep.seconds > _UNHEARD:
                    sleep = Sleep(_UNHEARD)
                groups = [[bell] for bell in heard_bells]
                sleep_on(engine.server, groups, sleep=sleep, waker=waker, failures=engine.failures)
                return self.now(queues, limit=limit, lease=lease)
            call, token = self._call(queues, limit=limit, lease=lease, patience=sleep.seconds + GRACE)
            own = engine.keys.wake(queues[0], nonce().hex())
            reply = sleep_then(engine, [*bells, own], call, sleep=sleep, waker=waker)
        if isinstance(reply, NoScriptError):
            return self.now(queues, limit=limit, lease=lease)
        return self._read(queues, engine.server.raised([reply])[0], token)

    def _within_reach(self, bells: Sequence[str]) -> list[str]:
        """Return those of *bells* that half of each node's connections can wait on; the other half is for the rest."""
        most = max(1, self._engine.options.max_connections // 2)
        by_node = Counter[Hashable]()
        kept = []
        for bell in bells:
            node = self._engine.server.node_of(bell)
            by_node[node] += 1
            if by_node[node] <= most:
                kept.append(bell)
        return kept

    def _claim(self, queues: Sequence[str], *, limit: int, lease: float, bounded: bool = True) -> Claimed:
        """Claim from queues that live in one place."""
        patience = self._engine.options.timeout
        call, token = self._call(queues, limit=limit, lease=lease, patience=patience, bounded=bounded)
        return self._read(queues, self._engine.server.one(call, again=False), token)

    def _call(
        self, queues: Sequence[str], *, limit: int, lease: float, patience: float, bounded: bool = True
    ) -> tuple[Call, str]:
        """Return the call of a claim, and what its tokens begin with.

        A server that comes to it after *patience* seconds takes nothing: by then nobody listens to it any more.
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
        if not self._engine.cluster:  # whose nodes have a clock each
            self._ahead = claim.claimed_at - time.monotonic()
        deliveries, first = list[Delivery](), 0
        for place, queue in enumerate(queues):
            flat, again = taken[place * 2 : place * 2 + 2]
            some, unnamed = read_deliveries(queue, flat, again, first=first, claim=claim)
            if unnamed:
                self._bury(queue, unnamed)
            deliveries += some
            first += len(flat) // 2
        return deliveries, until_event / 1e6 if until_event >= 0 else float("inf")

    def _bury(self, queue: str, unnamed: Sequence[tuple[bytes, str]]) -> None:
        """Move what has an id that is no text to the dead letters: no settlement of its worker could name it (QK9)."""
        keys, why = self._engine.keys, grave(reason="malformed", error="its id is no text")
        arguments: list[Any] = [keys.unique(queue), round(self._engine.options.dedup_window), nonce()]
        for id, token in unnamed:
            arguments += (b"d", id, token, b"", why)
        if self.hear is not None:
            for id, _ in unnamed:
                self.hear(queue, id.decode(errors="backslashreplace"), "its id is no text")
        with suppress(UnavailableError):  # then it comes again when its lease ends, and the others are not to wait
            self._engine.server.one(run("settle", [keys.queue(queue)], arguments), again=True)
