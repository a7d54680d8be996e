"""Apply settlements: acknowledge what is done, put back what is not, publish again what moves.

AMQP cannot change a message in place. So a retry and a delayed release are published, confirmed, and then acknowledged
here: if the process ends in between, the message exists twice for a while, but is never lost. A release without a delay
is a hand-back, which keeps the message in its place; a mark says that nothing crashed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from queuekit.broker import Delivery, Release, Replace, Settlement
from queuekit.clock import Clock
from queuekit.errors import UnavailableError
from queuekit_amqp.leases import Held, Leases
from queuekit_amqp.marks import Mark, Marks, key_of
from queuekit_amqp.messages import Counts
from queuekit_amqp.sending import Outgoing, Publisher

__all__ = ["Settling"]

_TIMEOUT = 10.0


class Settling:
    """Settles for one client.

    Args:
        leases: What it holds.
        publisher: Publishes.
        marks: Tells crashes from hand-backs.
        clock: Tells the time.
        longest: Returns the longest delay; what is delayed for longer comes early, and core delays it again.
    """

    def __init__(
        self, leases: Leases, publisher: Publisher, marks: Marks, clock: Clock, *, longest: Callable[[], float]
    ) -> None:
        self._longest = longest
        self._leases = leases
        self._publisher = publisher
        self._marks = marks
        self._clock = clock

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements*, and return the deliveries whose lease was lost."""
        found = self._leases.begin([each.delivery for each in settlements])
        lost = [each.delivery for each, held in zip(settlements, found, strict=True) if held is None]
        pairs = [(each, held) for each, held in zip(settlements, found, strict=True) if held is not None]
        alive = [(each, held) for each, held in pairs if held.channel.error is None]
        lost += [each.delivery for each, held in pairs if held.channel.error is not None]
        try:
            self._apply(alive)
        except BaseException:
            self._leases.keep(held for _, held in alive)
            raise
        self._leases.end(held for _, held in pairs)
        return lost

    def _apply(self, pairs: Sequence[tuple[Settlement, Held]]) -> None:
        moving = self._moving(pairs)
        self._publish([self._outgoing(each, held) for each, held in moving if not held.moved])
        for _, held in moving:
            held.moved = True
        stay = [held for each, held in pairs if isinstance(each, Release) and not held.moved]
        done = [held for each, held in pairs if held.moved or not isinstance(each, Release)]
        self._write(done=done, back=stay)
        self._marks.forget([key_of(held.envelope, held.published) for held in done if held.deliveries])

    def _moving(self, pairs: Sequence[tuple[Settlement, Held]]) -> list[tuple[Settlement, Held]]:
        """Return what is published again: what moves, and what cannot go back since no mark of that is kept."""
        back = [held for each, held in pairs if _goes_back(each)]
        kept = not back or self._note(back, handed_out=True)
        return [(each, held) for each, held in pairs if _moves(each) or (not kept and _goes_back(each))]

    def _publish(self, messages: Sequence[Outgoing]) -> None:
        if not messages:
            return
        problem = next(filter(None, self._publisher.publish(messages)), "")
        if problem:
            raise UnavailableError(f"a message cannot be put back: {problem}")

    def _outgoing(self, each: Settlement, held: Held) -> Outgoing:
        if isinstance(each, Replace):
            now = self._clock.time()
            envelope = each.envelope
            delay = min(self._longest(), max(envelope.delay, (envelope.not_before or 0.0) - now))
            return Outgoing(envelope=envelope, counts=Counts(sent_at=now), delay=delay)
        assert isinstance(each, Release)  # noqa: S101 - nothing else moves a message
        counts = attrs.evolve(
            held.counts, number=held.counts.number + 1, crashes=held.counts.crashes + (1 if each.counted else 0)
        )
        return Outgoing(envelope=held.envelope, counts=counts, delay=min(self._longest(), each.delay))

    def _write(self, *, done: Sequence[Held] = (), back: Sequence[Held] = ()) -> None:
        """Tell RabbitMQ which messages are done, and which go back, in one write for each channel."""
        for channel in dict.fromkeys(held.channel for held in (*done, *back)):
            if channel.error is None:
                channel.settle(
                    [held.tag for held in done if held.channel is channel],
                    [held.tag for held in back if held.channel is channel],
                    timeout=_TIMEOUT,
                )

    # -- hand-backs

    def _note(self, held: Sequence[Held], *, handed_out: bool) -> bool:
        """Mark that the present deliveries of *held* are no crashes; return whether that is kept."""
        more = 1 if handed_out else 0
        return self._marks.note(
            [
                (
                    key_of(one.envelope, one.published),
                    Mark(one.deliveries + 1, one.counts.number + more, one.counts.crashes),
                )
                for one in held
            ]
        )

    def give_back(self, held: Sequence[Held]) -> None:
        """Put back, uncounted, messages that no caller has seen."""
        held = [one for one in held if one.channel.error is None]
        if not held:
            return
        if self._note(held, handed_out=False):
            self._write(back=held)
            return
        self._publish([Outgoing(envelope=one.envelope, counts=one.counts) for one in held])
        self._write(done=held)

    def expire(self, held: Sequence[Held]) -> None:
        """Put back messages whose leases have ended; RabbitMQ counts that, and so it is a crash."""
        self._write(back=held)


def _moves(each: Settlement) -> bool:
    """Return whether the message is published again."""
    return isinstance(each, Replace) or (isinstance(each, Release) and each.delay > 0)


def _goes_back(each: Settlement) -> bool:
    """Return whether the message is put back in its place, uncounted."""
    return isinstance(each, Release) and not each.counted and each.delay <= 0
