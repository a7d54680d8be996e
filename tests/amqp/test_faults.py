"""What goes wrong between a client and RabbitMQ, and in what others send."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit.backend import Backend
from queuekit.broker import Ack, Broker, Delivery, Release, Subscription
from queuekit.envelope import Envelope
from queuekit.errors import PartialSendError, UnavailableError
from queuekit_testing.connections import cut, open_connections
from queuekit_testing.kit import unique_name
from support.rabbitmq import RabbitMQ, need_plugin, shared_address, shared_url
from support.waiting import PATIENCE, wait_until

need_plugin()
import pika  # noqa: E402
from pika.adapters.blocking_connection import BlockingChannel  # noqa: E402

Make = Callable[..., Broker]


def messages(queue: str, count: int) -> list[Envelope]:
    """Return messages."""
    return [Envelope(id=f"m{number}", queue=queue, body=b"%d" % number) for number in range(count)]


def pushed(subscription: Subscription, count: int) -> list[Delivery]:
    """Return *count* deliveries."""
    found: list[Delivery] = []

    def complete() -> bool:
        found.extend(subscription.next(limit=count - len(found), wait=1))
        return len(found) == count

    wait_until(complete, f"{count} messages pushed")
    return found


@pytest.fixture
def channel() -> Iterator[BlockingChannel]:
    """Return a channel of another client."""
    host, _, port = shared_address().partition(":")
    with pika.BlockingConnection(pika.ConnectionParameters(host, int(port))) as connection:
        yield connection.channel()


def test_hands_out_again_what_was_held_when_the_connection_is_cut(make_broker: Make, queue: str) -> None:
    """What was returned comes back as a crash, what was only pushed comes back, and the old lease is lost."""
    known = open_connections()
    broker = make_broker()
    broker.send(messages(queue, 3))
    subscription = broker.subscribe([queue], prefetch=3, lease=PATIENCE)
    (held,) = pushed(subscription, 1)

    cut(known)
    with pytest.raises(UnavailableError):
        wait_until(lambda: subscription.next(limit=1, wait=1) and False)
    subscription.close()
    again = pushed(broker.subscribe([queue], prefetch=3, lease=PATIENCE), 3)

    assert {each.id: each.crashes for each in again}[held.id] == 1
    assert broker.settle([Ack(held)]) == [held]
    assert broker.settle([Ack(each) for each in again]) == []


def test_finds_a_priority_that_the_backend_has_forgotten(make_broker: Make, records: Backend, queue: str) -> None:
    """What waited for longer than its announcement lives is received by a worker that starts then."""
    sender = make_broker()
    sender.send([Envelope(id="urgent", queue=queue, body=b"", priority=9)])
    assert records.delete([f"amqp:levels:{queue}"]) == 1

    (delivery,) = pushed(make_broker().subscribe([queue], prefetch=1, lease=PATIENCE), 1)

    assert delivery.id == "urgent"


def test_tells_crashes_from_hand_backs_of_other_clients(make_broker: Make, queue: str) -> None:
    """Marks in the result backend say which deliveries were no crashes, whichever client asks."""
    one, other = make_broker(), make_broker()
    one.send(messages(queue, 1))
    for _ in range(3):
        (delivery,) = one.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)
        one.settle([Release(delivery)])
    (delivery,) = one.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)
    one.settle([Release(delivery, counted=True)])

    (last,) = other.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)

    assert (last.number, last.crashes) == (5, 1)
    assert other.settle([Ack(last)]) == []


HOSTILE = {
    "nothing": pika.BasicProperties(),
    "no-json": pika.BasicProperties(message_id="other", headers={"queuekit": "{"}),
    "a-list": pika.BasicProperties(message_id="other", headers={"queuekit": "[1]"}),
    "a-number": pika.BasicProperties(message_id="other", headers={"queuekit": 2**40}),
    "wrong-types": pika.BasicProperties(
        message_id="other", headers={"queuekit": '{"s":"x","n":-1,"c":true,"a":1e400,"d":"9","u":[1,2,3],"g":NaN}'}
    ),
    "no-name": pika.BasicProperties(message_id="no name / at all\n", headers={"x-delivery-count": -5}),
    "deep": pika.BasicProperties(headers={"queuekit": "[" * 50_000}),
}


@pytest.mark.parametrize("properties", HOSTILE.values(), ids=HOSTILE.keys())
def test_hands_out_what_other_programs_send(
    broker: Broker, queue: str, channel: BlockingChannel, properties: pika.BasicProperties
) -> None:
    """Its body is unchanged, and its id is the same with each delivery."""
    broker.receive([queue], limit=1, wait=0, lease=PATIENCE)
    channel.basic_publish("", queue, b"\xff\0", properties)

    (first,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)
    broker.settle([Release(first, counted=True)])
    (second,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)

    assert (first.envelope.body, first.envelope.attempt, first.crashes, second.crashes) == (b"\xff\0", 0, 0, 1)
    assert first.id == second.id != ""
    assert broker.settle([Ack(second)]) == []


def test_refuses_what_no_queue_takes(make_broker: Make, queue: str) -> None:
    """A message whose routing key no queue is bound by is an error that names it, and the others arrive."""
    body = b'{"broker":{"routing_key":"nowhere"}}\n'
    broker = make_broker(f"exchange={unique_name('jobs')}", "exchange_type=topic", "binding_key=jobs.{queue}")
    lost, kept = Envelope(id="lost", queue=queue, body=body), Envelope(id="kept", queue=queue, body=b"")

    with pytest.raises(PartialSendError) as caught:
        broker.send([lost, kept])

    assert set(caught.value.failures) == {"lost"}
    (delivery,) = broker.receive([queue], limit=2, wait=PATIENCE, lease=PATIENCE)
    assert delivery.id == "kept"
    assert broker.settle([Ack(delivery)]) == []


def test_sends_to_a_queue_that_was_deleted(broker: Broker, queue: str, channel: BlockingChannel) -> None:
    """The queue is declared anew, and nothing is lost."""
    broker.send(messages(queue, 1))
    channel.queue_delete(queue)

    broker.send(messages(queue, 2))

    found = broker.receive([queue], limit=2, wait=PATIENCE, lease=PATIENCE)
    assert {each.id for each in found} <= {"m0", "m1"}
    assert broker.settle([Ack(each) for each in found]) == []


def test_refuses_a_low_delivery_limit(make_broker: Make, queue: str) -> None:
    """``check`` names a limit under ten times ``max_deliveries``: as an option, and on a queue that others declared."""
    low = make_broker('queue_arguments={"x-delivery-limit":29}')
    low.send(messages(queue, 1))
    usual = make_broker()

    for broker in (low, usual):
        (problem,) = broker.check_queues([queue], max_deliveries=3)
        assert "drops a message after 29 deliveries" in problem
        assert "Set it to 30 or more" in problem
    (delivery,) = usual.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)
    assert usual.settle([Ack(delivery)]) == []


def taken_out(broker: Broker, queue: str) -> list[str]:
    """Hand a message back until RabbitMQ takes it out of its queue, and return the lines of ``check``."""

    def is_gone() -> bool:
        found = broker.receive([queue], limit=1, wait=0, lease=PATIENCE)
        assert broker.settle([Release(each, counted=True) for each in found]) == []
        return bool(broker.check())

    wait_until(is_gone, "RabbitMQ takes the message out")
    return broker.check()


def test_keeps_what_a_delivery_limit_takes_out(make_broker: Make, queue: str, channel: BlockingChannel) -> None:
    """Whatever the limit comes from, no message is lost by it without a word: it is kept, and ``check`` reports it."""
    prefix = unique_name("limits")
    broker = make_broker(f"prefix={prefix}", 'queue_arguments={"x-delivery-limit":2}')
    broker.send([Envelope(id="poison", queue=queue, body=b"body")])

    (line,) = taken_out(broker, queue)

    assert line.startswith(f"{prefix}.dropped: 1 messages that RabbitMQ took out of their queues")
    properties: Any
    _, properties, body = channel.basic_get(f"{prefix}.dropped", auto_ack=True)
    assert (properties.message_id, body) == ("poison", b"body")
    assert [(death["queue"], death["reason"]) for death in properties.headers["x-death"]] == [(queue, "delivery_limit")]
    assert broker.check() == []


@pytest.mark.full
def test_keeps_what_a_policy_takes_out(tmp_path: Path, make_broker: Make, queue: str) -> None:
    """A limit of the server's policy, which AMQP does not show, costs no message either; nor does another limit."""
    server = RabbitMQ(tmp_path / "node").start()
    try:
        broker = make_broker(url=server.url())
        broker.send(messages(queue, 1))
        server.control("set_policy", "limit", ".*", '{"delivery-limit":2}', "--apply-to", "queues")

        (line,) = taken_out(broker, queue)

        assert line.startswith("queuekit.dropped: 1 messages that RabbitMQ took out of their queues")
        server.control("set_policy", "limit", f"^{queue}$", '{"message-ttl":1}', "--apply-to", "queues")
        broker.send(messages(queue, 2)[1:])
        wait_until(lambda: any(": 2 messages that" in line for line in broker.check()), "both are kept")
        assert broker.receive([queue], limit=1, wait=0, lease=PATIENCE) == []
    finally:
        server.close()


