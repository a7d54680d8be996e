"""The quick scripts do what the thorough ones do, and hand over what they cannot judge."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from queuekit.backend import Record
from queuekit.broker import Ack, CommitItem, Delivery, Place
from queuekit.envelope import Envelope
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually, in_thread
from support.redis_servers import RedisServer
from support.waiting import PATIENCE

ROUTES = ("send", "commit")


def message(id: str, **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "jobs", "body": b"body", **fields})


def record(id: str, *, rank: int = 1, body: bytes = b"") -> Record:
    """Return the record of message *id*."""
    return Record(key=f"result:{id}", body=body, rank=rank, ttl=60, final=rank > 1)


def take(broker: RedisBroker, limit: int = 100) -> list[Delivery]:
    """Return what is ready."""
    return broker.receive(["jobs"], limit=limit, wait=0, lease=60)


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    """Return the ids of *deliveries*."""
    return [each.id for each in deliveries]


def send(broker: RedisBroker, route: str, envelopes: Sequence[Envelope]) -> None:
    """Send *envelopes* by the method *route*."""
    if route == "send":
        broker.send(envelopes)
    else:
        broker.commit([CommitItem(sends=(each,)) for each in envelopes])


@pytest.fixture
def backend(connect_backend: Callable[..., RedisBackend]) -> RedisBackend:
    """Return the backend on the broker's keys."""
    return connect_backend()


@pytest.mark.parametrize("route", ROUTES)
def test_a_batch_keeps_its_order_and_its_levels(broker: RedisBroker, route: str) -> None:
    """Messages of one batch come in their order, the urgent ones first, whatever levels they were given."""
    levels = {"low": 0, "a": 4, "b": 4, "high": 9, "beyond": 99, "below": -3}

    send(broker, route, [message(id, priority=level) for id, level in levels.items()])

    assert ids(take(broker)) == ["high", "beyond", "a", "b", "low", "below"]


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_known_is_judged_one_by_one(broker: RedisBroker, route: str) -> None:
    """In one batch a repetition adds nothing, a later attempt takes its place, and what is new is sent."""
    send(broker, route, [message("one"), message("two")])

    send(broker, route, [message("one"), message("two", attempt=1), message("new"), message("new")])

    taken = take(broker)
    assert sorted(ids(taken)) == ["new", "one", "two"]
    assert {each.id: each.envelope.attempt for each in taken}["two"] == 1


def test_some_of_a_batch_have_records(broker: RedisBroker, backend: RedisBackend) -> None:
    """Messages with and without record keep their order, and each record is written."""
    items = [
        CommitItem(sends=(message(id),), records=(record(id),) if id in "ac" else ()) for id in ("a", "b", "c", "d")
    ]

    assert broker.commit(items) == [True] * 4

    assert ids(take(broker)) == ["a", "b", "c", "d"]
    assert sorted(backend.get([f"result:{id}" for id in "abcd"])) == ["result:a", "result:c"]


def test_a_record_that_is_newer_stays(broker: RedisBroker, backend: RedisBackend) -> None:
    """Neither the PENDING of a send nor the outcome of a run goes back behind what is there."""
    backend.put([record("one", rank=5, body=b"known"), record("two", rank=5, body=b"known")])
    broker.commit([CommitItem(sends=(message(id),), records=(record(id),)) for id in ("one", "two")])

    ranks = {"one": 3, "two": 7}
    finished = [
        CommitItem(settlement=Ack(each), records=(record(each.id, rank=ranks[each.id], body=b"new"),))
        for each in take(broker)
    ]

    assert broker.commit(finished) == [True, True]
    found = backend.get(["result:one", "result:two"])
    assert [found[f"result:{id}"].body for id in ("one", "two")] == [b"known", b"new"]


