"""What an operator should know of the queues in use."""

from __future__ import annotations

import json

from queuekit_sqs.queues import Line, Queues

__all__ = ["LEAST_RECEIVES", "check"]

LEAST_RECEIVES = 30
"""Least ``maxReceiveCount`` of a redrive policy: ten times the deliveries after which core gives a message up."""
_SHORTEST_KEPT = 86_400
_NAMES = ("RedrivePolicy", "MessageRetentionPeriod")


def check(queues: Queues) -> list[str]:
    """Return what is wrong with the queues that this client has used, one line each."""
    problems: list[str] = []
    for name in queues.known():
        found = queues.attributes(Line(name, name), *_NAMES)
        receives = json.loads(found.get("RedrivePolicy") or "{}").get("maxReceiveCount")
        if receives is not None and int(receives) < LEAST_RECEIVES:
            problems.append(
                f"{name}: its redrive policy moves a message away after {receives} receives, and a crash or a release "
                f"is one as well. Set maxReceiveCount to {LEAST_RECEIVES} or more"
            )
        kept = int(found.get("MessageRetentionPeriod", _SHORTEST_KEPT))
        if kept < _SHORTEST_KEPT:
            problems.append(f"{name}: SQS throws messages away after {kept} s. Set MessageRetentionPeriod to 1209600")
    return problems