def test_reports_a_queue_that_loses_what_a_policy_takes_out(
    make_broker: Make, queue: str, channel: BlockingChannel
) -> None:
    """A queue that others declared keeps no such messages; ``check`` says how to mend that, and tells its own limit."""
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 5})

    problems = make_broker(url=shared_url()).check_queues([queue], max_deliveries=3)

    assert [problem.partition(":")[0] for problem in problems] == [queue] * 2
    assert "loses what a limit of a policy takes out" in problems[0]
    assert "drops a message after 5 deliveries" in problems[1]
    channel.queue_delete(queue)


def test_goes_to_the_next_server(make_broker: Make, queue: str) -> None:
    """A server that does not answer is left out."""
    url = shared_url("auto_delete=300").replace("//", "//127.0.0.1:1,")
    broker = make_broker(url=url)

    assert broker.send(messages(queue, 1)) == ["m0"]


def test_shows_no_password_where_it_is_wrong(make_broker: Make, queue: str) -> None:
    """The error says that no retry helps."""
    broker = make_broker(url=shared_url().replace("//", "//guest:hunter2@"))

    with pytest.raises(UnavailableError) as caught:
        broker.send(messages(queue, 1))

    assert not caught.value.passing
    assert "hunter2" not in str(caught.value)


@pytest.mark.full
@pytest.mark.parametrize("end", [RabbitMQ.kill, RabbitMQ.stop])
def test_survives_a_restart_of_the_server(
    tmp_path: Path, make_broker: Make, queue: str, end: Callable[[RabbitMQ], None]
) -> None:
    """What waits, what is delayed and what was held is there after a restart, and the client connects by itself.

    The server ends as soon as the delayed messages are confirmed, which were the first in all of their queues. One of
    them passes a single delay queue, the other two.
    """
    server = RabbitMQ(tmp_path / "node").start()
    try:
        broker = make_broker(url=server.url())
        broker.send(messages(queue, 3))
        (held,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)
        broker.send([Envelope(id=f"after{delay}", queue=queue, body=b"", delay=delay) for delay in (1.6, 9.6)])
        end(server)
        server.start()
        found: dict[str, Delivery] = {}

        def all_there() -> bool:
            """A client learns of a broken connection, and must not wait for an answer."""
            try:
                new = broker.receive([queue], limit=10, wait=1, lease=PATIENCE)
            except UnavailableError:
                return False
            found.update({each.id: each for each in new})
            return len(found) == 5

        wait_until(all_there, lambda: f"all messages; there are {sorted(found)}")
        assert found[held.id].crashes == 1
        assert broker.settle([Ack(held)]) == [held]
        assert broker.settle([Ack(each) for each in found.values()]) == []
    finally:
        server.close()


