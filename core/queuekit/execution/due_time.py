"""When a message became due, on the broker's clock."""

from __future__ import annotations

from queuekit.broker import Delivery
from queuekit.client.codec import Message

__all__ = ["due_moment", "due_of"]


def due_of(delivery: Delivery) -> float:
    """Return when the message became due, on the broker's clock, as far as the delivery says."""
    return max(delivery.sent_at + delivery.envelope.delay, delivery.envelope.not_before or 0.0)


def due_moment(delivery: Delivery, message: Message) -> float | None:
    """Return when this attempt of *message* became due, on the broker's clock; ``None`` if nothing says when.

    Engines do not give the delay of the send back, so the message carries it. A retry carries its moment, unless
    neither the broker nor the backend has a clock.
    """
    envelope = delivery.envelope
    if envelope.attempt:
        return envelope.not_before
    if message.delay is None or envelope.hop:
        return due_of(delivery)
    return max(due_of(delivery), delivery.sent_at + message.delay)
