"""Reports settings of the queues in use to operators."""

from __future__ import annotations

import json
from collections.abc import Sequence

from queuekit_sqs.queues import Queues, SqsQueue

__all__ = ["CRASHES_EACH", "check_queues", "cost"]

CRASHES_EACH = 10
"""Least receives that a redrive policy must allow for each delivery that core does.

SQS counts a hand-over or a stop as a receive as well, and forgets no receive.
"""
_SHORTEST_KEPT = 86_400
_DAY = 86_400
_NAMES = ("RedrivePolicy", "MessageRetentionPeriod")


def check_queues(queues: Queues, names: Sequence[str], *, max_deliveries: int) -> list[str]:
    """Return what is wrong with the queues *names*, one line each; what does not exist is not wrong."""
    sqs_queues = [sqs_queue for name in names for sqs_queue in queues.of_all_priorities(name)]
    return [problem for sqs_queue in sqs_queues for problem in _check(queues, sqs_queue, CRASHES_EACH * max_deliveries)]


def _check(queues: Queues, sqs_queue: SqsQueue, least: int) -> list[str]:
    problems: list[str] = []
    found = queues.attributes(sqs_queue, *_NAMES)
    receives = json.loads(found.get("RedrivePolicy") or "{}").get("maxReceiveCount")
    if receives is not None and int(receives) < least:
        problems.append(
            f"{sqs_queue.name}: its redrive policy moves a message away after {receives} receives, and a crash or a "
            f"release is one as well. Set maxReceiveCount to {least} or more: {CRASHES_EACH} times "
            "worker.max_deliveries"
        )
    kept = int(found.get("MessageRetentionPeriod", _SHORTEST_KEPT))
    if kept < _SHORTEST_KEPT:
        problems.append(
            f"{sqs_queue.name}: SQS throws messages away after {kept} s. Set MessageRetentionPeriod to 1209600"
        )
    return problems


def cost(poll: float) -> str:
    """Return what SQS is asked for a task, and for none, with long polls of *poll* seconds."""
    polls = _DAY / max(1, int(poll))
    return f"0.3 requests a task in bulk, 3 for one alone; idle: {polls:,.0f} long polls a day per queue and process"
