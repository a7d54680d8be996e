"""Send follow-ups with unique keys before the outcome is committed: only a send reports which message holds a key."""

from __future__ import annotations

from collections.abc import Sequence

from queuekit.backend import Record
from queuekit.client.runtime import Runtime
from queuekit.envelope import Envelope
from queuekit.execution.outcome import Outcome
from queuekit.execution.workflow_held import dropped, follower, message_of
from queuekit.wire.batches import in_batches
from queuekit.wire.records import result_key, withdrawn

__all__ = ["take_keys"]


def take_keys(runtime: Runtime, outcomes: Sequence[Outcome]) -> None:
    """Send the follow-ups of *outcomes* that have unique keys; replace duplicates by followers, in place.

    A duplicate that is part of a workflow takes the outcome of the message that holds its key. Nothing waits for any
    other follow-up: a record says that the duplicate was not sent.

    A repetition adds nothing, since all ids are derived.

    Raises:
        UnavailableError: The broker does not answer.
    """
    if not outcomes:
        return
    asking = [one for outcome in outcomes for one in outcome.sends if one.unique is not None]
    limits = runtime.broker.limits
    holders: dict[tuple[str, str], str] = {}
    for some in in_batches(asking, lambda one: len(one.body), most=limits.max_batch, most_bytes=limits.batch_bytes):
        for one, holder in zip(some, runtime.broker.send(some), strict=True):
            holders[one.queue, one.id] = holder
    for outcome in outcomes:
        _replace(runtime, outcome, holders)


def _replace(runtime: Runtime, outcome: Outcome, holders: dict[tuple[str, str], str]) -> None:
    sends: list[Envelope] = []
    gone: dict[str, str] = {}
    for one in outcome.sends:
        holder = holders[one.queue, one.id] if one.unique is not None else None
        # A message that holds the key until its own end frees it in the commit that follows.
        if holder is None or (holder == outcome.delivery.id and runtime.shared):
            sends.append(one)
        elif holder == one.id:
            continue
        elif _is_awaited(runtime, outcome, one):
            sends.append(follower(runtime, one, holder))
        else:
            gone[one.id] = holder
    dropped(gone.items())
    outcome.sends = tuple(sends)
    outcome.records = tuple(_described(record, gone) for record in outcome.records)


def _is_awaited(runtime: Runtime, outcome: Outcome, envelope: Envelope) -> bool:
    """Return whether *envelope* is part of a workflow. The last part has no position, only the workflow's id."""
    if outcome.ended is not None and outcome.ended.link.graph == envelope.id:
        return True
    return message_of(runtime, envelope).link is not None


def _described(record: Record, gone: dict[str, str]) -> Record:
    for id, holder in gone.items():
        if record.key == result_key(id):
            return withdrawn(record, f"not sent: {holder} holds its unique key")
    return record
