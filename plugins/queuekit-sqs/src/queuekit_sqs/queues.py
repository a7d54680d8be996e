"""Find the names and URLs of SQS queues, and create missing ones.

=============  ===========================  ==========================================================
queue          SQS queue
=============  ===========================  ==========================================================
``mail``       ``<prefix>-mail``            priority 4, the default
               ``<prefix>-mail-p9``         another queue for each other priority in use
               ``<prefix>-mail-dead``       dead letters, unless a redrive policy names another queue
``mail.fifo``  ``<prefix>-mail.fifo``       a FIFO queue, which has one priority
               ``<prefix>-mail-dead.fifo``
=============  ===========================  ==========================================================

SQS allows up to 80 letters, digits, ``-`` and ``_``. Other names are shortened to these and get a hash.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

from queuekit.envelope import DEFAULT_PRIORITY
from queuekit.errors import UnavailableError
from queuekit.forks import renew_in_forks
from queuekit_sqs.failures import code_of
from queuekit_sqs.options import SqsOptions
from queuekit_sqs.service import Service

__all__ = ["MISSING", "REDRIVE", "QueueNames", "Queues", "SqsQueue"]

MISSING = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})
"""Codes for a missing queue."""
REDRIVE = "RedrivePolicy"
"""Attribute of a queue that may name another queue for its dead letters."""
_FIFO = ".fifo"
_DEAD = ".dead"
_LONGEST = 80 - len("-dead.fifo")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_TAKEN = re.compile(r"-(dead|p[0-9])$")
_LIST_EVERY, _LIST_EVERY_ALONE = 60.0, 10.0
"""Seconds between two listings of the priorities in use: if they are also announced, and if they are not."""
_KEEP = 1_209_600
"""Seconds that SQS keeps a message: 14 days, its maximum."""


@attrs.frozen
class SqsQueue:
    """An SQS queue.

    Attributes:
        name: Its name in SQS.
        queue: The queuekit queue that it belongs to.
        level: Priority of its messages, from 0 to 9.
        dead: Whether it holds dead letters.
    """

    name: str
    queue: str
    level: int = DEFAULT_PRIORITY
    dead: bool = False

    @property
    def fifo(self) -> bool:
        """Whether it keeps the order within groups."""
        return self.name.endswith(_FIFO)


class QueueNames:
    """The names of SQS queues.

    Args:
        prefix: Prefix of the names; empty for none.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}-" if prefix else ""

    def of_priority(self, queue: str, level: int = DEFAULT_PRIORITY) -> SqsQueue:
        """Return the SQS queue for messages of *queue* with priority *level*; a FIFO queue has only one."""
        base, tail = self._base(queue)
        if level == DEFAULT_PRIORITY or tail.endswith(_FIFO):
            return SqsQueue(base + tail, queue)
        return SqsQueue(f"{base}{tail}-p{level}", queue, level)

    def dead(self, queue: str) -> SqsQueue:
        """Return the SQS queue for dead letters of *queue*."""
        base, tail = self._base(queue)
        return SqsQueue(
            f"{base}{tail.removesuffix(_FIFO)}-dead{_FIFO if tail.endswith(_FIFO) else ''}", queue, dead=True
        )

    def level_of(self, name: str, queue: str) -> int | None:
        """Return the priority of *queue* that the SQS queue *name* holds; ``None`` if it is of another queue."""
        start = f"{self.of_priority(queue).name}-p"
        rest = name.removeprefix(start)
        return int(rest) if name.startswith(start) and len(rest) == 1 and rest.isdigit() else None

    def _base(self, queue: str) -> tuple[str, str]:
        """Return beginning and end of the name; a shortened name has a hash at the end of its beginning."""
        name, fifo = (queue.removesuffix(_FIFO), _FIFO) if queue.endswith(_FIFO) else (queue, "")
        name, dead = (name.removesuffix(_DEAD), "-dead") if name.endswith(_DEAD) else (name, "")
        whole = self._prefix + name
        if not _PLAIN.fullmatch(whole) or _TAKEN.search(whole) or len(whole) > _LONGEST:
            mark = hashlib.sha256(name.encode()).hexdigest()[:10]
            whole = f"{re.sub('[^A-Za-z0-9_-]', '-', whole)[: _LONGEST - 11]}_{mark}"
        return whole, dead + fifo


