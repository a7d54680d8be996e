"""Report settings of the queues in use that may lose messages."""

from __future__ import annotations

import json
from collections.abc import Sequence

from queuekit_sqs.queues import Queues, SqsQueue

__all__ = ["CRASHES_EACH", "check_queues", "cost"]

CRASHES_EACH = 10
"""Least receives that a redrive policy must allow for each delivery that core counts.

SQS also counts a release or the stop of a worker as a receive, and never resets the count.
"""
_SHORTEST_KEPT = 86_400
_DAY = 86_400
_NAMES = ("RedrivePolicy", "MessageRetentionPeriod")


def check_queues(queues: Queues, names: Sequence[str], *, max_deliveries: int) -> list[str]:
    """Return the problems of the queues *names*, one line each; a missing queue is not a problem."""
    sqs_queues = [sqs_queue for name in names for sqs_queue in queues.of_all_priorities(name)]
    return [problem for sqs_queue in sqs_queues for problem in _check(queues, sqs_queue, CRASHES_EACH * max_deliveries)]


def _check(queues: Queues, sqs_queue: SqsQueue, least: int) -> list[str]:
    problems: list[str] = []
    found = queues.attributes(sqs_queue, *_NAMES)
    receives = json.loads(found.get("RedrivePolicy") or "{}").get("maxReceiveCount")
    if receives is not None and int(receives) < least:
        problems.append(
            f"{sqs_queue.name}: its redrive policy moves a message away after {receives} receives, and crashes and "
            f"releases count as receives. Set maxReceiveCount to {least} or more: {CRASHES_EACH} times "
            "worker.max_deliveries"
        )
    kept = int(found.get("MessageRetentionPeriod", _SHORTEST_KEPT))
    if kept < _SHORTEST_KEPT:
        problems.append(f"{sqs_queue.name}: SQS deletes messages after {kept} s. Set MessageRetentionPeriod to 1209600")
    return problems


def cost(poll: float) -> str:
    """Return the number of SQS requests per task, and of an idle worker with long polls of *poll* seconds."""
    polls = _DAY / max(1, int(poll))
    return (
        f"0.3 requests per task in bulk, 3 for a single task; idle: {polls:,.0f} long polls a day per queue and process"
    )
