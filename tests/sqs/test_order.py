"""FIFO queues: one message of a group at a time, retries in their places, and hand-backs that use up no attempt."""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Snooze
from queuekit.backend import Backend
from queuekit.broker import Ack, Delivery, Release, Replace
from queuekit.engines.memory import MemoryBackend
from queuekit.envelope import Envelope, Unique
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit.retry import Fixed
from queuekit.timelimit import time_limit
from queuekit.urls import EngineURL
from queuekit_sqs.broker import SqsBroker
from support.aws_clients import sqs_broker
from support.aws_proxy import AwsProxy
from support.aws_servers import AwsServer
from support.waiting import UNHURRIED, wait_until
from support.working import working

Make = Callable[..., SqsBroker]
QUEUE = "orders.fifo"


@pytest.fixture(params=["ministack_server", pytest.param("moto_server", marks=pytest.mark.full)])
def server(request: pytest.FixtureRequest) -> AwsServer:
    """Return one imitation after the other."""
    found: AwsServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def make(server: AwsServer) -> Iterator[Make]:
    """Return what makes clients of the same queues; by default they share a backend."""
    made: list[SqsBroker] = []
    url = EngineURL.parse(server.sqs(f"o{secrets.token_hex(4)}"))
    records = MemoryBackend(EngineURL.parse(f"memory://{secrets.token_hex(4)}"))

    def make_one(backend: Backend | None = records) -> SqsBroker:
        made.append(sqs_broker(url))
        if backend is not None:
            made[-1].share(backend)
        return made[-1]

    yield make_one
    for broker in made:
        broker.close()


def messages(count: int, group: str = "g") -> list[Envelope]:
    """Return *count* messages of one group."""
    return [Envelope(id=new_id(), queue=QUEUE, body=b"{}", unique=Unique(key=group)) for _ in range(count)]


def take(broker: SqsBroker, *, lease: float = 30.0) -> list[Delivery]:
    """Return what is handed out next."""
    found: list[Delivery] = wait_until(
        lambda: broker.receive([QUEUE], limit=10, wait=1.0, lease=lease), what="a message"
    )
    return found


def test_one_message_of_a_group_is_in_hand(make: Make) -> None:
    """However many are asked for, one of each group is handed out; the next one follows its acknowledgement."""
    broker = make()
    ones, others = messages(3, "one"), messages(3, "other")
    broker.send([*ones, *others])
    seen: list[str] = []
    in_flight: list[Delivery] = []

    while len(seen) < 6:
        in_flight += broker.receive([QUEUE], limit=10, wait=0.0, lease=30) if in_flight else take(broker)
        groups = [one.envelope.unique.key for one in in_flight if one.envelope.unique]
        assert len(groups) == len(set(groups)), "two of one group"
        done = in_flight.pop(0)
        seen.append(done.id)
        broker.settle([Ack(done)])

    assert [id for id in seen if id in {one.id for one in ones}] == [one.id for one in ones]
    assert [id for id in seen if id in {one.id for one in others}] == [one.id for one in others]


def test_a_hand_back_uses_up_no_attempt(make: Make) -> None:
    """Whoever hands a message back, it comes with the attempt and the crashes that it had, and in its place."""
    clients = [make() for _ in range(3)]
    first, second = messages(2)
    clients[0].send([first, second])
    (delivery,) = take(clients[0])
    clients[0].settle([Replace(delivery, attrs.evolve(delivery.envelope, attempt=1))])

    for client in [*clients, *clients]:
        (delivery,) = take(client)
        assert (delivery.id, delivery.envelope.attempt, delivery.crashes) == (first.id, 1, 0)
        client.settle([Release(delivery)])

    numbers = delivery.number
    assert numbers == 7


def test_what_a_supervisor_hands_back_uses_up_no_attempt(make: Make) -> None:
    """Another process, which has nothing but the lease, hands back as well; only what it counts is a crash."""
    supervisor = make()
    supervisor.send(messages(1))
    stands = []

    for counted in (False, True, False):
        (delivery,) = take(make())
        stands.append((delivery.envelope.attempt, delivery.crashes))
        known = Envelope(id=delivery.id, queue=QUEUE, body=b"")
        lease = Delivery(envelope=known, token=delivery.token, number=delivery.number)
        supervisor.settle([Release(lease, counted=counted)])
    (delivery,) = take(make())

    assert [*stands, (delivery.envelope.attempt, delivery.crashes)] == [(0, 0), (0, 0), (0, 1), (0, 1)]


