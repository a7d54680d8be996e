"""Messages whose unique key lets the newest arguments win: when they start, with what, and what follows their end.

A message that starts takes the content of the record of its key. Until its own body says the same, a record of its own
keeps that content, so a crash loses nothing. While it runs, and waits for retries, calls wait in the record of the key;
its end sends what waits. See :mod:`queuekit.wire.merges` for the records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

import attrs

from queuekit.backend import Backend, Record
from queuekit.broker import Ack, Dead, Delivery, Release, Replace
from queuekit.client.runtime import Runtime
from queuekit.envelope import Envelope
from queuekit.errors import DecodeError, UnavailableError
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.run import re_delayed
from queuekit.values import define
from queuekit.wire.merges import (
    MERGE,
    CallContent,
    KeyState,
    KeyTurn,
    Merge,
    arrived,
    closed,
    ended_mark,
    merge_in,
    over,
    read_content,
    read_state,
    taken_key,
    taken_mark,
)

__all__ = ["Merger", "close", "end", "finish"]

_TRIES = 20
"""Attempts to change a record while others change it; each failure is the success of another."""
_CONTENDED = 0.5
"""Seconds, on average, until a message comes back whose record others have changed in each attempt."""
_SOONEST, _LATEST = 0.1, 5.0
"""Shortest and longest seconds between two deliveries of a message that waits for another one; they double."""


class Merger:
    """Decides which messages of a batch may start by the records of their keys.

    Args:
        runtime: Engines, clock and chance.
        now: Returns UTC epoch seconds on the clock that senders use.
        again: Returns the run of a delivery whose message was exchanged, or an outcome if it must not run.
    """

    def __init__(
        self, runtime: Runtime, *, now: Callable[[], float], again: Callable[[Delivery], Run | Outcome]
    ) -> None:
        self._backend = runtime.backend
        self._longest_delay = runtime.broker.limits.max_delay
        self._now, self._again = now, again
        self._chance = runtime.random.random

    def apply(self, runs: Sequence[Run]) -> tuple[list[Run], list[Outcome]]:
        """Return the runs that may start now, and the outcomes of the others. Without mergeable ones, no round trip.

        Raises:
            UnavailableError: The backend does not answer.
        """
        backend = self._backend
        asking = [(run, run.message.merge) for run in runs if run.message.merge is not None]
        if not asking or backend is None:
            return list(runs), []
        read = backend.get([key for run, merge in asking for key in _keys(run, merge)])
        decided = {id(run): self._decide(backend, run, merge, read) for run, merge in asking}
        found = [decided.get(id(run), run) for run in runs]
        return [one for one in found if isinstance(one, Run)], [one for one in found if isinstance(one, Outcome)]

    def one(self, prepared: Run | Outcome) -> Run | Outcome:
        """Return a prepared message if it may start now, else what becomes of it; see :meth:`apply`."""
        if not isinstance(prepared, Run) or prepared.message.merge is None:
            return prepared
        runs, outcomes = self.apply([prepared])
        return runs[0] if runs else outcomes[0]

    def _decide(self, backend: Backend, run: Run, merge: Merge, read: dict[str, Record]) -> Run | Outcome:
        delivery, pause = run.delivery, _pause(run.delivery)
        envelope = delivery.envelope
        if merge.mode == "debounce" and (envelope.attempt or envelope.generation):
            return run
        for _ in range(_TRIES):
            state, taken = read_state(read.get(MERGE + merge.key)), read_content(read.get(taken_key(run.message.id)))
            if taken is not None and state.has_started(run.message.id, mode=merge.mode):
                return self._as_taken(backend, run, taken)
            turn = arrived(
                state,
                run.message.id,
                envelope.queue,
                mode=merge.mode,
                now=self._now(),
                pause=pause,
                ended=self._has_ended(backend, state),
            )
            if turn.wait:
                return self._later(delivery, turn.wait)
            if turn.after is None:
                return run
            if self._start(backend, run, merge, state, turn):
                return self._exchanged(run, turn.content)
            read = backend.get(_keys(run, merge))
        return self._later(delivery, _CONTENDED * (0.5 + self._chance()))

    def _start(self, backend: Backend, run: Run, merge: Merge, state: KeyState, turn: KeyTurn) -> bool:
        """Write what the start of *run* changes; return false if another process has changed the record."""
        if turn.content is not None and _differs(turn.content, run.delivery.envelope):
            backend.put([taken_mark(run.message.id, turn.content, ttl=merge.ttl)])
        return _change(backend, merge, state, turn.after or KeyState(), now=self._now())

    def _as_taken(self, backend: Backend, run: Run, taken: CallContent) -> Run | Outcome:
        """Return *run* with what it took from the record of its key before: its body may not say that yet."""
        if _differs(taken, run.delivery.envelope):
            return self._exchanged(run, taken)
        backend.delete([taken_key(run.message.id)])
        return run

    def _exchanged(self, run: Run, content: CallContent | None) -> Run | Outcome:
        """Return *run*, or, if it is to run with other *content*, what exchanges its message first."""
        delivery = run.delivery
        if content is None or not _differs(content, delivery.envelope):
            return run
        if delivery.envelope.hop:  # the broker has kept the old body, as a FIFO queue of SQS does
            return self._again(attrs.evolve(delivery, envelope=content.into(delivery.envelope)))
        envelope = re_delayed(content.into(delivery.envelope), delay=0.0, not_before=None)
        return Outcome(delivery=delivery, settlement=Replace(delivery, envelope), status="held")

    def _later(self, delivery: Delivery, delay: float) -> Outcome:
        delay = delay if self._longest_delay is None else min(delay, self._longest_delay)
        return Outcome(delivery=delivery, settlement=Release(delivery, delay=delay), status="held")

    def _has_ended(self, backend: Backend, state: KeyState) -> bool:
        """Return whether the message that runs by the record has ended, and its worker could not write that."""
        if state.running is None or not state.closing:
            return False
        return bool(backend.get([ended_mark(state.running.id, ttl=1).key]))


def _keys(run: Run, merge: Merge) -> list[str]:
    return [MERGE + merge.key, taken_key(run.message.id)]


def _differs(content: CallContent, envelope: Envelope) -> bool:
    return content != CallContent.of(envelope)


def _pause(delivery: Delivery) -> float:
    return min(_LATEST, _SOONEST * 2.0 ** min(delivery.number - 1, 10))


def _change(backend: Backend, merge: Merge, before: KeyState, after: KeyState, *, now: float) -> bool:
    """Replace the record of a key by *after*; return false if another process has changed it."""
    if after.running is None and after.waiting is None:
        return bool(backend.delete([MERGE + merge.key], expect=before.version))
    return all(backend.put_same([attrs.evolve(after, version=before.version).record(merge, now)]))


# -- the end of a message


@define
class _Ending:
    """The end of a message, between the steps in which it is written."""

    outcome: Outcome
    merge: Merge
    sent: str = ""
    """Id of the message that is sent with it."""


def close(runtime: Runtime, batch: Sequence[Outcome]) -> list[_Ending]:
    """Prepare the end of the messages in *batch* that have a record of their key; what waits is sent with them.

    A repetition adds nothing.

    Raises:
        UnavailableError: The backend does not answer.
    """
    backend = runtime.backend
    endings = [] if backend is None else [_Ending(outcome, merge) for outcome, merge in _ended(batch)]
    for ending in endings:
        assert backend is not None  # noqa: S101 - else there are none
        if ending.merge.mode == "latest":
            _close(runtime, backend, ending)
    return endings


def _ended(batch: Sequence[Outcome]) -> Iterable[tuple[Outcome, Merge]]:
    for outcome in batch:
        if outcome.run is not None and outcome.run.message.merge is None:
            continue
        if isinstance(outcome.settlement, Ack | Dead):
            merge = _merge_of(outcome)
            if merge is not None:
                yield outcome, merge


def _merge_of(outcome: Outcome) -> Merge | None:
    if outcome.run is not None:
        return outcome.run.message.merge
    try:
        return merge_in(outcome.delivery.envelope.body)
    except DecodeError:
        return None


def _close(runtime: Runtime, backend: Backend, ending: _Ending) -> None:
    id, now, state = ending.outcome.delivery.id, runtime.now(), KeyState()
    for _ in range(_TRIES):
        state = read_state(backend.get([MERGE + ending.merge.key]).get(MERGE + ending.merge.key))
        after = closed(state, id)
        if after is None or _change(backend, ending.merge, state, after, now=now):
            break
    if not state.runs(id):
        return
    mark, outcome = ended_mark(id, ttl=ending.merge.ttl), ending.outcome
    if all(record.key != mark.key for record in outcome.records):
        outcome.records = (*outcome.records, mark)
    if state.waiting is not None and not state.waiting.sent:
        _send_waiting(ending, state.waiting.envelope(now, longest=runtime.broker.limits.max_delay))


def _send_waiting(ending: _Ending, envelope: Envelope) -> None:
    """Let the end of a message send the one that waits for it, unless it does so already."""
    outcome, ending.sent = ending.outcome, envelope.id
    if all(one.id != envelope.id for one in outcome.sends):
        outcome.sends = (*outcome.sends, envelope)


def finish(runtime: Runtime, endings: Sequence[_Ending], lost: Sequence[Outcome]) -> None:
    """Write that the messages of *endings* have ended, except those whose leases were *lost*.

    If the backend does not answer, the records of their ends say it as well, until the keys are used again.
    """
    gone = {outcome.delivery.token for outcome in lost}
    with contextlib.suppress(UnavailableError):
        for ending in endings:
            if ending.outcome.delivery.token not in gone:
                end(runtime, ending.merge, ending.outcome.delivery.id, sent=ending.sent)


def end(runtime: Runtime, merge: Merge, id: str, *, sent: str = "") -> KeyState | None:
    """Write that message *id* neither runs nor waits, and return what the record of its key says then.

    Raises:
        UnavailableError: The backend does not answer.
    """
    backend = runtime.need_backend("a unique key that lets the newest arguments win")
    key, after = MERGE + merge.key, None
    for _ in range(_TRIES):
        state = read_state(backend.get([key]).get(key))
        after = over(state, id, sent=sent)
        if after is None or _change(backend, merge, state, after, now=runtime.now()):
            break
    backend.delete([ended_mark(id, ttl=1).key, taken_key(id)])
    return after
