"""What the memory engine does beyond the contracts that the conformance suites prove."""

# What the engine gives back is seen only inside it.
# pyright: reportPrivateUsage=false

import gc
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.backend import Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Place, Release, Replace
from queuekit.clock import SystemClock, VirtualClock
from queuekit.engines.memory import MemoryBackend, MemoryBroker, MemoryEngine
from queuekit.engines.memory.messages import MAX_UPKEEP
from queuekit.engines.memory.priority_queue import PriorityQueue
from queuekit.envelope import Envelope, Unique
from queuekit.errors import TooLargeError
from queuekit.urls import EngineURL
from support.waiting import PATIENCE

_names = itertools.count()
LEASE = 30.0


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock of the test's own, and so an engine of its own."""
    return VirtualClock()


@pytest.fixture
def url() -> EngineURL:
    """Return a URL that no other test uses."""
    return EngineURL.parse(f"memory://test-{next(_names)}")


@pytest.fixture
def broker(url: EngineURL, clock: VirtualClock) -> MemoryBroker:
    """Return a broker under the virtual clock."""
    return MemoryBroker(url, clock=clock, random=Random(1))


@pytest.fixture
def backend(url: EngineURL, clock: VirtualClock) -> MemoryBackend:
    """Return a backend on the same engine."""
    return MemoryBackend(url, clock=clock)


def message(id: str = "a", **fields: object) -> Envelope:
    """Return a message for queue q."""
    return attrs.evolve(Envelope(id=id, queue="q", body=b""), **fields)  # type: ignore[arg-type]


def take(broker: MemoryBroker, *, limit: int = 1, wait: float = 0.0) -> list[str]:
    """Return the ids of what is handed out."""
    return [delivery.id for delivery in broker.receive(["q"], limit=limit, wait=wait, lease=LEASE)]


# -- who shares an engine --------------------------------------------------------------------------------------------


def test_one_url_is_one_engine(url: EngineURL) -> None:
    """Brokers and backends of one URL meet in one engine, and can tell by its id."""
    first, second, backend = MemoryBroker(url), MemoryBroker(url, clock=SystemClock()), MemoryBackend(url)

    first.send([message()])

    assert first.engine_id == second.engine_id == backend.engine_id
    assert take(second) == ["a"]


def test_other_names_are_other_engines(url: EngineURL) -> None:
    """Another name, and no name, are engines of their own."""
    brokers = [MemoryBroker(each) for each in (url, EngineURL.parse("memory://"), EngineURL.parse("memory://other"))]

    brokers[0].send([message()])

    assert len({broker.engine_id for broker in brokers}) == 3
    assert take(brokers[1]) == []


def test_other_clocks_are_other_engines(url: EngineURL, clock: VirtualClock) -> None:
    """A test's clock makes an engine of its own, whatever else is alive under the name."""
    virtual, system = MemoryBroker(url, clock=clock), MemoryBroker(url)

    assert virtual.engine_id != system.engine_id


def test_is_gone_with_its_last_holder(url: EngineURL) -> None:
    """When no broker and no backend holds the engine, its messages are gone, and its id is not used again."""
    broker = MemoryBroker(url)
    broker.send([message()])
    old = broker.engine_id
    del broker
    gc.collect()

    broker = MemoryBroker(url)

    assert take(broker) == []
    assert broker.engine_id != old


def test_says_what_it_is_not(broker: MemoryBroker) -> None:
    """``check`` tells an operator that nothing outlives the process."""
    assert any("process" in line for line in broker.check())
    assert not broker.capabilities.processes
    assert broker.capabilities.commit


# -- time is the clock's ---------------------------------------------------------------------------------------------


def test_a_delay_is_the_clocks(broker: MemoryBroker, clock: VirtualClock) -> None:
    """A delay of a week passes when the clock says so."""
    broker.send([message(delay=604_800.0)])
    before = take(broker)

    clock.advance(604_800.0)

    assert (before, take(broker)) == ([], ["a"])


