"""Slots that are handed over within one process: the same search over interleavings, also with a process that dies."""

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import pytest

from queuekit.broker import Ack
from queuekit.clock import VirtualClock
from queuekit.limiting.slot_store import Slots, Wish
from queuekit.limiting.slots import SlotKey, SlotState, Waiter
from queuekit.limits import Concurrency
from queuekit.signature import Signature
from support.interleaving import Interleaving, Stepping
from support.working import make_app

LEASE, COUNT = 30.0, 12


class DiedError(Exception):
    """The process has been killed."""


class Search:
    """Three processes that run messages with a limit, in an order that *seed* gives.

    Args:
        seed: Also gives the number of calls after which the first process dies.
        most: Slots.
    """

    def __init__(self, seed: int, most: int) -> None:
        self.app, self.turns = make_app(clock=VirtualClock()), Interleaving(seed)
        self.clock: Any = self.app.clock
        self._begun = self.clock.time()
        self.app.send_many([Signature("pay")] * COUNT)
        self.engines = tuple(Stepping(one, self.turns) for one in (self.app.runtime.broker, self.app.runtime.backend))
        self.place = SlotKey("crm", "acme", Concurrency(most))
        self.running, self.busy, self.ended, self.most = set[str](), set[Process](), Counter[str](), 0
        processes = [Process(self, steps=seed % 60), Process(self), Process(self)]
        self.turns.run([process.live for process in processes])

    @property
    def seconds(self) -> float:
        """How long it took; time passes only while nobody is at work."""
        return float(self.clock.time() - self._begun)

    def state(self) -> SlotState:
        """Return what the record of the limit says."""
        slots = Slots(self.app.runtime.need_backend("a test"), self.app.runtime.broker, lease=LEASE)
        return slots.read([self.place], self.clock.time())[self.place]


class Process:
    """One process of a search: takes over what waits, and dies after *steps* calls of an engine."""

    def __init__(self, search: Search, *, steps: int = 100_000) -> None:
        self._search, self._left = search, steps
        engines: list[Any] = [_Mortal(engine, self) for engine in search.engines]
        self._broker, backend = engines
        self._slots = Slots(backend, self._broker, lease=LEASE)
        self._known: dict[str, bool] = {}
        self._taken: list[list[Waiter]] = []
        self._inside = ""

    def use_engine(self) -> None:
        """Live for another call."""
        self._left -= 1
        if self._left < 0:
            raise DiedError

    def live(self) -> None:
        """Run messages until all have ended, or the process dies."""
        try:
            while len(self._search.ended) < COUNT:
                self._search.busy.discard(self)
                self._round()
        except DiedError:
            self._search.running.discard(self._inside)
        finally:
            self._search.busy.discard(self)

    def _round(self) -> None:
        search = self._search
        batch = self._broker.receive(["default"], limit=3, wait=0, lease=LEASE)
        if not batch and not search.busy:  # nobody is at work, so only time can help
            search.clock.advance(LEASE / 2)
            self._slots.move([search.place], search.clock.time())
            return
        if not batch:  # the upkeep, while others are at work
            search.clock.advance(0.001)  # it writes when it has been, so no two leave the same record
            self._slots.extend(search.place, search.clock.time())
            return
        search.busy.add(self)
        wishes = [Wish.of(one, [search.place], "pay") for one in batch]
        self._slots.acquire(wishes, search.clock.time())
        for one, wish in zip(batch, wishes, strict=True):
            if wish.waits is None:
                self._run([Waiter.of(one)])
        while self._taken:
            self._run(self._taken.pop(0))

    def _run(self, some: Sequence[Waiter]) -> None:
        """Run messages that have a slot, and free it after the last one."""
        search = self._search
        for one in some:
            self._inside = one.id
            search.running.add(one.id)
            search.most = max(search.most, len(search.running))
            search.turns.step()
            search.running.discard(one.id)
            search.ended[one.id] += 1
            self._broker.settle([Ack(one.delivery)])
        self._slots.release([(search.place, one.id, one.claim) for one in some], search.clock.time(), adopter=self)

    def adopt(self, place: SlotKey, waiters: Sequence[Waiter], now: float) -> tuple[list[Waiter], list[Waiter]]:
        """Take over up to three that have their long lease."""
        new = [one for one in waiters if one.token not in self._known]
        if new:
            found = {one.envelope.id: one for one in self._broker.find("default", [one.id for one in new])}
            same = [one for one in new if one.id in found and found[one.id].number == one.number]
            self._known |= {one.token: one in same and found[one.id].due > now + LEASE for one in new}
        able = list(takewhile(lambda one: self._known[one.token], waiters))[:3]
        lost = self._broker.extend([one.lease for one in able], lease=LEASE) if able else []
        return [one for one in able if one.lease not in lost], [one for one in able if one.lease in lost]

    def adopted(self, place: SlotKey, waiters: Sequence[Waiter]) -> None:
        """Remember who has a slot together."""
        self._taken += [list(waiters)] if waiters else []


