"""Whose clock counts, and delays longer than the service supports."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from queuekit.app import Queuekit
from queuekit.broker import Ack, Broker, Delivery
from queuekit.client.sender import Sending
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome
from queuekit.signature import Signature
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.connections import DAY, a_day_ahead, off_by
from queuekit_testing.kit import assert_time_of_day, needs, unique_name

__all__ = ["ClocksTests"]

_TRIES = 4
_OFF = pytest.mark.parametrize("off", [DAY, -DAY], ids=["ahead", "behind"])


class ClocksTests(BrokerKit):
    """QK11, the server's clock; and core's relay for delays beyond ``limits.max_delay``."""

    @pytest.fixture
    def server_clock(self) -> None:
        """Skip the test if only the clients have a clock."""
        if not self.CLOCK_OF_ITS_OWN:
            pytest.skip("CLOCK_OF_ITS_OWN is False: only the clients have a clock")

    def test_takes_nothing_early_by_a_wrong_clock(self, broker: Broker, queue: str, server_clock: None) -> None:
        """A worker whose clock is a day ahead claims neither leased nor delayed messages (QK11)."""
        held = self.sent_and_taken(broker, self.message(queue))
        if broker.capabilities.delay:
            broker.send([self.message(queue, delay=self.far)])

        with a_day_ahead():
            found = self.look(self.connect(), queue, wait=self.short)

        assert found == []
        self.do(broker, Ack(held))

    def test_gives_nothing_late_by_a_wrong_clock(self, broker: Broker, queue: str, server_clock: None) -> None:
        """Messages that a client whose clock is a day ahead sends, delays or holds are due at the right time."""
        sent, held = self.messages(queue, 2)
        delay = self.short if broker.capabilities.delay else 0.0
        broker.send([held])

        with a_day_ahead():
            client = self.connect()
            self.take_one(client, queue, lease=self.short)
            client.send([attrs.evolve(sent, delay=delay)])

        assert {delivery.id for delivery in self.take(broker, queue, 2)} == {sent.id, held.id}

    def test_moves_no_time_of_others(self, broker: Broker, queue: str, server_clock: None) -> None:
        """After a client whose clock is a day ahead sends and settles, other clients still get nothing early."""
        held = self.sent_and_taken(broker, self.message(queue))
        if broker.capabilities.delay:
            broker.send([self.message(queue, delay=self.far)])
        with a_day_ahead():
            client = self.connect()
            self.do(client, Ack(self.sent_and_taken(client, self.message(queue))))

        found = self.look(self.connect(), queue, wait=self.short)

        assert found == []
        self.do(broker, Ack(held))

    def test_tells_the_time_of_day(self, broker: Broker, queue: str) -> None:
        """``sent_at`` and ``claimed_at`` are UTC epoch seconds: neither milliseconds nor the time since a start."""
        delivery = self.sent_and_taken(broker, self.message(queue))

        assert_time_of_day("sent_at", delivery.sent_at)
        assert_time_of_day("claimed_at", delivery.claimed_at)

    @_OFF
    def test_tells_the_time_of_its_service(self, broker: Broker, queue: str, off: float, server_clock: None) -> None:
        """``sent_at`` and ``claimed_at`` are correct for a client whose clock is a day off."""
        with off_by(off):
            client = self.connect()
            delivery = self.sent_and_taken(client, self.message(queue))

        assert_time_of_day("sent_at", delivery.sent_at)
        assert_time_of_day("claimed_at", delivery.claimed_at)

    @needs("delay")
    @_OFF
    def test_heeds_a_moment_by_the_time_of_its_service(
        self, broker: Broker, queue: str, off: float, server_clock: None
    ) -> None:
        """``not_before`` of a client whose clock is a day off means the same moment as for other clients."""
        first, later = self.sent_and_taken(broker, self.message(queue)), self.new_queue()
        self.do(broker, Ack(first))
        moment = first.claimed_at + 2 * self.short
        with off_by(off):
            client = self.connect()
            client.send([self.message(queue, not_before=moment)])
            client.send([self.message(later, not_before=first.claimed_at + self.far)])
            early = self.look(client, later)

        assert early == []
        # Three clients have converted times, and each may be off by the granularity of the service.
        assert self.take_one(broker, queue).claimed_at >= moment - 3 * broker.limits.lease_granularity

    def narrowed(self, client: Broker, seconds: float) -> Broker:
        """Return *client* with *seconds* as its longest delay. Override this if setting ``limits`` is not enough."""
        client.limits = attrs.evolve(client.limits, max_delay=seconds)
        return client

    @needs("delay")
    def test_is_relayed_beyond_its_longest_delay(self, broker: Broker, queue: str) -> None:
        """Core keeps a delay above ``limits.max_delay``: it delays the message again on receipt, and runs it once."""
        if broker.limits.max_delay is None:
            pytest.skip("limits.max_delay is None: no delay is too long")
        # On a slow machine, or if the client itself waits for the rest, a message may be due before core receives it.
        hops = next(filter(None, (self._relayed(queue, self.short * 2**doubled) for doubled in range(_TRIES))), 0)

        assert hops >= 1, "core never received the message before it was due"

    def _relayed(self, queue: str, longest: float) -> int:
        """Send a message with a delay above *longest*, receive it, and return how often core delayed it again."""
        client = self.narrowed(self.connect(), longest)
        relay = _Relay(client)
        relay.send(queue, delay=longest + max(0.5 * longest, 3 * self._limits.lease_granularity))
        delivery, hops = self.take_one(client, queue), 0
        while (settlement := relay.settlement(delivery)) is not None:
            self.do(client, settlement)
            delivery, hops = self.take_one(client, queue), hops + 1

        assert delivery.envelope.not_before is not None
        assert delivery.claimed_at >= delivery.envelope.not_before - self._limits.lease_granularity
        assert (delivery.envelope.attempt, delivery.crashes) == (0, 0)
        self.do(client, Ack(delivery))
        assert self.look(client, queue) == []
        return hops


class _Relay:
    """The part of core that relays delays: sending, and the decision on a delivery."""

    def __init__(self, broker: Broker) -> None:
        # If the service does not tell the time, core needs a result backend that does.
        url = f"memory://{unique_name('relay')}"
        app = Queuekit(broker=url, backend="none" if broker.capabilities.tells_time else url)
        app.task(name="kit.relayed")(_nothing)
        runtime = attrs.evolve(app.runtime, broker=broker)
        self._sending = Sending(runtime, app.tasks)
        self._executor = Executor(runtime, app.tasks, self._sending, worker="kit")

    def send(self, queue: str, *, delay: float) -> None:
        """Send a message that is due in *delay* seconds."""
        self._sending.send([Signature("kit.relayed", queue=queue, delay=delay)])

    def settlement(self, delivery: Delivery) -> Any:
        """Return how a worker settles a *delivery* that is not due yet; ``None`` if it runs it."""
        decided = self._executor.prepare(delivery, {})
        return decided.settlement if isinstance(decided, Outcome) else None


def _nothing() -> None:
    """Do nothing."""
