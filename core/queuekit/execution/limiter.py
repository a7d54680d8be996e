"""Decide which messages of a batch may start now, by the limits of their tasks.

A message that no slot of a concurrency limit is free for waits under its lease, until who frees one hands it back.

A message that would exceed a rate gets a time of its own, and comes back then: as its next hop, so that nothing counts
as an attempt or a crash. A message that has waited for its turn starts without another look at its rates, unless a task
has slowed them down meanwhile. One that has missed its turn, because no worker ran or the task was paused, gets
another: else all that missed theirs would start together.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from queuekit.backend import Backend, Condition, Record
from queuekit.broker import Delivery, Release, Replace
from queuekit.client.codec import Message, sealed
from queuekit.client.runtime import Runtime
from queuekit.errors import QueuekitError, UnavailableError
from queuekit.execution.announce import announce_limited
from queuekit.execution.outcome import Outcome, Run
from queuekit.limiting.line_broker import broker_mark, other_broker
from queuekit.limiting.rates import LimitKey, Rates, Standing, has_turn, with_turn
from queuekit.limiting.slot_store import Adopter, Slots, Wish
from queuekit.limiting.slots import SLOTS, Claim, SlotKey, SlotState, claim_of, place_in
from queuekit.limits import Concurrency, Rate
from queuekit.logs.errors import log_error
from queuekit.tasks.limit_keys import keys_of
from queuekit.tasks.task import Task
from queuekit.values import define

__all__ = ["UPKEEP", "Limiter", "slot_places"]

_logger = logging.getLogger("queuekit.worker")
UPKEEP = "slots-upkeep"
"""Key of the record that the worker writes that looks after the slots of all."""
_EVERY, _SELDOM = 5.0, 60.0
"""Seconds between two looks at all slots, of workers whose code has concurrency limits, and of others."""

_CONTENDED = 1.0
"""Seconds, on average, until a message comes back for which no start could be reserved."""
_MISSED = 10.0
"""Seconds after its turn at which a message needs another one. Shorter, a busy worker would put off too many."""
_AFTER_A_CRASH = 2
"""Number of the delivery after a worker has died, unless the message was delivered more often."""


@define
class _Wish:
    """A message that limits apply to."""

    run: Run
    places: tuple[LimitKey, ...]
    turn: float | None
    """Its reserved start, if it has one that it has not missed."""
    found: dict[str, float] = attrs.field(factory=dict[str, float])
    """The starts that were reserved for it, by limit."""
    contended: bool = False


class Limiter:
    """Applies limits for one worker. They cost two round trips for each batch that holds limited messages.

    Messages with both kinds of limits cost four. A worker whose code has no limits asks for none; it only looks after
    the lines that limits left behind which have been removed from the code.

    Args:
        runtime: Clock, broker and settings.
        backend: Stores what is reserved.
        tasks: Registered tasks by name.
        worker: Name of the worker, for events.
    """

    def __init__(
        self, runtime: Runtime, backend: Backend, tasks: Mapping[str, Task[..., Any]], *, worker: str = ""
    ) -> None:
        self._backend, self._tasks, self._runtime, self._worker = backend, tasks, runtime, worker
        self._rates = Rates(backend)
        self._slots = Slots(backend, runtime.broker, lease=runtime.config.worker.lease)
        self._longest_delay = runtime.broker.limits.max_delay
        self._monotonic: Callable[[], float] = runtime.clock.monotonic
        self._chance = runtime.random.random
        self._same: dict[str, tuple[LimitKey, ...]] = {}
        """The rates of tasks without keys, by the names of the tasks."""
        declared = [limit for task in tasks.values() for limit in task.defaults.limits]
        self.limits = bool(declared)
        """Whether a task has limits."""
        self._names = _slot_names(tasks)
        self.has_slots = bool(self._names)
        """Whether a task has a concurrency limit."""
        self._ahead: float | None = None
        """Seconds by which the broker's clock is ahead of the monotonic one, as far as known."""
        self._owed = deque[tuple[SlotKey, str, Claim]]()
        """Slots that could not be freed yet; threads that fetch and that settle add to it and take from it."""
        self._mark = broker_mark(runtime.broker, self._names)
        """What it writes while it looks after the slots of all."""
        self._warned = False
        """Whether it has warned of another broker."""
        self._next_look = 0.0
        """Monotonic time of the next :meth:`look_seldom`."""

    def apply(self, runs: Sequence[Run]) -> tuple[list[Run], list[Outcome]]:
        """Return the runs that may start now, and the outcomes of those that come back at another time.

        What is in neither waits for a slot.

        Raises:
            UnavailableError: The backend does not answer.
        """
        first, waits = runs[0], dict[int, tuple[str, float | None]]()
        self._ahead = first.delivery.claimed_at - first.received
        now = self._now()
        begin, late = list(runs), list[Outcome]()
        slots = {run.serial: places for run in runs if (places := _places_of(run))} if self.has_slots else {}
        for run in runs:
            if self.has_slots and run.delivery.number > 1:
                run.slots = self._left(run.task, run.message)
        rated = [run for run in runs if _is_rated(run)]
        if rated:
            begin, late = self._by_rates(runs, now, self._granted(rated, slots, now), waits)
        asking = [run for run in begin if run.serial in slots]
        if asking:
            without, contended = self._take_slots(asking, slots, now, waits)
            begin = [run for run in begin if run.serial not in without]
            late += contended
        announce_limited(self._runtime.events, runs, waits, worker=self._worker)
        return begin, late

    def _now(self) -> float:
        """Return UTC epoch seconds, on the broker's clock if a delivery has shown it."""
        return self._runtime.now() if self._ahead is None else self._ahead + self._monotonic()

    # -- slots

    def _granted(self, rated: Sequence[Run], slots: Mapping[int, tuple[SlotKey, ...]], now: float) -> set[int]:
        """Return the serials of those that waited for a slot, so they had their start by the rates before."""
        both = {run.serial: run for run in rated if run.serial in slots and run.delivery.number > 1}
        if not both:
            return set()
        states = self._slots.read({place for serial in both for place in slots[serial]}, now)
        found = {
            serial: [states[place].holders.get(run.message.id) for place in slots[serial]]
            for serial, run in both.items()
        }
        return {serial for serial, holders in found.items() if any(one and one.waiter for one in holders)}

    def _take_slots(
        self,
        runs: Sequence[Run],
        slots: Mapping[int, tuple[SlotKey, ...]],
        now: float,
        waits: dict[int, tuple[str, float | None]],
    ) -> tuple[set[int], list[Outcome]]:
        """Take slots; return the serials of the runs that have none, and the outcomes of those that try again."""
        wishes = {run.serial: Wish.of(run.delivery, slots[run.serial], run.task.name) for run in runs}
        self._slots.acquire(list(wishes.values()), now)
        without, contended = set[int](), list[Outcome]()
        for run in runs:
            wish = wishes[run.serial]
            # What has come back for its slot has none elsewhere, since it waits in one line at a time.
            run.slots = wish.places if wish.granted else run.slots + wish.places
            # Some services count it as a crash that another process has handed a message back.
            run.suspect = run.suspect and not (wish.granted and not run.known_crashes)
            if not wish.done or wish.waits is not None:
                without.add(run.serial)
            if not wish.done:
                contended.append(self._contended(run.delivery))
            elif wish.waits is not None:
                waits[run.serial] = wish.waits.name, None
        return without, contended

    def settled(self, outcomes: Sequence[Outcome], adopter: Adopter | None = None) -> None:
        """Free the slots of deliveries whose outcomes are written. Runs that share a slot free it with the last one."""
        ends = self._taken()
        for outcome in outcomes:
            id, claim, run = outcome.delivery.id, claim_of(outcome.delivery), outcome.run
            if run is not None and run.turns is not None:
                ends += run.turns.settled(id, claim)
            else:
                ends += [(place, id, claim) for place in self._places_of(outcome)]
        if ends:
            self._free(ends, adopter)

    def _free(self, ends: list[tuple[SlotKey, str, Claim]], adopter: Adopter | None = None) -> None:
        """Free slots, now or later: without that, each is free when its time is over."""
        try:
            self._slots.release(ends, self._now(), adopter=adopter)
        except UnavailableError:
            self.owe(ends)
        except Exception as error:  # noqa: BLE001 - of an engine: the settler must go on
            log_error(_logger, "cannot free slots", error=error)

    def owe(self, ends: Sequence[tuple[SlotKey, str, Claim]]) -> None:
        """Free slots soon: with the next that are freed, or at the next look."""
        self._owed.extend(ends)

    def _taken(self) -> list[tuple[SlotKey, str, Claim]]:
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._owed.popleft())
        return taken

    def _places_of(self, outcome: Outcome) -> tuple[SlotKey, ...]:
        """Return where a delivery may hold slots: also one that did not run, but was handed back for a slot."""
        if outcome.run is not None:
            return outcome.run.slots
        if not self.has_slots or outcome.delivery.number <= 1:
            return ()
        with suppress(QueuekitError):  # what cannot be read has never had a slot
            message = sealed(outcome.delivery.envelope, self._runtime.accepted)
            task = self._tasks.get(message.task)
            if task is not None:
                return slot_places(task, keys_of(task, message.limits or {})) + self._left(task, message)
        return ()

    def _left(self, task: Task[..., Any], message: Message) -> tuple[SlotKey, ...]:
        """Return where a message may have been handed back for a slot that its task has no need of any more."""
        names = self._names.difference(limit.named(task.name) for limit in task.defaults.limits)
        return tuple(SlotKey(name, (message.limits or {}).get(name, "")) for name in names)

    def look_after(self, record: Record | None) -> None:
        """Move all lines on, unless *record*, that of :data:`UPKEEP`, says that another worker does.

        It is called about once a second where the code has concurrency limits.
        """
        if self._owed:
            self._free(self._taken())
        if record is None:
            self._look(UPKEEP, ttl=_EVERY)
        elif not self._warned and (text := other_broker(record, self._mark)):
            self._warned = True
            _logger.warning("%s", text)

    def look_seldom(self) -> None:
        """Move on the lines that limits left behind, about once a minute for all workers; asks for nothing else."""
        if (now := self._monotonic()) >= self._next_look:
            self._next_look = now + _SELDOM + _EVERY
            self._look(f"{UPKEEP}-removed", ttl=_SELDOM)

    def _look(self, key: str, *, ttl: float) -> None:
        if (
            self._backend.capabilities.scan
            and self._backend.put([Record(key=key, body=self._mark, ttl=ttl)], condition=Condition.ABSENT)[0]
        ):
            self.upkeep()

    def upkeep(self) -> None:
        """Free the slots of those that died, move the lines on, and keep the messages that wait."""
        now, moving = self._now(), list[SlotKey]()
        for record in self._backend.walk(SLOTS):
            place = place_in(record)
            if place is None:
                continue
            state = SlotState.read(record, place, None)
            if place.name not in self._names:  # another app on this backend may have it, with messages elsewhere
                if state.waiting and self._is_removed(place, state):
                    self._slots.dissolve(place, now)
            elif state.waiting and self._slots.is_due(state, now):
                self._slots.extend(place, now)
            elif any(one.until <= now for one in state.holders.values()) or state.waiting:
                moving.append(place)
        if moving:
            self._slots.move(moving, now)

    def _is_removed(self, place: SlotKey, state: SlotState) -> bool:
        """Return whether the code of this worker has the task that waits, and no limit of that name any more."""
        task = self._tasks.get(state.task)
        return task is not None and all(limit.named(task.name) != place.name for limit in task.defaults.limits)

    # -- rates

    def _by_rates(
        self, runs: Sequence[Run], now: float, granted: set[int], waits: dict[int, tuple[str, float | None]]
    ) -> tuple[list[Run], list[Outcome]]:
        wishes = {run.serial: wish for run in runs if (wish := self._wish(run, now, granted)) is not None}
        if not wishes or self._have_turns(wishes.values(), now):
            return list(runs), []
        self._reserve(list(wishes.values()), now)
        late = {serial: outcome for serial, wish in wishes.items() if (outcome := self._late(wish, now)) is not None}
        for serial in late:
            if not (wish := wishes[serial]).contended:
                waits[serial] = max(wish.found.items(), key=lambda item: item[1])
        return [run for run in runs if run.serial not in late], list(late.values())

    def _wish(self, run: Run, now: float, granted: set[int]) -> _Wish | None:
        """Return what *run* needs; ``None`` if no limit applies.

        A message whose worker died may not have begun, and nor may what was fetched with it, so it needs a start. It
        has that when it comes back for the second time.
        """
        limits, envelope = run.task.defaults.limits, run.delivery.envelope
        if not limits or (run.delivery.crashes and run.delivery.number > _AFTER_A_CRASH):
            return None
        turn = now if run.serial in granted else envelope.not_before if has_turn(envelope) else None
        turn = None if turn is None or turn < now - _MISSED else turn
        places = self._rates_of(run)
        return _Wish(run, places, turn) if places else None

    def _rates_of(self, run: Run) -> tuple[LimitKey, ...]:
        """Return the rates that *run* counts for: the same for each message of a task whose limits have no keys."""
        task, limits = run.task, run.task.defaults.limits
        places = self._same.get(task.name)
        if places is None:
            keys, named = run.limit_keys, [(limit.named(task.name), limit) for limit in limits]
            found = [(name, one) for name, one in named if isinstance(one, Rate) and name in keys]
            places = tuple(LimitKey(name, keys[name], rate) for name, rate in found)
            if all(limit.key is None for limit in limits):
                self._same[task.name] = places
        return places

    def _have_turns(self, wishes: Collection[_Wish], now: float) -> bool:
        """Return whether all messages come back for their turns, and no task has put these off meanwhile."""
        places = {place for wish in wishes for place in wish.places}
        return all(wish.turn is not None for wish in wishes) and not self._rates.are_slowed(places, now)

    def _reserve(self, wishes: Sequence[_Wish], now: float) -> None:
        """Reserve starts for those that have none, and for those whose turn a task has put off."""
        waiting: dict[LimitKey, list[_Wish]] = {}
        for wish in sorted(wishes, key=lambda wish: wish.turn is None):  # those that had a turn come first
            for place in wish.places:
                waiting.setdefault(place, []).append(wish)

        def count(place: LimitKey, standing: Standing) -> int:
            return sum(_needs(wish, standing, now) for wish in waiting[place])

        reserved = self._rates.reserve(waiting, now, count)
        for place, some in waiting.items():
            times = reserved.get(place)
            for wish in some if times is None else some[len(some) - len(times) :]:
                wish.contended = wish.contended or times is None
            for wish, time in zip(some[len(some) - len(times or ()) :], times or (), strict=True):
                wish.found[place.name] = time

    def _late(self, wish: _Wish, now: float) -> Outcome | None:
        """Return the outcome of a message that may not start now."""
        delivery = wish.run.delivery
        if wish.contended:
            return self._contended(delivery)
        turn = max(wish.found.values(), default=now)
        if turn <= now:
            return None
        wait = turn - now if self._longest_delay is None else min(turn - now, self._longest_delay)
        if delivery.crashes:  # which a message that is replaced would lose
            return Outcome(delivery=delivery, settlement=Release(delivery, delay=wait), status="held")
        delay = 0.0 if self._longest_delay is None else wait
        envelope = with_turn(delivery.envelope, turn, delay)
        return Outcome(delivery=delivery, settlement=Replace(delivery, envelope), status="held")

    def _contended(self, delivery: Delivery) -> Outcome:
        delay = _CONTENDED * (0.5 + self._chance())
        return Outcome(delivery=delivery, settlement=Release(delivery, delay=delay), status="held")


def _places_of(run: Run) -> tuple[SlotKey, ...]:
    """Return the slots that *run* needs."""
    if not any(isinstance(limit, Concurrency) for limit in run.task.defaults.limits):
        return ()
    return slot_places(run.task, run.limit_keys)


def slot_places(task: Task[..., Any], keys: Mapping[str, str]) -> tuple[SlotKey, ...]:
    """Return the slots that a message of *task* needs, whose *keys* are known by limit."""
    limits = {limit.named(task.name): limit for limit in task.defaults.limits if isinstance(limit, Concurrency)}
    return tuple(SlotKey(name, keys[name], limit) for name, limit in limits.items() if name in keys)


def _slot_names(tasks: Mapping[str, Task[..., Any]]) -> frozenset[str]:
    """Return the names of the concurrency limits of *tasks*."""
    limits = [(limit, name) for name, task in tasks.items() for limit in task.defaults.limits]
    return frozenset(limit.named(name) for limit, name in limits if isinstance(limit, Concurrency))


def _is_rated(run: Run) -> bool:
    return any(isinstance(limit, Rate) for limit in run.task.defaults.limits)


def _needs(wish: _Wish, standing: Standing, now: float) -> bool:
    return wish.turn is None or standing.until > now
