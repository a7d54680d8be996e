"""Connections that break, servers that restart or fall silent: the client is back as soon as they are."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from queuekit.backend import Record
from queuekit.broker import Ack, CommitItem, Delivery
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually, in_thread
from support.redis_fleets import RedisPair
from support.redis_servers import RedisServer, need
from support.waiting import PATIENCE, wait_until


def message(id: str = "one", **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "jobs", "body": b"body", **fields})


def receive(broker: RedisBroker, *, wait: float = 30.0) -> list[Delivery]:
    """Return what comes within *wait* seconds, whatever goes wrong meanwhile, as a worker's fetcher does."""
    deadline = time.monotonic() + wait
    while True:
        try:
            return broker.receive(["jobs"], limit=10, wait=max(0.0, deadline - time.monotonic()), lease=60)
        except UnavailableError:
            assert time.monotonic() < deadline, "the server has not come back"
            time.sleep(0.02)


def kill_connections(server: RedisServer) -> None:
    """Cut all connections of clients."""
    server.say("CLIENT", "KILL", "TYPE", "normal")
    server.say("CLIENT", "KILL", "TYPE", "pubsub")


def test_works_on_after_its_connections_were_cut(
    redis_server: RedisServer, connect: Callable[..., RedisBroker]
) -> None:
    """Each call after the cut works: also a claim, which must not be repeated."""
    broker = connect(redis_server.url)
    for number in range(10):
        broker.send([message(str(number))])
        kill_connections(redis_server)
        (delivery,) = broker.receive(["jobs"], limit=1, wait=0, lease=60)
        kill_connections(redis_server)
        assert broker.extend([delivery.lease], lease=60) == []
        kill_connections(redis_server)
        assert broker.settle([Ack(delivery)]) == []