def test_nothing_is_told_where_nobody_listens(
    redis_server: RedisServer, connect: Callable[..., RedisBroker], connect_backend: Callable[..., RedisBackend]
) -> None:
    """Final records are published only while somebody waits for one; then the end is told."""
    broker, backend = connect(redis_server.url), connect_backend(redis_server.url)
    raw: Any = redis.Redis(port=redis_server.port)
    broker.send([message("one"), message("two")])
    one, two = take(broker)

    def published() -> int:
        return int(raw.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"])

    broker.commit([CommitItem(settlement=Ack(one), records=(record("one", rank=9),))])
    unpublished = published()
    waiting = in_thread(lambda: backend.wait(["result:two"], timeout=PATIENCE))
    eventually(lambda: len(raw.pubsub_channels()) > 1)
    broker.commit([CommitItem(settlement=Ack(two), records=(record("two", rank=9),))])

    assert list(waiting.result(timeout=PATIENCE)) == ["result:two"]
    assert (unpublished, published()) == (0, 1)
    raw.close()


def test_a_claim_looks_for_marks(broker: RedisBroker, backend: RedisBackend) -> None:
    """Told what marks look like, a claim tells whether any of its messages has one; else nothing is said."""
    broker.send([message("before")])
    unasked = take(broker)
    assert broker.look_for_marks("cancel:")

    broker.send([message("one")])
    unmarked = take(broker)
    backend.put([Record(key="cancel:two", ttl=60)])
    broker.send([message("two")])
    marked = take(broker)

    assert [each.unmarked for each in (*unasked, *unmarked, *marked)] == [False, True, False]


def test_a_claim_looks_for_marks_of_workflows(broker: RedisBroker, backend: RedisBackend) -> None:
    """A mark of a workflow marks all of its parts, whose ids begin with that of the workflow."""
    assert broker.look_for_marks("cancel:")
    backend.put([Record(key="cancel:other", ttl=60)])

    broker.send([message("flow.1"), message("flow.2.0")])
    unmarked = take(broker)
    backend.put([Record(key="cancel:flow", ttl=60)])
    broker.send([message("flow.2.1")])
    marked = take(broker)

    assert [each.unmarked for each in (*unmarked, *marked)] == [True, True, False]


def test_a_claim_that_was_given_up_takes_nothing(broker: RedisBroker) -> None:
    """A server that comes to a claim when its sender listens no more leaves the messages where they are."""
    broker.send([message("one")])
    take(broker, limit=0)
    late, _ = broker._claims._call(["jobs"], limit=10, lease=60, patience=-1)

    reply = broker._server.one(late, again=False)

    assert reply[3:] == [[], []]
    assert ids(take(broker)) == ["one"]


def test_an_interrupted_sleep_loses_nothing(broker: RedisBroker) -> None:
    """A receive that is interrupted just as messages arrive returns them, or leaves them."""
    taken: list[str] = []
    for number in range(20):
        waiting = in_thread(lambda: broker.receive(["jobs"], limit=10, wait=30, lease=60))
        sending = in_thread(lambda number=number: broker.send([message(f"id-{number}")]))  # type: ignore[misc]
        broker.interrupt()
        taken += ids(waiting.result(timeout=PATIENCE))
        sending.result(timeout=PATIENCE)
    take(broker, limit=0)

    taken += ids(take(broker))

    assert sorted(taken) == sorted(f"id-{number}" for number in range(20))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("later", "earliest"),
    [
        pytest.param({"delay": 60.0}, 60.0, id="delay"),
        pytest.param({"delay": 60.0, "not_before": 1.0}, 60.0, id="delay-after-a-moment"),
        pytest.param({"delay": 60.0, "not_before": 9e9}, None, id="moment-after-a-delay"),
        pytest.param({"not_before": 9e9}, None, id="moment"),
    ],
)
def test_one_delayed_message_is_due_like_one_of_a_batch(
    broker: RedisBroker, backend: RedisBackend, route: str, later: dict[str, float], earliest: float | None
) -> None:
    """The quick script adds the delay to the server's time, and the later of delay and moment counts."""
    now = backend.now() or 0.0
    send(broker, route, [message("alone", priority=7, **later)])
    send(broker, route, [message(id, priority=7, **later) for id in ("one", "two")])

    found = {each.envelope.id: each for each in broker.peek("jobs", place=Place.DELAYED).items}

    assert sorted(found) == ["alone", "one", "two"]
    assert {each.envelope.priority for each in found.values()} == {7}
    wanted = 9e9 if earliest is None else now + earliest
    assert all(wanted <= each.due <= wanted + PATIENCE for each in found.values())


@pytest.mark.parametrize("route", ROUTES)
def test_a_moment_that_has_passed_delays_nothing(broker: RedisBroker, route: str) -> None:
    """A message sent alone is ready, like one without a moment."""
    send(broker, route, [message("past", not_before=1.0)])

    assert ids(take(broker)) == ["past"]


def test_a_delayed_message_keeps_its_record(broker: RedisBroker, backend: RedisBackend) -> None:
    """The quick script stores both in one step."""
    broker.commit([CommitItem(sends=(message("later", delay=60.0),), records=(record("later", body=b"waits"),))])

    assert backend.get(["result:later"])["result:later"].body == b"waits"
    assert broker.counts(["jobs"])["jobs"].delayed == 1
    assert take(broker) == []
