"""What a server does to a client on a bad day: connections cut before and after the effect, elections, restarts."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
from pymongo.client_session import ClientSession

from queuekit.backend import Condition, Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Delivery, Release, Replace
from queuekit.envelope import Envelope, Unique
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit.timelimit import time_limit
from queuekit.urls import EngineURL
from queuekit_mongo import leases, settling
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name
from support.mongod import Mongod, ReplicaSet, shared_set
from support.waiting import PATIENCE, error_of, wait_until

HOW: dict[str, dict[str, Any]] = {
    "connection-closed": {"closeConnection": True},
    "not-primary": {"errorCode": 10107, "errorLabels": ["RetryableWriteError"]},
    "effect-without-reply": {
        "writeConcernError": {"code": 89, "errmsg": "no reply from a secondary"},
        "errorLabels": ["RetryableWriteError"],
    },
}
T = TypeVar("T")
COMMANDS = ("insert", "update", "find", "aggregate", "commitTransaction")
LEASE = 3_600.0
SOON = 30.0
"""Seconds: half of those for which the server lets a transaction live."""


@pytest.fixture
def server() -> Any:
    """Return the shared replica set, which fails nothing any more when the test is over."""
    members = shared_set()
    yield members
    members.heal()


def messages(queue: str, count: int) -> list[Envelope]:
    """Return *count* messages."""
    return [Envelope(id=new_id(), queue=queue, body=b"%d" % number) for number in range(count)]


@pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())
@pytest.mark.parametrize("command", COMMANDS)
def test_one_failure_of_a_command_harms_nothing(
    server: ReplicaSet, broker: MongoBroker, backend: MongoBackend, *, queue: str, command: str, how: dict[str, Any]
) -> None:
    """Whatever command fails, and whether or not it took effect: each message is delivered, and finished, once."""
    batch = messages(queue, 20)
    broker.send(batch[:1])
    broker.settle([Ack(one) for one in broker.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)])
    finished: Counter[str] = Counter()
    failed = 0

    for step in range(4):
        server.fail([command], times=1, **how)
        if step == 0:
            broker.send(batch[1:])
        if command == "aggregate":  # else it is up to a waiting receive whether there is one
            broker.counts([queue])
        deliveries = broker.receive([queue], limit=5, wait=PATIENCE, lease=LEASE)
        if step % 2:
            assert broker.settle([Ack(one) for one in deliveries]) == []
        else:
            records = [Record(key=f"result:{one.id}", body=b"done", rank=5, ttl=60.0) for one in deliveries]
            pairs = zip(deliveries, records, strict=True)
            done = broker.commit([CommitItem(settlement=Ack(one), records=(record,)) for one, record in pairs])
            assert all(done)
            assert len(backend.get([record.key for record in records])) == len(records)
        finished.update(one.id for one in deliveries)
        failed += server.heal()
    finished.update(one.id for one in broker.receive([queue], limit=20, wait=0, lease=LEASE))

    assert failed
    assert finished == Counter(envelope.id for envelope in batch[1:])


@pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())
def test_a_put_is_answered_right_after_a_lost_reply(
    server: ReplicaSet, backend: MongoBackend, how: dict[str, Any]
) -> None:
    """Who takes a lock is told so, also if the first reply never came; so for one record as for many."""
    one, *many = (Record(key=f"lock:{new_id()}", body=b"mine", ttl=60.0) for _ in range(4))
    backend.get([one.key])

    server.fail(["findAndModify"], times=1, **how)
    alone = backend.put([one], condition=Condition.ABSENT)
    server.fail(["update"], times=1, **how)
    together = backend.put(many, condition=Condition.ABSENT)

    assert (alone, together) == ([True], [True] * 3)
    assert backend.put([one, *many], condition=Condition.ABSENT) == [False] * 4


def test_an_arrival_that_no_majority_has_is_no_answer(server: ReplicaSet, backend: MongoBackend) -> None:
    """Where the server cannot tell that arrivals will be kept, whoever counts on them is told, and may try again."""
    arrivals = [Join(group=f"group:{new_id()}", member=0, size=2) for _ in range(2)]
    unsure: dict[str, Any] = {"code": 64, "errmsg": "waiting for replication timed out"}
    backend.get(["any"])

    server.fail(["update"], mode="alwaysOn", writeConcernError=unsure)
    with pytest.raises(UnavailableError):
        backend.join_many(arrivals)
    server.heal()

    assert backend.join_many(arrivals) == [1, 1]


def test_a_stale_settlement_is_refused_in_a_commit_and_by_itself(broker: MongoBroker, queue: str) -> None:
    """A worker frozen past its lease comes back with a token that opens nothing, however it settles."""
    (envelope,) = messages(queue, 1)
    broker.send([envelope])
    (stale,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=0.05)
    (present,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)
    later = attrs.evolve(envelope, attempt=1)

    settled = [broker.settle([each]) for each in (Ack(stale), Dead(stale, reason="failed"), Replace(stale, later))]
    committed = broker.commit([CommitItem(settlement=Ack(stale)), CommitItem(settlement=Ack(present))])

    assert settled == [[stale]] * 3
    assert committed == [False, True]


def test_an_operation_refused_is_an_error_in_plain_words(server: ReplicaSet, broker: MongoBroker, queue: str) -> None:
    """What the server refuses for good is UnavailableError with the reason, and without the client's chatter."""
    broker.queues()
    server.fail(["insert"], times=1, errorCode=14031)

    with pytest.raises(UnavailableError, match="no disk space"):
        broker.send(messages(queue, 1))


