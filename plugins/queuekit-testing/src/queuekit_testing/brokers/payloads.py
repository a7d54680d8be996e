"""Bodies, fields and ids come out as they went in, and only from their queue."""

from __future__ import annotations

import random
import time
from functools import partial

import pytest

from queuekit.broker import Ack, Broker, Capabilities
from queuekit.envelope import Unique
from queuekit.errors import TooLargeError
from queuekit_testing.brokers.kit import BrokerKit

__all__ = ["BODIES", "PayloadsTests"]

BODIES = {
    "empty": b"",
    "nul": b"\0",
    "nul-inside": b"a\0b\0",
    "every-byte": bytes(range(256)),
    "every-byte-backwards": bytes(reversed(range(256))),
    "invalid-utf-8": b"\xff\xfe\xc3\x28\xed\xa0\x80",
    "emoji": "\N{SNAKE}\N{ZERO WIDTH JOINER}\N{GRINNING FACE}".encode(),
    "line-ends": b"\r\n\n\r \t\n",
    "looks-like-json": b'{"$object": ["os.system", {"a": 1}]}\n[',
    "looks-like-sql": b"'; DROP TABLE messages; --",
    "looks-like-pickle": b"\x80\x04\x95cos\nsystem\n",
    "random": random.Random(7).randbytes(10_000),  # noqa: S311 - any bytes will do
}
_MAX_TRIED = 2_000_000
"""Longest body that a test sends."""
_MAX_BUILT = 64_000_000
"""Longest body that a test builds only to be refused."""


