"""Taking messages: what is urgent is heard of, and what is claimed ahead is asked for or given back."""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from queuekit.broker import Ack, Delivery, Release, Replace, Settlement
from queuekit.engines.memory import MemoryBackend
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_sqs.broker import SqsBroker
from support.aws_clients import sqs_broker
from support.aws_proxy import AwsProxy
from support.aws_servers import AwsServer
from support.waiting import PATIENCE, wait_until

Make = Callable[[], SqsBroker]


@pytest.fixture
def make(ministack_server: AwsServer) -> Iterator[Make]:
    """Return what makes brokers on the same queues."""
    made: list[SqsBroker] = []
    url = EngineURL.parse(ministack_server.sqs(f"r{secrets.token_hex(4)}"))

    def make_one() -> SqsBroker:
        made.append(sqs_broker(url))
        return made[-1]

    yield make_one
    for broker in made:
        broker.close()


def messages(count: int, queue: str = "q", **fields: Any) -> list[Envelope]:
    """Return *count* messages."""
    return [Envelope(id=new_id(), queue=queue, body=b"{}", **fields) for _ in range(count)]


@pytest.mark.parametrize("wait", [0.0, 5.0], ids=["looking", "waiting"])
@pytest.mark.parametrize("limit", [1, 100], ids=["one", "many"])
def test_what_is_urgent_does_not_wait_for_the_rest(make: Make, wait: float, limit: int) -> None:
    """A message of a higher priority is delivered though the lower one is never empty."""
    broker, sender = make(), make()
    sender.send([*messages(300), *messages(1, priority=9)])
    (first,) = broker.receive(["q"], limit=1, wait=5.0, lease=30)
    for _ in range(4):
        sender.send(messages(len(broker.receive(["q"], limit=limit, wait=wait, lease=600))))
    (urgent,) = sender.send(messages(1, priority=9))
    seen: set[str] = set()

    def look() -> bool:
        taken = broker.receive(["q"], limit=limit, wait=wait, lease=600)
        seen.update(each.id for each in taken)
        sender.send(messages(len(taken)))
        return urgent in seen

    assert first.envelope.priority == 9
    wait_until(look, what="the urgent message")


