"""Slots of concurrency limits: never more holders than slots, nobody forgotten, whoever reads and writes in between."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.broker import Ack, Delivery, Lease, Place
from queuekit.clock import VirtualClock
from queuekit.errors import UnavailableError
from queuekit.limiting.slot_store import Slots, Wish
from queuekit.limiting.slots import PART, SLOTS, SlotKey, SlotState, Waiter, beat_of, claim_of
from queuekit.limits import Concurrency
from queuekit.signature import Signature
from support.interleaving import Interleaving, Stepping
from support.working import backend_of, flaky_app, make_app, take

ONE, TWO = SlotKey("crm", "acme", Concurrency(1)), SlotKey("db", "", Concurrency(2))
LEASE = 30.0


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app in virtual time."""
    made = make_app(clock=VirtualClock())
    yield made
    made.close()


def slots_of(app: Queuekit) -> Slots:
    """Return the slots of an app."""
    return Slots(app.runtime.need_backend("a test"), app.runtime.broker, lease=LEASE)


def sent(app: Queuekit, count: int) -> list[Delivery]:
    """Send messages, and return them as a worker gets them."""
    app.send_many([Signature("pay")] * count)
    return take(app, count)


def ask(app: Queuekit, deliveries: list[Delivery], *places: SlotKey) -> list[Delivery]:
    """Ask for slots, and return the deliveries that have theirs."""
    wishes = [Wish.of(one, places or (ONE,), "pay") for one in deliveries]
    slots_of(app).acquire(wishes, app.runtime.now())
    assert all(wish.done for wish in wishes)
    return [one for one, wish in zip(deliveries, wishes, strict=True) if wish.waits is None]


def free(app: Queuekit, *deliveries: Delivery, place: SlotKey = ONE) -> None:
    """Settle deliveries, and free their slots."""
    app.runtime.broker.settle([Ack(one) for one in deliveries])
    slots_of(app).release([(place, one.id, claim_of(one)) for one in deliveries], app.runtime.now())


def state(app: Queuekit, place: SlotKey = ONE) -> SlotState:
    """Return what the record of a key says."""
    return slots_of(app).read([place], app.runtime.now())[place]


def pass_time(app: Queuekit, seconds: float) -> None:
    """Move the clock of the test."""
    assert isinstance(app.clock, VirtualClock)
    app.clock.advance(seconds)


EACH_PLACES = pytest.mark.parametrize("places", [(ONE,), (TWO,), (ONE, TWO)], ids=["one", "two", "both"])


@pytest.mark.parametrize("seed", range(10))
@EACH_PLACES
def test_no_interleaving_exceeds_a_limit_or_forgets_a_message(seed: int, places: tuple[SlotKey, ...]) -> None:
    """Whoever steps in between: all messages run, never more at a time than the limit says."""
    interleave(seed, places)


@pytest.mark.torture
@EACH_PLACES
def test_no_other_interleaving_does(places: tuple[SlotKey, ...]) -> None:
    """Nor does any of many more."""
    for seed in range(10, 500):
        interleave(seed, places)


def interleave(seed: int, places: tuple[SlotKey, ...]) -> None:
    """Have three workers run messages with a limit, who take turns by chance."""
    app, search, count = make_app(clock=VirtualClock()), Interleaving(seed), 8
    app.send_many([Signature("pay")] * count)
    broker: Any = Stepping(app.runtime.broker, search)
    backend: Any = Stepping(app.runtime.need_backend("a test"), search)
    running, most, ended, deliveries = set[str](), [0], list[str](), Counter[str]()

    def worker() -> None:
        slots = Slots(backend, broker, lease=LEASE)  # remembers what it has written
        for _ in range(400):
            if len(ended) == count:
                return
            batch = broker.receive(["default"], limit=3, wait=0, lease=LEASE)
            deliveries.update(one.id for one in batch)
            wishes = [Wish.of(one, places, "pay") for one in batch]
            slots.acquire(wishes, app.clock.time())
            begin = [one for one, wish in zip(batch, wishes, strict=True) if wish.waits is None]
            running.update(one.id for one in begin)
            most[0] = max(most[0], len(running))
            search.step()
            for one in begin:
                running.remove(one.id)
                ended.append(one.id)
                broker.settle([Ack(one)])
                slots.release([(place, one.id, claim_of(one)) for place in places], app.clock.time())

    search.run([worker] * 3)

    assert len(ended) == len(set(ended)) == count
    assert most[0] <= (1 if ONE in places else 2)
    assert sum(deliveries.values()) <= count * (2 if len(places) == 1 else 3)
    assert not any(state(app, place).waiting or state(app, place).holders for place in places)
    app.close()


