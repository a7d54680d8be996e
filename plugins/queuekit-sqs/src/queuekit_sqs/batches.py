"""Makes requests of up to ten entries each, many at a time; tries again the entries that fail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

import attrs

from queuekit.errors import UnavailableError
from queuekit.rounds import in_rounds
from queuekit.timelimit import LIMITS, made_progress
from queuekit_sqs.backoff import pauses
from queuekit_sqs.capabilities import PART
from queuekit_sqs.failures import code_of, is_passing, is_uncertain
from queuekit_sqs.queues import MISSING, Queues, SqsQueue
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.service import Service

__all__ = ["Batches", "Job", "JobFailure"]

_TRIES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_PART_OF_MANY = 32
"""Requests after which those who give each part of their work its own time are told of progress."""
_ACTIONS = {
    "send_message_batch": "SendMessage",
    "delete_message_batch": "DeleteMessage",
    "change_message_visibility_batch": "ChangeMessageVisibility",
}
STALE = frozenset(
    {
        "AWS.SimpleQueueService.MessageNotInflight",
        "InvalidParameterValue",
        "MessageNotInflight",
        "ReceiptHandleIsInvalid",
    }
)
"""Codes for a receipt that is not valid any more."""


@attrs.frozen(kw_only=True)
class Job:
    """One entry of a batch."""

    sqs_queue: SqsQueue
    operation: str
    entry: dict[str, Any]
    """Its fields, ``Id`` excepted."""
    size: int = 0
    """Bytes of a message to be sent."""


@attrs.frozen(kw_only=True)
class JobFailure:
    """Why an entry was not carried out."""

    code: str
    text: str
    final: bool
    """Whether the service refuses it, so that trying again is of no use."""
    error: UnavailableError | None = None
    """What to raise where the whole request failed, and its tries are used up."""

    @property
    def passing(self) -> bool:
        """Whether it is to be tried again."""
        return not self.final and self.error is None

    @property
    def stale(self) -> bool:
        """Whether the receipt is not valid any more."""
        return self.final and self.code in STALE


class Batches:
    """Carries out jobs.

    Args:
        service: Carries the requests.
        queues: Know the addresses.
        pool: Makes requests at the same time.
        most_bytes: Most bytes of messages in one request.
        random: Makes the pauses between tries uneven.
    """

    def __init__(self, service: Service, queues: Queues, *, pool: RequestPool, most_bytes: int, random: Random) -> None:
        self._service = service
        self._queues = queues
        self._pool = pool
        self._most_bytes = most_bytes
        self._random = random

    def run(self, jobs: Sequence[Job]) -> list[JobFailure | None]:
        """Carry out *jobs* and return for each why it failed, or ``None``. An absent queue is made, if it may be."""
        failures: list[JobFailure | None] = [None] * len(jobs)
        chunks = self._chunks(jobs)
        size = len(chunks) if LIMITS.here.each is None else _PART_OF_MANY
        for start in range(0, len(chunks), size or 1):
            part = chunks[start : start + size]
            answers = self._pool.map([partial(self._run_chunk, [jobs[index] for index in chunk]) for chunk in part])
            for chunk, answer in zip(part, answers, strict=True):
                for index, failure in zip(chunk, answer, strict=True):
                    failures[index] = failure
            made_progress()
        return failures

    def send(self, jobs: Sequence[Job]) -> list[JobFailure | None]:
        """Send messages: those of one group in a FIFO queue one after the other, so that none overtakes another.

        In one request some entries may fail and later ones arrive. Once a message has not arrived, those behind it in
        its group are not sent. Each round that has gone through gives the caller's time anew, as a batch does.
        """
        groups = [_group_of(job) for job in jobs]
        if not any(groups):
            return self.run(jobs)
        failures: list[JobFailure | None] = [None] * len(jobs)
        stopped: dict[str, JobFailure] = {}
        limit = LIMITS.here
        given = None if limit.end is None else limit.end - time.monotonic()
        for part in in_rounds(groups):
            if given is not None and not stopped:
                limit.end = time.monotonic() + given
            self._send_part(jobs, part, groups, failures=failures, stopped=stopped)
        return failures

    def _send_part(
        self,
        jobs: Sequence[Job],
        part: Sequence[int],
        groups: Sequence[str | None],
        *,
        failures: list[JobFailure | None],
        stopped: dict[str, JobFailure],
    ) -> None:
        """Send one message of each group, but of none that is *stopped*; note *failures* and the groups they stop."""
        places = [place for place in part if groups[place] not in stopped]
        for place, failure in zip(places, self.run([jobs[place] for place in places]), strict=True):
            failures[place], group = failure, groups[place]
            if group is not None and failure is not None and not failure.final:
                stopped[group] = failure
        for place in part:
            failures[place] = failures[place] or stopped.get(groups[place] or "")

    def _chunks(self, jobs: Sequence[Job]) -> list[list[int]]:
        open_: dict[tuple[str, str], tuple[list[int], int]] = {}
        chunks: list[list[int]] = []
        for index, job in enumerate(jobs):
            key = (job.operation, job.sqs_queue.name)
            chunk, size = open_.get(key, (None, 0))
            if chunk is None or len(chunk) >= PART or size + job.size > self._most_bytes:
                chunk, size = [], 0
                chunks.append(chunk)
            chunk.append(index)
            open_[key] = (chunk, size + job.size)
        return chunks

    def _run_chunk(self, jobs: list[Job]) -> list[JobFailure | None]:
        """Carry out jobs of one request; a job that may succeed later is tried again with the others like it."""
        failures: list[JobFailure | None] = [None] * len(jobs)
        left = list(range(len(jobs)))
        rests = pauses(self._random, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        uncertain = False
        for attempt in range(_TRIES):
            found, unanswered = self._try([jobs[index] for index in left], last=attempt == _TRIES - 1)
            uncertain = uncertain or unanswered
            for index, failure in zip(left, found, strict=True):
                # What is done again after an answer was lost may find that it was done.
                failures[index] = None if failure is not None and uncertain and failure.stale else failure
            left = [index for index in left if (now := failures[index]) is not None and now.passing]
            if not left:
                break
            time.sleep(next(rests))
        return failures

    def _try(self, jobs: list[Job], *, last: bool) -> tuple[list[JobFailure | None], bool]:
        """Make one request; return for each job why it failed, and whether it may have been done without an answer."""
        try:
            return self._request(jobs), False
        except UnavailableError as error:
            return [_given_up(error)] * len(jobs), False
        except Exception as error:  # noqa: BLE001 - any error but one of the library is raised on
            if last or not self._passes(error, jobs[0]):
                problem = self._service.failed(error, doing=_doing(jobs[0]))
                problem.__cause__ = error
                return [_given_up(problem)] * len(jobs), False
            return [JobFailure(code="", text="", final=False)] * len(jobs), is_uncertain(error)

    def _request(self, jobs: list[Job]) -> list[JobFailure | None]:
        job = jobs[0]
        entries = [{"Id": str(place), **one.entry} for place, one in enumerate(jobs)]
        reply = self._service.request(job.operation, QueueUrl=self._queues.url(job.sqs_queue), Entries=entries)
        failures: list[JobFailure | None] = [None] * len(jobs)
        for failed in reply.get("Failed", []):
            failures[int(failed["Id"])] = JobFailure(
                code=str(failed.get("Code", "")),
                text=str(failed.get("Message", "")),
                final=bool(failed.get("SenderFault", True)),
            )
        return failures

    def _passes(self, error: Exception, job: Job) -> bool:
        """Return whether the request may succeed the next time."""
        if code_of(error) in MISSING:
            self._queues.forget(job.sqs_queue)  # it was deleted; the next try makes it again, or says what is wrong
            return True
        return is_passing(error)


def _group_of(job: Job) -> str | None:
    """Return the group within which a message keeps its order; ``None`` outside of FIFO queues."""
    return f"{job.sqs_queue.name} {job.entry['MessageGroupId']}" if job.sqs_queue.fifo else None


def _given_up(error: UnavailableError) -> JobFailure:
    return JobFailure(code=code_of(error.__cause__ or error), text=error.what, final=False, error=error)


def _doing(job: Job) -> str:
    return f"sqs:{_ACTIONS[job.operation]} on {job.sqs_queue.name}"