@pytest.fixture
def shared(make: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[[], SqsBroker]:
    """Return what makes brokers that share a backend, and would see a listing of the priorities too late."""
    monkeypatch.setattr("queuekit_sqs.queues._LIST_EVERY", 1e9)
    url = EngineURL.parse(f"memory://{secrets.token_hex(4)}")

    def make_one() -> SqsBroker:
        broker = make()
        broker.share(MemoryBackend(url))
        return broker

    return make_one


@pytest.mark.parametrize(
    "queues",
    [pytest.param(["q"], id="one", marks=pytest.mark.full), pytest.param(["other", "q", "x.fifo"], id="several")],
)
def test_a_priority_that_nobody_has_used_is_heard_of(shared: Make, queues: list[str]) -> None:
    """The first message ever of a priority reaches those who wait already, and each further priority does."""
    receiver, sender = shared(), shared()
    assert receiver.receive(queues, limit=10, wait=0.1, lease=30) == []

    for priority in (9, 0, 7):
        (sent,) = sender.send(messages(1, priority=priority))

        taken = wait_until(lambda: receiver.receive(queues, limit=10, wait=1.0, lease=30), what="the first of its kind")
        assert [(one.id, one.envelope.priority) for one in taken] == [(sent, priority)]
    assert sender._levels is not None
    assert sender._levels.read([sender._queues.usual("q").name]) == {sender._queues.usual("q").name: {0, 7, 9}}


def test_a_priority_is_announced_though_the_backend_was_down(shared: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that does not answer fails no send, and hears of the priority later."""
    monkeypatch.setattr("queuekit.levels._AGAIN", 0.0)
    receiver, sender = shared(), shared()
    receiver.receive(["q"], limit=10, wait=0.0, lease=30)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryBackend, "get", _down)
        first = sender.send(messages(1, priority=9))

    second = sender.send(messages(1, priority=9))

    seen: set[str] = set()

    def all_seen() -> bool:
        seen.update(one.id for one in receiver.receive(["q"], limit=10, wait=1.0, lease=30))
        return seen == {*first, *second}

    wait_until(all_seen, what="both")


def _down(*_: object) -> None:
    raise UnavailableError("down")


def test_who_has_no_backend_looks_often(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a backend a listing of the queues tells of new priorities."""
    monkeypatch.setattr("queuekit_sqs.queues._LIST_EVERY_ALONE", 0.0)
    receiver, sender = make(), make()
    receiver.receive(["q"], limit=10, wait=0.1, lease=30)

    (sent,) = sender.send(messages(1, priority=9))

    (taken,) = wait_until(lambda: receiver.receive(["q"], limit=10, wait=1.0, lease=30), what="the first of its kind")
    assert taken.id == sent


def test_who_waits_again_and_again_costs_one_long_poll(proxy: AwsProxy) -> None:
    """A long poll outlives the receive that began it, so that one of 20 seconds does for many short ones."""
    broker = sqs_broker(proxy.sqs(f"i{secrets.token_hex(4)}"))
    broker.receive(["q"], limit=0, wait=0, lease=30)
    proxy.counts.clear()

    taken = [broker.receive(["q"], limit=10, wait=0.2, lease=30) for _ in range(6)]

    assert taken == [[]] * 6
    assert proxy.counts["ReceiveMessage"] == 2, "a look and a long poll"
    assert proxy.counts.total() - proxy.counts["ListQueues"] == 2
    broker.close()


def test_what_is_claimed_ahead_is_given_back_if_nobody_asks(make: Make) -> None:
    """Who asks again and again gets messages that were claimed meanwhile; those left over are soon ready again."""
    broker, other = make(), make()
    other.send(messages(200))
    taken = [each for _ in range(4) for each in broker.receive(["q"], limit=100, wait=5.0, lease=600)]

    wait_until(lambda: other.counts(["q"])["q"].leased == len(taken), what="the others ready again")

    assert len({each.id for each in taken}) == len(taken) > 30
    assert other.counts(["q"])["q"].ready == 200 - len(taken)


def test_what_is_claimed_ahead_is_given_back_at_the_end(make: Make) -> None:
    """Closing gives back what nobody has asked for, as often delivered as before."""
    broker, other = make(), make()
    other.send(messages(200))
    taken = [each for _ in range(4) for each in broker.receive(["q"], limit=100, wait=5.0, lease=600)]

    broker.close()

    assert other.counts(["q"])["q"].ready == 200 - len(taken)
    rest: list[int] = []
    deadline = time.monotonic() + PATIENCE
    while len(rest) < 200 - len(taken) and time.monotonic() < deadline:
        rest += [each.crashes for each in other.receive(["q"], limit=100, wait=1.0, lease=600)]
    assert rest == [0] * (200 - len(taken))
    assert other.settle([Ack(each) for each in taken]) == []


@pytest.mark.parametrize(("queue", "delay"), [("q", 0.3), ("q", 1.4), ("q.fifo", 0.3), ("q.fifo", 0.8)])
def test_parts_of_a_second_are_kept(make: Make, queue: str, delay: float) -> None:
    """SQS delays by whole seconds, in a FIFO queue not at all; what comes too early is kept until it is due."""
    broker = make()
    begin = time.monotonic()
    (late,) = broker.send(messages(1, queue, delay=delay))

    taken = received(broker, queue)

    assert taken.id == late
    assert time.monotonic() - begin >= delay
    assert taken.crashes == 0
    assert broker.settle([Ack(taken)]) == []


@pytest.mark.parametrize("queue", ["q", "q.fifo"])
def test_what_comes_too_early_keeps_nothing_else_waiting(make: Make, queue: str) -> None:
    """While a message is kept until it is due, those of other queues are delivered."""
    broker = make()
    broker.send(messages(1, queue, delay=600))
    (ready,) = broker.send(messages(1, "other"))

    taken = received(broker, queue, "other")

    assert taken.id == ready


@pytest.mark.parametrize(
    "end",
    [
        lambda taken: Release(taken, delay=0.4),
        lambda taken: Replace(taken, attrs.evolve(taken.envelope, attempt=1, delay=0.4)),
    ],
    ids=["release", "retry"],
)
def test_what_is_handed_on_is_kept_for_parts_of_a_second(make: Make, end: Callable[[Delivery], Settlement]) -> None:
    """Releases and retries, too, are due at their moment and not a second sooner."""
    broker = make()
    broker.send(messages(1))
    taken = received(broker, "q")
    begin = time.monotonic()
    broker.settle([end(taken)])

    again = received(broker, "q")

    assert time.monotonic() - begin >= 0.4
    assert again.crashes == 0


def test_what_came_too_early_is_due_as_before_at_another_client(make: Make) -> None:
    """A client that ends gives back what it keeps, and that is not due any sooner."""
    broker, other = make(), make()
    begin = time.monotonic()
    broker.send(messages(1, delay=0.9))
    assert broker.receive(["q"], limit=10, wait=0.0, lease=30) == []

    broker.close()

    assert received(other, "q").crashes == 0
    assert time.monotonic() - begin >= 0.9


def test_only_so_much_is_kept_that_came_too_early(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound nothing more is claimed until some of it is due; in the end all have come once."""
    monkeypatch.setattr("queuekit_sqs.prefetch_buffer._MOST_EARLY", 20)
    broker, other = make(), make()
    sent = other.send(messages(100, delay=0.9))
    taken: list[str] = []

    def take() -> bool:
        taken.extend(each.id for each in broker.receive(["q"], limit=100, wait=1.0, lease=600))
        return len(taken) >= 100

    wait_until(take, what="all of them")

    assert sorted(taken) == sorted(sent)


def received(broker: SqsBroker, *queues: str) -> Delivery:
    """Return the next message."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for delivery in broker.receive(queues, limit=1, wait=1.0, lease=30):
            return delivery
    raise AssertionError("no message came")
