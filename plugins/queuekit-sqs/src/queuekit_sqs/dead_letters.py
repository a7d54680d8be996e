"""Show, replay and remove dead letters. SQS shows a message only by delivering it, so each is released at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import attrs

from queuekit.backend import Page
from queuekit.broker import Place, Stored
from queuekit.errors import UnavailableError
from queuekit.timelimit import made_progress
from queuekit_sqs.batches import Batches, Job, JobFailure
from queuekit_sqs.capabilities import PART
from queuekit_sqs.messages import Received, read
from queuekit_sqs.payloads import Unread
from queuekit_sqs.queues import Queues, SqsQueue
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.service import Service
from queuekit_sqs.settling import send_job

__all__ = ["DeadLetters"]

_HIDDEN = 30
"""Seconds for which dead letters are hidden while they are read."""
_MOST = 10_000
"""Most dead letters of a queue to read."""
_LANES = 8
_EMPTY_RECEIVES = 2
"""Empty short polls in a row that mean an empty queue: each asks only some of SQS's servers."""
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

    def page(self, queue: str, *, limit: int, cursor: str | None) -> Page[Stored]:
        """Return dead letters of *queue*, newest first, without removing them."""
        after = tuple(json.loads(cursor)) if cursor else None
        found: dict[str, _DeadLetter] = {}
        receipts: list[_Receipt] = []
        for batch in self._batches_of(self._queues.dead(queue)):
            receipts += map(_receipt, batch)
            found.update((each.received.envelope.id, each) for each in batch if after is None or _order(each) > after)
            # Keep only the receipts of the others: their bodies may be large.
            found = {each.received.envelope.id: each for each in sorted(found.values(), key=_order)[: limit + 1]}
            if len(receipts) >= _MOST:
                break
        self._put_back(receipts)
        rest = list(found.values())
        items = rest[:limit]
        more = json.dumps(_order(items[-1])) if len(rest) > limit and items else None
        return Page(items=tuple(self._with_bodies(items)), cursor=more)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that are dead letters of *queue*; stop reading once all are found."""
        chosen, others = self._choose(queue, ids)
        self._put_back([*_receipts(chosen), *others])
        return list(self._with_bodies(chosen))

    def requeue(self, queue: str, ids: Sequence[str] | None) -> list[str]:
        """Send dead letters (all, or *ids*) to *queue* again, and delete the old copies."""
        chosen, others = self._choose(queue, ids)
        self._put_back(others)
        failures = self._batches.run([self._replay(dead_letter) for dead_letter in chosen])
        ended = list(zip(chosen, failures, strict=True))
        sent = [dead_letter for dead_letter, failure in ended if failure is None]
        self._put_back(_receipts([dead_letter for dead_letter, failure in ended if failure is not None]))
        self._delete(sent)
        _raise(failures)
        return [dead_letter.received.envelope.id for dead_letter in sent]

    def remove(self, queue: str, ids: Sequence[str] | None) -> list[str]:
        """Permanently delete dead letters (all, or *ids*)."""
        chosen, others = self._choose(queue, ids)
        self._put_back(others)
        self._delete(chosen)
        self._drop([dead_letter.received.pointer for dead_letter in chosen if dead_letter.received.pointer])
        return [dead_letter.received.envelope.id for dead_letter in chosen]

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

    def _all(self, queue: str) -> list[_DeadLetter]:
        """Hide all dead letters of *queue* and return them, newest first, each once."""
        found: dict[str, _DeadLetter] = {}
        for batch in self._batches_of(self._queues.dead(queue)):
            _gather(found, batch)
            if len(found) >= _MOST:
                break
        return sorted(found.values(), key=_order)

    def _choose(self, queue: str, ids: Sequence[str] | None) -> tuple[list[_DeadLetter], list[_Receipt]]:
        if ids is None:
            return self._all(queue), []
        wanted = set(ids)
        chosen: dict[str, _DeadLetter] = {}
        others: list[_Receipt] = []
        for batch in self._batches_of(self._queues.dead(queue)):
            mine = [dead_letter for dead_letter in batch if dead_letter.received.envelope.id in wanted]
            _gather(chosen, mine)
            others += [_receipt(dead_letter) for dead_letter in batch if dead_letter.received.envelope.id not in wanted]
            if len(chosen) == len(wanted) or len(others) >= _MOST:
                break
        return sorted(chosen.values(), key=_order), others

    def _batches_of(self, sqs_queue: SqsQueue) -> Iterator[list[_DeadLetter]]:
        """Yield batches of ready messages in *sqs_queue*, which are hidden meanwhile, until none is left."""
        url = self._queues.url(sqs_queue, create=False)
        if url is None:
            return
        hidden_until = time.monotonic() + _HIDDEN / 2
        empty, total = 0, 0
        while empty < _EMPTY_RECEIVES and total < _MOST:
            batch = self._look(sqs_queue, url)
            if batch:
                yield batch
            total += len(batch)
            empty = 0 if batch else empty + 1
            if time.monotonic() > hidden_until:
                return  # the first messages are about to become visible again

    def _look(self, sqs_queue: SqsQueue, url: str) -> list[_DeadLetter]:
        """Hide and return ready messages of *sqs_queue*, as many as a few parallel requests bring."""
        counts = self._queues.attributes(sqs_queue, *_COUNTS)
        ready = int(counts.get(_COUNTS[0], 0))
        lanes = max(1, min(_LANES, -(-ready // PART)))
        replies = self._pool.map([partial(self._receive, sqs_queue, url) for _ in range(lanes)])
        made_progress()
        return [dead_letter for reply in replies for dead_letter in reply]

    def _receive(self, sqs_queue: SqsQueue, url: str) -> list[_DeadLetter]:
        reply = self._service.call(
            "receive_message",
            doing=f"sqs:ReceiveMessage on {sqs_queue.name}",
            QueueUrl=url,
            MaxNumberOfMessages=PART,
            WaitTimeSeconds=0,
            VisibilityTimeout=_HIDDEN,
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
        self._each(dead_letters, "change_message_visibility_batch", {"VisibilityTimeout": 0})

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
