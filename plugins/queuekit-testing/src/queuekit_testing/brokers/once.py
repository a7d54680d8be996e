"""Send once and unique keys: the effect of a repeated send."""

from __future__ import annotations

from functools import partial

import attrs
import pytest

from queuekit.broker import Ack, Broker, Dead, Place, Release, Replace
from queuekit.envelope import Envelope, Unique
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs, unique_name

__all__ = ["OnceTests"]


class OnceTests(BrokerKit):
    """QK13 send once, and unique keys, which at most one live message holds."""

    # -- the same send again -------------------------------------------------------------------------------------

    @needs("dedup", probe=True)
    def test_adds_nothing_while_it_is_ready(self, broker: Broker, queue: str) -> None:
        """A repeated send, as after a lost reply, returns the same id and adds nothing, even from another client."""
        envelope = self.message(queue)
        broker.send([envelope])

        again = [*broker.send([envelope]), *self.connect().send([envelope])]

        assert again == [envelope.id, envelope.id]
        assert self.look(broker, queue) == [envelope.id]

    @needs("dedup")
    def test_adds_nothing_twice_in_one_batch(self, broker: Broker, queue: str) -> None:
        """A message that a batch contains twice is sent once; the others of the batch are sent, too."""
        envelope, other = self.message(queue), self.message(queue)

        ids = broker.send([envelope, envelope, other])

        assert ids == [envelope.id, envelope.id, other.id]
        assert sorted(self.look(broker, queue)) == sorted([envelope.id, other.id])

    @needs("dedup")
    def test_adds_nothing_while_it_is_leased(self, broker: Broker, queue: str) -> None:
        """A send repeated while the message is leased adds nothing, and does not affect the lease."""
        envelope = self.message(queue)
        delivery = self.sent_and_taken(broker, envelope)

        ids = broker.send([envelope])

        assert ids == [envelope.id]
        assert self.look(broker, queue) == []
        self.do(broker, Ack(delivery))

    @needs("dedup", "delay")
    def test_adds_nothing_while_it_is_delayed(self, broker: Broker, queue: str) -> None:
        """A send repeated while the message is delayed adds nothing, and does not make it due."""
        envelope = self.message(queue, delay=self.far)
        broker.send([envelope])

        broker.send([attrs.evolve(envelope, delay=0.0)])

        assert self.look(broker, queue, wait=self.short) == []

    @needs("dedup")
    def test_adds_nothing_after_it_is_done(self, broker: Broker, queue: str) -> None:
        """A send repeated within ``limits.dedup_window`` after the ack adds nothing."""
        envelope = self.message(queue)
        self.do(broker, Ack(self.sent_and_taken(broker, envelope)))

        ids = broker.send([envelope])

        assert ids == [envelope.id]
        assert self.look(broker, queue) == []

    @needs("dedup")
    def test_adds_nothing_of_an_earlier_attempt(self, broker: Broker, queue: str) -> None:
        """A send repeated after the message was retried adds nothing."""
        envelope = self.message(queue)
        delivery = self.sent_and_taken(broker, envelope)
        self.do(broker, Replace(delivery, attrs.evolve(envelope, attempt=1)))

        broker.send([envelope])

        taken = self.take_one(broker, queue)
        assert taken.envelope.attempt == 1
        assert self.look(broker, queue) == []

    @needs("dedup")
    def test_adds_nothing_of_an_earlier_attempt_after_the_last(self, broker: Broker, queue: str) -> None:
        """A send repeated after the message was done at its second attempt adds nothing."""
        envelope = self.message(queue)
        delivery = self.sent_and_taken(broker, envelope)
        self.do(broker, Replace(delivery, attrs.evolve(envelope, attempt=1)))
        self.do(broker, Ack(self.take_one(broker, queue)))

        ids = broker.send([envelope])

        assert ids == [envelope.id]
        assert self.look(broker, queue) == []

    @needs("dedup", "remove", "inspect", "delay")
    @pytest.mark.parametrize("way", ["removed", "purged"])
    @pytest.mark.parametrize("place", [Place.READY, Place.DELAYED], ids=str)
    def test_adds_nothing_after_it_was_taken_out(self, broker: Broker, queue: str, way: str, place: Place) -> None:
        """A send repeated after the message was removed or purged does not bring it back."""
        envelope = self.message(queue, delay=self.far if place is Place.DELAYED else 0.0)
        broker.send([envelope])
        if way == "removed":
            broker.remove(queue, [envelope.id])
        else:
            broker.purge(queue, place=place)

        ids = broker.send([attrs.evolve(envelope, delay=0.0)])

        assert ids == [envelope.id]
        assert self.look(broker, queue) == []

    @needs("dedup", "dead_letters")
    def test_adds_nothing_while_it_is_dead(self, broker: Broker, queue: str) -> None:
        """A send repeated after the message became a dead letter does not bring it back."""
        envelope = self.message(queue)
        self.do(broker, Dead(self.sent_and_taken(broker, envelope), reason="failed"))

        ids = broker.send([envelope])

        assert ids == [envelope.id]
        assert self.look(broker, queue) == []
        assert self.seen(broker, queue, Place.DEAD) == [envelope.id]

    @needs("dedup")
    def test_accepts_the_next_attempt_of_a_known_id(self, broker: Broker, queue: str) -> None:
        """A later attempt, hop or generation of a known id is a new message."""
        envelope = self.message(queue)
        self.do(broker, Ack(self.sent_and_taken(broker, envelope)))

        for later in (
            attrs.evolve(envelope, hop=1),
            attrs.evolve(envelope, attempt=1),
            attrs.evolve(envelope, generation=1),
        ):
            delivery = self.sent_and_taken(broker, later)
            self.do(broker, Ack(delivery))

            got = delivery.envelope
            assert (got.generation, got.attempt, got.hop) == (later.generation, later.attempt, later.hop)

    @needs("dedup")
    def test_accepts_the_next_attempt_while_the_last_is_held(self, broker: Broker, queue: str) -> None:
        """The next attempt may be sent before the previous one is settled, and then exists once."""
        envelope = self.message(queue)
        delivery = self.sent_and_taken(broker, envelope)

        broker.send([attrs.evolve(envelope, attempt=1)])
        broker.settle([Ack(delivery)])

        assert self.take_one(broker, queue).envelope.attempt == 1
        assert self.look(broker, queue) == []

    # -- unique keys ---------------------------------------------------------------------------------------------

    def keyed(self, queue: str, unique: Unique) -> Envelope:
        """Return a message with a unique key."""
        return self.message(queue, unique=unique)

    @needs("unique", probe=True)
    def test_returns_the_holder_of_a_unique_key(self, broker: Broker, queue: str) -> None:
        """A second message with the key, on any queue, is not sent; ``send`` returns the id of the first."""
        unique = Unique(key=unique_name("key"))
        first, second, elsewhere = (self.keyed(name, unique) for name in (queue, queue, self.new_queue()))

        ids = [broker.send([first]), broker.send([second, elsewhere])]

        assert ids == [[first.id], [first.id, first.id]]
        assert self.look(broker, queue) == [first.id]
        assert self.look(broker, elsewhere.queue) == []

    @needs("unique")
    def test_gives_a_key_to_one_of_a_batch(self, broker: Broker, queue: str) -> None:
        """Within a batch, the first message gets the key; messages with other keys or none are sent."""
        unique = Unique(key=unique_name("key"))
        batch = [
            self.keyed(queue, unique),
            self.keyed(queue, unique),
            self.keyed(queue, Unique(key=unique_name("key"))),
            self.message(queue),
        ]

        ids = broker.send(batch)

        assert ids == [batch[0].id, batch[0].id, batch[2].id, batch[3].id]
        assert sorted(self.look(broker, queue)) == sorted({*ids})

    @needs("unique")
    def test_gives_a_key_to_one_of_many_at_once(self, broker: Broker, queue: str) -> None:
        """If many clients send with one key at the same moment, one message is sent; all get its id."""
        unique = Unique(key=unique_name("key"))
        clients = [self.connect() for _ in range(6)]

        sends = [partial(client.send, [self.keyed(queue, unique)]) for client in clients]

        answers = self.all_at_once(sends)

        (winner,) = {id for ids in answers for id in ids}
        assert self.look(broker, queue) == [winner]

    @needs("unique")
    def test_keeps_a_key_until_done(self, broker: Broker, queue: str) -> None:
        """With ``until="done"``, the key stays held through leases, releases and retries; the ack frees it."""
        unique = Unique(key=unique_name("key"))
        first = self.keyed(queue, unique)
        delivery = self.sent_and_taken(broker, first)
        held = [broker.send([self.keyed(queue, unique)])]
        self.do(broker, Release(delivery))
        delivery = self.take_one(broker, queue)
        held.append(broker.send([self.keyed(queue, unique)]))
        self.do(broker, Replace(delivery, attrs.evolve(delivery.envelope, attempt=1)))
        held.append(broker.send([self.keyed(queue, unique)]))
        self.do(broker, Ack(self.take_one(broker, queue)))

        last = self.keyed(queue, unique)
        freed = broker.send([last])

        assert held == [[first.id]] * 3
        assert freed == [last.id]
        assert self.look(broker, queue) == [last.id]

    @needs("unique")
    def test_keeps_a_key_when_a_lease_ends(self, broker: Broker, queue: str) -> None:
        """A key stays held when the worker of its message crashes."""
        unique = Unique(key=unique_name("key"))
        first = self.keyed(queue, unique)
        self.sent_and_taken(broker, first, lease=self.short)
        again = self.take_one(broker, queue)

        assert broker.send([self.keyed(queue, unique)]) == [first.id]
        self.do(broker, Ack(again))

    @needs("unique")
    def test_frees_a_key_by_death(self, broker: Broker, queue: str) -> None:
        """A dead letter does not hold its key any longer."""
        unique = Unique(key=unique_name("key"))
        self.do(broker, Dead(self.sent_and_taken(broker, self.keyed(queue, unique)), reason="failed"))
        second = self.keyed(queue, unique)

        assert broker.send([second]) == [second.id]

    @needs("unique", "remove")
    def test_frees_a_key_by_removal(self, broker: Broker, queue: str) -> None:
        """A message that was removed or purged does not hold its key any longer."""
        unique = Unique(key=unique_name("key"))
        first, second, third = (self.keyed(queue, unique) for _ in range(3))
        broker.send([first])
        broker.remove(queue, [first.id])
        ids = broker.send([second])
        broker.purge(queue)

        assert (ids, broker.send([third])) == ([second.id], [third.id])

    @needs("unique")
    def test_frees_a_key_at_the_start(self, broker: Broker, queue: str) -> None:
        """With ``until="start"``, the claim frees the key: a second message may wait while the first one runs."""
        unique = Unique(key=unique_name("key"), until="start")
        first, second, third = (self.keyed(queue, unique) for _ in range(3))
        broker.send([first])
        before = broker.send([second])
        delivery = self.take_one(broker, queue)

        after = broker.send([second])

        assert (before, after) == ([first.id], [second.id])
        self.do(broker, Ack(delivery))
        assert broker.send([third]) == [second.id], "the end of the first message freed the key of the second"

    @needs("unique")
    def test_frees_a_key_by_time(self, broker: Broker, queue: str) -> None:
        """The ``ttl`` frees a key whatever happens to its message; with ``until="ttl"``, nothing else does."""
        leaked = Unique(key=unique_name("key"), ttl=self.short)
        broker.send([self.keyed(queue, leaked)])
        other = self.new_queue()
        spans = self.leases()
        while True:
            life = next(spans)
            timed = Unique(key=unique_name("key"), until="ttl", ttl=life.seconds)
            first = self.keyed(other, timed)
            self.do(broker, Ack(self.sent_and_taken(broker, first)))
            held = broker.send([self.keyed(other, timed)])
            if life.holds():
                break
        self.let_pass(life.rest)
        batch = [self.keyed(queue, leaked), self.keyed(other, timed)]

        ids = broker.send(batch)

        assert held == [first.id]
        assert ids == [envelope.id for envelope in batch]

    @needs("unique")
    @pytest.mark.parametrize("way", ["ack", "dead"])
    def test_frees_no_key_that_is_another_s_by_now(self, broker: Broker, queue: str, way: str) -> None:
        """The end of a message whose key expired does not free the key of its next holder."""
        unique = Unique(key=unique_name("key"), ttl=self.short)
        delivery = self.sent_and_taken(broker, self.keyed(queue, unique))
        self.let_pass(1.1 * self.short + broker.limits.lease_granularity)
        second, third = (self.keyed(queue, attrs.evolve(unique, ttl=600.0)) for _ in range(2))
        taken = broker.send([second])

        self.do(broker, Ack(delivery) if way == "ack" else Dead(delivery, reason="failed"))

        assert taken == [second.id]
        assert broker.send([third]) == [second.id]