@pytest.mark.full
def test_survives_a_kill_after_its_first_message(tmp_path: Path, make_broker: Make, queue: str) -> None:
    """A queue whose first message is confirmed is there after the server was killed, with its message."""
    server = RabbitMQ(tmp_path / "node").start()
    try:
        make_broker(url=server.url()).send(messages(queue, 1))
        server.kill()
        server.start()
        broker = make_broker(url=server.url())
        (delivery,) = broker.receive([queue], limit=1, wait=broker.limits.max_wait, lease=PATIENCE)
        broker.send([Envelope(id="second", queue=queue, body=b"")])

        assert delivery.id == "m0"
        assert broker.settle([Ack(delivery)]) == []
    finally:
        server.close()


@pytest.mark.full
def test_hands_out_again_what_was_held_for_too_long(tmp_path: Path, make_broker: Make, queue: str) -> None:
    """RabbitMQ takes back what is held beyond its ``consumer_timeout``; the client ends the lease, and goes on."""
    server = RabbitMQ(tmp_path / "node", consumer_timeout=2).start()
    try:
        broker = make_broker(url=server.url("consumer_timeout=100"))
        broker.send(messages(queue, 1))
        subscription = broker.subscribe([queue], prefetch=1, lease=PATIENCE)
        (held,) = pushed(subscription, 1)

        wait_until(lambda: broker.extend([held.lease], lease=PATIENCE) == [held.lease], "the lease is lost")
        with pytest.raises(UnavailableError):
            subscription.next(limit=1, wait=0)
        subscription.close()
        (again,) = pushed(broker.subscribe([queue], prefetch=1, lease=PATIENCE), 1)

        assert (again.id, again.crashes) == (held.id, 1)
        assert broker.settle([Ack(again)]) == []
    finally:
        server.close()