def test_a_waiting_receive_follows_the_clock(broker: MemoryBroker, clock: VirtualClock) -> None:
    """A ``receive`` that waits is woken by an advance of the clock: by due time, by lease, by its own end."""
    with ThreadPoolExecutor(1) as pool:
        broker.send([message(delay=20.0)])
        due = pool.submit(take, broker, wait=60.0)
        clock.wait_for_waiters(1)
        clock.advance(20.0)
        found = [due.result(timeout=PATIENCE)]
        ended = pool.submit(take, broker, wait=60.0)
        clock.wait_for_waiters(1)
        clock.advance(LEASE)
        found.append(ended.result(timeout=PATIENCE))
        nothing = pool.submit(take, broker, wait=10.0)
        clock.wait_for_waiters(1)
        clock.advance(10.0)
        found.append(nothing.result(timeout=PATIENCE))

    assert found == [["a"], ["a"], []]


def test_a_waiting_backend_follows_the_clock(backend: MemoryBackend, clock: VirtualClock) -> None:
    """A ``wait`` on a record ends when the clock says so."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(backend.wait, ["k"], timeout=3_600.0)
        clock.wait_for_waiters(1)
        clock.advance(3_600.0)

        assert waiting.result(timeout=PATIENCE) == {}


def test_nothing_is_early_after_the_clock_steps_back(broker: MemoryBroker, clock: VirtualClock) -> None:
    """A clock that is set back holds time still; no lease ends and no delay passes sooner for it."""
    broker.send([message("first")])
    clock.advance(-3_600.0)
    broker.send([message("second"), message("later", delay=10.0)])

    taken = take(broker, limit=10)
    clock.advance(3_600.0 + 9.0)
    before = take(broker)
    clock.advance(1.0)

    assert (taken, before, take(broker)) == (["first", "second"], [], ["later"])


def test_a_lapsed_lease_may_be_settled_until_it_is_reclaimed(broker: MemoryBroker, clock: VirtualClock) -> None:
    """Nobody is hurt by a late ack as long as nobody else has the message."""
    broker.send([message()])
    (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=LEASE)
    clock.advance(2 * LEASE)

    assert broker.settle([Ack(delivery)]) == []
    assert take(broker) == []


def test_a_reclaimed_message_returns_to_its_place(broker: MemoryBroker, clock: VirtualClock) -> None:
    """When a lease ends, the message is next again, before those sent after it."""
    broker.send([message("a"), message("b")])
    take(broker)

    clock.advance(LEASE)

    assert take(broker, limit=2) == ["a", "b"]


def test_an_inspection_promotes_but_reclaims_nothing(broker: MemoryBroker, clock: VirtualClock) -> None:
    """Where no worker runs, counts tell what is due as ready; a lease is left to its holder."""
    broker.send([message("held")])
    (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=LEASE)
    broker.send([message("due", delay=10.0)])
    clock.advance(100.0)

    counts = broker.counts(["q"])["q"]

    assert (counts.ready, counts.delayed, counts.leased) == (1, 0, 1)
    assert counts.oldest_age == pytest.approx(90.0)
    assert broker.settle([Ack(delivery)]) == []


def test_an_upkeep_is_bounded(broker: MemoryBroker, clock: VirtualClock) -> None:
    """One ``receive`` promotes and reclaims a thousand at most, so that none takes long."""
    total = MAX_UPKEEP + 10
    broker.send([message(str(index)) for index in range(total)])
    for _ in range(2):
        broker.receive(["q"], limit=MAX_UPKEEP, wait=0, lease=LEASE)
    clock.advance(LEASE)

    broker.receive(["q"], limit=0, wait=0, lease=LEASE)

    counts = broker.counts(["q"])["q"]
    assert (counts.ready, counts.leased) == (MAX_UPKEEP, 10)


# -- memory is given back (QK14) -------------------------------------------------------------------------------------


def test_an_id_is_forgotten_after_the_window(broker: MemoryBroker, clock: VirtualClock) -> None:
    """A send is swallowed for five minutes after the ack, and accepted afterwards."""
    broker.send([message()])
    broker.settle([Ack(each) for each in broker.receive(["q"], limit=1, wait=0, lease=LEASE)])
    clock.advance(broker.limits.dedup_window - 1.0)
    broker.send([message()])
    within = take(broker)

    clock.advance(1.0)
    broker.send([message()])

    assert (within, take(broker)) == ([], ["a"])


def test_nothing_is_left_after_a_drain(
    broker: MemoryBroker, backend: MemoryBackend, clock: VirtualClock, url: EngineURL
) -> None:
    """When all is done and its time has passed, the engine holds no message, id, key, record or group."""
    envelopes = [message(str(index), unique=Unique(key=str(index)), delay=index % 3) for index in range(500)]
    broker.send(envelopes)
    clock.advance(3.0)
    for delivery in broker.receive(["q"], limit=500, wait=0, lease=LEASE):
        records = (Record(key=delivery.id, ttl=60.0),)
        broker.commit(
            [
                CommitItem(
                    settlement=Ack(delivery), records=records, joins=(Join(group="g", member=0, size=9, ttl=60.0),)
                )
            ]
        )

    clock.advance(1_000.0)
    broker.receive(["q"], limit=0, wait=0, lease=LEASE)
    backend.put([Record(key="one more")])

    engine = MemoryEngine.of(url, clock=clock)
    queue = engine.messages._queues["q"]
    assert (len(queue.entries), len(queue._gone), len(engine.messages._keys), len(engine.records)) == (0, 0, 0, 1)
    assert broker.queues() == ["q"]


def test_asking_about_a_queue_creates_none(broker: MemoryBroker) -> None:
    """Receiving from, counting, peeking and purging an unknown queue leave nothing behind."""
    take(broker)
    broker.counts(["q"])
    broker.peek("q", place=Place.READY)
    broker.purge("q")
    broker.remove("q", ["a"])
    broker.requeue("q")

    assert broker.queues() == []


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5) | st.none()), max_size=200))
def test_a_priority_queue_keeps_order(steps: list[tuple[str, int | None]]) -> None:
    """Whatever is added, moved and taken out, a priority queue returns its first, its length and its content."""
    queue: PriorityQueue[str] = PriorityQueue()
    model: dict[str, int] = {}
    for name, order in steps:
        if order is None:
            queue.discard(name)
            model.pop(name, None)
        else:
            queue.add(name, (order,), name)
            model[name] = order

        expected = min(model, key=lambda each: (model[each], each), default=None)
        assert (queue.first(), len(queue), sorted(queue)) == (expected, len(model), sorted(model))


def test_a_priority_queue_keeps_no_leftovers() -> None:
    """What is moved again and again takes no more room than one that is not."""
    queue: PriorityQueue[str] = PriorityQueue()
    for order in range(10_000):
        queue.add("a", (order,), "a")

    assert len(queue._heap) < 100


# -- corners ---------------------------------------------------------------------------------------------------------


def test_tokens_differ_whatever_the_chance(url: EngineURL, clock: VirtualClock) -> None:
    """Two clients with the same source of chance never make the same token: the fence holds."""
    brokers = [MemoryBroker(url, clock=clock, random=Random(7)) for _ in range(2)]
    brokers[0].send([message()])
    tokens = set()
    for broker in brokers:
        (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=LEASE)
        tokens.add(delivery.token)
        broker.settle([Release(delivery)])

    assert len(tokens) == 2


def test_an_interrupt_that_comes_first_is_wanted(broker: MemoryBroker) -> None:
    """An interrupt just before a ``receive`` begins to wait is not lost, and is heard once."""
    broker.interrupt()
    broker.interrupt()

    waited = take(broker, wait=60.0)
    broker.send([message()])

    assert (waited, take(broker, wait=60.0)) == ([], ["a"])


def test_an_interrupt_reaches_only_its_client(url: EngineURL, clock: VirtualClock) -> None:
    """A client that is interrupted does not stop the others."""
    one, other = MemoryBroker(url, clock=clock), MemoryBroker(url, clock=clock)
    with ThreadPoolExecutor(2) as pool:
        stopped, waiting = pool.submit(take, one, wait=60.0), pool.submit(take, other, wait=60.0)
        clock.wait_for_waiters(2)
        one.interrupt()
        first = stopped.result(timeout=PATIENCE)
        still = not waiting.done()
        other.send([message()])
        second = waiting.result(timeout=PATIENCE)

    assert (first, still, second) == ([], True, ["a"])


def test_a_purge_of_leased_ones_takes_their_lease(broker: MemoryBroker) -> None:
    """Who held a message that was purged is told so."""
    broker.send([message()])
    (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=LEASE)

    assert broker.purge("q", place=Place.LEASED) == 1
    assert broker.settle([Ack(delivery)]) == [delivery]


def test_a_retry_may_move_to_another_queue(broker: MemoryBroker) -> None:
    """The next attempt stands in the queue that its envelope names, and takes its unique key along."""
    broker.send([message(unique=Unique(key="k"))])
    (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=LEASE)
    broker.settle([Replace(delivery, attrs.evolve(delivery.envelope, queue="other", attempt=1))])
    held = broker.send([message("b", unique=Unique(key="k"))])
    (moved,) = broker.receive(["other"], limit=1, wait=0, lease=LEASE)
    broker.settle([Ack(moved)])

    freed = broker.send([message("c", unique=Unique(key="k"))])

    assert (held, moved.id, take(broker, limit=5), freed) == (["a"], "a", ["c"], ["c"])


def test_a_replay_takes_its_unique_key_if_it_is_free(broker: MemoryBroker) -> None:
    """A replayed message holds its key again, unless another has taken it meanwhile."""
    for id in ("a", "b"):
        broker.send([message(id, unique=Unique(key="k"))])
        (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=LEASE)
        broker.settle([Dead(delivery, reason="failed")])

    replayed = broker.requeue("q")

    assert replayed == ["a", "b"]
    assert broker.send([message("c", unique=Unique(key="k"))]) == ["a"]


def test_a_commit_too_large_does_nothing(broker: MemoryBroker, backend: MemoryBackend) -> None:
    """A follow-up above the limit is refused before any item is done."""
    broker.send([message()])
    (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=LEASE)
    large = message("large", body=bytes(broker.limits.max_body + 1))
    items = [
        CommitItem(settlement=Ack(delivery), records=(Record(key="k"),)),
        CommitItem(joins=(Join(group="g", member=0, size=1, then=(large,)),)),
    ]

    with pytest.raises(TooLargeError, match="large"):
        broker.commit(items)

    assert backend.get(["k"]) == {}
    assert broker.settle([Ack(delivery)]) == []


def test_a_record_too_large_is_refused(backend: MemoryBackend) -> None:
    """A record above the limit raises, and nothing of the batch is written."""
    large = Record(key="large", body=bytes(backend.limits.max_record + 1))

    with pytest.raises(TooLargeError, match="large"):
        backend.put([Record(key="k"), large])

    assert backend.get(["k"]) == {}


def test_an_error_is_cut(broker: MemoryBroker) -> None:
    """Of an error text the dead letter keeps two thousand characters."""
    broker.send([message()])
    (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=LEASE)

    broker.settle([Dead(delivery, reason="failed", error="x" * 10_000)])

    (stored,) = broker.peek("q", place=Place.DEAD).items
    assert stored.error == "x" * 2_000


def test_a_wild_priority_is_cut(broker: MemoryBroker) -> None:
    """A priority outside 0 to 9 counts as the nearest one, and is shown as it was sent."""
    broker.send([message("low", priority=-5), message("normal"), message("high", priority=99)])

    taken = broker.receive(["q"], limit=3, wait=0, lease=LEASE)

    assert [(each.id, each.envelope.priority) for each in taken] == [("high", 99), ("normal", 4), ("low", -5)]


def test_a_close_wakes_who_waits(broker: MemoryBroker, clock: VirtualClock) -> None:
    """A client that is closed while a thread waits on it lets the thread go."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take, broker, wait=60.0)
        clock.wait_for_waiters(1)

        broker.close()

        assert waiting.result(timeout=PATIENCE) == []


def test_no_thread_is_left(broker: MemoryBroker, backend: MemoryBackend) -> None:
    """The engine has no thread of its own: what time brings about is done by those who ask."""
    before = threading.active_count()
    broker.send([message(delay=5.0)])
    take(broker)
    backend.put([Record(key="k", ttl=1.0)])

    assert threading.active_count() == before
