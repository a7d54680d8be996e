"""Write outcomes: in one step if the engine can, else in an order in which each step may be repeated (QK12)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from queuekit.backend import Backend, Condition
from queuekit.client.runtime import Runtime
from queuekit.envelope import Envelope
from queuekit.execution.outcome import Outcome
from queuekit.execution.unique_follow_ups import take_keys

__all__ = ["write"]

T = TypeVar("T")
_RECORDS = 1_000
"""Most records that are put, or arrivals that are counted, in one round trip."""


def write(runtime: Runtime, batch: Sequence[Outcome]) -> list[Outcome]:
    """Write *batch* and return the outcomes whose lease was lost.

    If broker and backend are separate, write the records first, so that a result exists before anything follows from
    it; then the arrivals in groups, the follow-ups, and the settlements. After a crash in between, the message is
    delivered again, its result is found, and the remaining steps are repeated, which adds nothing.

    Raises:
        UnavailableError: An engine does not answer; the same batch may be written again.
    """
    take_keys(runtime, [outcome for outcome in batch if outcome.sends and any(one.unique for one in outcome.sends)])
    if not runtime.shared:
        return _write_in_order(runtime, batch)
    applied = runtime.broker.commit([outcome.item() for outcome in batch])
    return [outcome for outcome, done in zip(batch, applied, strict=True) if not done]


def _write_in_order(runtime: Runtime, batch: Sequence[Outcome]) -> list[Outcome]:
    sends: list[Envelope] = []
    if runtime.backend is not None:
        _put(runtime.backend, batch)
        sends += _join(runtime.backend, batch)
    sends += [envelope for outcome in batch for envelope in outcome.sends]
    for some in _cut(sends, runtime.broker.limits.max_batch):
        runtime.broker.send(some)
    settlements = [outcome.settlement for outcome in batch if outcome.settlement is not None]
    tokens = {delivery.token for delivery in runtime.broker.settle(settlements)} if settlements else set[str]()
    return [outcome for outcome in batch if outcome.delivery.token in tokens] if tokens else []


def _put(backend: Backend, batch: Sequence[Outcome]) -> None:
    for some in _cut([record for outcome in batch for record in outcome.records], _RECORDS):
        backend.put(some, condition=Condition.NEWER)


def _join(backend: Backend, batch: Sequence[Outcome]) -> list[Envelope]:
    """Count the arrivals and return the callbacks of complete groups."""
    sends: dict[tuple[str, int], Envelope] = {}
    for some in _cut([join for outcome in batch for join in outcome.joins], _RECORDS):
        for join, count in zip(some, backend.join_many(some), strict=True):
            if count >= join.size:
                envelopes = [envelope for envelope in join.then if isinstance(envelope, Envelope)]
                sends.update({(envelope.id, envelope.generation): envelope for envelope in envelopes})
    return list(sends.values())


def _cut(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
