"""Write outcomes: in one step if the engine can, else in an order in which each step may be repeated (QK12).

A round trip is limited in bytes as well as in number. Only the step of one outcome cannot be split. If it is too large,
its parts are written in order as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from queuekit.backend import Backend, Condition, Join, Record
from queuekit.broker import Dead, Retry
from queuekit.client.runtime import Runtime
from queuekit.envelope import Envelope
from queuekit.execution.lost_groups import arrivals, has_markers
from queuekit.execution.merging import close, finish
from queuekit.execution.outcome import Outcome
from queuekit.execution.unique_follow_ups import take_keys
from queuekit.wire.batches import fitting, in_batches

__all__ = ["writable", "write"]

Lose = Callable[[Outcome, Join], Outcome]
_RECORDS = 1_000
"""Most records that are put, or arrivals that are counted, in one round trip."""
_LARGEST_STEP = 8
"""How many times ``limits.batch_bytes`` the step of one outcome may be before its parts are written in order."""


def writable(runtime: Runtime, batch: Sequence[Outcome]) -> int:
    """Return how many outcomes at the start of *batch* one :func:`write` may write; at least one."""
    return fitting(batch, _bytes_of, most_bytes=runtime.broker.limits.batch_bytes)


def write(runtime: Runtime, batch: Sequence[Outcome], *, lose: Lose) -> list[Outcome]:
    """Write *batch* and return the outcomes whose lease was lost.

    If broker and backend are separate, write the records first, so that a result exists before anything follows from
    it; then the arrivals in groups, the follow-ups, and the settlements. After a crash in between, the message is
    delivered again, its result is found, and the remaining steps are repeated, which adds nothing.

    Args:
        runtime: Broker and backend.
        batch: Outcomes whose workflows have advanced.
        lose: Returns what follows from an arrival in a group that the backend has lost.

    Raises:
        UnavailableError: An engine does not answer; the same batch may be written again.
    """
    endings = close(runtime, batch)
    lost = _write(runtime, batch, lose)
    if endings:
        finish(runtime, endings, lost)
    return lost


def _write(runtime: Runtime, batch: Sequence[Outcome], lose: Lose) -> list[Outcome]:
    take_keys(runtime, [outcome for outcome in batch if outcome.sends and any(one.unique for one in outcome.sends)])
    if not runtime.shared:
        return _write_in_order(runtime, batch, lose)
    if len(batch) == 1 and _is_too_large(runtime, batch[0]):
        return _write_in_order(runtime, batch, lose)
    applied = runtime.broker.commit([outcome.item() for outcome in batch])
    return [outcome for outcome, done in zip(batch, applied, strict=True) if not done]


def _write_in_order(runtime: Runtime, batch: Sequence[Outcome], lose: Lose) -> list[Outcome]:
    sends = _record(runtime, batch, lose)
    limits = runtime.broker.limits
    for some in in_batches(sends, _bytes_of_body, most=limits.max_batch, most_bytes=limits.batch_bytes):
        runtime.broker.send(some)
    settlements = [outcome.settlement for outcome in batch if outcome.settlement is not None]
    tokens = {delivery.token for delivery in runtime.broker.settle(settlements)} if settlements else set[str]()
    return [outcome for outcome in batch if outcome.delivery.token in tokens] if tokens else []


def _record(runtime: Runtime, batch: Sequence[Outcome], lose: Lose) -> list[Envelope]:
    """Write the records of *batch* and count its arrivals, until no group is lost; return what is to be sent."""
    sends: list[Envelope] = []
    waiting = batch
    while waiting:
        lost: list[tuple[Outcome, Join]] = []
        if runtime.backend is not None:
            _put(runtime, runtime.backend, waiting)
            callbacks, lost = _join(runtime.backend, waiting, markers=has_markers(runtime))
            sends += callbacks
        sends += [envelope for outcome in waiting for envelope in outcome.sends]
        waiting = [lose(outcome, join) for outcome, join in lost]
    return sends


def _put(runtime: Runtime, backend: Backend, batch: Sequence[Outcome]) -> None:
    records = [record for outcome in batch for record in outcome.records]
    most_bytes = runtime.broker.limits.batch_bytes
    for some in in_batches(records, _bytes_of_body, most=_RECORDS, most_bytes=most_bytes):
        backend.put(some, condition=Condition.NEWER)


def _join(
    backend: Backend, batch: Sequence[Outcome], *, markers: bool
) -> tuple[list[Envelope], list[tuple[Outcome, Join]]]:
    """Count the arrivals; return the callbacks of complete groups, and the arrivals in groups that are lost."""
    sends: dict[tuple[str, int], Envelope] = {}
    lost: dict[str, tuple[Outcome, Join]] = {}
    joins = [(outcome, join) for outcome in batch for join in outcome.joins]
    for some in in_batches(joins, _no_bytes, most=_RECORDS, most_bytes=1):
        for (outcome, join), count in zip(some, backend.join_many([join for _, join in some]), strict=True):
            arrived = arrivals(join, count, markers=markers)
            if arrived >= join.size:
                envelopes = [envelope for envelope in join.then if isinstance(envelope, Envelope)]
                sends.update({(envelope.id, envelope.generation): envelope for envelope in envelopes})
            elif arrived < 1:
                lost.setdefault(join.group, (outcome, join))
    return list(sends.values()), list(lost.values())


def _is_too_large(runtime: Runtime, outcome: Outcome) -> bool:
    """Return whether *outcome* has several bodies, and more bytes than one step should."""
    several = len(outcome.sends) + len(outcome.records) > 1
    return several and _bytes_of(outcome) > _LARGEST_STEP * runtime.broker.limits.batch_bytes


def _bytes_of(outcome: Outcome) -> int:
    """Return the bytes of all bodies that an engine is given with *outcome*."""
    count = 0
    for record in outcome.records:
        count += len(record.body)
    for envelope in outcome.sends:
        count += len(envelope.body)
    for join in outcome.joins:
        count += sum(len(then.body) for then in join.then if isinstance(then, Envelope))
    settlement = outcome.settlement
    if isinstance(settlement, Retry | Dead):
        count += len(outcome.delivery.envelope.body)
    return count


def _bytes_of_body(item: Record | Envelope) -> int:
    return len(item.body)


def _no_bytes(_: object) -> int:
    """Return 0: who arrives in a group brings nothing along that is stored."""
    return 0