def test_a_server_that_is_gone_is_named_within_the_deadline(connect: Callable[..., MongoBroker]) -> None:
    """A send to nobody fails within its deadline, with one clear error that hides the password."""
    broker = connect("mongodb://user:hunter2@127.0.0.1:9/jobs", timeout=0.5)
    since = time.monotonic()

    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        broker.send(messages("q", 1))

    assert time.monotonic() - since < 25  # what pymongo would wait for by itself is 30
    assert "hunter2" not in str(caught.value)


def test_a_set_without_a_primary_is_not_called_unreachable(tmp_path: Path, connect: Callable[..., MongoBroker]) -> None:
    """A server that waits for the first ``rs.initiate()`` answers: the error says so, and what to do."""
    server = Mongod(tmp_path / "mongo")
    try:
        server.start()
        hurried = connect(f"mongodb://{server.address}/jobs", timeout=1.0)
        error = error_of(hurried.queues, UnavailableError, "has no primary")
    finally:
        server.kill()

    assert "rs.initiate()" in (error.fix or "")


@pytest.mark.timeout(180)
def test_a_server_that_is_killed_and_comes_back_has_lost_nothing(
    own_set: ReplicaSet, connect: Callable[..., MongoBroker], queue: str
) -> None:
    """What was sent, claimed or settled before a ``kill -9`` is there after it, and the clients find it again."""
    broker, hurried = connect(own_set.url("jobs")), connect(own_set.url("jobs"), timeout=1)
    batch = messages(queue, 30)
    broker.send(batch)
    held = broker.receive([queue], limit=10, wait=PATIENCE, lease=LEASE)
    broker.settle([Ack(one) for one in held[:5]])

    own_set.members[0].kill()
    with pytest.raises(UnavailableError):
        hurried.send(messages(queue, 1))
    own_set.members[0].start()
    assert own_set.primary.answers()

    assert broker.settle([Ack(one) for one in held]) == held[:5]
    rest = broker.receive([queue], limit=100, wait=PATIENCE, lease=LEASE)
    assert [one.id for one in (*held, *rest)] == [envelope.id for envelope in batch]


