"""What shows only after a while or at the edge: counters, rounding, the largest message, forged tokens, memory."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import ClassVar

import attrs
import pytest

from queuekit.broker import Ack, Broker, Capabilities, Delivery, Release, Replace
from queuekit.envelope import Envelope, Unique
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs

__all__ = ["EnduranceTests"]

_LARGEST = 17_000_000
"""Longest body that is really sent."""
_NAME = 120
"""Characters of the longest legal id and queue."""
_LOOKS = 4
"""Waits after an interrupt, of which the first may end at once."""
_PARTS = 4
"""Parts in which messages go through a client while its memory is measured."""
_KEPT = 200
"""Bytes that a client may keep of a message that is done; a body has five times as many."""


class EnduranceTests(BrokerKit):
    """Faults that a first look does not find."""

    CLAIMS: ClassVar[int] = 300
    """Claims of one message; fewer where each costs a request that is billed."""
    HOARD: ClassVar[int] = 2_000
    """Messages under which the memory of a client may not grow."""

    def test_counts_crashes_beyond_a_few(self, broker: Broker, queue: str) -> None:
        """The crash counter grows with each crash: ``max_deliveries`` may be more than three."""
        broker.send([self.message(queue)])
        counted = []
        for _ in range(12):
            delivery = self.take_one(broker, queue)
            counted.append(delivery.crashes)
            self.do(broker, Release(delivery, counted=True))

        assert counted == list(range(12))

    def test_counts_hundreds_of_claims(self, broker: Broker, queue: str) -> None:
        """The number of a message that is handed back all day grows with each claim."""
        broker.send([self.message(queue)])
        numbers = []
        for _ in range(self.CLAIMS):
            delivery = self.take_one(broker, queue)
            numbers.append(delivery.number)
            self.do(broker, Release(delivery))

        assert numbers == list(range(1, self.CLAIMS + 1))

    @needs("delay")
    @pytest.mark.parametrize("way", ["send", "release", "retry"])
    def test_rounds_no_delay_down(self, broker: Broker, queue: str, way: str) -> None:
        """A delay of one and a half times ``limits.lease_granularity`` is not cut to one: it may be late only."""
        delay = max(1.5 * broker.limits.lease_granularity, 0.011)
        envelope = self.message(queue, delay=delay if way == "send" else 0.0)
        held = None if way == "send" else self.sent_and_taken(broker, envelope)
        begun = time.monotonic()
        if held is None:
            broker.send([envelope])
        elif way == "release":
            self.do(broker, Release(held, delay=delay))
        else:
            self.do(broker, Replace(held, attrs.evolve(held.envelope, attempt=1, delay=delay)))

        self.take_one(broker, queue)

        assert time.monotonic() - begun >= 0.99 * delay

    @needs("delay")
    @pytest.mark.parametrize("way", ["send", "release", "retry"])
    def test_takes_its_longest_delay(self, broker: Broker, queue: str, way: str) -> None:
        """A delay of ``limits.max_delay`` is taken and kept; core never asks for a longer one."""
        longest = broker.limits.max_delay
        if longest is None:
            pytest.skip("limits.max_delay is None: no delay is the longest")
        envelope = self.message(queue, delay=longest if way == "send" else 0.0)
        if way == "send":
            broker.send([envelope])
        else:
            held = self.sent_and_taken(broker, envelope)
            later = attrs.evolve(held.envelope, attempt=1, delay=longest)
            self.do(broker, Release(held, delay=longest) if way == "release" else Replace(held, later))

        assert self.look(broker, queue) == []

    def test_takes_its_largest_body_with_the_longest_names(
        self, broker: Broker, declared: Capabilities, queue: str
    ) -> None:
        """``limits.max_body`` leaves room for the longest id, queue and key, and for every other field."""
        if broker.limits.max_body > _LARGEST:
            pytest.skip(f"limits.max_body is above {_LARGEST:,}")
        queue = queue.ljust(_NAME, "q")
        self._queues.append(queue)
        body = random.Random(2).randbytes(broker.limits.max_body)  # noqa: S311 - any bytes will do
        envelope = self.message(
            queue,
            body=body,
            priority=9 if declared.priority else 4,
            expires=9_999_999_999.123456,
            attempt=1_000,
            generation=1_000,
            unique=Unique(key=queue[-12:].ljust(500, "k"), ttl=3_600.0) if declared.unique else None,
        )
        envelope = attrs.evolve(envelope, id=envelope.id.ljust(_NAME, "i"))

        delivery = self.sent_and_taken(broker, envelope)

        assert (delivery.id, delivery.queue) == (envelope.id, queue)
        assert delivery.envelope.body == body
        self.do(broker, Ack(delivery))

    @needs("fenced_ack")
    def test_refuses_the_token_of_another_message(self, broker: Broker, queue: str) -> None:
        """The token of another claim opens no lease but its own."""
        one = self.sent_and_taken(broker, self.message(queue))
        other = self.sent_and_taken(broker, self.message(queue))
        forged = attrs.evolve(one, token=other.token)

        broker.extend([forged.lease], lease=self.short)
        broker.settle([Ack(forged)])

        self.do(broker, Ack(one))

    @needs("fenced_ack")
    def test_refuses_a_token_of_the_right_shape(self, broker: Broker, queue: str) -> None:
        """Another token of the same length, with digits and letters where they should be, opens nothing."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        forged = attrs.evolve(delivery, token="".join(map(_another, delivery.token)))

        assert broker.settle([Ack(forged)]) == [forged]
        assert broker.extend([forged.lease], lease=self.short) == [forged.lease]
        self.do(broker, Ack(delivery))

    @needs("fenced_ack")
    @pytest.mark.parametrize("deed", ["settle", "extend"])
    def test_refuses_a_stale_lease_of_its_own(self, broker: Broker, queue: str, deed: str) -> None:
        """A client that claimed a message twice holds it under the second lease alone."""
        broker.send([self.message(queue)])
        stale = self.take_one(broker, queue, lease=self.short)
        present = self.take_one(broker, queue)

        if deed == "settle":
            assert broker.settle([Ack(stale)]) == [stale]
        else:
            assert broker.extend([stale.lease], lease=self.short) == [stale.lease]

        self.do(broker, Ack(present))
        assert self.look(broker, queue) == []

    @needs("blocking_receive")
    def test_is_interrupted_once(self, broker: Broker, queue: str) -> None:
        """An interrupt ends the waits of its moment, or the next one; those after it last as long as they should."""
        broker.interrupt()
        seconds = max(0.25, self.short)

        def lasted() -> bool:
            before = time.monotonic()
            assert self.look(broker, queue, wait=seconds) == []
            return self.not_early(time.monotonic() - before, seconds)

        assert any(lasted() for _ in range(_LOOKS)), f"{_LOOKS} waits after one interrupt ended at once"

    @needs("processes")
    def test_keeps_nothing_of_what_is_done(self, broker: Broker, queue: str) -> None:
        """The memory of a client does not grow with the messages that have gone through it."""
        self.use(broker, queue, 200)
        part = self.HOARD // _PARTS
        kept: list[float] = []
        tracemalloc.start()
        try:
            for _ in range(_PARTS):
                before = self.memory()
                self.use(broker, queue, part)
                kept.append((self.memory() - before) / part)
        finally:
            tracemalloc.stop()

        # What hoards does so all the time; a table of the interpreter's that has to grow does so once.
        assert min(kept) < _KEPT, f"the client keeps {min(kept):.0f} bytes of each message that is done"

    def memory(self) -> int:
        """Return the bytes that Python's objects take."""
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def use(self, broker: Broker, queue: str, count: int) -> None:
        """Send, take, renew and acknowledge *count* messages of a kilobyte."""
        size = min(100, broker.limits.max_batch)
        make: Callable[[], Envelope] = lambda: self.message(queue, body=bytes(1_000))  # noqa: E731
        for _ in range(0, count, size):
            broker.send([make() for _ in range(size)])
            held: list[Delivery] = self.take(broker, queue, size)
            broker.extend([each.lease for each in held], lease=self.long)
            self.do(broker, *map(Ack, held))
            self._claimers.clear()  # what the kit remembers is not what the client keeps


def _another(character: str) -> str:
    """Return another character of the same kind, which a hexadecimal number may have as well."""
    if character.isdigit():
        return str((int(character) + 1) % 10)
    if character.isalpha():
        return "b" if character == "a" else "B" if character == "A" else "a" if character.islower() else "A"
    return character
