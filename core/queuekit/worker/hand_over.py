"""Start messages that wait for a slot right after the run that frees it, in the same worker.

Without this, a slot moves on through a write, a release, a delivery, and a look at the limits: eight round trips for
each start. Here, a worker that frees a slot reads the first messages of the line, whoever has let them wait. It makes
their leases as short as its others, and writes down that all of them hold the one slot. Then it runs them one after the
other. It does so only with bodies that are quick, and few at a time: a message that waits for its turn here cannot take
a slot that is freed elsewhere meanwhile.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Protocol

from queuekit.broker import Broker, Delivery, Lease, Place
from queuekit.client.runtime import Runtime
from queuekit.execution.limiter import Limiter, slot_places
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.slot_turns import SlotTurns
from queuekit.limiting.slots import SlotKey, Waiter, claim_of
from queuekit.logs.errors import log_error

__all__ = ["HandOver"]

_logger = logging.getLogger("queuekit.worker")
_WORK = 0.01
"""Seconds that their bodies may take together, as far as known."""
_LONG = 0.2
"""Seconds after which a body has run longer than all of them were expected to take."""
_LOOKS = 3
"""Most looks at a line in one release."""
_LATER = 60.0
"""Seconds that are left of a long lease, at least, when a usual one is over: also of one that has just begun."""


class Port(Protocol):
    """The part of a worker that this uses."""

    def prepare_all(self, deliveries: list[Delivery]) -> list[Run | Outcome]:
        """Return a run for each delivery, or an outcome if it must not run, which is not settled."""
        ...

    def may_take(self, run: Run) -> bool:
        """Return whether *run* may begin now: the worker is not stopping, and the message is not paused."""
        ...

    def take_on(self, runs: list[Run]) -> list[Run]:
        """Hold the leases of *runs*, and return those that may run."""
        ...

    def dispatch(self, runs: list[Run]) -> None:
        """Let *runs* begin."""
        ...

    def hand_back(self, runs: list[Run]) -> None:
        """Release those of *runs* whose outcomes are open, uncounted."""
        ...


class HandOver:
    """Hands slots over within one worker.

    Args:
        runtime: Broker and settings.
        limiter: Frees slots.
        worker: Prepares and runs messages.
        seconds_of: Returns the average run time of a task's bodies; ``None`` if it is not known.
    """

    def __init__(
        self, runtime: Runtime, limiter: Limiter, worker: Port, *, seconds_of: Callable[[str], float | None]
    ) -> None:
        self._broker, self._lease = runtime.broker, runtime.config.worker.lease
        self._queues, self._monotonic = runtime.config.worker.queues, runtime.clock.monotonic
        self._limiter, self._worker, self._seconds_of = limiter, worker, seconds_of
        # Where `find` is not overridden, it walks through the queue.
        self._able = runtime.broker.capabilities.inspect and type(runtime.broker).find is not Broker.find
        self._turns: set[SlotTurns[Run]] = set()

    @property
    def waiting(self) -> int:
        """How many runs wait for their turn."""
        return sum(turns.waiting for turns in list(self._turns))

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        """Free the slots of *outcomes*, which are written, and let some of those that wait for them run here."""
        quick = {place for one in outcomes if one.run and self._is_quick(one.run) for place in one.run.slots}
        self._limiter.settled(outcomes, _Batch(self, quick) if quick and self._able else None)
        for outcome in outcomes:
            self.ended(outcome)

    def ended(self, outcome: Outcome) -> None:
        """Let the next run begin whose turn comes with *outcome*, which may not be written yet."""
        if outcome.run is not None and outcome.run.turns is not None:
            self._next(outcome.run.turns, outcome.run)

    def look(self, now: float) -> bool:
        """Hand back what waits behind a slow body, at the monotonic time *now*; return whether to look again soon."""
        for turns in list(self._turns):
            current = turns.current
            if current is not None and current.started is not None and now - current.started > _LONG:
                self._worker.hand_back(turns.take_back())
        return bool(self._turns)

    def take_back(self) -> list[Run]:
        """Take back the runs that wait for their turn."""
        return [run for turns in list(self._turns) for run in turns.take_back()]

    def begin(self, place: SlotKey, runs: list[Run]) -> None:
        """Run messages that have a slot together, one after the other."""
        turns = SlotTurns(place, runs)
        for run in runs:
            run.turns, run.slots = turns, (place,)
        self._turns.add(turns)
        try:
            kept = {run.serial for run in self._worker.take_on(runs)}
        except Exception as error:  # noqa: BLE001 - their leases are released, and the settler must go on
            log_error(_logger, "cannot hold the messages that get the slot of %s", place.name, error=error)
            kept = set[int]()
        for run in runs:
            if run.serial not in kept and run.claim():
                self._limiter.owe(turns.settled(run.message.id, claim_of(run.delivery)))
        self._next(turns, None)

    def can_run(self, place: SlotKey, waiters: Sequence[Waiter], now: float) -> list[Run]:
        """Return the runs of the first of *waiters*, as far as this worker can run them."""
        return list(self._runs(place, list(self._deliveries(waiters, now))))

    def take_over(self, runs: Sequence[Run]) -> list[Lease]:
        """Make the leases of *runs* as short as others, and return those that are lost."""
        return self._broker.extend([run.delivery.lease for run in runs], lease=self._lease) if runs else []

    def period(self) -> int:
        """Return a number that changes when leases that were made short are to be extended."""
        return int(self._monotonic() / self._lease * 4)

    # -- steps

    def _is_quick(self, run: Run) -> bool:
        seconds = self._seconds_of(run.message.task)
        return seconds is not None and 2 * seconds <= _WORK

    def _next(self, turns: SlotTurns[Run], ended: Run | None) -> None:
        following = turns.after(ended)
        if following is not None:
            self._worker.dispatch([following])
        elif turns.current is None:
            self._turns.discard(turns)

    def _deliveries(self, waiters: Sequence[Waiter], now: float) -> Iterator[Delivery]:
        """Yield the first of *waiters* as deliveries, as far as they are in one queue that this worker serves."""
        queue = waiters[0].queue
        if queue not in self._queues:
            return
        some = list(takewhile(lambda waiter: waiter.queue == queue, waiters))
        found = {one.envelope.id: one for one in self._broker.find(queue, [waiter.id for waiter in some])}
        for waiter in some:
            one = found.get(waiter.id)
            if one is None or (one.place, one.number, one.crashes) != (Place.LEASED, waiter.number, 0):
                return
            if one.due <= now + self._lease + _LATER:  # its lease may be about to be extended
                return
            yield Delivery(
                envelope=one.envelope, token=waiter.token, number=one.number, sent_at=one.sent_at, claimed_at=now
            )

    def _runs(self, place: SlotKey, deliveries: list[Delivery]) -> Iterator[Run]:
        """Yield the runs of the first of *deliveries*, as far as they need that slot alone, and are quick."""
        seconds = 0.0
        for run in self._worker.prepare_all(deliveries):
            if not isinstance(run, Run) or not self._fits(run, place):
                return
            seconds += self._seconds_of(run.message.task) or _WORK
            if seconds > _WORK:
                return
            yield run

    def _fits(self, run: Run, place: SlotKey) -> bool:
        """Return whether *run* needs only a slot at *place*, and nothing else is to be decided before it begins."""
        alone = len(run.task.defaults.limits) == 1 and slot_places(run.task, run.limit_keys) == (place,)
        special = run.early or run.suspect or run.message.merge is not None
        return alone and not special and self._worker.may_take(run)


class _Batch:
    """The slots of one settled batch: remembers what was taken over, since a record may have to be read again.

    Others change the record while this looks at messages and makes their leases short. So it does that once, and looks
    at what has come into a line since only a few times: else a release might never get the record.
    """

    def __init__(self, hand_over: HandOver, quick: set[SlotKey]) -> None:
        self._hand_over, self._quick = hand_over, quick
        self._seen = set[str]()
        self._runs: dict[str, Run] = {}
        self._looks, self._short, self._gone = Counter[SlotKey](), dict[str, tuple[float, int]](), set[Lease]()

    def adopt(
        self, place: SlotKey, waiters: Sequence[Waiter], now: float, *, extended: float
    ) -> tuple[list[Waiter], list[Waiter]]:
        """Take over the first of *waiters*; see :class:`~queuekit.limiting.slot_store.Adopter`."""
        new = [waiter for waiter in waiters if waiter.token not in self._seen] if place in self._quick else []
        if new and self._looks[place] < _LOOKS:
            self._looks[place] += 1
            self._seen.update(waiter.token for waiter in new)
            self._runs |= {run.delivery.token: run for run in self._hand_over.can_run(place, new, now)}
        able = list(takewhile(lambda waiter: waiter.token in self._runs, waiters))
        when = extended, self._hand_over.period()
        long = [waiter.token for waiter in able if self._short.get(waiter.token) != when]
        self._gone.update(self._hand_over.take_over([self._runs[token] for token in long]))
        self._short |= dict.fromkeys(long, when)
        lost = [waiter for waiter in able if waiter.lease in self._gone]
        return [waiter for waiter in able if waiter not in lost], lost

    def adopted(self, place: SlotKey, waiters: Sequence[Waiter]) -> None:
        """Run *waiters*, if there are any, who have a slot together by now."""
        if waiters:
            self._hand_over.begin(place, [self._runs[waiter.token] for waiter in waiters])