def test_is_woken_after_its_connection_was_cut(redis_server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    """A receive that waits when its connection is cut raises at once, and the next one hears of a send."""
    broker, other = connect(redis_server.url), connect(redis_server.url)
    waiting = in_thread(lambda: broker.receive(["jobs"], limit=1, wait=30, lease=60))
    eventually(lambda: b"blocked_clients:1" in redis_server.say("INFO", "clients"))

    kill_connections(redis_server)

    assert isinstance(waiting.exception(timeout=PATIENCE), UnavailableError)
    waiting = in_thread(lambda: broker.receive(["jobs"], limit=1, wait=30, lease=60))
    eventually(lambda: b"blocked_clients:1" in redis_server.say("INFO", "clients"))
    other.send([message()])
    assert [delivery.id for delivery in waiting.result(timeout=PATIENCE)] == ["one"]


def test_finds_everything_after_a_restart(redis_server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    """A server with an append-only file that is killed and started again has each message where it was."""
    broker = connect(redis_server.url)
    broker.send([message(str(number)) for number in range(100)])
    held = broker.receive(["jobs"], limit=10, wait=0, lease=60)
    broker.settle([Ack(delivery) for delivery in held[:5]])
    wait_until(redis_server.has_written, what="an append-only file that has it all")
    os.kill(redis_server.pid, signal.SIGKILL)
    redis_server.stop()
    with pytest.raises(UnavailableError):
        broker.counts(["jobs"])

    redis_server.start()

    counts = broker.counts(["jobs"])["jobs"]
    assert (counts.ready, counts.leased) == (90, 5)
    assert broker.settle([Ack(delivery) for delivery in held[5:]]) == []
    assert broker.send([message("0")]) == ["0"]
    assert broker.counts(["jobs"])["jobs"].ready == 90


def test_consumes_again_after_a_restart(redis_server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    """A consumer that waits while the server restarts takes what is sent afterwards."""
    broker, other = connect(redis_server.url), connect(redis_server.url)
    waiting = in_thread(lambda: receive(broker))
    eventually(lambda: b"blocked_clients:1" in redis_server.say("INFO", "clients"))

    redis_server.kill()
    redis_server.start()

    other.send([message()])
    assert [delivery.id for delivery in waiting.result(timeout=PATIENCE)] == ["one"]


def test_fails_within_its_time_on_a_silent_server(
    redis_server: RedisServer, connect: Callable[..., RedisBroker]
) -> None:
    """A server that is frozen makes a call fail after ``timeout`` seconds; thawed, it has done it once."""
    patient, hurried = connect(redis_server.url), connect(redis_server.url, timeout=0.3)
    wait_until(lambda: is_sent(hurried, "known"), what="an answer in time, as a busy machine does not always give one")
    os.kill(redis_server.pid, signal.SIGSTOP)

    with pytest.raises(UnavailableError) as caught:
        hurried.send([message()])
    os.kill(redis_server.pid, signal.SIGCONT)

    assert "in time" in str(caught.value)
    assert patient.send([message()]) == ["one"]
    assert patient.counts(["jobs"])["jobs"].ready == 2


def is_sent(broker: RedisBroker, id: str) -> bool:
    """Return whether a message could be sent."""
    with suppress(UnavailableError):
        return broker.send([message(id)]) == [id]
    return False


def test_outlives_a_pause(redis_server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    """``CLIENT PAUSE`` is a delay, not a loss."""
    broker = connect(redis_server.url)
    broker.send([message("known")])
    redis_server.say("CLIENT", "PAUSE", 500)

    broker.send([message()])

    assert sorted(delivery.id for delivery in receive(broker)) == ["known", "one"]


def test_waits_for_a_result_through_a_cut(
    redis_server: RedisServer, connect_backend: Callable[..., RedisBackend]
) -> None:
    """A wait whose connection is cut raises ``UnavailableError``; waiting again works."""
    backend, other = connect_backend(redis_server.url), connect_backend(redis_server.url)
    waiting = in_thread(lambda: backend.wait(["key"], timeout=PATIENCE))
    eventually(lambda: b"pubsub_clients:1" in redis_server.say("INFO", "clients"))

    kill_connections(redis_server)

    assert isinstance(waiting.exception(timeout=PATIENCE), UnavailableError)
    waiting = in_thread(lambda: backend.wait(["key"], timeout=PATIENCE))
    eventually(lambda: b"pubsub_clients:1" in redis_server.say("INFO", "clients"))
    other.put([Record(key="key", final=True)])
    assert list(waiting.result(timeout=PATIENCE)) == ["key"]


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> RedisPair:
    """Return a primary, a replica and a Sentinel that a test may harm."""
    return RedisPair(tmp_path_factory.mktemp("pair"))


def test_follows_a_failover(pair: RedisPair, connect: Callable[..., RedisBroker]) -> None:
    """When the primary dies, the client goes on with the replica that the Sentinel has promoted."""
    try:
        pair.start()
        broker = connect(pair.url)
        broker.send([message(str(number)) for number in range(50)])
        wait_until(pair.is_even, "the replica has it all")
        pair.first.kill()
        wait_until(pair.is_failed_over, "the replica is the primary")

        taken = [delivery.id for _ in range(5) for delivery in receive(broker)]

        assert sorted(taken, key=int) == [str(number) for number in range(50)]
    finally:
        pair.stop()


@pytest.mark.parametrize("count", [1, 2])
def test_queues_are_known_again_after_the_server_was_emptied(
    redis_server: RedisServer, connect: Callable[..., RedisBroker], count: int
) -> None:
    """Whatever way messages go, their queue is listed again by the first of them."""
    broker = connect(redis_server.url)
    broker.send([message("before")])
    redis_server.say("FLUSHALL")

    done = broker.commit([CommitItem(sends=tuple(message(str(number)) for number in range(count)))])

    assert (done, broker.queues()) == ([True], ["jobs"])


@pytest.mark.parametrize("leg", ["valkey", "redis-6.2"])
def test_leaves_a_server_that_has_become_a_replica(
    tmp_path_factory: pytest.TempPathFactory, connect: Callable[..., RedisBroker], leg: str
) -> None:
    """A connection to a primary that is one no more is not kept, so that the next leads where the name does now."""
    server = RedisServer(need(leg), tmp_path_factory.mktemp("replica"), arguments=["--save", ""]).start()
    try:
        broker = connect(server.url)
        broker.send([message()])
        server.say("REPLICAOF", "127.0.0.1", 1)
        clients = server.say("CLIENT", "LIST").count(b"name=queuekit ")

        with pytest.raises(UnavailableError, match="is a replica"):
            broker.send([message("two")])

        wait_until(lambda: b"name=queuekit " not in server.say("CLIENT", "LIST"), "the connection is closed")
        assert clients == 1
    finally:
        server.stop()


def test_sleeps_where_pipes_cannot_be_made_in_one_step(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker waits on systems without ``pipe2`` as well, of which macOS is one."""
    monkeypatch.delattr(os, "pipe2", raising=False)

    assert broker.receive(["jobs"], limit=1, wait=0.1, lease=60) == []


@contextmanager
def deaf_sentinel() -> Iterator[tuple[int, list[int]]]:
    """Yield a port that ends each connection at once, and a list that has an entry for each."""
    asked: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    asked.append(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_asks_a_sentinel_that_is_gone_once(redis_pair: RedisPair, connect: Callable[..., RedisBroker]) -> None:
    """The next Sentinel is asked at once: what waits for a dead one longer than a call may take is no failover."""
    with deaf_sentinel() as (port, asked):
        broker = connect(redis_pair.url.replace("127.0.0.1", f"127.0.0.1:{port},127.0.0.1", 1))

        assert broker.send([message()]) == ["one"]

    assert asked == [1]


def test_says_why_no_sentinel_answers(connect: Callable[..., RedisBroker]) -> None:
    """The error has the reason of each Sentinel, and neither the way it was asked nor its password."""
    with deaf_sentinel() as (port, _):
        url = f"redis+sentinel://127.0.0.1:{port},127.0.0.1:1/jobs/0"
        broker = connect(url, sentinel_username="guard", sentinel_password="secret")  # noqa: S106 - of nobody

        with pytest.raises(UnavailableError) as caught:
            broker.send([message()])

    assert "no Sentinel names a primary of 'jobs'; " in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value).partition("; ")[2]
    assert "redis.client" not in str(caught.value)
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