class _Mortal:
    """An engine whose calls end with their process."""

    def __init__(self, engine: Any, process: Process) -> None:
        self._engine, self._process = engine, process

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._process.use_engine()
            return found(*args, **options)

        return call


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("most", [1, 2])
def test_no_interleaving_exceeds_a_limit_or_forgets_a_message(seed: int, most: int) -> None:
    """Nor does the death of a process at any of its steps."""
    search_once(seed, most)


@pytest.mark.torture
@pytest.mark.parametrize("most", [1, 2])
def test_no_other_interleaving_does(most: int) -> None:
    """Nor does any of many more."""
    for seed in range(12, 800):
        search_once(seed, most)


def search_once(seed: int, most: int) -> None:
    """Look into the orders of one seed."""
    search = Search(seed, most)
    state = search.state()
    search.app.close()

    assert len(search.ended) == COUNT
    assert search.most <= most
    assert max(search.ended.values()) <= 2
    assert state.waiting == 0
    assert search.seconds <= 4 * LEASE


def waiter(id: str, number: int = 1) -> Waiter:
    """Return who waits."""
    return Waiter("default", id, f"{id}-{number}", number)


def shared(*ids: str, most: int = 1) -> SlotState:
    """Return the state of a key, one of whose slots messages share; one more waits."""
    state = SlotState(SlotKey("crm", "", Concurrency(most)), most, front=[*map(waiter, ids), waiter("last")])
    state.share([waiter(id) for id in ids], until=10.0)
    return state


def test_holders_of_one_slot_count_as_one() -> None:
    """Until the last of them leaves, however the record is read and written meanwhile."""
    state = shared("a", "b", "c")

    for id in ("b", "a"):
        state.leave(id, waiter(id).claim)
        state = SlotState.read(state.written(), state.place, 1)
        assert (state.in_use, state.first_holders()) == (1, [next(iter(state.holders))])
        assert state.advance(until=20.0, most=1) == []
    state.leave("c", waiter("c").claim)

    assert (state.in_use, state.sharing) == (0, 0)
    assert [one.id for one in state.advance(until=20.0, most=1)] == ["last"]


def test_message_that_is_delivered_again_has_no_part_in_a_slot_that_others_share() -> None:
    """The others may run where it was lost. The last of them has the slot for itself, also if delivered again."""
    state = shared("a", "b")

    state.give_up("a", waiter("a", 2).claim)
    assert not state.has_room("a", waiter("a", 2).claim)
    assert [*state.holders] == ["b"]

    state.give_up("b", waiter("b", 2).claim)
    assert state.has_room("b", waiter("b", 2).claim)


def test_older_delivery_takes_nobody_out_of_a_slot() -> None:
    """A worker that stood still may ask for what another has by now."""
    state = SlotState(SlotKey("crm", "", Concurrency(1)), 1, front=[waiter("a", 2), waiter("b")])
    state.share([waiter("a", 2), waiter("b")], until=10.0)

    state.give_up("a", waiter("a", 1).claim)

    assert [*state.holders] == ["a", "b"]


def test_slot_of_dead_holders_is_free_when_the_last_is_overdue() -> None:
    """Who shows a sign of life keeps it for all."""
    state = shared("a", "b")

    state.expire(11.0, {"b": 40.0})
    assert (state.in_use, [*state.holders]) == (1, ["b"])
    state.expire(41.0, {})

    assert (state.in_use, state.sharing) == (0, 0)