def test_an_expired_lease_is_a_crash_and_no_attempt(make: Make) -> None:
    """What its holder said nothing of has crashed; the attempt is the same."""
    broker, other = make(), make()
    broker.send(messages(1))
    take(broker, lease=1.0)

    (again,) = take(other)

    assert (again.envelope.attempt, again.crashes) == (0, 1)


def test_a_retry_after_a_crash_begins_with_none(make: Make) -> None:
    """Crashes are those of the present attempt."""
    broker, other = make(), make()
    broker.send(messages(1))
    take(broker, lease=1.0)
    (delivery,) = take(other)
    other.settle([Replace(delivery, attrs.evolve(delivery.envelope, attempt=1))])

    (again,) = take(broker)

    assert (again.envelope.attempt, again.crashes) == (1, 0)


def test_a_moment_is_kept_in_place(make: Make) -> None:
    """A retry beyond what can be delayed at once comes at its moment, in its place, as the hop that it is."""
    broker = make()
    first, second = messages(2)
    broker.send([first, second])
    (delivery,) = take(broker)
    moment = delivery.claimed_at + 3.0
    later = attrs.evolve(delivery.envelope, attempt=1, hop=1, delay=1.0, not_before=moment)
    broker.settle([Replace(delivery, later)])

    (again,) = take(broker)

    assert again.id == first.id
    assert (again.envelope.attempt, again.envelope.hop, again.envelope.not_before) == (1, 1, moment)
    assert again.claimed_at >= moment - broker.limits.lease_granularity


def test_notes_leave_with_their_message(make: Make) -> None:
    """When all is done nothing is left in the backend."""
    records = MemoryBackend(EngineURL.parse(f"memory://{secrets.token_hex(4)}"))
    broker = make(records)
    broker.send(messages(1))
    broker.settle([Release(take(broker)[0])])
    assert len(records.scan("sqs:turn:").items) == 1

    broker.settle([Ack(take(broker)[0])])

    assert records.scan("sqs:turn:").items == ()


