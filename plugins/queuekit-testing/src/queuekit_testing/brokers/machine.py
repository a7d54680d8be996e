"""The methods of a broker in random order, each compared with a model. Needs Hypothesis."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import attrs
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from queuekit.broker import Ack, Broker, Dead, Delivery, Place, Release, Replace, Settlement
from queuekit.envelope import DEFAULT_PRIORITY, Envelope, Unique
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.brokers.reference import Model
from queuekit_testing.kit import unique_name

__all__ = ["run_machine"]

STEPS = 20

_queues = st.integers(0, 1)
_kinds = st.tuples(st.sampled_from((4, 9)), st.integers(0, 7))
"""Priority, of only two, so that many messages share one; and the kind of the message."""
_verbs = st.integers(0, 6)
_picks = st.lists(st.integers(0, 50), min_size=1, max_size=3)


def run_machine(suite: BrokerKit, broker: Broker) -> None:
    """Run *suite*.EXAMPLES machines against *broker*, the same ones in each run."""
    settings = hypothesis.settings(
        # Failures are not shrunk: that takes hundreds of runs, each of which waits for a real service.
        phases=[hypothesis.Phase.generate],
        report_multiple_bugs=False,
        max_examples=suite.EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    machine = type("Machine", (_Machine,), {"suite": suite, "broker": broker})
    run_state_machine_as_test(machine, settings=settings)


class _Machine(RuleBasedStateMachine):
    """Two queues of a broker and their model. Leases are long, and end only by a settlement."""

    suite: BrokerKit
    broker: Broker

    def __init__(self) -> None:
        super().__init__()
        self.can = self.broker.capabilities
        self.model = Model(self.can)
        self.queues = [self.suite.new_queue() for _ in range(2)]
        self.deliveries: list[Delivery] = []
        self.keys = [unique_name("key") for _ in range(2)]
        self.far = self.suite.far

    @initialize(kinds=st.lists(_kinds, min_size=8, max_size=8), verbs=st.lists(_verbs, min_size=3, max_size=3))
    def begin(self, kinds: list[tuple[int, int]], verbs: list[int]) -> None:
        """Start with messages in every place."""
        for queue in range(2):
            self.send(queue, kinds[4 * queue : 4 * queue + 4])
            self.receive(queue, 2)
        self.settle([0, 2, 3], [*verbs[:2], 6])

    # -- sending -------------------------------------------------------------------------------------------------

    @rule(queue=_queues, kinds=st.lists(_kinds, min_size=1, max_size=4))
    def send(self, queue: int, kinds: list[tuple[int, int]]) -> None:
        """Send a batch of urgent, delayed and unique messages."""
        batch = [self.envelope(queue, *kind) for kind in kinds]

        ids = self.broker.send(batch)

        assert ids == [self.model.send(envelope) for envelope in batch]

    def any_in(self, place: Place) -> bool:
        """Return whether the model has a message in *place* of any queue."""
        return any(item.place is place for item in self.model.items.values())

    def envelope(self, queue: int, priority: int, kind: int) -> Envelope:
        """Return a message: kind 0 is delayed, 1 has a unique key."""
        return self.suite.message(
            self.queues[queue],
            body=bytes([priority, kind]),
            priority=priority if self.can.priority else DEFAULT_PRIORITY,
            delay=self.far if kind == 0 and self.can.delay else 0.0,
            # One key per queue, because on some brokers a key is unique only within its queue.
            unique=Unique(key=self.keys[queue]) if kind == 1 and self.can.unique else None,
        )

    @precondition(lambda self: self.can.dedup and (self.model.items or self.model.past))
    @rule(picks=_picks)
    def send_again(self, picks: list[int]) -> None:
        """Send existing or finished messages again, as after a lost reply."""
        alive = [item.envelope for item in self.model.items.values() if item.place is not Place.DEAD]
        batch = _picked([*alive, *self.model.past.values()], picks)

        ids = self.broker.send(batch)

        assert ids == [self.model.send(envelope) for envelope in batch]

    # -- taking and settling -------------------------------------------------------------------------------------

    @precondition(lambda self: self.any_in(Place.READY))
    @rule(queue=_queues, limit=st.integers(1, 5))
    def receive(self, queue: int, limit: int) -> None:
        """Claim ready messages, in their order, and nothing else."""
        name = self.queues[queue]
        ready = len(self.model.inside(name, Place.READY))
        if ready and limit == 1:
            deliveries = [self.suite.take_one(self.broker, name)]
        else:
            deliveries = self.broker.receive([name], limit=limit, wait=0, lease=self.suite.long)
        assert len(deliveries) <= min(limit, ready)
        self.model.in_turn(name, deliveries)
        for delivery in deliveries:
            self.model.claim(delivery)
        self.deliveries += deliveries

    @precondition(lambda self: self.deliveries)
    @rule(picks=_picks, verbs=st.lists(_verbs, min_size=3, max_size=3))
    def settle(self, picks: list[int], verbs: list[int]) -> None:
        """Settle a batch in every way; if the broker has a fence, also under lost leases."""
        chosen = self.chosen(picks)
        settlements = [self.settlement(delivery, verb) for delivery, verb in zip(chosen, verbs, strict=False)]

        lost = self.broker.settle(settlements)

        wanted = [each.delivery.token for each in settlements if not self.model.settle(each)]
        assert sorted(each.token for each in lost) == sorted(wanted)

    def chosen(self, picks: list[int]) -> list[Delivery]:
        """Return some deliveries, also with lost leases if the broker reports those."""
        fits = self.deliveries
        if not self.can.fenced_ack:
            fits = [delivery for delivery in fits if self.model.held(delivery)]
        return _picked(fits, picks)

    def settlement(self, delivery: Delivery, verb: int) -> Settlement:
        """Return one of the ways to settle *delivery*."""
        far = self.far if self.can.delay else 0.0
        ways: list[Settlement] = [
            Ack(delivery),
            Release(delivery),
            Release(delivery, counted=True),
            Release(delivery, delay=far),
            Replace(delivery, attrs.evolve(delivery.envelope, attempt=delivery.envelope.attempt + 1, delay=0.0)),
            Replace(delivery, attrs.evolve(delivery.envelope, hop=delivery.envelope.hop + 1, delay=far)),
            Dead(delivery, reason="failed") if self.can.dead_letters else Ack(delivery),
        ]
        # A repeated retry or dead letter, as after a lost reply, may be accepted as the one that was applied.
        return ways[verb if self.model.held(delivery) else verb % 4]

    @precondition(lambda self: self.deliveries)
    @rule(picks=_picks)
    def extend(self, picks: list[int]) -> None:
        """Extend valid and lost leases; the lost ones are returned."""
        leases = [delivery.lease for delivery in self.chosen(picks)]
        lost = self.broker.extend(leases, lease=self.suite.long)

        wanted = [each.lease for each in self.chosen(picks) if not self.model.held(each)]
        assert sorted(lost) == sorted(wanted)

    # -- replaying and removing ----------------------------------------------------------------------------------

    @precondition(lambda self: self.can.dead_letters and self.any_in(Place.DEAD))
    @rule(queue=_queues, pick=st.integers(0, 50))
    def requeue(self, queue: int, pick: int) -> None:
        """Replay a dead letter."""
        name = self.queues[queue]
        dead = [item for item in self.model.inside(name, Place.DEAD) if item.envelope.unique is None]
        for item in _picked(dead, [pick]):
            assert self.broker.requeue(name, [item.envelope.id]) == [item.envelope.id]
            self.model.replay(item)

    @precondition(lambda self: self.can.remove and self.model.items)
    @rule(queue=_queues, picks=_picks)
    def remove(self, queue: int, picks: list[int]) -> None:
        """Remove some messages; leased and dead ones stay."""
        name = self.queues[queue]
        chosen = _picked([item for (owner, _), item in self.model.items.items() if owner == name], picks)

        removed = self.broker.remove(name, [item.envelope.id for item in chosen])

        waiting = [item for item in chosen if item.place in (Place.READY, Place.DELAYED)]
        assert sorted(removed) == sorted(item.envelope.id for item in waiting)
        for item in waiting:
            self.model.drop(item)

    @precondition(lambda self: self.can.inspect and self.model.items)
    @rule(queue=_queues, place=st.sampled_from([Place.READY, Place.DELAYED, Place.DEAD]))
    def purge(self, queue: int, place: Place) -> None:
        """Purge one place of one queue."""
        gone = self.model.inside(self.queues[queue], place)

        assert self.broker.purge(self.queues[queue], place=place) == len(gone)

        for item in gone:
            self.model.drop(item)

    # -- looking -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.can.inspect)
    @rule()
    def look(self) -> None:
        """Compare counts and contents of all places with the model."""
        counts = self.broker.counts(self.queues)
        for queue in self.queues:
            assert attrs.evolve(counts[queue], oldest_age=None) == self.model.counts(queue)
            for place in Place:
                self.model.compare(queue, place, self.broker.peek(queue, place=place).items)

    def teardown(self) -> None:
        """Compare once more, and drain the queues: each ready message arrives once."""
        super().teardown()
        if sys.exc_info()[0] is not None:
            return  # a step has failed, and errors here would only follow from it
        if self.can.inspect:
            self.look()
        for queue in self.queues:
            ready = self.model.inside(queue, Place.READY)
            taken = self.suite.take(self.broker, queue, len(ready)) if ready else []
            self.model.in_turn(queue, taken)
            assert sorted(each.id for each in taken) == sorted(item.envelope.id for item in ready)
            assert self.broker.receive([queue], limit=1, wait=0, lease=self.suite.long) == []


def _picked(things: Sequence[Any], picks: Sequence[int]) -> list[Any]:
    """Return some of *things*, each once."""
    if not things:
        return []
    return [things[index] for index in dict.fromkeys(pick % len(things) for pick in picks)]