def test_refused_message_waits_and_comes_back_for_its_slot(app: Queuekit) -> None:
    """It is delivered twice: once to wait, and once when a slot is its own."""
    first, second, third = sent(app, 3)

    assert ask(app, [first, second, third]) == [first]
    assert app.runtime.broker.receive(["default"], limit=9, wait=0, lease=LEASE) == []
    free(app, first)
    (again,) = take(app)

    assert (again.id, again.number, again.crashes) == (second.id, 2, 0)
    assert ask(app, [again]) == [again]
    assert state(app).waiting == 1


def test_waiting_message_outlasts_the_lease_of_a_worker(app: Queuekit) -> None:
    """It waits as long as it takes, and is not taken for a crash."""
    first, _ = sent(app, 2)
    ask(app, [first, _])

    pass_time(app, 10 * LEASE)

    assert {one.id for one in app.runtime.broker.receive(["default"], limit=9, wait=0, lease=LEASE)} == {first.id}


def test_nobody_takes_over_what_is_about_to_get_a_long_lease(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """If both processes died in that moment, the message would wait for the end of that lease."""
    first, *others = sent(app, 4)
    ask(app, [first, *others])
    extend, asked = app.runtime.broker.extend, list[str]()

    class Spy:
        """Would take all over."""

        def adopt(
            self, place: SlotKey, waiters: Sequence[Waiter], now: float, *, extended: float
        ) -> tuple[list[Waiter], list[Waiter]]:
            asked.extend(one.id for one in waiters)
            return [], []

        def adopted(self, place: SlotKey, waiters: Sequence[Waiter]) -> None:
            """Do nothing."""

    def meanwhile(leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        end = [(ONE, first.id, claim_of(first))]
        slots_of(app).release(end, app.runtime.now(), adopter=Spy())
        return extend(leases, lease=lease)

    with monkeypatch.context() as patched:
        patched.setattr(app.runtime.broker, "extend", meanwhile)
        slots_of(app).extend(ONE, app.runtime.now())

    assert asked == []
    assert [one.id for one in take(app)] == [others[0].id]


def test_redelivered_message_does_not_block_itself(app: Queuekit) -> None:
    """A later delivery of the holder has its slot."""
    (first,) = sent(app, 1)
    ask(app, [first])
    pass_time(app, LEASE + 1)
    (again,) = take(app)

    assert ask(app, [again]) == [again]


def test_lost_delivery_does_not_wait_instead_of_a_later_one(app: Queuekit) -> None:
    """A worker that stood still may ask for what another has received since: that must be delivered in the end."""
    sent(app, 1)
    (early,) = sent(app, 1)
    pass_time(app, LEASE + 1)
    holder, later = sorted(take(app, 2), key=lambda one: one.id == early.id)
    assert ask(app, [holder, later]) == [holder]

    assert ask(app, [early]) == []

    free(app, holder)
    (again,) = take(app)
    assert (again.id, again.number) == (early.id, 3)
    assert ask(app, [again]) == [again]


def test_delivery_that_is_counted_alike_waits_instead_of_the_one_before() -> None:
    """An engine that counts deliveries anew, as after a failover, must not leave the lease of a lost one in line."""
    lost, now = Waiter("default", "a", "t1", 1), Waiter("default", "a", "t2", 1)
    for front, back in (([lost], []), ([], [lost])):
        place = SlotState(TWO, 2, front=front, back=back)

        place.wait(now)

        assert [*place.front, *place.back] == [now]


def test_slot_goes_to_the_later_of_two_deliveries_in_line() -> None:
    """Two may wait: one that has been in a part of a long line is not seen by the other."""
    early, later = Waiter("default", "a", "t1", 1), Waiter("default", "a", "t2", 2)
    for front, back in (([early], [later]), ([later], [early])):
        place = SlotState(TWO, 2, front=front, back=back)
        found = place.advance(until=1.0, most=2)
        place.leave(early.id, early.claim)  # its lease is found lost

        assert later in found
        assert [holder.waiter for holder in place.holders.values()] == [later]
        assert place.waiting == 0


def test_late_end_of_a_lost_delivery_frees_nothing(app: Queuekit) -> None:
    """The slot belongs to the delivery that took it over."""
    first, other = sent(app, 2)
    ask(app, [first])
    pass_time(app, LEASE + 1)
    (again, other) = take(app, 2)
    ask(app, [again])

    free(app, first)

    assert ask(app, [other]) == []


def test_slot_of_a_dead_holder_is_free_after_a_lease(app: Queuekit) -> None:
    """Nobody has to free it, and the first who looks moves the line on."""
    first, second = sent(app, 2)
    ask(app, [first, second])
    pass_time(app, LEASE + 0.1)

    slots_of(app).move([ONE], app.runtime.now())

    assert [one.id for one in app.runtime.broker.receive(["default"], limit=1, wait=0, lease=LEASE)]
    assert set(state(app).holders) == {second.id}


def test_sign_of_life_keeps_a_slot(app: Queuekit) -> None:
    """A holder that shows that it is alive keeps its slot beyond the lease."""
    first, second = sent(app, 2)
    ask(app, [first, second])
    pass_time(app, LEASE - 1)
    app.runtime.need_backend("a test").put([Record(key=beat_of(first.id), ttl=LEASE)])
    pass_time(app, LEASE - 1)

    slots_of(app).move([ONE], app.runtime.now())

    assert set(state(app).holders) == {first.id}


def test_message_that_nobody_fetches_gives_its_slot_to_the_next(app: Queuekit) -> None:
    """A slot that a message does not use within a lease is free, and the message loses nothing by it."""
    first, second, third = sent(app, 3)
    ask(app, [first, second, third])
    free(app, first)
    pass_time(app, LEASE + 1)

    slots_of(app).move([ONE], app.runtime.now())

    assert set(state(app).holders) == {third.id}
    assert {one.id for one in take(app, 2)} == {second.id, third.id}


def test_long_line_is_in_records_of_its_own(app: Queuekit) -> None:
    """What is read and written with each step does not grow with the line, and its order holds."""
    count = 5 * PART + 7
    deliveries = sent(app, count)
    came = [one.id for one in deliveries]
    for start in range(0, count, 9):
        ask(app, deliveries[start : start + 9])
    size = len(state(app).written().body)
    order = []
    for _ in range(count - 1):
        free(app, deliveries.pop(0))
        (again,) = take(app)
        ask(app, [again])
        order.append(again.id)
        deliveries[0] = again

    assert size < 200 * 2 * PART
    assert order == came[1:]
    free(app, deliveries[0])
    pass_time(app, 2)
    backend = app.runtime.need_backend("a test")
    assert not [record.key for record in backend.walk("") if not record.key.startswith("result:")]


def test_two_limits_are_taken_together_or_not_at_all(app: Queuekit) -> None:
    """Who waits for one limit holds no slot of another."""
    first, second, third = sent(app, 3)
    ask(app, [first], ONE)

    assert ask(app, [second], ONE, TWO) == []
    assert ask(app, [third], TWO, ONE) == []

    assert state(app, TWO).holders == {}
    assert state(app, ONE).waiting == 2


def test_costs_two_round_trips_a_batch() -> None:
    """One read and one write for a batch, whatever the keys; a third only for those who wait."""
    app = flaky_app(clock=VirtualClock())
    deliveries = sent(app, 20)
    backend = backend_of(app)
    backend.wire.calls.clear()
    wishes = [
        Wish.of(one, [SlotKey("crm", str(number), Concurrency(1))], "pay") for number, one in enumerate(deliveries)
    ]

    slots_of(app).acquire(wishes, app.runtime.now())

    assert [call for call in backend.wire.calls if call != "now"] == ["get", "put"]
    app.close()


def test_costs_one_round_trip_to_free_what_nobody_else_has_written() -> None:
    """A batch that ends: no read, and one write for all keys; who waits is handed back by a step of its own."""
    app = flaky_app(clock=VirtualClock())
    deliveries, slots, now = sent(app, 3), slots_of(app), app.runtime.now()
    places = [ONE, ONE, TWO]
    slots.acquire([Wish.of(one, [place], "pay") for one, place in zip(deliveries, places, strict=True)], now)
    backend_of(app).wire.calls.clear()
    app.runtime.broker.settle([Ack(deliveries[0]), Ack(deliveries[2])])

    slots.release([(place, one.id, claim_of(one)) for place, one in ((ONE, deliveries[0]), (TWO, deliveries[2]))], now)

    assert [call for call in backend_of(app).wire.calls if call != "now"] == ["put"]
    assert [one.id for one in take(app)] == [deliveries[1].id]
    assert state(app, TWO).holders == {}
    app.close()


def test_frees_what_others_have_written_meanwhile(app: Queuekit) -> None:
    """A write without a read replaces nothing that it does not know: neither a line, nor a slot granted elsewhere."""
    first, second, third = sent(app, 3)
    mine, now = slots_of(app), app.runtime.now()
    mine.acquire([Wish.of(first, [TWO], "pay")], now)
    assert ask(app, [second, third], TWO) == [second]

    mine.release([(TWO, first.id, claim_of(first))], now)

    assert {*state(app, TWO).holders} == {second.id, third.id}
    assert state(app, TWO).waiting == 0
    (again,) = take(app)
    assert again.id == third.id


@pytest.mark.parametrize("knows", [True, False], ids=["known", "read"])
def test_says_that_a_slot_is_not_free_yet(app: Queuekit, monkeypatch: pytest.MonkeyPatch, *, knows: bool) -> None:
    """Where others change its record at each attempt. Else nobody would free it until the lease of its holder ends."""
    (first,) = sent(app, 1)
    mine, backend = slots_of(app), app.runtime.need_backend("a test")
    mine.acquire([Wish.of(first, [ONE], "pay")], app.runtime.now())
    end, other = (ONE, first.id, claim_of(first)), mine if knows else slots_of(app)

    with monkeypatch.context() as busy:
        busy.setattr(backend, "put", lambda records, **_: [False] * len(records))
        busy.setattr(backend, "put_same", lambda records: [False] * len(records))
        with pytest.raises(UnavailableError, match="slots of crm are not free yet"):
            other.release([end], app.runtime.now())
    other.release([end], app.runtime.now())

    assert state(app, ONE).holders == {}


def test_knows_nothing_of_a_record_that_was_made_anew(app: Queuekit) -> None:
    """Even if it expired and others began again, as after a process that stood still."""
    first, second = sent(app, 2)
    mine = slots_of(app)
    mine.acquire([Wish.of(first, [ONE], "pay")], app.runtime.now())
    backend = app.runtime.need_backend("a test")
    backend.delete([ONE.record])
    pass_time(app, 0.001)
    assert ask(app, [second]) == [second]

    mine.release([(ONE, first.id, claim_of(first))], app.runtime.now())

    assert {*state(app).holders} == {second.id}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"\xff", b'{"hold": 3}', b'{"front": [[1]]}', b'{"hold": {"a": []}}']
)
def test_bears_with_any_record(app: Queuekit, body: bytes) -> None:
    """A record that cannot be read limits nothing, and is written anew."""
    (one,) = sent(app, 1)
    app.runtime.need_backend("a test").put([Record(key=ONE.record, body=body)])

    assert ask(app, [one]) == [one]


def test_removed_limit_lets_all_go(app: Queuekit) -> None:
    """Who waited for a limit that no longer exists is delivered again at once."""
    deliveries = sent(app, 130)
    for start in range(0, 130, 10):
        ask(app, deliveries[start : start + 10])

    slots_of(app).dissolve(ONE, app.runtime.now())

    assert len(take(app, 129)) == 129
    assert state(app).waiting == 0


def test_lost_leases_do_not_hold_the_line(app: Queuekit) -> None:
    """Messages that came back by themselves are skipped, however many there are."""
    deliveries = sent(app, 120)
    for start in range(0, 120, 10):
        ask(app, deliveries[start : start + 10])
    pass_time(app, 4_000)
    ask(app, take(app, 120))

    for _ in range(120):
        (one,) = take(app)
        assert ask(app, [one]) == [one]
        free(app, one)

    assert not list(app.runtime.broker.walk("default", Place.DEAD))


def test_waiter_is_a_lease() -> None:
    """What is written down of a message is enough to hand it back."""
    waiter = Waiter("default", "a", "t", 3, 1, 2, 4)

    assert (waiter.delivery.lease, waiter.claim) == (waiter.lease, (1, 2, 4, 3))
    assert SLOTS not in waiter.id