@pytest.mark.full
@pytest.mark.timeout(240)
def test_the_death_of_a_primary_loses_and_doubles_nothing(
    set_of_three: ReplicaSet, connect: Callable[..., MongoBroker], queue: str
) -> None:
    """Under load the primary is killed: all that was sent is delivered, and what is settled stays settled."""
    url = set_of_three.url("jobs")
    producer, consumer = connect(url, timeout=20), connect(url, timeout=20)
    sent: list[str] = []
    finished: Counter[str] = Counter()
    enough = threading.Event()

    def produce() -> None:
        while not enough.is_set():
            sent.extend(producer.send(messages(queue, 5)))

    def consume() -> None:
        while not enough.is_set() or finished.keys() < set(sent):
            deliveries = consumer.receive([queue], limit=10, wait=0.2, lease=5.0)
            lost = {one.token for one in consumer.settle([Ack(one) for one in deliveries])}
            finished.update(one.id for one in deliveries if one.token not in lost)

    threads = [threading.Thread(target=work, daemon=True) for work in (produce, consume)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(finished) >= 200, "there is load")
    set_of_three.primary.kill()
    before = len(sent)
    wait_until(lambda: len(sent) >= before + 200, "there is load again")
    enough.set()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(sent) >= before + 200
    assert finished == Counter(sent)
    print(f"sent and finished once across a failover: {len(sent)}")  # noqa: T201 - the figure is the point


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_transactions_survive_elections(set_of_three: ReplicaSet, connect: Callable[..., MongoBroker]) -> None:
    """The primary steps down again and again: each message and its record are there together, and finished once."""
    queue, url = f"q-{new_id()}", set_of_three.url("jobs")
    producer, consumer = connect(url), connect(url)
    sent: list[str] = []
    finished: Counter[str] = Counter()
    enough = threading.Event()

    def produce() -> None:
        while not enough.is_set():
            batch = messages(queue, 3)
            items = [CommitItem(records=(record_of(one.id, b"sent", 0),), sends=(one,)) for one in batch]
            insist(partial(producer.commit, items))
            sent.extend(one.id for one in batch)

    def consume() -> None:
        while not enough.is_set() or finished.keys() < set(sent):
            held = insist(lambda: consumer.receive([queue], limit=5, wait=0.2, lease=LEASE))
            items = [CommitItem(settlement=Ack(one), records=(record_of(one.id, b"done", 5),)) for one in held]
            done = insist(partial(consumer.commit, items))
            finished.update(one.id for one, yes in zip(held, done, strict=True) if yes)

    threads = started(produce, consume)
    for _ in range(4):
        before = len(finished)
        set_of_three.step_down()
        wait_until(lambda before=before: len(finished) >= before + 60, "there is load again")
    enough.set()
    for thread in threads:
        thread.join(PATIENCE)

    with closing(MongoBackend(EngineURL.parse(url), options=consumer._engine.options)) as backend:
        bodies = {record.body for record in backend.get([f"result:{id}" for id in sent]).values()}
    assert finished == Counter(sent)
    assert bodies == {b"done"}
    print(f"sent and finished in transactions across four elections: {len(sent)}")  # noqa: T201 - the figure


