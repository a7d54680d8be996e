"""Make requests of up to ten entries each, many at a time, and retry the entries that fail."""

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
"""Requests after which progress is reported to callers that give each part of their work its own timeout."""
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
"""Codes for a receipt that is no longer valid."""


@attrs.frozen(kw_only=True)
class Job:
    """One entry of a batch."""

    sqs_queue: SqsQueue
    operation: str
    entry: dict[str, Any]
    """Its fields, except ``Id``."""
    size: int = 0
    """Bytes of a message to send."""


@attrs.frozen(kw_only=True)
class JobFailure:
    """The reason why an entry failed."""

    code: str
    text: str
    final: bool
    """Whether the service refused it, so that a retry is useless."""
    error: UnavailableError | None = None
    """The error to raise if the whole request failed after all its tries."""

    @property
    def passing(self) -> bool:
        """Whether to retry it."""
        return not self.final and self.error is None

    @property
    def stale(self) -> bool:
        """Whether the receipt is no longer valid."""
        return self.final and self.code in STALE


class Batches:
    """Runs jobs.

    Args:
        service: Makes the requests.
        queues: The URLs of queues.
        pool: Runs requests in parallel.
        most_bytes: Most bytes of messages in one request.
        random: Adds jitter to the pauses between tries.
    """

    def __init__(self, service: Service, queues: Queues, *, pool: RequestPool, most_bytes: int, random: Random) -> None:
        self._service = service
        self._queues = queues
        self._pool = pool
        self._most_bytes = most_bytes
        self._random = random

    def run(self, jobs: Sequence[Job]) -> list[JobFailure | None]:
        """Run *jobs* and return for each why it failed, or ``None``. Create missing queues if that is allowed."""
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
        """Send messages; those of one group in a FIFO queue one after the other, to keep their order.

        In one request, some entries may fail while later ones succeed. After a message has failed, later ones of its
        group are not sent. Each successful round restarts the time limit of the caller, as a batch does.
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
        """Send one message of each group that is not *stopped*; record *failures* and the groups that they stop."""
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
        """Run the jobs of one request; retry those together that may succeed later."""
        failures: list[JobFailure | None] = [None] * len(jobs)
        left = list(range(len(jobs)))
        rests = pauses(self._random, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        uncertain = False
        for attempt in range(_TRIES):
            found, unanswered = self._try([jobs[index] for index in left], last=attempt == _TRIES - 1)
            uncertain = uncertain or unanswered
            for index, failure in zip(left, found, strict=True):
                # A retry after a lost reply may find that the job was already done.
                failures[index] = None if failure is not None and uncertain and failure.stale else failure
            left = [index for index in left if (now := failures[index]) is not None and now.passing]
            if not left:
                break
            time.sleep(next(rests))
        return failures

    def _try(self, jobs: list[Job], *, last: bool) -> tuple[list[JobFailure | None], bool]:
        """Make one request; return each job's failure, and whether the request may have succeeded unanswered."""
        try:
            return self._request(jobs), False
        except UnavailableError as error:
            return [_given_up(error)] * len(jobs), False
        except Exception as error:  # noqa: BLE001 - failed() raises errors of other kinds again
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
        """Return whether a retry of the request may succeed."""
        if code_of(error) in MISSING:
            self._queues.forget(
                job.sqs_queue
            )  # it was deleted; the next try creates it again, or reports what is wrong
            return True
        return is_passing(error)


def _group_of(job: Job) -> str | None:
    """Return the group within which a message keeps its order; ``None`` outside FIFO queues."""
    return f"{job.sqs_queue.name} {job.entry['MessageGroupId']}" if job.sqs_queue.fifo else None


def _given_up(error: UnavailableError) -> JobFailure:
    return JobFailure(code=code_of(error.__cause__ or error), text=error.what, final=False, error=error)


def _doing(job: Job) -> str:
    return f"sqs:{_ACTIONS[job.operation]} on {job.sqs_queue.name}"
