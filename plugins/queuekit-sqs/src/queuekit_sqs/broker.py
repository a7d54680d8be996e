"""The broker of ``sqs://`` and its variants."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import attrs

from queuekit.backend import Backend, Page
from queuekit.broker import Broker, Delivery, Lease, Place, QueueCounts, Release, Settlement, Stored, count_each
from queuekit.clock import Clock, SystemClock
from queuekit.envelope import DEFAULT_PRIORITY, Envelope
from queuekit.errors import PartialSendError, TooLargeError, UnavailableError
from queuekit.levels import Levels
from queuekit.urls import EngineURL
from queuekit_sqs.batches import Batches, JobFailure
from queuekit_sqs.capabilities import CAPABILITIES, limits_of
from queuekit_sqs.checks import check_queues, cost
from queuekit_sqs.claiming import Receiver
from queuekit_sqs.cloudwatch import oldest_ages
from queuekit_sqs.dead_letters import DeadLetters
from queuekit_sqs.fifo_attempts import Turn, Turns
from queuekit_sqs.fifo_in_flight import Arriving, InFlight
from queuekit_sqs.messages import Counts, read
from queuekit_sqs.options import SqsMessageOptions, SqsOptions
from queuekit_sqs.payloads import Payloads, Unread
from queuekit_sqs.prefetch_buffer import Arrival
from queuekit_sqs.queues import REDRIVE, QueueNames, Queues, SqsQueue
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.servertime import ServerTime
from queuekit_sqs.service import Service, Settings
from queuekit_sqs.settling import Held, Settling, Token, read_token, send_job
from queuekit_sqs.urls import read_target

__all__ = ["SqsBroker"]

_REMEMBERED = 20_000
_READY, _LEASED, _DELAYED = (f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed"))

_AWAY = 10.0
"""Seconds until the next delivery of a message whose body S3 does not return at the moment."""
_NO_BUCKET = Unread("its body is in S3, but payload_bucket is not set here")
"""Why a client without a bucket cannot read a body in S3."""


class SqsBroker(Broker):
    """Queues on SQS; see :class:`~queuekit.broker.Broker` for the methods.

    Args:
        url: Region, or address of an emulator or endpoint, and prefix of the names of queues.
        options: Options of the requests and the queues.
        clock: The local clock; the service's is estimated from its replies (QK11).
        random: Adds jitter to pauses.
    """

    capabilities = CAPABILITIES
    message_options = SqsMessageOptions

    def __init__(
        self,
        url: EngineURL,
        *,
        options: SqsOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._options = options = options or SqsOptions()
        self.limits = limits_of(options)
        self._url = url
        self._target = read_target(url, options)
        self._random = random or Random()  # noqa: S311 - not a secret
        self._time = ServerTime(clock or SystemClock())
        self._pool = RequestPool(options.connections, name="queuekit-sqs")
        self._service = self._make_service("sqs", timeout=options.timeout)
        self._polls = self._make_service("sqs", timeout=options.timeout + options.poll)
        self._s3: Service | None = None
        self._watch: Service | None = None
        self._queues = Queues(self._service, QueueNames(self._target.prefix), options)
        self._batches = self._make_batches()
        self._payloads = self._make_payloads()
        self._turns, self._in_flight = Turns(), InFlight()
        self._settling = Settling(
            self._batches,
            self._queues,
            turns=self._turns,
            in_flight=self._in_flight,
            now=self._time.now,
            drop=self._drop,
        )
        self._dead_letters = DeadLetters(
            self._service, self._queues, self._batches, pool=self._pool, fetch=self._fetch, drop=self._drop
        )
        self._receiver = self._make_receiver()
        self._levels: Levels | None = None
        self._sent: OrderedDict[tuple[str, str, int, int, int], None] = OrderedDict()
        """Messages that arrived in a send that failed in part, and so will be repeated."""
        self._pid = os.getpid()

    def _make_service(self, name: str, *, timeout: float) -> Service:
        options = self._options
        settings = Settings(
            connections=options.connections, timeout=timeout, connect_timeout=options.connect_timeout, tls=options
        )
        return Service(name, self._url, target=self._target, settings=settings, time=self._time, random=self._random)

    def _make_batches(self) -> Batches:
        return Batches(
            self._service,
            self._queues,
            pool=self._pool,
            most_bytes=self._options.max_message_bytes,
            random=self._random,
        )

    def _make_payloads(self) -> Payloads | None:
        options = self._options
        if not options.payload_bucket:
            return None
        return Payloads(
            self._s3_service,
            bucket=options.payload_bucket,
            prefix=options.payload_prefix,
            pool=self._pool,
            limit=lambda: self.limits.max_body if self.largest_wanted is None else self.largest_wanted,
        )

    def _make_receiver(self) -> Receiver:
        return Receiver(
            self._service,
            self._polls,
            self._queues,
            pool=self._pool,
            receivers=self._options.receivers,
            poll=self._options.poll,
            give_back=self._give_back,
        )

    def _s3_service(self) -> Service:
        self._s3 = self._s3 or self._make_service("s3", timeout=self._options.timeout)
        return self._s3

    def share(self, backend: Backend) -> None:
        """Store in *backend* the priorities in use, and the attempts of messages in FIFO queues, which SQS does not."""
        self._turns.share(backend)
        self._levels = Levels(backend, "sqs")
        self._queues.announced = True

    # -- delivering

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        try:
            self.check_sizes(envelopes)
        except TooLargeError as error:
            error.fix = "Set payload_bucket to keep large bodies in S3"
            raise
        new = [envelope for envelope in envelopes if _step(envelope) not in self._sent]
        pointers = self._keep_large(new)
        jobs = []
        for envelope in new:
            sqs_queue = self._queues.of_priority(envelope.queue, envelope.priority)
            self._queues.url(sqs_queue)  # before the delay is computed: the reply shows the service's time
            carried, delay = self._delayed(envelope, sqs_queue)
            jobs.append(send_job(sqs_queue, carried, delay=delay, pointer=pointers.get(envelope.id)))
        self._report(new, self._batches.send(jobs))
        self._announce(
            {(job.sqs_queue.queue, job.sqs_queue.level) for job in jobs if job.sqs_queue.level != DEFAULT_PRIORITY}
        )
        return [envelope.id for envelope in envelopes]

    def _announce(self, used: set[tuple[str, int]]) -> None:
        """Announce the priorities of the messages just sent to receivers."""
        if self._levels is not None:
            for queue, level in used:
                self._levels.announce(self._queues.usual(queue).name, level)

    def _find_priorities(self, queues: Sequence[str]) -> None:
        """Read the priorities that other clients use, in a thread; interrupt a wait if one is new."""
        levels = self._levels
        if levels is None or not levels.is_due():
            return
        usual = {queue: self._queues.usual(queue) for queue in queues}
        sqs_queues = {sqs_queue.name: queue for queue, sqs_queue in usual.items() if not sqs_queue.fifo}

        def read() -> None:
            found = levels.read(list(sqs_queues))
            if [sqs_queue for sqs_queue, used in found.items() if self._queues.learn(sqs_queues[sqs_queue], used)]:
                self._receiver.interrupt()

        if sqs_queues:
            self._pool.start(read)

    def _delayed(self, envelope: Envelope, sqs_queue: SqsQueue) -> tuple[Envelope, float]:
        """Return the envelope to send, and its delay on SQS; a longer delay is reached by re-delays."""
        if not envelope.delay and envelope.not_before is None:
            return envelope, 0.0
        now = self._time.now()
        delay = max(envelope.delay, (envelope.not_before or now) - now)
        longest = 0.0 if sqs_queue.fifo else self.limits.max_delay or 0.0
        if delay > longest and envelope.not_before is None:
            envelope = attrs.evolve(envelope, not_before=now + delay)
        return envelope, min(delay, longest)

    def _keep_large(self, envelopes: Sequence[Envelope]) -> dict[str, str]:
        """Store bodies that are too large for SQS in S3, and return the pointers to them by message id."""
        if self._payloads is None:
            return {}
        room = self._options.max_message_bytes - 16_384
        large = [envelope for envelope in envelopes if len(envelope.body) > room // 4 * 3]
        kept = self._payloads.keep([envelope.body for envelope in large])
        return {envelope.id: pointer for envelope, pointer in zip(large, kept, strict=True)}

    def _report(self, envelopes: Sequence[Envelope], failures: Sequence[JobFailure | None]) -> None:
        """Raise the error of failed messages. After a passing error, a repeated send skips those that arrived."""
        pairs = list(zip(envelopes, failures, strict=True))
        passing = next((one.error for one in failures if one is not None and one.error is not None), None)
        if passing is not None:
            self._note_sent([envelope for envelope, failure in pairs if failure is None])
            raise passing
        refused = {envelope.id: f"{failure.code}: {failure.text}" for envelope, failure in pairs if failure is not None}
        if refused:
            raise PartialSendError(f"SQS refuses {len(refused)} of {len(pairs)} messages", failures=refused)

    def _note_sent(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self._sent[_step(envelope)] = None
        while len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Claim due messages under a lease; wait for the first one."""
        self._check_fork()
        self._find_priorities(queues)
        limit, wait = min(limit, self.limits.max_batch), min(wait, self.limits.max_wait)
        sqs_queues = [sqs_queue for queue in queues for sqs_queue in self._queues.of_all_priorities(queue)]
        if limit <= 0:
            self._receiver.return_surplus()
            for queue in queues:
                self._queues.url(self._queues.of_priority(queue, 4))
            return []
        arrivals = self._receiver.take(sqs_queues, limit=limit, wait=wait, lease=lease)
        return self._delivered(arrivals)

    def _delivered(self, arrivals: Sequence[Arrival]) -> list[Delivery]:
        """Return *arrivals* as deliveries; release those of a FIFO queue that must wait."""
        deliveries: list[Delivery] = []
        waiting: list[Release] = []
        known = self._known(arrivals)
        held = self._read([one for one, _ in known], [turn for _, turn in known])
        behind = self._in_flight.take([_arriving(one, turn) for one, turn in known if turn is not None])
        for (arrival, turn), one in zip(known, held, strict=True):
            delivery = _delivery(arrival, one, turn)
            release = self._waits(delivery, turn, behind) or self._accepted(delivery, one)
            if release is None:
                deliveries.append(delivery)
            else:
                waiting.append(release)
        if waiting:
            self._settling.settle(waiting)
        problems = [one.problem for one in held if one.problem is not None]
        if problems and not deliveries:
            raise problems[0]
        return deliveries

    def _accepted(self, delivery: Delivery, held: Held) -> Release | None:
        """Note what settling *delivery* takes; return its release if its body cannot be read now."""
        self._settling.hold(delivery.token, held)
        return None if held.problem is None else Release(delivery, delay=_AWAY)

    def _waits(self, delivery: Delivery, turn: Turn | None, behind: Mapping[str, tuple[float, Turn]]) -> Release | None:
        """Return the release of a message of a FIFO queue that is not due yet, or follows one in flight."""
        if turn is None:
            return None
        if delivery.token in behind:
            seconds, stands = behind[delivery.token]
            token = read_token(delivery.token)
            assert token is not None  # noqa: S101 - this broker made it
            return Release(attrs.evolve(delivery, token=str(attrs.evolve(token, turn=stands))), delay=seconds)
        early = (delivery.envelope.not_before or 0.0) - delivery.claimed_at
        return Release(delivery, delay=early) if early > self.limits.lease_granularity else None

    def _known(self, arrivals: Sequence[Arrival]) -> list[tuple[Arrival, Turn | None]]:
        """Return *arrivals*, those of FIFO queues with their turn; keep those without a readable turn."""
        again = [one for one in arrivals if one.sqs_queue.fifo and _claims(one) > 1]
        try:
            notes = self._turns.find([_message(one) for one in again])
        except UnavailableError:
            self._receiver.keep(again)
            arrivals = [one for one in arrivals if one not in again]
            if not arrivals:
                raise
            notes = {}
        return [(one, _turn(one, notes, shared=self._turns.shared)) for one in arrivals]

    def _read(self, arrivals: Sequence[Arrival], turns: Sequence[Turn | None]) -> list[Held]:
        """Return received messages, with their bodies from S3."""
        held = [_held(arrival, turn) for arrival, turn in zip(arrivals, turns, strict=True)]
        pointers = [one.pointer for one in held if one.pointer]
        if not pointers:
            return held
        bodies = iter(self._fetch(pointers))
        return [_with_body(one, next(bodies)) if one.pointer else one for one in held]

    def _give_back(self, arrivals: Sequence[Arrival]) -> None:
        """Release messages that no call asked for; if that fails, their leases expire."""
        try:
            known = self._known(arrivals)
            releases = []
            for arrival, turn in known:
                held = _held(arrival, turn)
                delivery = _delivery(arrival, held, turn)
                self._settling.hold(delivery.token, held)
                releases.append(Release(delivery, delay=arrival.left))
            self._settling.settle(releases)
        except Exception:  # noqa: BLE001 - runs in its own thread, without a caller
            return

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Extend *leases*."""
        self._check_fork()
        return self._settling.extend(leases, lease=lease)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements*."""
        self._check_fork()
        return self._settling.settle(settlements)

    # -- inspecting and changing

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the approximate counts of *queues*; SQS is accurate after about a minute."""
        counting = {queue: self._pool.start(partial(self._count, queue)) for queue in queues[1:]}
        found = count_each(queues, lambda queue: counting[queue].result() if queue in counting else self._count(queue))
        if not self._options.cloudwatch:
            return found
        sqs_queues = {
            queue: [sqs_queue.name for sqs_queue in self._queues.of_all_priorities(queue)] for queue in queues
        }
        ages = oldest_ages(self._make_watch(), sqs_queues, now=self._time.now())
        return {
            queue: attrs.evolve(one, oldest_age=ages.get(queue) if one.ready else None) for queue, one in found.items()
        }

    def _make_watch(self) -> Service:
        self._watch = self._watch or self._make_service("cloudwatch", timeout=self._options.timeout)
        return self._watch

    def _count(self, queue: str) -> QueueCounts:
        sums = dict.fromkeys((_READY, _LEASED, _DELAYED), 0)
        for sqs_queue in self._queues.of_all_priorities(queue):
            found = self._queues.attributes(sqs_queue, *sums, REDRIVE)
            for name in sums:
                sums[name] += int(found.get(name, 0))
        dead = self._queues.attributes(self._queues.dead(queue), _READY, _LEASED)
        return QueueCounts(
            ready=sums[_READY], delayed=sums[_DELAYED], leased=sums[_LEASED], dead=sum(map(int, dead.values()))
        )

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return dead letters; SQS cannot show other messages."""
        if place is not Place.DEAD:
            raise self._cannot(f"show {place} messages: SQS only counts them")
        return self._dead_letters.page(queue, limit=limit, cursor=cursor)

    def walk(self, queue: str, place: Place, *, page_size: int = 500) -> Iterator[Stored]:
        """Yield all dead letters in one pass; SQS cannot show other messages."""
        if place is not Place.DEAD:
            raise self._cannot(f"show {place} messages: SQS only counts them")
        return self._dead_letters.seek(queue)

    def seek_dead(self, queue: str, ids: Sequence[str] | None = None) -> Generator[Stored, None, None]:
        """Yield dead letters (all, or *ids*) in one pass, to change them while it lasts."""
        return self._dead_letters.seek(queue, ids)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that are dead letters, among the first that SQS hands out."""
        return self._dead_letters.find(queue, ids)

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters."""
        return self._dead_letters.requeue(queue, ids)

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Delete dead letters by id; SQS cannot find other messages."""
        if place is not Place.DEAD:
            raise self._cannot("remove waiting messages by id")
        return self._dead_letters.remove(queue, ids)

    def dead_beyond(self, queue: str, *, count: int | None, before: float | None, limit: int = 500) -> list[str]:
        """Return the ids of dead letters beyond the bounds among the first that SQS hands out, oldest first."""
        return self._dead_letters.beyond(queue, count=count, before=before)[:limit]

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Delete all messages in *place*, which must be ready or dead."""
        if place is Place.DEAD:
            return self._dead_letters.purge([self._queues.dead(queue)])
        if place is not Place.READY:
            raise self._cannot(f"purge {place} messages")
        return self._dead_letters.purge(self._queues.of_all_priorities(queue))

    def interrupt(self) -> None:
        """Make a waiting ``receive`` return; if none waits, the next one that would wait."""
        self._receiver.interrupt()

    def check(self) -> list[str]:
        """Return the problems of the S3 bucket, if large bodies are stored there."""
        return [] if self._payloads is None else self._payloads.check()

    def check_queues(self, queues: Sequence[str], *, max_deliveries: int) -> list[str]:
        """Return the settings of SQS queues that may lose messages."""
        return check_queues(self._queues, queues, max_deliveries=max_deliveries)

    def notes(self) -> list[str]:
        """Return the cost of tasks."""
        return [cost(self._options.poll)]

    def close(self) -> None:
        """Release messages that no call asked for, and close all connections."""
        self._check_fork()
        self._receiver.close()
        self._dead_letters.close()
        self._pool.close()
        # Except those of current long polls, whose messages are released.
        for service in (self._service, self._s3, self._watch):
            if service is not None:
                service.close()

    def _check_fork(self) -> None:
        """Reset the state in a child process: threads, polls and locks belong to the parent."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._receiver.after_fork()
            self._settling.after_fork()

    # -- bodies in S3

    def _fetch(self, pointers: Sequence[str]) -> list[bytes | Unread | UnavailableError]:
        return [_NO_BUCKET] * len(pointers) if self._payloads is None else self._payloads.fetch(pointers)

    def _drop(self, pointers: Sequence[str]) -> None:
        if self._payloads is not None and pointers:
            self._payloads.drop(pointers)


def _step(envelope: Envelope) -> tuple[str, str, int, int, int]:
    return (envelope.queue, envelope.id, envelope.generation, envelope.attempt, envelope.hop)


def _message(arrival: Arrival) -> str:
    return str(arrival.message.get("MessageId", ""))


def _claims(arrival: Arrival) -> int:
    return max(1, int(arrival.message.get("Attributes", {}).get("ApproximateReceiveCount", 1)))


def _turn(arrival: Arrival, notes: Mapping[str, Turn], *, shared: bool) -> Turn | None:
    """Return the turn of a message of a FIFO queue; ``None`` for another queue.

    Earlier claims without a note count as crashes; if the processes do not share their notes, as attempts as well.
    """
    if not arrival.sqs_queue.fifo:
        return None
    received, claims, id = read(arrival.message, arrival.sqs_queue.queue), _claims(arrival), _message(arrival)
    note = notes.get(id) or Turn.of(received.envelope, message=id, claims=0, crashes=received.counts.crashes)
    envelope, crashes = note.applied(received.envelope, claims)
    if not shared:
        envelope = attrs.evolve(envelope, attempt=envelope.attempt + max(0, claims - note.claims - 1))
    return Turn.of(envelope, message=id, claims=claims, crashes=crashes)


def _arriving(arrival: Arrival, turn: Turn) -> Arriving:
    group = str(arrival.message.get("Attributes", {}).get("MessageGroupId", ""))
    return Arriving(
        group=(arrival.sqs_queue.name, group),
        token=str(_token(arrival, turn)),
        turn=turn,
        claimed=arrival.claimed,
        until=arrival.claimed + arrival.lease,
    )


def _token(arrival: Arrival, turn: Turn | None) -> Token:
    return Token(arrival.claimed, arrival.lease, arrival.sqs_queue.name, str(arrival.message["ReceiptHandle"]), turn)


def _held(arrival: Arrival, turn: Turn | None) -> Held:
    """Return a received message."""
    received, claims = read(arrival.message, arrival.sqs_queue.queue), _claims(arrival)
    system: dict[str, Any] = arrival.message.get("Attributes", {})
    counts = Counts(
        number=received.counts.number + claims,
        crashes=received.counts.crashes + claims - 1 if turn is None else turn.crashes,
        sent_at=received.counts.sent_at or int(system.get("SentTimestamp", 0)) / 1000,
    )
    envelope = received.envelope
    if turn is not None:
        envelope = attrs.evolve(envelope, attempt=turn.attempt, hop=turn.hop, not_before=turn.not_before)
    return Held(
        sqs_queue=arrival.sqs_queue,
        receipt=str(arrival.message["ReceiptHandle"]),
        envelope=envelope,
        counts=counts,
        pointer=received.pointer,
    )


def _with_body(held: Held, body: bytes | Unread | UnavailableError) -> Held:
    if isinstance(body, UnavailableError):
        return attrs.evolve(held, problem=body)
    if isinstance(body, Unread):
        return attrs.evolve(held, unread=body.why)
    return attrs.evolve(held, envelope=attrs.evolve(held.envelope, body=body))


def _delivery(arrival: Arrival, held: Held, turn: Turn | None) -> Delivery:
    system: dict[str, Any] = arrival.message.get("Attributes", {})
    sent = held.counts.sent_at or 0.0
    return Delivery(
        envelope=held.envelope,
        token=str(_token(arrival, turn)),
        number=held.counts.number,
        crashes=held.counts.crashes,
        sent_at=sent,
        unread=held.unread,
        claimed_at=max(arrival.at + arrival.early, sent, int(system.get("SentTimestamp", 0)) / 1000),
    )
