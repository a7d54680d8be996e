"""How a message of a workflow ended: the facts that decide what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from queuekit.broker import Delivery
from queuekit.client.codec import Message, peek_position
from queuekit.failure import Failure
from queuekit.values import frozen
from queuekit.wire.position import Position

__all__ = ["Ended", "died", "ended_by", "is_member", "unwritten"]


@frozen(kw_only=True)
class Ended:
    """How a message of a workflow ended."""

    link: Position
    value: Any = None
    """The value that the body returned."""
    failure: Failure | None = None
    """Why there is no value."""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Headers that the follow-ups inherit."""


def is_member(message: Message) -> bool:
    """Return whether a group waits for the outcome of *message*, so that it must be recorded."""
    return message.link is not None and message.link.member is not None


def ended_by(message: Message, failure: Failure) -> Ended | None:
    """Return the end of a message that failed; ``None`` if it belongs to no workflow."""
    return None if message.link is None else Ended(link=message.link, failure=failure, headers=message.headers)


def died(delivery: Delivery, message: Message | None, *, reason: str, error: str, task: str) -> Ended | None:
    """Return the end of a message that can never run; ``None`` if no workflow can be read from it."""
    link = message.link if message is not None else peek_position(delivery.envelope)
    if link is None:
        return None
    attempt = delivery.envelope.attempt
    failure = Failure(id=delivery.id, task=task, error_type=reason, error=error, attempt=attempt)
    return Ended(link=link, failure=failure, headers=message.headers if message is not None else {})


def unwritten(delivery: Delivery, ended: Ended | None, text: str) -> Ended | None:
    """Return the end of a message whose outcome the engine refuses."""
    if ended is None:
        return None
    task = ended.failure.task if ended.failure is not None else ""
    failure = Failure(id=delivery.id, task=task, error_type="EngineError", error=text)
    return attrs.evolve(ended, value=None, failure=failure)
