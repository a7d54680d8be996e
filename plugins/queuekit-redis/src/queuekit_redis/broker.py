"""The broker of ``redis://`` and its kin."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import attrs

from queuekit.backend import Page
from queuekit.broker import (
    Ack,
    Broker,
    CommitItem,
    Delivery,
    Lease,
    Place,
    QueueCounts,
    Retry,
    Settlement,
    Stored,
)
from queuekit.clock import Clock
from queuekit.envelope import Envelope
from queuekit.errors import TooLargeError
from queuekit.urls import EngineURL
from queuekit_redis import inspection
from queuekit_redis.abilities import CAPABILITIES, CLUSTER_CAPABILITIES, LIMITS
from queuekit_redis.checks import check
from queuekit_redis.committing import Commitment, quick_send
from queuekit_redis.engine import nonce, open_engine
from queuekit_redis.options import RedisOptions
from queuekit_redis.packing import micros, pack_envelope, read_delivery
from queuekit_redis.server import Call, run
from queuekit_redis.settling import are_plain_acks, envelopes_of, is_plain, send_arguments, settle_arguments
from queuekit_redis.waiting import Interrupts, sleep_on

__all__ = ["RedisBroker"]

LONGEST_SLEEP = 5.0
"""Seconds after which a worker looks again, whatever bell it may have missed."""
MOST_BYTES = 32_000_000
"""Bytes after which a claim ends, however many messages it may still take."""


class RedisBroker(Broker):
    """Queues on a Redis or Valkey server; see :class:`~queuekit.broker.Broker` for the methods.

    Args:
        url: Where the server is; a backend of the same URL can commit together with it.
        options: How it is used.
        clock: Not needed: the server's clock decides (QK11).
        random: Not needed: forks of one process would share its numbers, and no two claims may share a token.
    """

    def __init__(
        self,
        url: EngineURL,
        *,
        options: RedisOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._engine = engine = open_engine(url, options)
        self._server, self._keys = engine.server, engine.keys
        self._interrupts = Interrupts()
        self._known: set[str] = set()
        self.engine_id = engine.id
        self.capabilities = CLUSTER_CAPABILITIES if engine.cluster else CAPABILITIES
        self.limits = attrs.evolve(LIMITS, dedup_window=engine.options.dedup_window)

    # -- delivering ----------------------------------------------------------------------------------------------

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        if not envelopes:
            return []
        self._check_sizes(envelopes)
        if len(envelopes) == 1 and is_plain(envelopes[0]) and self._send_one(envelopes[0]):
            return [envelopes[0].id]
        by_queue = _grouped((place, envelope.queue) for place, envelope in enumerate(envelopes))
        self._know(by_queue)
        calls = []
        for queue, places in by_queue.items():
            arguments: list[Any] = [self._keys.unique(queue)]
            for place in places:
                arguments += send_arguments(envelopes[place])
            calls.append(run("send", [self._keys.queue(queue)], arguments))
        holders = [envelope.id for envelope in envelopes]
        replies = self._server.call(calls, again=True)
        for (queue, places), (is_new, *held) in zip(by_queue.items(), replies, strict=True):
            if is_new:
                self._known.discard(queue)  # somebody emptied the server since we knew it
                self._know([queue])
            for place, holder in zip(held[::2], held[1::2], strict=True):
                holders[places[place]] = holder.decode()
        return holders

    def _send_one(self, envelope: Envelope) -> bool:
        """Send a message that needs no thought; false if its id is known, which does."""
        self._know((envelope.queue,))
        arguments = (envelope.id, pack_envelope(envelope))
        return self._sent_quickly(run("send_one", (self._keys.queue(envelope.queue),), arguments), envelope.queue)

    def _sent_quickly(self, call: Call, queue: str) -> bool:
        answer: int = self._server.one(call, again=True)
        if answer == 1:
            self._known.discard(queue)  # somebody emptied the server since we knew it
            self._know((queue,))
        return answer >= 0

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take due messages under a lease, waiting for the first one; a send ends the wait."""
        if not queues:
            return []
        limit = min(limit, self.limits.max_batch)
        deadline = time.monotonic() + min(wait, self.limits.max_wait)
        heard = self._interrupts.heard()
        while True:
            deliveries, until_event = self._claim(queues, limit=limit, lease=lease)
            left = deadline - time.monotonic()
            if deliveries or limit <= 0 or left <= 0 or self._interrupts.hear(heard):
                return deliveries
            rung = self._sleep(queues, min(left, until_event, LONGEST_SLEEP), heard)
            if not rung and (time.monotonic() >= deadline or self._interrupts.hear(heard)):
                # Nothing has come by itself either, unless the wait was cut to just that.
                return self._claim(queues, limit=limit, lease=lease)[0] if until_event <= left else []

    def _sleep(self, queues: Sequence[str], seconds: float, heard: int) -> bool:
        if seconds <= 0:
            return True
        bells = [self._keys.bell(queue) for queue in queues]
        groups = [[bell] for bell in bells] if self._engine.cluster else [bells]
        with self._interrupts.asleep(heard) as waker:
            return sleep_on(self._server, groups, seconds=seconds, waker=waker, failures=self._engine.failures)

    def _claim(self, queues: Sequence[str], *, limit: int, lease: float) -> tuple[list[Delivery], float]:
        """Do the upkeep and claim what is ready; return also the seconds until something happens by itself."""
        if not self._engine.cluster:
            return self._claim_in(queues, limit=limit, lease=lease)
        deliveries: list[Delivery] = []
        soonest = float("inf")
        for queue in queues:
            taken, until_event = self._claim_in([queue], limit=limit - len(deliveries), lease=lease)
            deliveries += taken
            soonest = min(soonest, until_event)
        return deliveries, soonest

    def _claim_in(self, queues: Sequence[str], *, limit: int, lease: float) -> tuple[list[Delivery], float]:
        """Claim from queues that live in one place."""
        options = self._engine.options
        prefix = nonce().hex() + "."
        oldest = 0 if options.dead_max_age is None else micros(options.dead_max_age)
        most = -1 if options.dead_max_count is None else options.dead_max_count
        call = run(
            "claim",
            [self._keys.queue(queue) for queue in queues],
            (max(0, limit), f"{micros(lease):.0f}", prefix, self._keys.unique(queues[0]), MOST_BYTES, oldest, most),
        )
        now, until_event, *taken = self._server.one(call, again=False)
        claimed_at = int(now) / 1e6
        deliveries: list[Delivery] = []
        for queue, flat in zip(queues, taken, strict=True):
            for start in range(0, len(flat), 4):
                token = f"{prefix}{len(deliveries)}"
                reply = flat[start : start + 4]
                deliveries.append(read_delivery(queue, reply, token=token, claimed_at=claimed_at))
        return deliveries, until_event / 1e6 if until_event >= 0 else float("inf")

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end later."""
        by_queue = _grouped((place, one.queue) for place, one in enumerate(leases))
        calls = []
        for queue, places in by_queue.items():
            arguments: list[Any] = [f"{micros(lease):.0f}"]
            for place in places:
                arguments += (leases[place].id, leases[place].token)
            calls.append(run("extend", [self._keys.queue(queue)], arguments))
        return [leases[place] for place in self._refused(by_queue, calls)]

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry out *settlements*."""
        if not settlements:
            return []
        retries = [each.envelope for each in settlements if isinstance(each, Retry)]
        self._check_sizes(retries)
        self._know({envelope.queue for envelope in retries})
        if self._engine.cluster:
            settlements = self._without_moves(settlements)
        by_queue = _grouped((place, each.delivery.queue) for place, each in enumerate(settlements))
        mark = nonce()
        calls = []
        for queue, places in by_queue.items():
            some = [settlements[place] for place in places]
            calls.append(self._settling(queue, some, mark))
        return [settlements[place].delivery for place in self._refused(by_queue, calls)]

    def _settling(self, queue: str, settlements: Sequence[Settlement], mark: bytes) -> Call:
        """Return the call that carries out *settlements*, all of one queue."""
        keys, window = (self._keys.queue(queue),), round(self._engine.options.dedup_window)
        if are_plain_acks(settlements):
            pairs = [text for each in settlements for text in (each.delivery.id, each.delivery.token)]
            return run("ack", keys, (window, mark, *pairs))
        arguments: list[Any] = [self._keys.unique(queue), window, mark]
        for each in settlements:
            arguments += settle_arguments(each, self._keys)
        return run("settle", keys, arguments)

    def _without_moves(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Send the retries that go to another queue, in another slot, and leave it at acknowledging them."""
        kept: list[Settlement] = []
        for each in settlements:
            if isinstance(each, Retry) and each.envelope.queue != each.delivery.queue:
                self.send([each.envelope])
                kept.append(Ack(each.delivery))
            else:
                kept.append(each)
        return kept

    def _refused(self, by_queue: dict[str, list[int]], calls: Sequence[Call]) -> list[int]:
        """Carry *calls* out, one per queue, and return the places of what was refused, in order."""
        replies = self._server.call(calls, again=True) if calls else []
        lost = (places[at] for places, reply in zip(by_queue.values(), replies, strict=True) for at in reply)
        return sorted(lost)

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Carry out each item in one step, all of them in one call."""
        if not items:
            return []
        envelopes = envelopes_of(items)
        if envelopes:
            self._check_sizes(envelopes)
            self._know({envelope.queue for envelope in envelopes})
        quick = quick_send(items, self._keys)
        if quick is not None and self._sent_quickly(quick, items[0].sends[0].queue):
            return [True]
        window = round(self._engine.options.dedup_window)
        commitment = Commitment(items, keys=self._keys, window=window, mark=nonce())
        return commitment.done(self._server.call(commitment.calls, again=True))

    # -- looking and mending -------------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        return inspection.queues(self._engine)

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of *queues*; what is due counts as ready, also where no worker runs."""
        return inspection.counts(self._engine, queues)

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*."""
        return inspection.peek(self._engine, queue, place=place, limit=limit, cursor=cursor)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that *queue* holds."""
        return inspection.find(self._engine, queue, ids)

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters."""
        return inspection.requeue(self._engine, queue, ids)

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Take messages out by id; leased ones stay."""
        places = {Place.READY, Place.DELAYED} if place is None else {place} - {Place.LEASED}
        return inspection.remove(self._engine, queue, ids, places) if places else []

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Take all messages in *place* out; of leased ones the holders lose their lease."""
        return inspection.purge(self._engine, queue, place)

    def interrupt(self) -> None:
        """Make a ``receive`` that waits return; if none does, the next one that would."""
        self._interrupts.interrupt()

    def check(self) -> list[str]:
        """Ask the server whether it keeps what it is given."""
        return check(self._engine)

    def close(self) -> None:
        """Close all connections, and wake whoever waits."""
        self._interrupts.interrupt()
        self._server.close()

    def _know(self, queues: Iterable[str]) -> None:
        """Enter *queues* in the list of all, once in a process."""
        new = [queue for queue in queues if queue not in self._known]
        if new:
            self._server.one(Call(self._keys.queues, ("SADD", self._keys.queues, *new)), again=True)
            self._known.update(new)

    def _check_sizes(self, envelopes: Iterable[Envelope]) -> None:
        """Refuse bodies above the limit before anything has happened."""
        for envelope in envelopes:
            if len(envelope.body) > self.limits.max_body:
                size = f"{len(envelope.body):,} bytes, above the limit of {self.limits.max_body:,}"
                raise TooLargeError(f"the body of message {envelope.id} has {size}")


def _grouped(pairs: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    """Return the places of each queue, in order."""
    grouped: dict[str, list[int]] = {}
    for place, queue in pairs:
        grouped.setdefault(queue, []).append(place)
    return grouped