class Queues:
    """The existing queues, as far as this client knows.

    Args:
        service: Makes the requests.
        names: Their names.
        options: Whether to create missing ones, and how.
    """

    def __init__(self, service: Service, names: QueueNames, options: SqsOptions) -> None:
        self._service = service
        self._names = names
        self._options = options
        self.renew_in_fork()
        renew_in_forks(self)
        self._urls: dict[str, str] = {}
        self._levels: dict[str, set[int]] = {}
        self._listed: dict[str, float] = {}
        self.announced = False
        """Whether clients also announce the priorities that they use."""
        self._redrive: dict[str, SqsQueue] = {}

    def renew_in_fork(self) -> None:
        """Create a new lock: another thread of the parent may hold the old one."""
        self._lock = threading.Lock()

    def url(self, sqs_queue: SqsQueue, *, create: bool = True) -> str | None:
        """Return the URL of *sqs_queue*; if it is missing, create it with *create*, else return ``None``.

        Raises:
            UnavailableError: It is missing and must not be created, or SQS does not answer.
        """
        known = self._urls.get(sqs_queue.name)
        if known is None:
            known = self._find(sqs_queue) or (self._make(sqs_queue) if create else None)
            if known is not None:
                self._urls[sqs_queue.name] = known
        return known

    def forget(self, sqs_queue: SqsQueue) -> None:
        """Forget the URL of *sqs_queue*."""
        self._urls.pop(sqs_queue.name, None)

    def of_all_priorities(self, queue: str) -> list[SqsQueue]:
        """Return the SQS queues of *queue*, most urgent first: one for each priority in use."""
        levels = self._levels.setdefault(queue, {DEFAULT_PRIORITY})
        if not self._names.of_priority(queue).fifo:
            self._list_levels(queue, levels)
        return [self._names.of_priority(queue, level) for level in sorted(set(levels), reverse=True)]

    def of_priority(self, queue: str, level: int) -> SqsQueue:
        """Return the SQS queue for a message, whose priority is in use from now on."""
        sqs_queue = self._names.of_priority(queue, level)
        self._levels.setdefault(queue, {DEFAULT_PRIORITY}).add(sqs_queue.level)
        return sqs_queue

    def usual(self, queue: str) -> SqsQueue:
        """Return the SQS queue for messages of *queue* with the default priority."""
        return self._names.of_priority(queue)

    def learn(self, queue: str, levels: set[int]) -> bool:
        """Record that *levels* are in use, and return whether one of them is new."""
        known = self._levels.setdefault(queue, {DEFAULT_PRIORITY})
        new = levels - known
        known |= new
        return bool(new)

    def dead(self, queue: str) -> SqsQueue:
        """Return the SQS queue for dead letters of *queue*: the one of its redrive policy, else queuekit's own."""
        if queue not in self._redrive:
            self.attributes(self.usual(queue), REDRIVE)
        return self._redrive.setdefault(queue, self._names.dead(queue))

    def attributes(self, sqs_queue: SqsQueue, *names: str) -> dict[str, str]:
        """Return attributes of *sqs_queue*; empty if the queue does not exist.

        With :data:`REDRIVE`, :meth:`dead` needs no request of its own for that queue.
        """
        url = self.url(sqs_queue, create=False)
        if url is None:
            return {}
        try:
            reply = self._service.call(
                "get_queue_attributes",
                doing=f"sqs:GetQueueAttributes on {sqs_queue.name}",
                QueueUrl=url,
                AttributeNames=list(names),
            )
        except UnavailableError as error:
            if not _is_missing(error):
                raise
            self.forget(sqs_queue)
            return {}
        found = dict(reply.get("Attributes", {}))
        if REDRIVE in names and sqs_queue == self.usual(sqs_queue.queue):
            self._redrive.setdefault(sqs_queue.queue, self._redirected(sqs_queue.queue, found.get(REDRIVE)))
        return found

    # -- parts

    def _redirected(self, queue: str, policy: str | None) -> SqsQueue:
        """Return the queue for dead letters that *policy* names, else queuekit's own."""
        arn = str(json.loads(policy).get("deadLetterTargetArn", "")) if policy else ""
        return SqsQueue(arn.rpartition(":")[2], queue, dead=True) if arn else self._names.dead(queue)

    def _list_levels(self, queue: str, levels: set[int]) -> None:
        """List, now and then, the priorities that other clients use."""
        now = time.monotonic()
        pause = _LIST_EVERY if self.announced else _LIST_EVERY_ALONE
        if now - self._listed.get(queue, float("-inf")) < pause:
            return
        self._listed[queue] = now
        prefix = f"{self._names.of_priority(queue).name}-p"
        reply = self._quietly(
            lambda: self._service.call("list_queues", doing=f"sqs:ListQueues of {prefix}*", QueueNamePrefix=prefix)
        )
        for url in (reply or {}).get("QueueUrls", []):
            name = url.rpartition("/")[2]
            level = self._names.level_of(name, queue)
            if level is not None:
                levels.add(level)
                self._urls.setdefault(name, url)

    def _quietly(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Return the result of *call*; ``None`` if these credentials may not list queues."""
        try:
            return call()
        except UnavailableError as error:
            if error.__cause__ is None or "Denied" not in code_of(error.__cause__):
                raise
            return None

    def _find(self, sqs_queue: SqsQueue) -> str | None:
        try:
            reply = self._service.call(
                "get_queue_url", doing=f"sqs:GetQueueUrl on {sqs_queue.name}", QueueName=sqs_queue.name
            )
        except UnavailableError as error:
            if _is_missing(error):
                return None
            raise
        return str(reply["QueueUrl"])

    def _make(self, sqs_queue: SqsQueue) -> str:
        if not self._options.create:
            raise UnavailableError(
                f"the SQS queue {sqs_queue.name!r} is missing, and create is false",
                where=f"  {self._service.url}",
                fix="Create it, or set create = true and allow sqs:CreateQueue",
                passing=False,
            )
        wanted = {
            "MessageRetentionPeriod": str(_KEEP),
            "MaximumMessageSize": str(self._options.max_message_bytes),
            "ReceiveMessageWaitTimeSeconds": "0",
        }
        if sqs_queue.fifo:
            # Deduplicate and throttle by group, since order is kept within a group only; this allows most throughput.
            wanted |= {"FifoQueue": "true", "DeduplicationScope": "messageGroup"}
            wanted |= {"FifoThroughputLimit": "perMessageGroupId"}
        reply = self._service.call(
            "create_queue", doing=f"sqs:CreateQueue of {sqs_queue.name}", QueueName=sqs_queue.name, Attributes=wanted
        )
        return str(reply["QueueUrl"])


def _is_missing(error: UnavailableError) -> bool:
    return error.__cause__ is not None and code_of(error.__cause__) in MISSING
