"""The broker of ``redis://`` and its variants."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, NamedTuple

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
    Replace,
    Settlement,
    Stored,
)
from queuekit.clock import Clock
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.interrupts import Interrupts
from queuekit.rounds import in_rounds
from queuekit.urls import EngineURL
from queuekit_redis import inspection
from queuekit_redis.capabilities import CAPABILITIES, CLUSTER_CAPABILITIES, LIMITS
from queuekit_redis.checks import check
from queuekit_redis.claiming import Claimed, Claims
from queuekit_redis.committing import Commit, Commitment, quick_send, send_call, single_send
from queuekit_redis.encoding import micros
from queuekit_redis.engine import nonce, open_engine
from queuekit_redis.options import RedisOptions
from queuekit_redis.server import RedisCall, run
from queuekit_redis.settling import envelopes_of, is_plain, is_plain_ack, settle_arguments
from queuekit_redis.waiting import Sleep

__all__ = ["RedisBroker"]

LONGEST_SLEEP = 6.0
"""Seconds after which a worker claims again, in case it missed a notification."""
OTHERS = 60.0
"""Seconds between two rounds of upkeep of queues that this process does not receive from."""
_MORE = 1.0
"""Seconds until the next such round if more work is left."""
_MOMENT = 0.05
"""Seconds after a call that left nothing within which the next one need not look before it waits."""
_SOME = 10
"""Queues in one such round."""
_A_MONTH = 30 * 86_400.0
_PART = 1_000
"""Most queues that are registered in one step."""


class _Emptied(NamedTuple):
    """A call that left no ready message: it took the last ones, or waited in vain."""

    queues: frozenset[str]
    at: float
    """Monotonic time of its end."""
    until_event: float
    """Seconds from then until something is due."""


class RedisBroker(Broker):
    """Queues on a Redis or Valkey server; see :class:`~queuekit.broker.Broker` for the methods.

    Args:
        url: URL of the server; a backend with the same URL can commit together with the broker.
        options: Options of the connection and the stored data.
        clock: Not used: the server's clock decides (QK11).
        random: Not used: forks of a process would share its numbers, but no two claims may share a token.
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
        self._claims = Claims(engine, self._interrupts)
        self._known: set[str] = set()
        self._emptied: _Emptied | None = None
        """The last call if it left nothing; ``None`` after any other."""
        self._next_others = time.monotonic() + OTHERS
        self.engine_id = engine.id
        self.capabilities = CLUSTER_CAPABILITIES if engine.cluster else CAPABILITIES
        options = engine.options
        self.limits = attrs.evolve(LIMITS, dedup_window=options.dedup_window, dead_retention=_retention(options))

    # -- delivering ----------------------------------------------------------------------------------------------

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        if not envelopes:
            return []
        self.check_sizes(envelopes)
        first = envelopes[0]
        if len(envelopes) == 1 and first.unique is None and first.lane is None and self._send_one(first):
            return [first.id]
        return self._send_all(envelopes)

    def _send_all(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Send *envelopes*, queue by queue, and return the id that holds the unique key of each."""
        by_queue = _grouped((place, envelope.queue) for place, envelope in enumerate(envelopes))
        self._register(by_queue)
        plain = {queue: all(is_plain(envelopes[at]) for at in places) for queue, places in by_queue.items()}
        holders = [envelope.id for envelope in envelopes]
        left = self._send_some(envelopes, by_queue, holders, plain)
        if left:  # the ids are known: the slower script checks whether this is a later attempt
            self._send_some(envelopes, left, holders, {})
        return holders

    def _send_some(
        self,
        envelopes: Sequence[Envelope],
        by_queue: Mapping[str, list[int]],
        holders: list[str],
        plain: Mapping[str, bool],
    ) -> dict[str, list[int]]:
        """Send *envelopes*, store the ids that hold their keys in *holders*; return what needs the slower script."""
        left, new = dict[str, list[int]](), list[str]()
        replies = self._server.call(self._send_calls(envelopes, by_queue, plain), again=True)
        for (queue, places), (is_new, *rest) in zip(by_queue.items(), replies, strict=True):
            if is_new:
                new.append(queue)
            if plain.get(queue):
                left[queue] = [places[at] for at in rest]
                continue
            for at, holder in zip(rest[::2], rest[1::2], strict=True):
                holders[places[at]] = holder.decode()
        self._register_again(new)
        return {queue: places for queue, places in left.items() if places}

    def _send_calls(
        self, envelopes: Sequence[Envelope], by_queue: Mapping[str, list[int]], plain: Mapping[str, bool]
    ) -> list[RedisCall]:
        """Return one call per queue."""
        return [
            send_call(self._keys, queue, [envelopes[place] for place in places], plain=plain.get(queue, False))
            for queue, places in by_queue.items()
        ]

    def _send_one(self, envelope: Envelope) -> bool:
        """Send a message without unique key by the quick script; return false if its id is known."""
        self._register((envelope.queue,))
        return self._sent_quickly(single_send(envelope, self._keys), envelope.queue)

    def _sent_quickly(self, call: RedisCall, queue: str) -> bool:
        answer: int = self._server.one(call, again=True)
        if answer == 1:
            self._register_again((queue,))
        return answer >= 0

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Claim due messages under a lease; wait for the first one until a send notifies."""
        if not queues:
            return []
        limit = min(limit, self.limits.max_batch)
        deadline = time.monotonic() + min(wait, self.limits.max_wait)
        handled = self._interrupts.handled
        if time.monotonic() >= self._next_others:
            self._upkeep_of_others(queues)
        deliveries, until_event = self._look(queues, limit=limit, lease=lease, waits=wait > 0)
        while True:
            now = time.monotonic()
            left = deadline - now
            if limit > 0 and (deliveries or left <= 0 < wait):
                self._emptied = _Emptied(frozenset(queues), now, until_event)
            if deliveries or limit <= 0 or left <= 0 or self._interrupts.interrupted(handled):
                return deliveries
            asleep = Sleep(min(left, until_event, LONGEST_SLEEP), exact=until_event < min(left, LONGEST_SLEEP))
            deliveries, until_event = self._claims.claim_when_notified(
                queues, limit=limit, lease=lease, sleep=asleep, handled=handled
            )

    def _look(self, queues: Sequence[str], *, limit: int, lease: float, waits: bool) -> Claimed:
        """Claim, unless the last call left nothing in the same queues a moment ago, and this one waits.

        What was sent since has notified a queue, and a notifier keeps that until somebody claims.
        """
        emptied, self._emptied = self._emptied, None
        if emptied is not None and waits and limit > 0 and emptied.queues == frozenset(queues):
            passed = time.monotonic() - emptied.at
            if passed < min(_MOMENT, emptied.until_event):
                return [], emptied.until_event - passed
        return self._claims.claim(queues, limit=limit, lease=lease)

    def _upkeep_of_others(self, own: Sequence[str]) -> None:
        """Do the upkeep of some other queues, which may have no worker, so that their old ids expire."""
        self._next_others = time.monotonic() + OTHERS
        call = RedisCall(self._keys.queues, ("SRANDMEMBER", self._keys.queues, _SOME))
        with suppress(UnavailableError):  # receiving must not depend on it
            names = [name.decode(errors="backslashreplace") for name in self._server.one(call, again=True)]
            others = [name for name in names if name not in own]
            if others and self._claims.upkeep(others) <= 0:
                self._next_others = time.monotonic() + _MORE

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Extend *leases*."""
        by_queue = _grouped((place, one.queue) for place, one in enumerate(leases))
        calls = []
        for queue, places in by_queue.items():
            arguments: list[Any] = [f"{micros(lease):.0f}"]
            for place in places:
                arguments += (leases[place].id, leases[place].token)
            calls.append(run("extend", [self._keys.queue(queue)], arguments))
        return [leases[place] for place in self._refused(by_queue, calls)]

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements*."""
        lost: list[Delivery] = []
        # A script stores the nonce of its call, so that a repeated call does not report its own work as lost. Two
        # leases of one message in the same call would look like repetitions of each other (QK4).
        for places in in_rounds([each.delivery.id for each in settlements]):
            lost += self._settle([settlements[place] for place in places])
        return lost

    def _settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply settlements of different messages."""
        retries = [each.envelope for each in settlements if isinstance(each, Replace)]
        self.check_sizes(retries)
        self._register({envelope.queue for envelope in retries})
        if self._engine.cluster:
            settlements = self._without_moves(settlements)
        by_queue = _grouped((place, each.delivery.queue) for place, each in enumerate(settlements))
        mark = nonce()
        calls = []
        for queue, places in by_queue.items():
            some = [settlements[place] for place in places]
            calls.append(self._settling(queue, some, mark))
        return [settlements[place].delivery for place in self._refused(by_queue, calls)]

    def _settling(self, queue: str, settlements: Sequence[Settlement], mark: bytes) -> RedisCall:
        """Return the call that applies *settlements*, all of one queue."""
        keys, window = (self._keys.queue(queue),), round(self._engine.options.dedup_window)
        if all(map(is_plain_ack, settlements)):
            pairs = [text for each in settlements for text in (each.delivery.id, each.delivery.token)]
            return run("ack", keys, (window, mark, *pairs))
        arguments: list[Any] = [self._keys.unique(queue), window, mark]
        for each in settlements:
            arguments += settle_arguments(each, self._keys)
        return run("settle", keys, arguments)

    def _without_moves(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Send retries whose queue, and so whose slot, differs, and replace them by acknowledgements."""
        kept: list[Settlement] = []
        for each in settlements:
            if isinstance(each, Replace) and each.envelope.queue != each.delivery.queue:
                (holder,) = self.send([each.envelope])
                if holder != each.envelope.id:  # a key is unique per queue, and another message holds it in this one
                    self.send([attrs.evolve(each.envelope, unique=None)])
                kept.append(Ack(each.delivery))
            else:
                kept.append(each)
        return kept

    def _refused(self, by_queue: dict[str, list[int]], calls: Sequence[RedisCall]) -> list[int]:
        """Run *calls*, one per queue, and return the indexes of the refused items, in order."""
        replies = self._server.call(calls, again=True) if calls else []
        lost = (places[at] for places, reply in zip(by_queue.values(), replies, strict=True) for at in reply)
        return sorted(lost)

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Commit each item in one step, and all of them in one round trip."""
        if not items:
            return []
        if self._sent_as_one(items):
            return [True]
        envelopes = envelopes_of(items)
        self.check_sizes(envelopes)
        self._register({envelope.queue for envelope in envelopes})
        settled = [item.settlement.delivery.id for item in items if item.settlement is not None]
        if len(set(settled)) < len(settled):
            return self._commit_apart(items)
        result = self._commit(items)
        if result.left:
            self._commit_left(items, result)
        return result.done

    def _commit_left(self, items: Sequence[CommitItem], result: Commit) -> None:
        """Commit the items that need the slower script, and store in *result* which ones were done."""
        slower = self._commit([items[place] for place in result.left], quick=False)
        for place, done in zip(result.left, slower.done, strict=True):
            result.done[place] = done

    def _sent_as_one(self, items: Sequence[CommitItem]) -> bool:
        """Send a single message by the quick script; return false if it has a unique key, or its id is known."""
        quick = quick_send(items, self._keys)
        if quick is None:
            return False
        (envelope,) = items[0].sends
        self.check_sizes((envelope,))
        if envelope.queue not in self._known:
            self._register((envelope.queue,))
        return self._sent_quickly(quick, envelope.queue)

    def _commit_apart(self, items: Sequence[CommitItem]) -> list[bool]:
        """Commit items of which some settle the same message, in several calls."""
        done = [False] * len(items)
        for places in in_rounds([None if one.settlement is None else one.settlement.delivery.id for one in items]):
            for place, yes in zip(places, self.commit([items[place] for place in places]), strict=True):
                done[place] = yes
        return done

    def _commit(self, items: Sequence[CommitItem], *, quick: bool = True) -> Commit:
        window = round(self._engine.options.dedup_window)
        commitment = Commitment(items, keys=self._keys, fixed=(window, nonce()), quick=quick)
        result = commitment.result(self._server.call(commitment.calls, again=True))
        self._register_again(result.new)
        return result

    def look_for_marks(self, prefix: str) -> bool:
        """Check in each claim whether records with *prefix* mark the claimed messages, or the workflows of parts."""
        self._claims.marks = None if self._engine.cluster else self._keys.record(prefix)
        return not self._engine.cluster

    # -- inspecting and changing ---------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        return inspection.queues(self._engine)

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of *queues*; due messages count as ready even if no worker runs."""
        return inspection.counts(self._engine, queues)

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*."""
        return inspection.peek(self._engine, queue, place=place, limit=limit, cursor=cursor)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that *queue* holds."""
        return inspection.find(self._engine, queue, ids)

    def search(self, queues: Sequence[str], id: str) -> Stored | None:
        """Return the message *id* from the first of *queues* that holds it."""
        return inspection.search(self._engine, queues, id)

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters."""
        return inspection.requeue(self._engine, queue, ids)

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Remove messages by id, except leased ones."""
        places = {Place.READY, Place.DELAYED} if place is None else {place} - {Place.LEASED}
        return inspection.remove(self._engine, queue, ids, places) if places else []

    def dead_beyond(self, queue: str, *, count: int | None, before: float | None, limit: int = 500) -> list[str]:
        """Return the ids of dead letters beyond the bounds, oldest first."""
        return inspection.dead_beyond(self._engine, queue, count=count, before=before, limit=limit)

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Remove all messages in *place*; holders of leased ones lose their lease."""
        return inspection.purge(self._engine, queue, place)

    def interrupt(self) -> None:
        """Make a waiting ``receive`` return; if none waits, the next one that would wait."""
        self._interrupts.interrupt()

    def tell_set_aside(self, hear: Callable[[str, str, str], None]) -> None:
        """Call *hear* for each message whose id is not text."""
        self._claims.on_set_aside = hear

    def check(self) -> list[str]:
        """Return the problems of the server that may lose or refuse data."""
        return check(self._engine)

    def close(self) -> None:
        """Close all connections, and end the waits of this process."""
        self._interrupts.interrupt()
        self._server.close()

    def _register(self, queues: Iterable[str]) -> None:
        """Add *queues* to the set of all queues, once per process."""
        new = [queue for queue in queues if queue not in self._known]
        if new:
            for start in range(0, len(new), _PART):
                self._server.one(run("register", (self._keys.queues,), new[start : start + _PART]), again=True)
            self._known.update(new)

    def _register_again(self, queues: Collection[str]) -> None:
        """Add *queues* once more: they are new, or the server was emptied after they were added."""
        self._known.difference_update(queues)
        self._register(queues)


def _retention(options: RedisOptions) -> float | None:
    """Return how long a dead letter is kept, in seconds; if only their number is bounded, an estimate."""
    if options.dead_max_age is None and options.dead_max_count is not None:
        return _A_MONTH
    return options.dead_max_age


def _grouped(pairs: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    """Return the indexes for each queue, in order."""
    grouped: dict[str, list[int]] = {}
    for place, queue in pairs:
        grouped.setdefault(queue, []).append(place)
    return grouped
