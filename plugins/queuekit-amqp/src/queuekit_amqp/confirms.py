"""Confirms of RabbitMQ: which published messages it has stored, and which it has not."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import attrs
from pika import spec

from queuekit_amqp.channel import Channel
from queuekit_amqp.frames import Content

__all__ = ["Batch", "Confirms"]


@attrs.define(eq=False)
class Batch:
    """Messages that were published in one go."""

    left: int
    """Messages whose confirm has not come."""
    refused: set[int] = attrs.field(factory=set)
    """Positions of those that RabbitMQ has not stored."""


class Confirms:
    """Confirms of one channel, whose thread that reads calls :meth:`take`."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.lock = threading.Lock()
        """Held from :meth:`expect` until what is expected is written, since RabbitMQ counts in the order of writes."""
        self._next = 1
        self._waiting: dict[int, tuple[Batch, int]] = {}
        self.returned: list[tuple[str, str]] = []
        """Routing key and id of messages that had no queue to go to."""
        channel.confirmed, channel.returned = self.take, self._return

    def expect(self, count: int) -> Batch:
        """Return a batch of the next *count* messages."""
        batch = Batch(count)
        for position in range(count):
            self._waiting[self._next + position] = batch, position
        self._next += count
        return batch

    def take(self, confirm: Any) -> None:
        """Handle a confirm."""
        tags: Sequence[int] = [confirm.delivery_tag]
        if confirm.multiple:
            # In the order of the numbers, since they were added so.
            tags = []
            for tag in list(self._waiting):
                if tag > confirm.delivery_tag:
                    break
                tags.append(tag)
        for tag in tags:
            batch, position = self._waiting.pop(tag, (None, 0))
            if batch is None:
                continue
            if isinstance(confirm, spec.Basic.Nack):
                batch.refused.add(position)
            batch.left -= 1

    def _return(self, content: Content) -> None:
        found = spec.BasicProperties()
        found.decode(content.properties)
        self.returned.append((str(content.method.routing_key), str(found.message_id or "")))

    def take_returned(self) -> set[tuple[str, str]]:
        """Return routing key and id of the messages that came back since the last call."""
        returned, self.returned = self.returned, []
        return set(returned)
