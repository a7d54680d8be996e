"""Send calls whose unique key lets the newest arguments win: a message that waits takes them, else a new one is sent.

The record of the key is written before its message is sent. If the sender dies in between, the next send finds a
message that is not known to be sent, and sends it; so what a send has returned for is never lost. See
:mod:`queuekit.wire.merges` for the records, and :mod:`queuekit.execution.merging` for what workers do with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

import attrs

from queuekit.backend import Backend, Condition, Record
from queuekit.broker import Broker, Place
from queuekit.client.runtime import Runtime
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.timelimit import time_left
from queuekit.values import define, frozen
from queuekit.wire.merges import (
    MERGE,
    CallContent,
    KeyState,
    Merge,
    Waiting,
    merged,
    merged_mark,
    read_state,
    withdrawn,
)

__all__ = ["Mergeable", "Merging"]

_UNSURE = 60.0
"""Seconds after which a sender looks whether the messages of a key are still there."""
_PAUSE = 0.01
"""Longest first pause, in seconds, after another sender has changed the record."""


@frozen(kw_only=True)
class Mergeable:
    """A call whose unique key lets the newest arguments win."""

    merge: Merge
    task: str
    envelope: Envelope
    """Its message, if it becomes one of its own."""
    body_as: Callable[[str], bytes]
    """Return its body as that of the message with an id."""
    own_id: bool
    """Whether the caller chose the id, so that the send may be a repetition."""
    delay: float
    """Seconds until it may start; of a debounced call, the quiet time."""
    max_wait: float | None
    """Seconds after which a debounced message is due in any case; ``None`` if it is not debounced."""
    record: Record | None = None
    """The record of its message, to be written once that is new."""


@define
class _Step:
    """What one round does for the calls of one key."""

    calls: list[int]
    """The places of the calls; the last one is the newest."""
    before: KeyState
    after: KeyState
    call: Mergeable
    known: str = ""
    """Of a repetition, which changes nothing: the id of its message."""

    @property
    def waiting(self) -> Waiting:
        """The message that takes the calls in."""
        assert self.after.waiting is not None  # noqa: S101 - after a call, one waits
        return self.after.waiting

    @property
    def is_own(self) -> bool:
        """Whether the message is that of the first call; by an earlier round, if nobody knows what became of that."""
        return self.waiting.id == self.call.envelope.id

    @property
    def is_new(self) -> bool:
        """Whether the message was not there before."""
        return not self.before.awaits(self.waiting.id)


@frozen(kw_only=True)
class MergedCall:
    """What became of a call."""

    id: str
    """Id of the message that runs with its arguments, or with newer ones."""
    is_new: bool


class _UnknownError(Exception):
    """Nobody knows whether the records of a round were written."""

    def __init__(self, error: UnavailableError) -> None:
        super().__init__(error)
        self.error = error


class Merging:
    """Sends mergeable calls for one app.

    Args:
        runtime: Engines to send through.
        now: Returns UTC epoch seconds on the engine's clock.
        patiently: Repeats a call while the engine does not answer.
    """

    def __init__(
        self, runtime: Runtime, *, now: Callable[[], float], patiently: Callable[[Callable[[], object]], object]
    ) -> None:
        self._runtime = runtime
        self._broker: Broker = runtime.broker
        self._backend: Backend = runtime.need_backend("a unique key that lets the newest arguments win")
        self._now = now
        self._patiently = patiently

    def send(self, calls: Sequence[Mergeable]) -> list[MergedCall]:
        """Send *calls* in order, and return what became of each.

        Raises:
            UnavailableError: An engine does not answer, or others have changed a record in every round.
        """
        left: dict[str, list[int]] = {}
        for place, call in enumerate(calls):
            left.setdefault(call.merge.key, []).append(place)
        answers: dict[int, MergedCall] = {}
        pause = _PAUSE
        while left:
            for step in self._round_or_none(calls, left):
                first, *others = step.calls
                id = step.known or step.waiting.id
                answers[first] = MergedCall(id=id, is_new=id == calls[first].envelope.id)
                answers |= dict.fromkeys(others, MergedCall(id=id, is_new=False))
                del left[step.call.merge.key]
            if left:
                self._wait(pause)
                pause = min(2 * pause, 0.5)
        return [answers[place] for place in range(len(calls))]

    def _wait(self, pause: float) -> None:
        if time_left(self._runtime.config.send_timeout) <= pause:
            raise UnavailableError("not sent: other senders have changed the record of its unique key again and again")
        self._runtime.clock.sleep(pause * self._runtime.random.random())

    def _round_or_none(self, calls: Sequence[Mergeable], left: dict[str, list[int]]) -> list[_Step]:
        """Do a round; if the backend does not answer, the next one reads what has become of it."""
        try:
            return self._round(calls, left)
        except _UnknownError as unknown:
            error = unknown.error
        if not error.passing or time_left(self._runtime.config.send_timeout) <= _PAUSE:
            raise error
        return []

    def _round(self, calls: Sequence[Mergeable], left: dict[str, list[int]]) -> list[_Step]:
        """Try to merge the calls of each key, and return the steps that succeeded."""
        firsts = {key: calls[places[0]] for key, places in left.items()}
        marks = {one.merge.key: merged_mark(one.envelope.id).key for one in firsts.values() if one.own_id}
        read = self._read([*(MERGE + key for key in left), *marks.values()])
        steps: list[_Step] = []
        known: list[_Step] = []
        for key, places in left.items():
            state = read_state(read.get(MERGE + key))
            step = self._step(calls, places, state)
            step.known = _known(firsts[key], state, read.get(marks.get(key, "")))
            (known if step.known else steps).append(step)
        unsure = [step for step in steps if not (step.is_new or step.waiting.sent or step.before.blocked)]
        self._send(unsure)
        for step in unsure:
            step.after = _sent(step.after)
        done = [step for step, yes in zip(steps, self._write(steps), strict=True) if yes]
        self._send_new([step for step in done if step.is_new and not step.before.blocked])
        self._note(done)
        return done + known

    def _step(self, calls: Sequence[Mergeable], places: list[int], state: KeyState) -> _Step:
        """Return what the calls at *places* do to their key."""
        first, newest, now = calls[places[0]], calls[places[-1]], self._now()
        if _is_unsure(state, now):
            state = self._without_lost(state, now)
        id = first.envelope.id if state.waiting is None else state.waiting.id
        envelope = newest.envelope
        body = envelope.body if envelope.id == id else newest.body_as(id)
        due = now + newest.delay
        latest = due if newest.max_wait is None else now + newest.max_wait
        call = Waiting(
            id=id,
            queue=envelope.queue,
            since=now,
            due=min(due, latest) if newest.max_wait is not None else due,
            latest=latest,
            content=attrs.evolve(CallContent.of(envelope), body=body),
        )
        quiet = None if newest.max_wait is None else newest.delay
        after = attrs.evolve(merged(state, call, quiet=quiet), task=newest.task)
        return _Step(places, state, after, first)

    def _without_lost(self, state: KeyState, now: float) -> KeyState:
        """Return *state* without messages that are gone: purged, or lost with their queue.

        A broker that cannot look gets the waiting message once more.
        """
        waiting, running = state.waiting, state.running
        if not self._broker.capabilities.inspect:
            resent = waiting is not None and not state.blocked
            return attrs.evolve(state, asked=now, waiting=_unsent(waiting) if resent else waiting)
        if running is not None and not self._has(running.queue, running.id):
            running = None
        behind = running is not None and not state.closing
        if waiting is not None and not behind and not self._has(waiting.queue, waiting.id):
            waiting = None
        return attrs.evolve(state, asked=now, running=running, closing=state.closing and bool(running), waiting=waiting)

    def _has(self, queue: str, id: str) -> bool:
        return any(stored.place is not Place.DEAD for stored in self._broker.find(queue, [id]))

    # -- engines

    def _read(self, keys: Sequence[str]) -> dict[str, Record]:
        found: dict[str, Record] = {}
        self._patiently(lambda: found.update(self._backend.get(keys)))
        return found

    def _write(self, steps: Sequence[_Step]) -> list[bool]:
        now = self._now()
        records = [step.after.record(step.call.merge, now) for step in steps]
        written: list[bool] = []
        if records:
            # Not repeated: after a repetition nobody knows if the first try took effect.
            try:
                written = self._backend.put_same(records)
            except UnavailableError as error:
                raise _UnknownError(error) from error
        return written

    def _send(self, steps: Iterable[_Step]) -> None:
        now, longest = self._now(), self._broker.limits.max_delay
        envelopes = [step.waiting.envelope(now, longest=longest) for step in steps]
        if envelopes:
            self._patiently(lambda: self._broker.send(envelopes))

    def _send_new(self, steps: Sequence[_Step]) -> None:
        """Send messages that are new; if that fails, take them back."""
        try:
            self._send(steps)
        except BaseException:
            for step in steps:
                with contextlib.suppress(UnavailableError):
                    self._take_back(step)
            raise
        if steps and not self._broker.capabilities.dedup:
            # Else the next sender would send each once more, which adds a copy here.
            found = self._read([MERGE + step.call.merge.key for step in steps])
            fresh = [(step, read_state(found.get(MERGE + step.call.merge.key))) for step in steps]
            now = self._now()
            with contextlib.suppress(UnavailableError):
                self._backend.put_same(
                    [
                        _sent(state).record(step.call.merge, now)
                        for step, state in fresh
                        if state.awaits(step.waiting.id)
                    ]
                )

    def _take_back(self, step: _Step) -> None:
        key = MERGE + step.call.merge.key
        state = read_state(self._backend.get([key]).get(key))
        before = withdrawn(state, step.waiting.id)
        if before is None:
            return
        if before.running is None:
            self._backend.delete([key], expect=state.version)
        else:
            self._backend.put_same([before.record(step.call.merge, self._now())])

    def _note(self, steps: Sequence[_Step]) -> None:
        """Write the PENDING records of new messages, and which sends are done."""
        records = [one for step in steps if step.is_own and (one := step.call.record) is not None]
        if records:
            self._patiently(lambda: self._backend.put(records, condition=Condition.NEWER))
        marks = [merged_mark(step.call.envelope.id, step.waiting.id) for step in steps if step.call.own_id]
        if marks:
            self._patiently(lambda: self._backend.put(marks))


def _known(call: Mergeable, state: KeyState, mark: Record | None) -> str:
    """Return the id of the message that *call* has become before; empty if it is not a repetition."""
    if mark is not None:
        return mark.body.decode("utf-8", "replace")
    id = call.envelope.id
    return id if call.own_id and state.runs(id) else ""


def _is_unsure(state: KeyState, now: float) -> bool:
    """Return whether a message of the key should have moved on by now, and nobody has looked lately."""
    if now - state.asked < _UNSURE:
        return False
    if state.running is not None and now - state.running.since >= _UNSURE:
        return True
    return state.waiting is not None and now - state.waiting.due >= _UNSURE


def _sent(state: KeyState) -> KeyState:
    waiting = state.waiting
    return state if waiting is None else attrs.evolve(state, waiting=attrs.evolve(waiting, sent=True))


def _unsent(waiting: Waiting | None) -> Waiting | None:
    return None if waiting is None else attrs.evolve(waiting, sent=False)