def test_a_backend_that_is_down_keeps_the_message(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be noted is not handed back, and what cannot be looked up waits: neither is lost or miscounted."""
    broker = make()
    broker.send(messages(1))
    (delivery,) = take(broker)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryBackend, "put", _down)
        with pytest.raises(UnavailableError):
            broker.settle([Release(delivery)])
    broker.settle([Release(delivery)])

    with monkeypatch.context() as patch:
        patch.setattr(MemoryBackend, "get", _down)
        wait_until(lambda: _fails(broker), what="an error")
    (again,) = take(broker)

    assert (again.id, again.envelope.attempt, again.crashes) == (delivery.id, 0, 0)


def _down(*_: object, **__: object) -> None:
    raise UnavailableError("down")


def _fails(broker: SqsBroker) -> bool:
    try:
        broker.receive([QUEUE], limit=10, wait=1.0, lease=30)
    except UnavailableError:
        return True
    return False


def test_without_a_backend_one_process_knows_its_own(make: Make) -> None:
    """Hand-backs of this process use up no attempt, with no backend either."""
    broker = make(None)
    broker.send(messages(1))
    for _ in range(3):
        (delivery,) = take(broker)
        broker.settle([Release(delivery)])

    (again,) = take(broker)

    assert (again.envelope.attempt, again.crashes) == (0, 0)


def test_a_long_send_to_one_group_ends_well(proxy: AwsProxy) -> None:
    """While its messages arrive one by one, a send to one group is not cut off by the time that a batch has."""
    broker = sqs_broker(proxy.sqs(f"l{secrets.token_hex(4)}"))
    broker.send(messages(1, "first"))
    proxy.latency = 0.3
    with time_limit(8.0):
        sent = broker.send(messages(30))

    assert len(sent) == 30
    assert broker.counts([QUEUE])[QUEUE].ready == 31
    broker.close()


# -- with workers ----------------------------------------------------------------------------------------------------


class Orders:
    """An app with a FIFO queue, and what its tasks have done."""

    def __init__(self, broker: str, backend: str, *, asynchronous: bool = False, workers: int = 1) -> None:
        self.runs: list[tuple[str, int]] = []
        self.together: list[str] = []
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._failures: dict[tuple[str, int], int] = {}
        worker: dict[str, Any] = {"queues": {QUEUE: 1}, "lease": 5.0, "concurrency": 8, "schedules": False}
        settings: dict[str, Any] = {"broker": broker, "backend": backend, "send_timeout": UNHURRIED, "worker": worker}
        self.apps = [Queuekit(**settings) for _ in range(workers)]
        for app in self.apps:
            app.task(name="order", queue=QUEUE, retries=2, retry=Fixed(0.2))(
                self.aorder if asynchronous else self.order
            )

    def fail(self, group: str, number: int, times: int) -> None:
        """Have the task fail at first."""
        self._failures[group, number] = times

    def order(self, group: str, number: int) -> None:
        """Do one."""
        with self._lock:
            self.runs.append((group, number))
            if group in self._running:
                self.together.append(group)
            self._running.add(group)
            failures = self._failures.get((group, number), 0)
            self._failures[group, number] = failures - 1
        threading.Event().wait(0.02)
        with self._lock:
            self._running.discard(group)
        if failures > 0:
            raise ValueError("not yet") if failures % 2 else Snooze(0.2)

    async def aorder(self, group: str, number: int) -> None:
        """Do one."""
        self.order(group, number)

    def run(self, groups: list[str], count: int) -> None:
        """Send *count* to each group, one after the other, and have them all done."""
        task = self.apps[0].tasks["order"]
        calls = [task.options(headers={"group": group}).s(group, number) for number in range(count) for group in groups]
        results = self.apps[0].send_many(calls)
        with ExitStack() as stack:
            for app in self.apps:
                stack.enter_context(working(app))
            for result in results:
                result.get(timeout=120)

    def of(self, group: str) -> list[int]:
        """Return what was done of one group, in order."""
        return [number for name, number in self.runs if name == group]


@pytest.mark.parametrize(
    "asynchronous", [pytest.param(False, id="def", marks=pytest.mark.full), pytest.param(True, id="async-def")]
)
def test_a_failure_keeps_those_behind_it_waiting(server: AwsServer, *, asynchronous: bool) -> None:
    """Six messages of one group, of which number 1 fails and is put off: each is done in its turn."""
    orders = Orders(server.sqs(secrets.token_hex(4)), server.dynamodb("order"), asynchronous=asynchronous)
    orders.fail("g", 1, 3)

    orders.run(["g"], 6)

    assert orders.of("g") == [0, 1, 1, 1, 1, 2, 3, 4, 5]


def test_groups_keep_their_orders_side_by_side(server: AwsServer) -> None:
    """Several groups and several workers: no group is overtaken by itself, and none has two at a time."""
    orders = Orders(server.sqs(secrets.token_hex(4)), server.dynamodb("order"), workers=2)
    orders.fail("a", 0, 2)
    orders.fail("b", 2, 1)

    orders.run(["a", "b", "c"], 5)

    assert orders.of("a") == [0, 0, 0, 1, 2, 3, 4]
    assert orders.of("b") == [0, 1, 2, 2, 3, 4]
    assert orders.of("c") == [0, 1, 2, 3, 4]
    assert orders.together == []


@pytest.mark.full
def test_order_outlives_what_the_network_does(proxy: AwsProxy) -> None:
    """Doubled deliveries, lost answers and entries that fail change neither the order nor the number of attempts."""
    proxy.doubled_receive, proxy.failing_entry = 3, 5
    proxy.lost_replies.update({"ReceiveMessage": 2, "ChangeMessageVisibilityBatch": 2, "DeleteMessageBatch": 2})
    orders = Orders(proxy.sqs(secrets.token_hex(4)), proxy.dynamodb("order"))
    orders.fail("g", 1, 2)
    orders.fail("g", 4, 1)

    orders.run(["g"], 6)

    assert orders.together == []
    firsts = list(dict.fromkeys(orders.of("g")))
    assert firsts == [0, 1, 2, 3, 4, 5], "none before its turn"
    assert orders.of("g") == sorted(orders.of("g"))
