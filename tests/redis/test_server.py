"""What the server is left with: keys of ours alone, nothing that grows, few commands; and what ``check`` says of it."""

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from queuekit.backend import Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Delivery, Place, Release, Replace
from queuekit.envelope import Envelope, Unique
from queuekit.errors import UnavailableError
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually, in_thread
from support.redis_fleets import RedisCluster
from support.redis_servers import RedisServer, need, shared_url
from support.waiting import PATIENCE


def message(id: str = "one", **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "jobs", "body": b"body", **fields})


def messages(count: int, **fields: Any) -> list[Envelope]:
    """Return *count* messages."""
    return [message(f"id-{number}", **fields) for number in range(count)]


def take(broker: RedisBroker, limit: int = 100, *, lease: float = 60.0) -> list[Delivery]:
    """Return what is ready."""
    return broker.receive(["jobs"], limit=limit, wait=0, lease=lease)


def calls(raw: Any) -> dict[str, int]:
    """Return how often clients and scripts have called each command since the last reset."""
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in raw.info("commandstats").items()}


# -- commands --------------------------------------------------------------------------------------------------------


def test_one_send_is_one_command(own: RedisBroker, raw: Any) -> None:
    """A message without frills costs one call of a script, once its queue is known."""
    own.send([message("first")])
    raw.config_resetstat()

    for number in range(10):
        own.send([message(str(number))])

    assert calls(raw)["evalsha"] == 10


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "later", [pytest.param({"delay": 60.0}, id="delay"), pytest.param({"not_before": 4e9}, id="not-before")]
)
def test_a_delayed_send_is_one_command(own: RedisBroker, raw: Any, later: dict[str, float], count: int) -> None:
    """That also holds for a queue that never had a message due at once."""
    own.send(messages(count, **later))
    raw.config_resetstat()

    for number in range(10):
        own.send([message(f"{number}-{part}", **later) for part in range(count)])

    assert calls(raw)["evalsha"] == 10


def test_batches_are_one_command(own: RedisBroker, raw: Any) -> None:
    """A thousand messages are sent, claimed and acknowledged in three calls of scripts."""
    own.settle([Ack(each) for each in take(own)])
    own.send(messages(2))
    own.settle([Ack(each) for each in take(own)])
    raw.config_resetstat()

    own.send(messages(1_000))
    own.settle([Ack(each) for each in take(own, 1_000)])

    assert calls(raw)["evalsha"] == 3


def test_waiting_costs_no_commands(own: RedisBroker, raw: Any) -> None:
    """A receive that waits looks once before and once after; in between it sleeps on the server."""
    take(own)
    raw.config_resetstat()
    waiting = in_thread(lambda: own.receive(["jobs"], limit=1, wait=30, lease=60))
    eventually(lambda: raw.info("clients")["blocked_clients"] == 1)

    own.interrupt()

    assert waiting.result(timeout=PATIENCE) == []
    assert calls(raw)["exists"] == 2


