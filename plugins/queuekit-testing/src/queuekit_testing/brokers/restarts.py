"""The suite for a restart of the service: what was stored before it is there after it (QK1, QK13)."""

from __future__ import annotations

import attrs

from queuekit.broker import Ack, Broker, Dead, Place, Replace
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs

__all__ = ["RestartConformance"]


class RestartConformance(BrokerKit):
    """What a broker must keep while its service restarts.

    Subclass it beside :class:`~queuekit_testing.brokers.BrokerConformance`, give it a server that it may restart, with
    its persistence on, and override ``restart``::

        class TestRestarts(RestartConformance):
            @pytest.fixture
            def server(self, tmp_path):
                self._server = start_server(tmp_path)
                self.url = self._server.url
                yield
                self._server.stop()

            def restart(self):
                self._server.stop()
                self._server.start()

    The clients do not learn of it: they must connect again by themselves. Meanwhile a call may raise
    ``UnavailableError``.
    """

    def restart(self) -> None:
        """Stop the service, and return when it answers again, with what it had stored."""
        raise NotImplementedError(f"{type(self).__name__} does not restart its service. Add def restart(self): ...")

    def test_keeps_what_was_sent_over_a_restart(self, broker: Broker, queue: str) -> None:
        """A message whose send had returned is delivered after a restart, with its body, and once (QK1)."""
        envelopes = self.messages(queue, 3)
        broker.send(envelopes)

        self.restart()

        found = self.insist(lambda: self.take(broker, queue, 3))
        assert {each.id: each.envelope.body for each in found} == {each.id: each.body for each in envelopes}
        assert self.look(broker, queue) == []

    def test_forgets_what_was_settled_before_a_restart(self, broker: Broker, queue: str) -> None:
        """An acknowledged message does not come back, and a retry replaces its message for good (QK1)."""
        done, again, kept = self.messages(queue, 3)
        broker.send([done, again, kept])
        held = {each.id: each for each in self.take(broker, queue, 3)}
        retried = attrs.evolve(held[again.id].envelope, attempt=1, body=b"again")
        self.do(broker, Ack(held[done.id]), Replace(held[again.id], retried))

        self.restart()

        # Where a lease ends with its connection, so does that of the third message.
        count = 1 if broker.capabilities.portable_leases else 2
        taken = self.insist(lambda: self.take(broker, queue, count))
        found = {each.id: (each.envelope.attempt, each.envelope.body) for each in taken if each.id != kept.id}
        assert found == {again.id: (1, b"again")}

    @needs("portable_leases")
    def test_keeps_leases_over_a_restart(self, broker: Broker, queue: str) -> None:
        """A lease goes on: its message is delivered to nobody else, and can be renewed and settled."""
        delivery = self.sent_and_taken(broker, self.message(queue))

        self.restart()

        assert self.insist(lambda: self.look(broker, queue)) == []
        assert self.insist(lambda: broker.extend([delivery.lease], lease=self.long)) == []
        self.do(broker, Ack(delivery))

    def test_delivers_again_what_was_leased_before_a_restart(self, broker: Broker, queue: str) -> None:
        """A lease that nobody renews ends, and its message is delivered again, with a higher number (QK7)."""
        envelope = self.message(queue)
        stale = self.sent_and_taken(broker, envelope, lease=self.short)

        self.restart()

        found = self.insist(lambda: self.take_one(broker, queue))
        assert (found.id, found.envelope.body) == (envelope.id, envelope.body)
        assert found.number > stale.number

    @needs("dedup")
    def test_adds_nothing_for_a_send_repeated_over_a_restart(self, broker: Broker, queue: str) -> None:
        """A caller that did not see the answer sends again, and there is one message (QK13)."""
        envelope = self.message(queue)
        broker.send([envelope])

        self.restart()

        assert self.insist(lambda: broker.send([envelope])) == [envelope.id]
        assert self.insist(lambda: self.take_one(broker, queue)).id == envelope.id
        assert self.look(broker, queue) == []

    @needs("dedup")
    def test_remembers_what_was_done_over_a_restart(self, broker: Broker, queue: str) -> None:
        """Also of a message that was acknowledged before the restart (QK13)."""
        envelope = self.message(queue)
        self.do(broker, Ack(self.sent_and_taken(broker, envelope)))

        self.restart()

        assert self.insist(lambda: broker.send([envelope])) == [envelope.id]
        assert self.look(broker, queue) == []

    @needs("delay")
    def test_keeps_what_is_delayed_over_a_restart(self, broker: Broker, queue: str) -> None:
        """It is neither lost nor early."""
        later, soon = self.message(queue, delay=self.far), self.message(queue, delay=self.short)
        broker.send([later, soon])

        self.restart()

        assert self.insist(lambda: self.take_one(broker, queue)).id == soon.id
        assert self.look(broker, queue) == []

    @needs("dead_letters", "inspect")
    def test_keeps_dead_letters_over_a_restart(self, broker: Broker, queue: str) -> None:
        """With reason and body."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Dead(delivery, reason="failed", error="ValueError: no"))

        self.restart()

        (stored,) = self.insist(lambda: broker.peek(queue, place=Place.DEAD)).items
        assert (stored.envelope.id, stored.envelope.body, stored.reason) == (delivery.id, b"body", "failed")