def started(*bodies: Callable[[], None]) -> list[threading.Thread]:
    """Return threads that run *bodies*."""
    threads = [threading.Thread(target=body, daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    return threads


def insist(call: Callable[[], T]) -> T:
    """Return the result of *call*, repeated while the deployment does not answer: on a busy machine elections last."""
    while True:
        with suppress(UnavailableError):
            return call()


def record_of(id: str, body: bytes, rank: int) -> Record:
    """Return a record for the result of message *id*."""
    return Record(key=f"result:{id}", body=body, rank=rank, ttl=3_600.0)


def test_a_key_is_free_after_a_claim_whose_holder_died(broker: MongoBroker, queue: str) -> None:
    """A unique key that nobody freed is free when its time has passed, though its message lies dead or done."""
    key = Unique(key=f"key-{queue}", until="ttl", ttl=2.0)
    first, second = (Envelope(id=new_id(), queue=queue, body=b"", unique=key) for _ in range(2))
    broker.send([first])
    broker.settle([Ack(one) for one in broker.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)])
    held = broker.send([second])

    wait_until(lambda: broker.send([second]) == [second.id], "the key is free")

    assert held == [first.id]


@pytest.mark.parametrize("way", ["lease-ends", "given-back"])
def test_a_transaction_whose_process_died_locks_nothing(
    connect: Callable[..., MongoBroker], queue: str, way: str
) -> None:
    """A worker that dies in a commit leaves a transaction open; its messages are handed out again without waiting."""
    prefix = unique_name("t")
    dead, alive = connect(prefix=prefix), connect(prefix=prefix)
    batch = messages(queue, 3)
    dead.send(batch)
    held = dead.receive([queue], limit=3, wait=PATIENCE, lease=0.3 if way == "lease-ends" else LEASE)
    session = dead._engine._own_session()
    session.start_transaction()
    settling.carry_out(dead._engine, [Ack(one) for one in held], session=session)

    if way == "given-back":
        assert alive.settle([Release(one, counted=True) for one in held]) == []
    again = alive.receive([queue], limit=3, wait=PATIENCE, lease=LEASE)

    assert [(one.id, one.crashes) for one in again] == [(envelope.id, 1) for envelope in batch]
    session.abort_transaction()
    assert dead.commit([CommitItem(settlement=Ack(one)) for one in held]) == [False] * 3


def test_a_commit_that_hangs_keeps_no_other_lease_from_being_extended(
    connect: Callable[..., MongoBroker], queue: str
) -> None:
    """Where a process stands still in the middle of a commit, its supervisor goes on extending all other leases."""
    prefix = unique_name("t")
    worker, supervisor = connect(prefix=prefix), connect(prefix=prefix)
    worker.send(messages(queue, 20))
    held = worker.receive([queue], limit=20, wait=PATIENCE, lease=0.5)
    session = worker._engine._own_session()
    session.start_transaction()
    settling.carry_out(worker._engine, [Ack(held[7])], session=session)

    lost = supervisor.extend([one.lease for one in held], lease=LEASE)

    again = supervisor.receive([queue], limit=20, wait=PATIENCE, lease=LEASE)
    session.abort_transaction()
    assert lost == []
    assert [one.id for one in again] == [held[7].id]


def test_who_dies_while_it_extends_locks_nothing(
    connect: Callable[..., MongoBroker], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever releases its messages, such as one that frees a slot for which they wait, does not wait for them."""

    class Killed(BaseException):
        """The process is gone."""

    def die(*args: Any, **options: Any) -> None:
        real(*args, **options)
        raise Killed

    prefix, real = unique_name("t"), leases._extend
    dead, alive = connect(prefix=prefix), connect(prefix=prefix)
    dead.send(messages(queue, 2))
    held = dead.receive([queue], limit=2, wait=PATIENCE, lease=LEASE)
    with monkeypatch.context() as patched:
        patched.setattr(leases, "_extend", die)
        patched.setattr(ClientSession, "abort_transaction", lambda _: None)
        with pytest.raises(Killed):
            dead.extend([one.lease for one in held], lease=LEASE)

    assert alive.settle([Release(one) for one in held]) == []


@pytest.mark.parametrize("way", ["lease-ends", "given-back"])
def test_who_dies_in_a_commit_of_what_it_has_taken_over_locks_nothing(
    connect: Callable[..., MongoBroker], queue: str, way: str
) -> None:
    """As if it had claimed the messages itself: a worker takes over those of others that wait for a slot."""
    prefix = unique_name("t")
    other, dead, alive = (connect(prefix=prefix) for _ in range(3))
    other.send(messages(queue, 3))
    held = other.receive([queue], limit=2, wait=PATIENCE, lease=LEASE)
    assert len(dead.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)) == 1
    assert dead.extend([one.lease for one in held], lease=0.3 if way == "lease-ends" else LEASE) == []
    session = dead._engine._own_session()
    session.start_transaction()
    settling.carry_out(dead._engine, [Ack(one) for one in held], session=session)

    if way == "given-back":
        assert alive.settle([Release(one, counted=True) for one in held]) == []
    again = alive.receive([queue], limit=1, wait=SOON, lease=LEASE)

    session.abort_transaction()
    assert [one.id for one in again] == [held[0].id]


def test_who_dies_while_it_extends_keeps_nobody_else_waiting(connect: Callable[..., MongoBroker], queue: str) -> None:
    """The server keeps the messages of a dead supervisor locked for a while, but those of others are taken back."""
    prefix = unique_name("t")
    dead, other, alive = (connect(prefix=prefix) for _ in range(3))
    batch = messages(queue, 4)
    alive.send(batch)
    locked = dead.receive([queue], limit=2, wait=PATIENCE, lease=2)
    assert len(other.receive([queue], limit=1, wait=PATIENCE, lease=2)) == 1
    with dead._engine._opened().start_session() as session:
        session.start_transaction()
        leases._extend(dead._engine, [one.lease for one in locked], LEASE, session)

        taken = [one.id for _ in range(2) for one in alive.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)]

        session.abort_transaction()
    rest = [one.id for _ in range(2) for one in alive.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)]
    assert set(taken) == {batch[3].id, batch[2].id}
    assert rest == [envelope.id for envelope in batch[:2]]


def test_a_claim_of_many_is_repeated_after_an_election(server: ReplicaSet, broker: MongoBroker, queue: str) -> None:
    """A claim that no majority may have, since the primary stepped down, is repeated; its caller hears of nothing."""
    batch = messages(queue, 3)
    broker.send(batch)
    interrupted = {"code": 11602, "errmsg": "operation was interrupted"}
    server.fail(["update"], times=1, writeConcernError=interrupted)

    held = broker.receive([queue], limit=3, wait=PATIENCE, lease=LEASE)

    assert server.heal()
    assert [one.id for one in held] == [envelope.id for envelope in batch]


@pytest.mark.parametrize("command", ["update", "commitTransaction"])
@pytest.mark.parametrize("how", ["before", "after"])
def test_a_commit_survives_the_end_of_another_lease_of_its_process(
    server: ReplicaSet, broker: MongoBroker, backend: MongoBackend, *, queue: str, command: str, how: str
) -> None:
    """Who takes a message back ends its holder's transaction; if that lives, it commits what it still holds (QK8)."""
    interrupted: dict[str, Any] = {"errorCode": 11601}
    if how == "after":
        interrupted = {"writeConcernError": {"code": 11601, "errmsg": "operation was interrupted"}}
    broker.send(messages(queue, 3))
    held = broker.receive([queue], limit=3, wait=PATIENCE, lease=LEASE)
    records = [Record(key=f"result:{one.id}", body=b"x", rank=5, ttl=60.0) for one in held]
    pairs = zip(held, records, strict=True)

    server.fail([command], **interrupted)
    done = broker.commit([CommitItem(settlement=Ack(one), records=(record,)) for one, record in pairs])

    assert done == [True] * 3
    assert len(backend.get([record.key for record in records])) == 3


def test_a_stream_whose_collection_is_dropped_is_opened_anew(connect: Callable[..., MongoBroker], queue: str) -> None:
    """Somebody empties the database: who waits burns no CPU over the stream that has ended, and is called again."""
    prefix = unique_name("t")
    sender, waiter = connect(prefix=prefix), connect(prefix=prefix)
    opened: list[Any] = []
    follow = waiter._notifier._follow

    def follow_again() -> Any:
        opened.append(follow())
        return opened[-1]

    waiter._notifier._follow = follow_again
    waiter.receive([queue], limit=1, wait=0.01, lease=LEASE)
    (envelope,) = messages(queue, 1)
    found: list[str] = []
    waiting = threading.Thread(
        target=lambda: found.extend(one.id for one in waiter.receive([queue], limit=1, wait=60, lease=LEASE))
    )
    waiting.start()

    wait_until(lambda: opened and waiter._notifier.streams, "the stream is open")
    sender._engine.messages.drop()
    wait_until(lambda: len(opened) > 1 and waiter._notifier.streams, "the stream is open again")
    sender.send([envelope])
    waiting.join(PATIENCE)

    assert found == [envelope.id]


def test_a_backend_survives_the_cut_of_its_stream(server: ReplicaSet, broker: MongoBroker) -> None:
    """A wait whose change stream is cut goes on: it looks by itself until there is a stream again."""
    url = EngineURL.parse(str(server.url("plugin")))
    backend = MongoBackend(url, options=broker._engine.options)
    record = Record(key=f"result:{new_id()}", body=b"x", final=True, ttl=60.0)
    found: list[dict[str, Record]] = []
    waiting = threading.Thread(target=lambda: found.append(backend.wait([record.key], timeout=PATIENCE)))
    server.fail(["aggregate", "getMore"], times=2, closeConnection=True)
    waiting.start()

    broker.commit([CommitItem(records=(record,))])
    waiting.join(PATIENCE)
    backend.close()

    assert [list(each) for each in found] == [[record.key]]


def extend_what_others_lock(broker: MongoBroker, held: Delivery) -> object:
    """Extend a lease as it is done where a plain update takes too long."""
    with broker._engine.calls():
        return leases._extend_unlocked(broker._engine, [held.lease], lease=LEASE)


OPENERS: dict[str, Callable[[MongoBroker, Delivery], object]] = {
    "commit": lambda broker, held: broker.commit(
        [CommitItem(settlement=Ack(held), records=(Record(key=f"result:{held.id}", ttl=60.0),))]
    ),
    "extend": extend_what_others_lock,
}


@pytest.mark.parametrize("open_transaction", OPENERS.values(), ids=OPENERS.keys())
def test_a_commit_that_never_arrived_blocks_no_later_call(
    server: ReplicaSet, broker: MongoBroker, queue: str, open_transaction: Callable[[MongoBroker, Delivery], object]
) -> None:
    """A process ends the transaction that a lost commit left open, which the server would keep for a minute (QK1)."""
    (envelope,) = messages(queue, 1)
    broker.send([envelope])
    (held,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)
    server.fail(["commitTransaction", "abortTransaction"], mode="alwaysOn", closeConnection=True)
    with time_limit(1.0), pytest.raises(UnavailableError):
        open_transaction(broker, held)
    server.heal()

    with time_limit(45.0):  # less than a minute
        lost = broker.settle([Ack(held)])

    assert lost == []


def test_a_send_whose_commit_never_arrived_can_be_repeated(server: ReplicaSet, broker: MongoBroker, queue: str) -> None:
    """A repeated send does not meet its own first attempt, whichever thread repeats it (QK13)."""
    first, second = messages(queue, 2)
    items = [CommitItem(records=(Record(key=f"result:{one.id}", ttl=60),), sends=(one,)) for one in (first, second)]
    broker.queues()
    server.fail(["commitTransaction", "abortTransaction"], mode="alwaysOn", closeConnection=True)
    for item in items:
        with time_limit(1.0), pytest.raises(UnavailableError):
            broker.commit([item])
    server.heal()

    with time_limit(45.0):  # less than a minute
        done = [broker.commit([item]) for item in items]

    assert done == [[True], [True]]
    assert not broker._engine._unsure
    assert [one.id for one in broker.receive([queue], limit=3, wait=PATIENCE, lease=LEASE)] == [first.id, second.id]