def test_an_idle_worker_looks_once_a_wait(own: RedisBroker, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that follows another which waited in vain waits at once, and gets what was sent in between.

    The first call looks once more than it waits.
    """
    monkeypatch.setattr("queuekit_redis.broker._MOMENT", PATIENCE)
    looks = []
    for _ in range(3):
        raw.config_resetstat()
        assert own.receive(["jobs"], limit=1, wait=1.0, lease=60) == []
        counted = calls(raw)
        looks.append(counted["exists"] - counted["blpop"])
    own.send([message("between")])

    found = own.receive(["jobs"], limit=1, wait=PATIENCE, lease=60)

    assert [each.id for each in found] == ["between"]
    assert looks == [1, 0, 0]


def test_who_took_the_last_message_waits_without_a_look(
    own: RedisBroker, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim tells whether it left anything, so the next call waits for a notification at once."""
    monkeypatch.setattr("queuekit_redis.broker._MOMENT", PATIENCE)
    own.send([message("last")])
    own.receive(["jobs"], limit=10, wait=0, lease=60)
    raw.config_resetstat()
    waiting = in_thread(lambda: own.receive(["jobs"], limit=10, wait=PATIENCE, lease=60))
    eventually(lambda: raw.info("clients")["blocked_clients"] == 1)
    looks = calls(raw).get("evalsha", 0)

    own.send([message("next")])

    assert [each.id for each in waiting.result(timeout=PATIENCE)] == ["next"]
    assert looks == 0


def test_who_left_messages_claims_them_with_the_next_call(own: RedisBroker) -> None:
    """A claim that its limit ended is followed by another, not by a wait."""
    own.send(messages(3))

    found = [own.receive(["jobs"], limit=1, wait=PATIENCE, lease=60) for _ in range(3)]

    assert [each.id for (each,) in found] == ["id-0", "id-1", "id-2"]


def test_who_took_the_last_ready_message_wakes_for_a_delayed_one(
    own: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait without a look ends when the next message is due."""
    monkeypatch.setattr("queuekit_redis.broker._MOMENT", PATIENCE)
    own.send([message("now"), message("soon", delay=0.2)])
    own.receive(["jobs"], limit=10, wait=0, lease=60)

    found = own.receive(["jobs"], limit=10, wait=PATIENCE, lease=60)

    assert [each.id for each in found] == ["soon"]


def test_one_send_wakes_one_worker_and_many_wake_all(
    own: RedisBroker, connect: Callable[..., RedisBroker], raw: Any
) -> None:
    """Workers that wait for single messages all get one of a batch: whoever leaves some behind wakes the next."""
    others = [connect(f"redis://127.0.0.1:{raw.get_connection_kwargs()['port']}/0") for _ in range(4)]
    waiting = [in_thread(lambda each=each: each.receive(["jobs"], limit=1, wait=30, lease=60)) for each in others]  # type: ignore[misc]
    eventually(lambda: raw.info("clients")["blocked_clients"] == 4)

    own.send(messages(4))

    assert sorted(future.result(timeout=PATIENCE)[0].id for future in waiting) == ["id-0", "id-1", "id-2", "id-3"]


# -- keys ------------------------------------------------------------------------------------------------------------


def live_through(broker: RedisBroker) -> None:
    """Take messages through all that can become of them, until none is left."""
    key = Unique(key="key")
    broker.send([*messages(5), message("keyed", unique=key), message("late", delay=600.0)])
    acked, released, retried, dead, *rest = take(broker)
    broker.settle([Ack(acked), Release(released), Replace(retried, retried.envelope), Dead(dead, reason="failed")])
    broker.requeue("jobs", [dead.id])
    broker.remove("jobs", ["late"])
    broker.commit(
        [CommitItem(settlement=Ack(each), joins=(Join(group="g", member=1, size=2, ttl=0.01),)) for each in rest]
    )
    broker.settle([Ack(each) for each in take(broker)])


def test_nothing_is_left_of_what_is_done(own: RedisBroker, raw: Any) -> None:
    """After a drain only the queue's name and clock, and the version of the layout, are left (QK14)."""
    live_through(own)
    take(own)

    eventually(lambda: len(raw.keys("*")) == 3, what="the groups are gone")

    assert sorted(key.rpartition(b":")[2] for key in raw.keys("*")) == [b"clock", b"layout", b"queues"]


def test_ids_are_forgotten_when_their_time_is_over(
    redis_server: RedisServer, connect: Callable[..., RedisBroker], raw: Any
) -> None:
    """What is remembered of messages that are done goes when the window has passed, by the upkeep of any worker."""
    broker = connect(redis_server.url, dedup_window=1)
    broker.send(messages(300))
    broker.settle([Ack(each) for each in take(broker, 300)])
    (name,) = (key for key in raw.keys("*") if key.endswith(b":messages"))
    before = raw.hlen(name)

    def forgotten() -> bool:
        take(broker)
        return bool(raw.hlen(name) == 0)

    eventually(forgotten, what="the ids are forgotten")
    assert before == 300


def test_ids_are_forgotten_where_nobody_works_any_more(
    redis_server: RedisServer, connect: Callable[..., RedisBroker], raw: Any
) -> None:
    """From time to time a worker looks after other queues: what is remembered there goes, and dead letters stay."""
    gone, worker = connect(redis_server.url, dedup_window=1), connect(redis_server.url, dead_max_count=0)
    gone.send(messages(300))
    first, *rest = take(gone, 300)
    gone.settle([Dead(first, reason="failed"), *map(Ack, rest)])

    def forgotten() -> bool:
        worker._next_others = 0.0
        worker.receive(["mine"], limit=1, wait=0, lease=60)
        return bool(raw.hlen(f"{gone._keys.queue('jobs')}:messages") == 1)

    eventually(forgotten, what="the ids are forgotten")
    assert gone.counts(["jobs"])["jobs"].dead == 1


def test_keys_of_others_are_left_alone(
    own: RedisBroker, raw: Any, connect_backend: Callable[..., RedisBackend]
) -> None:
    """Purging, scanning and deleting touch no key but our own, whatever others are called."""
    others = [b"jobs", b"{jobs}:messages", b"other:{jobs}:ready", b"result:one", b"queuekit"]
    raw.mset(dict.fromkeys(others, b"theirs"))
    backend = connect_backend(f"redis://127.0.0.1:{raw.get_connection_kwargs()['port']}/0")

    own.send(messages(3))
    for place in Place:
        own.purge("jobs", place=place)
    backend.delete(["jobs", "one"])

    assert backend.scan("").items == ()
    assert raw.mget(others) == [b"theirs"] * len(others)


def test_two_prefixes_do_not_see_each_other(connect: Callable[..., RedisBroker]) -> None:
    """Apps with different prefixes share a server, and nothing else."""
    one, other = connect(), connect(key_prefix="another")
    one.send([message()])

    assert "jobs" in one.queues()
    assert take(other) == []
    assert one.engine_id != other.engine_id


def test_a_queue_lives_in_one_slot(redis_cluster: RedisCluster, connect: Callable[..., RedisBroker]) -> None:
    """On a Cluster all that messages go through works without a key of another slot."""
    broker = connect(redis_cluster.url)
    names = [f"q{number}" for number in range(12)]

    ids = broker.send([message(name, queue=name) for name in names])
    taken = broker.receive(names, limit=100, wait=5, lease=60)
    lost = broker.settle([Ack(each) for each in taken])

    assert (ids, [each.id for each in taken], lost) == (names, names, [])
    assert broker.queues() == sorted(names)


def test_survives_a_slot_that_has_moved(redis_cluster: RedisCluster, connect: Callable[..., RedisBroker]) -> None:
    """A client that knows an old map of the Cluster finds the queue where it is now."""
    broker = connect(redis_cluster.url)
    broker.send([message()])
    server: Any = broker._server
    wrong = {address for _, _, address in server._known_slots()} - {server._node_of("{jobs}")[0]}
    server._slots = [(0, 16_383, wrong.pop())]

    assert [each.id for each in take(broker)] == ["one"]


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_dead_letters_are_bounded_by_count(connect: Callable[..., RedisBroker], prefix: str) -> None:
    """With ``dead_max_count`` the oldest dead letters go, and are counted."""
    broker = connect(dead_max_count=3)
    broker.send(messages(8))
    for delivery in take(broker):
        broker.settle([Dead(delivery, reason="failed")])

    take(broker)

    left = [stored.envelope.id for stored in broker.peek("jobs", place=Place.DEAD).items]
    assert left == ["id-7", "id-6", "id-5"]
    assert redis.Redis.from_url(shared_url("valkey")).get(f"{prefix}:{{jobs}}:discarded") == b"5"


def test_dead_letters_are_bounded_by_age(connect: Callable[..., RedisBroker]) -> None:
    """With ``dead_max_age`` dead letters go when they are old."""
    broker = connect(dead_max_age=0.05)
    broker.send([message()])
    broker.settle([Dead(each, reason="failed") for each in take(broker)])

    def gone() -> bool:
        take(broker)
        return broker.counts(["jobs"])["jobs"].dead == 0

    eventually(gone, what="the dead letter is discarded")


def test_large_bodies_come_in_several_claims(connect: Callable[..., RedisBroker]) -> None:
    """A claim ends when it has many bytes, so that no reply takes all memory; the rest comes with the next."""
    broker = connect()
    body = random.Random(1).randbytes(1_000_000)
    for part in range(3):
        broker.send([message(f"{part}-{number}", body=body) for number in range(50)])

    first = take(broker, 1_000)

    rest = [len(take(broker, 1_000)) for _ in range(4)]
    assert 32 <= len(first) <= 132
    assert len(first) + sum(rest) == 150
    broker.purge("jobs", place=Place.LEASED)


def test_a_full_server_still_lets_messages_go(own: RedisBroker, raw: Any) -> None:
    """Above ``maxmemory`` sending fails with what to do; claiming and acknowledging go on, so workers make room."""
    own.send(messages(10))
    take(own, 1)
    raw.config_set("maxmemory", 1)

    with pytest.raises(UnavailableError) as caught:
        own.send([message("more")])
    done = take(own)
    lost = own.settle([Ack(each) for each in done])

    assert "maxmemory" in str(caught.value)
    assert (len(done), lost) == (9, [])


def test_promotes_many_that_are_due_at_once(own: RedisBroker) -> None:
    """Messages that are all due at one moment are promoted in bounded steps, and all of them come."""
    count = 5_000
    for start in range(0, count, 1_000):
        own.send([message(f"{start + number:06}", delay=0.2) for number in range(1_000)])
    seen: list[str] = []

    while len(seen) < count:
        batch = own.receive(["jobs"], limit=1_000, wait=10, lease=60)
        assert batch, "some are not handed out"
        seen += [each.id for each in batch]
        own.settle([Ack(each) for each in batch])

    assert seen == sorted(seen)


# -- looking ---------------------------------------------------------------------------------------------------------


def test_check_is_silent_on_a_server_that_keeps(own: RedisBroker) -> None:
    """A server with an append-only file that evicts nothing is as it should be."""
    assert own.check() == []


def test_check_warns_of_what_may_be_lost(
    own: RedisBroker, raw: Any, connect_backend: Callable[..., RedisBackend]
) -> None:
    """Eviction, and a server that keeps nothing on disk, are told, each in a line."""
    raw.config_set("maxmemory-policy", "allkeys-lru")
    raw.config_set("appendonly", "no")
    bare = own.check()
    raw.config_set("save", "3600 1")
    backend = connect_backend(f"redis://127.0.0.1:{raw.get_connection_kwargs()['port']}/0")

    snapshots = backend.check()

    assert [("maxmemory-policy is allkeys-lru" in line, "stores nothing" in line) for line in bare] == [
        (True, False),
        (False, True),
    ]
    assert ["last snapshot" in line for line in snapshots] == [False, True]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:{port}/0", "asks for a password"),
        ("redis://:wrong@127.0.0.1:{port}/0", "refuses"),
        ("redis://127.0.0.1:1/0", "cannot be reached"),
    ],
)
def test_errors_say_what_is_wrong(
    own: RedisBroker, raw: Any, connect: Callable[..., RedisBroker], url: str, said: str
) -> None:
    """A server that refuses or is not there is named, with what to do, and no password is shown."""
    raw.config_set("requirepass", "secret")
    broker = connect(url.format(port=raw.get_connection_kwargs()["port"]))

    with pytest.raises(UnavailableError) as caught:
        broker.send([message()])

    assert said in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_password_signs_in(own: RedisBroker, raw: Any, connect: Callable[..., RedisBroker]) -> None:
    """User and password of the URL are used."""
    raw.acl_setuser("worker", enabled=True, passwords=["+p@ss:word/"], keys=["*"], channels=["*"], categories=["+@all"])
    broker = connect(f"redis://worker:p%40ss%3Aword%2F@127.0.0.1:{raw.get_connection_kwargs()['port']}/0")

    assert broker.send([message()]) == ["one"]


