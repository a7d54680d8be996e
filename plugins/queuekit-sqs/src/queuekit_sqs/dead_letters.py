"""Show, replay and remove dead letters. SQS shows a message only by delivering it, so each is released at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple

import attrs

from queuekit.backend import Page
from queuekit.broker import Place, Stored, beyond
from queuekit.errors import UnavailableError
from queuekit.timelimit import made_progress, time_left
from queuekit_sqs.batches import Batches, Job, JobFailure
from queuekit_sqs.capabilities import DEAD_IN_ORDER, DEAD_SEARCHED, PART
from queuekit_sqs.messages import Received, read
from queuekit_sqs.payloads import Unread
from queuekit_sqs.queues import Queues, SqsQueue
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.service import Service
from queuekit_sqs.settling import send_job

__all__ = ["DeadLetters"]

_HIDDEN, _HELD = 30, 900
"""Seconds for which dead letters are hidden while they are read: at first, and again and again in a long pass."""
_PART_BYTES = 4_000_000
"""Bytes of bodies after which a part of a pass ends."""
_LANES = 8
_EMPTY_RECEIVES = 2
"""Empty short polls in a row that mean an empty queue: each asks only some of SQS's servers."""
_SHOWN = 20
"""Dead letters whose bodies are read from S3 at once."""
_COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


@attrs.frozen(kw_only=True)
class _DeadLetter:
    sqs_queue: SqsQueue
    receipt: str
    received: Received
    stored: Stored
    copies: list[_Receipt] = attrs.field(factory=list)
    """Receipts of other dead letters with the same id: a crash between two requests can leave such a copy."""


class _Receipt(NamedTuple):
    """The part of a dead letter that is needed to release or delete it."""

    sqs_queue: SqsQueue
    receipt: str


def _receipt(dead_letter: _DeadLetter) -> _Receipt:
    return _Receipt(dead_letter.sqs_queue, dead_letter.receipt)


@attrs.define(eq=False)
class _Pass:
    """What one pass over the dead letters of a queue hides until it ends."""

    queue: str
    renew_at: float
    """Time on ``time.monotonic()`` by which it must be hidden again."""
    held: dict[str, _DeadLetter] = attrs.field(factory=dict)
    """Dead letters that can be changed without a search, by id: the last part, and the part before."""
    passed: list[_Receipt] = attrs.field(factory=list)
    """Receipts of earlier ones, without their bodies."""

    def receipts(self) -> list[_Receipt]:
        """Return the receipts of all that is hidden."""
        return [*self.passed, *_receipts(list(self.held.values()))]


