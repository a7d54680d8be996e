"""Dead letters: SQS shows a message only by handing it out, so looking is receiving, and putting back at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import attrs

from queuekit.backend import Page
from queuekit.broker import Place, Stored
from queuekit_sqs.batches import Batches, Failure, Job
from queuekit_sqs.capabilities import PART
from queuekit_sqs.messages import Received, read
from queuekit_sqs.queues import Line, Queues
from queuekit_sqs.request_pool import Crew
from queuekit_sqs.service import Service
from queuekit_sqs.settling import send_job

__all__ = ["Letters"]

_HIDDEN = 30
"""Seconds for which letters are hidden while they are looked at."""
_MOST = 10_000
"""Most dead letters of a queue that are looked at."""
_LANES = 8
_EMPTY_LOOKS = 2
"""Looks in a row that must find nothing: a short one asks only some of SQS's servers."""
_COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


@attrs.frozen(kw_only=True)
class _Letter:
    line: Line
    receipt: str
    received: Received
    stored: Stored


class _Receipt(NamedTuple):
    """What is needed of a letter to put it back or to delete it."""

    line: Line
    receipt: str


def _receipt(letter: _Letter) -> _Receipt:
    return _Receipt(letter.line, letter.receipt)


class Letters:
    """The dead letters of all queues, and emptying queues.

    Args:
        service: Carries requests.
        queues: Know the lines.
        batches: Carry out what is done to many.
        crew: Makes requests at the same time.
        fetch: Returns bodies that are in S3.
        drop: Deletes them.
    """

    def __init__(
        self,
        service: Service,
        queues: Queues,
        batches: Batches,
        *,
        crew: Crew,
        fetch: Callable[[Sequence[str]], list[bytes | None]],
        drop: Callable[[Sequence[str]], None],
    ) -> None:
        self._service = service
        self._queues = queues
        self._batches = batches
        self._crew = crew
        self._fetch = fetch
        self._drop = drop

    def page(self, queue: str, *, limit: int, cursor: str | None) -> Page[Stored]:
        """Return dead letters of *queue*, latest first, and leave them where they are."""
        after = tuple(json.loads(cursor)) if cursor else None
        found: dict[str, _Letter] = {}
        receipts: list[_Receipt] = []
        for batch in self._batches_of(self._queues.dead(queue)):
            receipts += map(_receipt, batch)
            behind = [letter for letter in batch if after is None or _order(letter) > after]
            found.update((letter.received.envelope.id, letter) for letter in behind)
            # Of the others nothing is kept but what puts them back: their bodies may be large.
            found = {letter.received.envelope.id: letter for letter in sorted(found.values(), key=_order)[: limit + 1]}
            if len(receipts) >= _MOST:
                break
        self._put_back(receipts)
        rest = list(found.values())
        items = rest[:limit]
        more = json.dumps(_order(items[-1])) if len(rest) > limit and items else None
        return Page(items=tuple(self._with_bodies(items)), cursor=more)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that are dead letters of *queue*, looking no further than that."""
        chosen, others = self._choose(queue, ids)
        self._put_back([*map(_receipt, chosen), *others])
        return list(self._with_bodies(chosen))

    def requeue(self, queue: str, ids: Sequence[str] | None) -> list[str]:
        """Send dead letters (all, or *ids*) to *queue* again, and delete them."""
        chosen, others = self._choose(queue, ids)
        self._put_back(others)
        failures = self._batches.run([self._replay(letter) for letter in chosen])
        ended = list(zip(chosen, failures, strict=True))
        sent = [letter for letter, failure in ended if failure is None]
        self._put_back([_receipt(letter) for letter, failure in ended if failure is not None])
        self._delete(sent)
        _raise(failures)
        return [letter.received.envelope.id for letter in sent]

    def remove(self, queue: str, ids: Sequence[str] | None) -> list[str]:
        """Delete dead letters (all, or *ids*) for good."""
        chosen, others = self._choose(queue, ids)
        self._put_back(others)
        self._delete(chosen)
        self._drop([letter.received.pointer for letter in chosen if letter.received.pointer])
        return [letter.received.envelope.id for letter in chosen]

    def purge(self, lines: Sequence[Line]) -> int:
        """Delete all that is ready in *lines* and return how much that was."""
        count = 0
        for line in lines:
            for batch in self._batches_of(line):
                self._delete(batch)
                self._drop([letter.received.pointer for letter in batch if letter.received.pointer])
                count += len(batch)
        return count

    # -- parts

    def _all(self, queue: str) -> list[_Letter]:
        """Hide all dead letters of *queue* and return them, latest first, each once."""
        found: dict[str, _Letter] = {}
        for batch in self._batches_of(self._queues.dead(queue)):
            found.update((letter.received.envelope.id, letter) for letter in batch)
            if len(found) >= _MOST:
                break
        return sorted(found.values(), key=_order)

    def _choose(self, queue: str, ids: Sequence[str] | None) -> tuple[list[_Letter], list[_Receipt]]:
        if ids is None:
            return self._all(queue), []
        wanted = set(ids)
        chosen: dict[str, _Letter] = {}
        others: list[_Receipt] = []
        for batch in self._batches_of(self._queues.dead(queue)):
            mine = [letter for letter in batch if letter.received.envelope.id in wanted]
            chosen.update((letter.received.envelope.id, letter) for letter in mine)
            others += [_receipt(letter) for letter in batch if letter.received.envelope.id not in wanted]
            if len(chosen) == len(wanted) or len(others) >= _MOST:
                break
        return sorted(chosen.values(), key=_order), others

    def _batches_of(self, line: Line) -> Iterator[list[_Letter]]:
        """Yield what is ready in *line*, hidden meanwhile, until nothing is left of it."""
        url = self._queues.url(line, create=False)
        if url is None:
            return
        hidden_until = time.monotonic() + _HIDDEN / 2
        empty, total = 0, 0
        while empty < _EMPTY_LOOKS and total < _MOST:
            batch = self._look(line, url)
            if batch:
                yield batch
            total += len(batch)
            empty = 0 if batch else empty + 1
            if time.monotonic() > hidden_until:
                return  # what was seen first is about to come again

    def _look(self, line: Line, url: str) -> list[_Letter]:
        """Hide what is ready in *line* and return it, as far as a few requests at the same time bring it."""
        counts = self._queues.attributes(line, *_COUNTS)
        ready = int(counts.get(_COUNTS[0], 0))
        lanes = max(1, min(_LANES, -(-ready // PART)))
        replies = self._crew.map([partial(self._receive, line, url) for _ in range(lanes)])
        return [letter for reply in replies for letter in reply]

    def _receive(self, line: Line, url: str) -> list[_Letter]:
        reply = self._service.call(
            "receive_message",
            doing=f"sqs:ReceiveMessage on {line.name}",
            QueueUrl=url,
            MaxNumberOfMessages=PART,
            WaitTimeSeconds=0,
            VisibilityTimeout=_HIDDEN,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            MessageAttributeNames=["All"],
        )
        return [_letter(line, message) for message in reply.get("Messages", [])]

    def _with_bodies(self, letters: Sequence[_Letter]) -> Iterator[Stored]:
        """Yield letters as they are shown, with the bodies that are in S3."""
        away = [letter for letter in letters if letter.received.pointer]
        bodies = self._fetch([letter.received.pointer or "" for letter in away])
        by_id = dict(zip((letter.received.envelope.id for letter in away), bodies, strict=True))
        for letter in letters:
            body = by_id.get(letter.received.envelope.id)
            stored = letter.stored
            yield stored if body is None else attrs.evolve(stored, envelope=attrs.evolve(stored.envelope, body=body))

    def _replay(self, letter: _Letter) -> Job:
        old = letter.received.envelope
        envelope = attrs.evolve(
            old, generation=old.generation + 1, attempt=0, hop=0, delay=0.0, not_before=None, unique=None
        )
        line = self._queues.line(envelope.queue, envelope.priority)
        return send_job(line, envelope, pointer=letter.received.pointer)

    def _delete(self, letters: Sequence[_Letter]) -> None:
        self._each(list(map(_receipt, letters)), "delete_message_batch", {})

    def _put_back(self, letters: Sequence[_Receipt]) -> None:
        self._each(letters, "change_message_visibility_batch", {"VisibilityTimeout": 0})

    def _each(self, letters: Sequence[_Receipt], operation: str, fields: dict[str, Any]) -> None:
        jobs = [
            Job(line=letter.line, operation=operation, entry={"ReceiptHandle": letter.receipt, **fields})
            for letter in letters
        ]
        _raise(self._batches.run(jobs))


def _raise(failures: Sequence[Failure | None]) -> None:
    """Raise what kept a request from being answered."""
    for failure in failures:
        if failure is not None and failure.error is not None:
            raise failure.error


def _letter(line: Line, message: dict[str, Any]) -> _Letter:
    received = read(message, line.queue)
    system = message.get("Attributes", {})
    sent = int(system.get("SentTimestamp", 0)) / 1000
    grave = received.grave
    # What SQS has moved here by itself, after too many claims, bears no word of ours.
    reason = grave.get("reason", "redrive")
    stored = Stored(
        envelope=received.envelope,
        place=Place.DEAD,
        due=sent,
        sent_at=received.counts.sent_at or sent,
        number=received.counts.number,
        crashes=received.counts.crashes,
        reason=reason,
        error=grave.get("error", ""),
        holder=grave.get("holder", ""),
        died_at=_number(grave.get("died")) or sent,
    )
    return _Letter(line=line, receipt=str(message["ReceiptHandle"]), received=received, stored=stored)


def _order(letter: _Letter) -> tuple[float, str]:
    """Return its place in a list, latest first."""
    return (-(letter.stored.died_at or 0.0), letter.received.envelope.id)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