class PayloadsTests(BrokerKit):
    """A broker stores bytes and does not interpret them (QK9)."""

    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
    def test_returns_the_bytes_sent(self, broker: Broker, queue: str, body: bytes) -> None:
        """A received body equals the sent one, whatever bytes it contains."""
        broker.send([self.message(queue, body=body)])

        delivery = self.take_one(broker, queue)

        assert delivery.envelope.body == body
        assert type(delivery.envelope.body) is bytes

    def test_returns_a_body_of_the_largest_size(self, broker: Broker, queue: str) -> None:
        """A body of ``limits.max_body`` bytes, at most of 2 MB, arrives whole."""
        body = random.Random(1).randbytes(min(broker.limits.max_body, _MAX_TRIED))  # noqa: S311

        delivery = self.sent_and_taken(broker, self.message(queue, body=body))

        assert delivery.envelope.body == body

    def test_refuses_a_body_above_the_limit(self, broker: Broker, queue: str) -> None:
        """A body one byte above ``limits.max_body`` raises TooLargeError, and nothing of the batch is sent."""
        if broker.limits.max_body >= _MAX_BUILT:
            pytest.skip(f"limits.max_body is above {_MAX_BUILT:,} bytes, too large for a test")
        good = self.message(queue)
        bad = self.message(queue, body=bytes(broker.limits.max_body + 1))

        with pytest.raises(TooLargeError):
            broker.send([good, bad])

        assert self.look(broker, queue) == []

    def test_returns_every_field(self, broker: Broker, queue: str, declared: Capabilities) -> None:
        """Id, queue, priority, expiry, attempt, generation, hop and unique key come back as they were sent."""
        key = Unique(key="a key / with any text \N{SNOWMAN}", until="done", ttl=3_600.0)
        envelope = self.message(
            queue,
            priority=7,
            expires=time.time() + 9_999.125,
            attempt=3,
            generation=2,
            hop=5,
            unique=key if declared.unique else None,
        )
        broker.send([envelope])

        got = self.take_one(broker, queue).envelope

        names = ("id", "queue", "body", "priority", "expires", "attempt", "generation", "hop", "unique")
        assert {name: getattr(got, name) for name in names} == {name: getattr(envelope, name) for name in names}

    def test_returns_a_field_that_is_not_set_as_none(self, broker: Broker, queue: str) -> None:
        """A message without expiry and unique key comes back without them, not with zeros or empty text."""
        got = self.sent_and_taken(broker, self.message(queue)).envelope

        assert (got.expires, got.unique, got.priority, got.attempt, got.generation, got.hop) == (None, None, 4, 0, 0, 0)

    def test_tells_about_the_claim(self, broker: Broker, queue: str) -> None:
        """A first delivery has number 1, no crashes, a token, and ``sent_at`` not after ``claimed_at``."""
        delivery = self.sent_and_taken(broker, self.message(queue))

        assert (delivery.number, delivery.crashes) == (1, 0)
        assert isinstance(delivery.token, str)
        assert delivery.token
        assert 0 < delivery.sent_at <= delivery.claimed_at

    def test_sends_a_batch_and_returns_its_ids_in_order(self, broker: Broker, queue: str) -> None:
        """``send`` returns the id of each envelope of a batch, in order."""
        batch = self.messages(queue, min(25, broker.limits.max_batch))

        ids = broker.send(batch)

        assert ids == [envelope.id for envelope in batch]
        assert {delivery.id for delivery in self.take(broker, queue, len(batch))} == set(ids)

    def test_takes_empty_batches(self, broker: Broker) -> None:
        """Every method accepts an empty batch, and does nothing."""
        assert broker.send([]) == []
        assert broker.settle([]) == []
        assert broker.extend([], lease=1.0) == []
        assert broker.receive([], limit=1, wait=0, lease=1.0) == []

    def test_keeps_queues_apart(self, broker: Broker) -> None:
        """A message is delivered only from its own queue, even if another queue's name begins with the same text."""
        one = self.new_queue()
        other = f"{one}.x"
        self._queues.append(other)
        first, second = self.message(one, body=b"one"), self.message(other, body=b"other")
        broker.send([first, second])

        found = self.look(broker, one)
        got = self.take_one(broker, other)

        assert found == [first.id]
        assert (got.id, got.queue, got.envelope.body) == (second.id, other, b"other")
        assert self.look(broker, other) == []

    def test_keeps_names_apart_that_are_much_alike(self, broker: Broker) -> None:
        """Queue names that differ only in case, in punctuation or in their 120th character are different."""
        start = self.new_queue()
        ends = ("x", "X", ".x", ":x", "-x", "_x", *("x".ljust(120 - len(start) - 1, "x") + end for end in "ab"))
        names = [start + end for end in ends]
        self._queues += names
        batch = [self.message(name, body=name.encode()) for name in names]
        for envelope in batch:
            broker.send([envelope])

        found = {name: [each.envelope.body.decode() for each in self.take(broker, name, 1)] for name in reversed(names)}

        assert found == {name: [name] for name in names}

    def test_keeps_equal_ids_in_two_queues_apart(self, broker: Broker) -> None:
        """Messages with the same id in two queues are separate: an ack of one leaves the other."""
        one, other = self.new_queue(), self.new_queue()
        envelope = self.message(one)
        broker.send([envelope, self.message(other, id=envelope.id)])

        self.do(broker, Ack(self.take_one(broker, one)))

        assert self.look(broker, other) == [envelope.id]

    def test_receives_from_several_queues(self, broker: Broker) -> None:
        """One ``receive`` reads all of its queues, in the order in which they are named."""
        urgent, normal = self.new_queue(), self.new_queue()
        broker.send([self.message(normal, body=b"second"), self.message(urgent, body=b"first")])

        first = broker.receive([urgent, normal], limit=1, wait=self.short, lease=self.long)
        second = broker.receive([urgent, normal], limit=1, wait=self.short, lease=self.long)

        assert [delivery.envelope.body for delivery in (*first, *second)] == [b"first", b"second"]

    def test_finds_a_queue_never_sent_to_empty(self, broker: Broker, queue: str) -> None:
        """A ``receive`` from an unknown queue returns an empty list."""
        assert broker.receive([queue], limit=1, wait=0, lease=1.0) == []

    def test_closes_twice(self, broker: Broker, queue: str) -> None:
        """A client that was used can be closed twice."""
        client = self.connect()
        client.send([self.message(queue)])

        client.close()
        client.close()

        assert len(self.take(broker, queue, 1)) == 1

    def test_begins_with_many_at_once(self, broker: Broker, queue: str) -> None:
        """Clients that make their first call at the same moment, on an unused server, all work."""
        batch = self.messages(queue, 2)
        sends = [partial(self.connect().send, [envelope]) for envelope in batch]
        looks = [partial(self.look, self.connect(), queue) for _ in range(6)]

        answers = self.all_at_once([*looks, *sends])

        found = {id for ids in answers[: len(looks)] for id in ids}
        found |= {delivery.id for delivery in self.take(broker, queue, 2 - len(found))} if len(found) < 2 else set()
        assert found == {envelope.id for envelope in batch}

    def test_opens_nothing_until_used(self, broker: Broker) -> None:
        """A client that was never used can be closed."""
        client = self.connect()

        client.close()

        assert broker.limits == client.limits