class DeadLetters:
    """Manages the dead letters of all queues, and purges queues.

    Args:
        service: Makes requests.
        queues: The SQS queues.
        batches: Runs batches of jobs.
        pool: Runs requests in parallel.
        fetch: Returns bodies from S3.
        drop: Deletes bodies in S3.
    """

    def __init__(
        self,
        service: Service,
        queues: Queues,
        batches: Batches,
        *,
        pool: RequestPool,
        fetch: Callable[[Sequence[str]], list[bytes | Unread | UnavailableError]],
        drop: Callable[[Sequence[str]], None],
    ) -> None:
        self._service = service
        self._queues = queues
        self._batches = batches
        self._pool = pool
        self._fetch = fetch
        self._drop = drop
        self._passes: list[_Pass] = []

    def page(self, queue: str, *, limit: int, cursor: str | None) -> Page[Stored]:
        """Return dead letters of *queue* without removing them: the newest of the first that SQS hands out."""
        after = tuple(json.loads(cursor)) if cursor else None
        look, _ = self._part(self._queues.dead(queue))
        self._put_back(_receipts(look))
        rest = [each for each in look if after is None or _order(each) > after]
        items = rest[:limit]
        more = json.dumps(_order(items[-1])) if len(rest) > limit and items else None
        return Page(items=tuple(self._with_bodies(items)), cursor=more)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that are dead letters of *queue*; stop reading once all are found."""
        held, found, others = self._choose(queue, ids)
        self._put_back([*_receipts(found), *others])
        return list(self._with_bodies([*held, *found]))

    def seek(self, queue: str, ids: Sequence[str] | None = None) -> Generator[Stored, None, None]:
        """Yield dead letters (all, or *ids*) in one pass, which hides them until it is closed.

        :meth:`find`, :meth:`requeue` and :meth:`remove` reach the last ones without a search.
        """
        left = None if ids is None else set(ids)
        running = _Pass(queue, time.monotonic() + _HIDDEN / 2)
        self._passes.append(running)
        try:
            for part in self._parts(running):
                chosen = part if left is None else [each for each in part if each.received.envelope.id in left]
                for first in range(0, len(chosen), _SHOWN):
                    yield from self._with_bodies(chosen[first : first + _SHOWN])
                    self._renew(running)
                if left is not None:
                    left.difference_update(each.received.envelope.id for each in chosen)
                    if not left:
                        return
        finally:
            self._end(running)

    def close(self) -> None:
        """Give back what passes hide that nobody has closed."""
        for running in list(self._passes):
            self._end(running)

    def requeue(self, queue: str, ids: Sequence[str] | None) -> list[str]:
        """Send dead letters (all, or *ids*) to *queue* again, and delete the old copies."""
        if ids is None:
            with closing(self._sorted(queue)) as parts:
                return [id for part in parts for id in self.requeue(queue, part)]
        held, found, others = self._choose(queue, ids)
        self._put_back(others)
        chosen = [*held, *found]
        failures = self._batches.run([self._replay(dead_letter) for dead_letter in chosen])
        ended = list(zip(chosen, failures, strict=True))
        sent = [dead_letter for dead_letter, failure in ended if failure is None]
        self._put_back(_receipts([one for one, failure in ended if failure is not None and one not in held]))
        self._delete(sent)
        self._forget(sent)
        _raise(failures)
        return [dead_letter.received.envelope.id for dead_letter in sent]

    def remove(self, queue: str, ids: Sequence[str]) -> list[str]:
        """Permanently delete the dead letters *ids*."""
        held, found, others = self._choose(queue, ids)
        self._put_back(others)
        chosen = [*held, *found]
        self._delete(chosen)
        self._forget(chosen)
        self._drop([dead_letter.received.pointer for dead_letter in chosen if dead_letter.received.pointer])
        return [dead_letter.received.envelope.id for dead_letter in chosen]

    def beyond(self, queue: str, *, count: int | None, before: float | None) -> list[str]:
        """Return the ids of those beyond the bounds among the first that SQS hands out, oldest first."""
        dead = self._queues.dead(queue)
        about = sum(map(int, self._queues.attributes(dead, *_COUNTS).values()))
        if before is None and (count is None or about <= count):
            return []
        look, more = self._part(dead)
        self._put_back(_receipts(look))
        over = 0 if count is None else max(0, (about if more else len(look)) - count)
        oldest = [(each.stored.died_at, each.received.envelope.id) for each in reversed(look)]
        return beyond(oldest, count=max(0, len(oldest) - over), before=before)

    def purge(self, sqs_queues: Sequence[SqsQueue]) -> int:
        """Delete all ready messages in *sqs_queues* and return how many there were."""
        count = 0
        for sqs_queue in sqs_queues:
            for batch in self._batches_of(sqs_queue):
                self._delete(batch)
                self._drop([dead_letter.received.pointer for dead_letter in batch if dead_letter.received.pointer])
                count += len(batch)
        return count

    # -- parts

    def _sorted(self, queue: str) -> Generator[list[str], None, None]:
        """Yield the ids of all dead letters of *queue*, in parts, which :meth:`requeue` reaches without a search."""
        running = _Pass(queue, time.monotonic() + _HIDDEN / 2)
        self._passes.append(running)
        try:
            for part in self._parts(running):
                yield [each.received.envelope.id for each in part]
        finally:
            self._end(running)

    def _choose(self, queue: str, ids: Sequence[str]) -> tuple[list[_DeadLetter], list[_DeadLetter], list[_Receipt]]:
        """Return those of *ids* that passes hold, those that a search found, and what else the search has hidden."""
        passing = [running for running in list(self._passes) if running.queue == queue]
        for running in passing:
            self._renew(running)  # at a low rate, a part is changed for longer than it was hidden
        held = {id: running.held[id] for running in passing for id in ids if id in running.held}
        wanted = set(ids) - held.keys()
        found: dict[str, _DeadLetter] = {}
        others: list[_Receipt] = []
        until = time.monotonic() + time_left(float(_HIDDEN)) / 2
        for batch in self._batches_of(self._queues.dead(queue)) if wanted else ():
            _gather(found, [each for each in batch if each.received.envelope.id in wanted])
            others += [_receipt(each) for each in batch if each.received.envelope.id not in wanted]
            if len(found) == len(wanted) or len(others) >= DEAD_SEARCHED or time.monotonic() > until:
                break
        return list(held.values()), sorted(found.values(), key=_order), others

    def _parts(self, running: _Pass) -> Iterator[list[_DeadLetter]]:
        """Yield all dead letters of a pass in parts, each sorted. It holds the last two, and keeps all hidden."""
        dead = self._queues.dead(running.queue)
        before: list[_DeadLetter] = []
        part, more = self._part(dead)
        while part:
            running.held.update((each.received.envelope.id, each) for each in part)
            yield part
            # SQS keeps back what follows in a group of a FIFO queue until those before it are gone.
            freed = dead.fifo and any(each.received.envelope.id not in running.held for each in part)
            if not more and not freed:
                return
            for each in before:
                if running.held.pop(each.received.envelope.id, None) is not None:
                    running.passed += _receipts([each])
            self._renew(running, now=not before)
            before = part
            part, more = self._part(dead, hidden=_HELD)

    def _part(self, sqs_queue: SqsQueue, *, hidden: int = _HIDDEN) -> tuple[list[_DeadLetter], bool]:
        """Return the next dead letters, newest first, each once, and whether there may be more.

        They are as many as are put in order, or fewer if they are large or the time is over.
        """
        part: dict[str, _DeadLetter] = {}
        size, until = 0, time.monotonic() + time_left(float(_HIDDEN)) / 2
        for batch in self._batches_of(sqs_queue, hidden=hidden):
            _gather(part, batch)
            size += sum(len(each.received.envelope.body) for each in batch)
            if len(part) >= DEAD_IN_ORDER or size >= _PART_BYTES or time.monotonic() > until:
                return sorted(part.values(), key=_order), True
        return sorted(part.values(), key=_order), False

    def _renew(self, running: _Pass, *, now: bool = False) -> None:
        """Hide what a pass holds for longer, if it is time to."""
        if now or time.monotonic() > running.renew_at:
            running.renew_at = time.monotonic() + _HELD / 2
            self._hide(running.receipts(), _HELD)

    def _end(self, running: _Pass) -> None:
        """Give back what a pass hides."""
        if running in self._passes:
            self._passes.remove(running)
            with suppress(UnavailableError):  # SQS gives them back by itself
                self._put_back(running.receipts())

    def _forget(self, changed: Sequence[_DeadLetter]) -> None:
        """Forget dead letters that are gone."""
        for running in list(self._passes):
            for each in changed:
                running.held.pop(each.received.envelope.id, None)

    def _batches_of(self, sqs_queue: SqsQueue, *, hidden: int = _HIDDEN) -> Iterator[list[_DeadLetter]]:
        """Yield batches of ready messages in *sqs_queue*, which are hidden meanwhile, until none is left."""
        url = self._queues.url(sqs_queue, create=False)
        empty = 0
        while url is not None and empty < _EMPTY_RECEIVES:
            batch = self._look(sqs_queue, url, hidden=hidden)
            if batch:
                yield batch
            empty = 0 if batch else empty + 1

    def _look(self, sqs_queue: SqsQueue, url: str, *, hidden: int) -> list[_DeadLetter]:
        """Hide and return ready messages of *sqs_queue*, as many as a few parallel requests bring."""
        counts = self._queues.attributes(sqs_queue, *_COUNTS)
        ready = int(counts.get(_COUNTS[0], 0))
        lanes = max(1, min(_LANES, -(-ready // PART)))
        replies = self._pool.map([partial(self._receive, sqs_queue, url, hidden) for _ in range(lanes)])
        made_progress()
        return [dead_letter for reply in replies for dead_letter in reply]

    def _receive(self, sqs_queue: SqsQueue, url: str, hidden: int) -> list[_DeadLetter]:
        reply = self._service.call(
            "receive_message",
            doing=f"sqs:ReceiveMessage on {sqs_queue.name}",
            QueueUrl=url,
            MaxNumberOfMessages=PART,
            WaitTimeSeconds=0,
            VisibilityTimeout=hidden,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            MessageAttributeNames=["All"],
        )
        return [_letter(sqs_queue, message) for message in reply.get("Messages", [])]

    def _with_bodies(self, dead_letters: Sequence[_DeadLetter]) -> Iterator[Stored]:
        """Yield dead letters for display, with their bodies from S3."""
        away = [dead_letter for dead_letter in dead_letters if dead_letter.received.pointer]
        bodies = self._fetch([dead_letter.received.pointer or "" for dead_letter in away])
        by_id = dict(zip((dead_letter.received.envelope.id for dead_letter in away), bodies, strict=True))
        for dead_letter in dead_letters:
            body = by_id.get(dead_letter.received.envelope.id)
            stored = dead_letter.stored
            if isinstance(body, UnavailableError):
                raise body
            if isinstance(body, bytes):
                stored = attrs.evolve(stored, envelope=attrs.evolve(stored.envelope, body=body))
            yield stored

    def _replay(self, dead_letter: _DeadLetter) -> Job:
        old = dead_letter.received.envelope
        envelope = attrs.evolve(
            old, generation=old.generation + 1, attempt=0, hop=0, delay=0.0, not_before=None, unique=None
        )
        sqs_queue = self._queues.of_priority(envelope.queue, envelope.priority)
        return send_job(sqs_queue, envelope, pointer=dead_letter.received.pointer)

    def _delete(self, dead_letters: Sequence[_DeadLetter]) -> None:
        self._each(_receipts(dead_letters), "delete_message_batch", {})

    def _put_back(self, dead_letters: Sequence[_Receipt]) -> None:
        self._hide(dead_letters, 0)

    def _hide(self, dead_letters: Sequence[_Receipt], seconds: int) -> None:
        self._each(dead_letters, "change_message_visibility_batch", {"VisibilityTimeout": seconds})

    def _each(self, dead_letters: Sequence[_Receipt], operation: str, fields: dict[str, Any]) -> None:
        jobs = [
            Job(
                sqs_queue=dead_letter.sqs_queue,
                operation=operation,
                entry={"ReceiptHandle": dead_letter.receipt, **fields},
            )
            for dead_letter in dead_letters
        ]
        _raise(self._batches.run(jobs))


def _gather(found: dict[str, _DeadLetter], batch: Sequence[_DeadLetter]) -> None:
    """Add *batch* to *found*, by id; copies of one id are attached to the first."""
    for dead_letter in batch:
        first = found.setdefault(dead_letter.received.envelope.id, dead_letter)
        if first is not dead_letter:
            first.copies.append(_receipt(dead_letter))


def _receipts(dead_letters: Sequence[_DeadLetter]) -> list[_Receipt]:
    """Return the receipts of *dead_letters* and of their copies."""
    return [receipt for one in dead_letters for receipt in (_receipt(one), *one.copies)]


def _raise(failures: Sequence[JobFailure | None]) -> None:
    """Raise the first error of a request that got no reply."""
    for failure in failures:
        if failure is not None and failure.error is not None:
            raise failure.error


def _letter(sqs_queue: SqsQueue, message: dict[str, Any]) -> _DeadLetter:
    received = read(message, sqs_queue.queue)
    system = message.get("Attributes", {})
    sent = int(system.get("SentTimestamp", 0)) / 1000
    death_record = received.death_record
    # A message that SQS itself moved here, after too many claims, has no death record.
    reason = death_record.get("reason", "redrive")
    stored = Stored(
        envelope=received.envelope,
        place=Place.DEAD,
        due=sent,
        sent_at=received.counts.sent_at or sent,
        number=received.counts.number,
        crashes=received.counts.crashes,
        reason=reason,
        error=death_record.get("error", ""),
        holder=death_record.get("holder", ""),
        died_at=_number(death_record.get("died")) or sent,
    )
    return _DeadLetter(sqs_queue=sqs_queue, receipt=str(message["ReceiptHandle"]), received=received, stored=stored)


def _order(dead_letter: _DeadLetter) -> tuple[float, str]:
    """Return its sort key in a list, newest first."""
    return (-(dead_letter.stored.died_at or 0.0), dead_letter.received.envelope.id)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