def test_password_may_be_an_option(own: RedisBroker, raw: Any, connect: Callable[..., RedisBroker]) -> None:
    """A password in the query signs in, one that is wrong is told from none, and neither is shown."""
    raw.config_set("requirepass", "hush")
    url = f"redis://127.0.0.1:{raw.get_connection_kwargs()['port']}/0"
    right, wrong = ({"url": f"{url}?password={word}", "password": word} for word in ("hush", "amiss"))

    assert connect(**right).send([message()]) == ["one"]
    with pytest.raises(UnavailableError, match="refuses this user or password") as caught:
        connect(**wrong).queues()
    assert "amiss" not in str(caught.value)


def test_a_unix_socket_serves(tmp_path_factory: pytest.TempPathFactory, connect: Callable[..., RedisBroker]) -> None:
    """``redis+unix://`` reaches a server through its socket."""
    folder = tmp_path_factory.mktemp("s")
    server = RedisServer(need("valkey"), folder, arguments=["--save", "", "--unixsocket", str(folder / "s")]).start()
    try:
        broker = connect(f"redis+unix://{folder}/s?db=0")
        assert broker.send([message()]) == ["one"]
    finally:
        server.stop()


def test_a_result_wakes_no_stranger(connect_backend: Callable[..., RedisBackend], prefix: str) -> None:
    """Databases share channels, but not the news of each other's records."""
    here, there = connect_backend(), connect_backend(db=1, url=shared_url("valkey").removesuffix("/0"))
    waiting = in_thread(lambda: here.wait(["key"], timeout=0.3))
    there.put([Record(key="key", final=True)])

    assert waiting.result(timeout=PATIENCE) == {}


def test_environment_names_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """``QUEUEKIT_TEST_REDIS_URL`` makes the tests use a server that is there already."""
    monkeypatch.setitem(os.environ, "QUEUEKIT_TEST_REDIS_URL", "redis://elsewhere/3")

    assert shared_url("valkey") == "redis://elsewhere/3"
