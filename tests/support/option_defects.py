"""Brokers that are wrong on purpose about the options of a message; see also ``broker_defects``."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Sequence

import attrs

from queuekit.broker import CommitItem, Delivery, Release, Replace, Settlement
from queuekit.envelope import Envelope, join_frame, split_frame
from support.broker_defects import Defective


@attrs.frozen(kw_only=True)
class Routing:
    """Options of an invented service.

    Attributes:
        routing_key: Where it goes.
    """

    routing_key: str = ""


@attrs.frozen(kw_only=True)
class NeedsAll:
    """Options without defaults.

    Attributes:
        routing_key: Where it goes.
    """

    routing_key: str


def without(body: bytes) -> bytes:
    """Return *body* without the options in its header."""
    if not body.startswith(b"{"):
        return body
    header, payload = split_frame(body)
    return join_frame({name: value for name, value in header.items() if name != "broker"}, payload)


def bare(sends: Sequence[object]) -> tuple[Envelope, ...]:
    """Return *sends* without the options in their headers."""
    return tuple(attrs.evolve(each, body=without(each.body)) for each in sends if isinstance(each, Envelope))


class Routed(Defective):
    """Has options, and is right."""

    message_options = Routing


class RoutedByAll(Defective):
    """Refuses a message that leaves an option out."""

    message_options = NeedsAll


class OptionsLost(Routed):
    """Writes the header of a body anew where a subclass says so."""

    def loses(self, each: Settlement) -> bool:
        """Return whether the options are lost."""
        raise NotImplementedError

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        done: list[Settlement] = []
        for each in settlements:
            changed = isinstance(each, Replace) and self.loses(each)
            body = without(each.delivery.envelope.body)
            done.append(
                attrs.evolve(each, envelope=attrs.evolve(each.envelope, body=body))
                if changed and isinstance(each, Replace)
                else each
            )
        return super().settle(done)


class RetryLosesOptions(OptionsLost):
    """Makes a message of its own for a retry."""

    def loses(self, each: Settlement) -> bool:
        return isinstance(each, Replace) and each.envelope.attempt > each.delivery.envelope.attempt


class StepLosesOptions(OptionsLost):
    """Makes a message of its own for the next step of a long delay."""

    def loses(self, each: Settlement) -> bool:
        return isinstance(each, Replace) and each.envelope.attempt == each.delivery.envelope.attempt


class Damaging(Routed):
    """Damages the stored bodies of some messages."""

    def damage(self, queue: str, ids: Sequence[str]) -> None:
        """Take the options out of the stored messages with *ids*."""
        for entry in self.entries(queue):
            if entry.envelope.id in ids:
                entry.envelope = attrs.evolve(entry.envelope, body=without(entry.envelope.body))


class ReplayLosesOptions(Damaging):
    """Stores only the payload of a dead letter."""

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        found = super().requeue(queue, ids)
        self.damage(queue, found)
        return found


class ReleaseLosesOptions(Damaging):
    """Puts a bare message back."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        for each in settlements:
            if isinstance(each, Release):
                self.damage(each.delivery.queue, [each.delivery.id])
        return lost


class DelayLosesOptions(Routed):
    """Knows where a message goes only if it goes at once."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return super().send(
            [attrs.evolve(each, body=without(each.body)) if each.delay > 0 else each for each in envelopes]
        )


class ExpiryLosesOptions(Routed):
    """Rebuilds a message whose lease has ended from its payload."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [self.received([each], body=without(each.envelope.body))[0] if each.crashes else each for each in found]


class FollowUpLosesOptions(Routed):
    """Sends what an outcome sends as a bare message."""

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        return super().commit([attrs.evolve(each, sends=bare(each.sends)) for each in items])


class CallbackLosesOptions(Routed):
    """Stores only the payload of what completes a group."""

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        return super().commit(
            [
                attrs.evolve(each, joins=tuple(attrs.evolve(join, then=bare(join.then)) for join in each.joins))
                for each in items
            ]
        )
