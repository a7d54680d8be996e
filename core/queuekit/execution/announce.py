"""Emit the events for batches of deliveries: claimed, made to wait by limits, and settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from queuekit.broker import Dead
from queuekit.client.codec import outline
from queuekit.events import (
    Events,
    LimitedMessage,
    MessageDead,
    MessageFacts,
    MessagesClaimed,
    MessagesLimited,
    MessagesSettled,
    SettledMessage,
)
from queuekit.execution.due_time import due_moment
from queuekit.execution.outcome import Outcome, Run

__all__ = ["Waits", "announce_claimed", "announce_limited", "announce_settled"]

Waits = Mapping[int, tuple[str, float | None]]
"""By serial of a run: the limit that it waits for, and the time of its turn if it has one, in UTC epoch seconds."""


def announce_claimed(events: Events, runs: Iterable[Run], *, worker: str) -> None:
    """Emit :class:`MessagesClaimed` for *runs* if anything listens."""
    if not events.wants(MessagesClaimed):
        return
    events.emit(MessagesClaimed(worker=worker, messages=tuple(map(_claimed, runs))))


def _claimed(run: Run) -> MessageFacts:
    envelope = run.delivery.envelope
    return tuple.__new__(MessageFacts, (envelope.id, run.message.task, envelope.queue, envelope.attempt, False))


def announce_limited(events: Events, runs: Iterable[Run], waits: Waits, *, worker: str) -> None:
    """Emit :class:`MessagesLimited` for the *runs* that limits let wait, if there are any and anything listens."""
    if not waits or not events.wants(MessagesLimited):
        return
    found = [_limited(run, *waits[run.serial]) for run in runs if run.serial in waits]
    events.emit(MessagesLimited(worker=worker, messages=tuple(found)))


def _limited(run: Run, limit: str, until: float | None) -> LimitedMessage:
    envelope = run.delivery.envelope
    return LimitedMessage(envelope.id, run.message.task, envelope.queue, envelope.attempt, limit, until)


def announce_settled(events: Events, outcomes: Iterable[Outcome], *, worker: str, seconds: float = 0.0) -> None:
    """Emit :class:`MessagesSettled`, and :class:`MessageDead` for runs that ended so, if anything listens."""
    if events.wants(MessageDead):
        for outcome in outcomes:
            _announce_dead(events, outcome, worker)
    if events.wants(MessagesSettled):
        events.emit(MessagesSettled(worker=worker, messages=tuple(map(_settled, outcomes)), seconds=seconds))


def _announce_dead(events: Events, outcome: Outcome, worker: str) -> None:
    """Emit the event that a failed run has become a dead letter; other dead letters have it as their own."""
    dead, run = outcome.settlement, outcome.run
    if not isinstance(dead, Dead) or run is None or outcome.status == "lost" or isinstance(outcome.event, MessageDead):
        return
    envelope = outcome.delivery.envelope
    event = MessageDead(
        id=envelope.id,
        task=run.message.task,
        queue=envelope.queue,
        reason=dead.reason,
        error=dead.error,
        attempt=envelope.attempt,
        worker=worker,
    )
    events.emit(event)


def _settled(outcome: Outcome) -> SettledMessage:
    delivery, run = outcome.delivery, outcome.run
    envelope, settlement = delivery.envelope, outcome.settlement
    task, duration, waited = "", None, None
    if run is None:
        task = outline(envelope).task
    else:
        task, started = run.message.task, run.started
        if started is not None:
            ended = run.ended
            if ended:
                duration = ended - started if ended > started else 0.0
            due = _due(run)
            if due is not None:
                waited = max(delivery.claimed_at + started - run.received - due, 0.0)
    reason = settlement.reason if type(settlement) is Dead else ""
    facts = (envelope.id, task, envelope.queue, envelope.attempt, outcome.status, reason, duration, waited)
    return _new(SettledMessage, facts)  # half the time of its constructor, for every message


def _due(run: Run) -> float | None:
    """Return when the attempt was due, on the broker's clock; ``None`` if nothing says when."""
    delivery, message = run.delivery, run.message
    envelope = delivery.envelope
    if envelope.attempt or envelope.delay or envelope.not_before or message.delay or envelope.generation:
        return None if envelope.generation else due_moment(delivery, message)
    return delivery.sent_at  # as due_moment() says of most messages


_new = tuple.__new__
