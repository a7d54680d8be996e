"""Delays: on their way through the delay queues, no message holds up another one."""

from collections.abc import Callable

import pytest

from queuekit.broker import Ack, Broker, Delivery
from queuekit.envelope import Envelope, join_frame
from queuekit_testing.kit import unique_name
from support.rabbitmq import need_plugin, shared_address
from support.waiting import PATIENCE, wait_until

need_plugin()
import pika  # noqa: E402

from queuekit_amqp.layout import Layout, Place  # noqa: E402
from queuekit_amqp.options import AmqpOptions  # noqa: E402

MANY = 40
"""More messages than RabbitMQ 3.10 tries to pass on from one queue at a time."""


@pytest.mark.full
def test_goes_on_when_queues_of_delayed_messages_are_gone(make_broker: Callable[..., Broker], queue: str) -> None:
    """Messages without a queue when they are due are kept apart, and those of other queues arrive."""
    prefix = unique_name("delays")
    broker = make_broker(f"prefix={prefix}")
    broker.send([Envelope(id="first", queue=queue, body=b"", delay=0.1)])
    layout = Layout(AmqpOptions(prefix=prefix))
    host, _, port = shared_address().partition(":")
    with pika.BlockingConnection(pika.ConnectionParameters(host, int(port))) as connection:
        channel = connection.channel()
        for _ in range(MANY):
            channel.basic_publish(layout.delay(25), layout.delayed_key(Place("nowhere"), 1), b"lost")
        wait_until(lambda: any(f" {MANY} delayed messages" in line for line in broker.check()), "they are kept apart")
        broker.send([Envelope(id="second", queue=queue, body=b"", delay=0.1)])

        found = arrived(broker, queue, 2)

        channel.queue_purge(layout.lost)
    assert [each.id for each in found] == ["first", "second"]
    assert broker.check() == []


def test_passes_each_digit_of_a_delay(broker: Broker, queue: str) -> None:
    """Delays of one to seven steps arrive, none early."""
    broker.send([Envelope(id=str(steps), queue=queue, body=b"", delay=0.1 * steps) for steps in (7, 5, 1, 3)])

    found = arrived(broker, queue, 4)

    assert sorted(each.id for each in found) == ["1", "3", "5", "7"]
    assert all(each.claimed_at - each.sent_at >= each.envelope.delay for each in found)


def routed(id: str, queue: str, key: str, *, delay: float = 0.0) -> Envelope:
    """Return a message with a routing key of its own."""
    body = join_frame({"broker": {"routing_key": key}}, b"")
    return Envelope(id=id, queue=queue, body=body, delay=delay)


def test_a_delayed_message_goes_where_an_immediate_one_goes(make_broker: Callable[..., Broker], queue: str) -> None:
    """Its own routing key counts when it is due; several messages with several keys and delays keep theirs."""
    exchange, binding = unique_name("jobs"), "binding_key=to.{queue}"
    broker = make_broker(f"exchange={exchange}", "exchange_type=topic", binding)
    other, third = f"{queue}-other", f"{queue}-third"
    broker.send([Envelope(id=f"of-{name}", queue=name, body=b"") for name in (other, third)])

    broker.send([routed("now", queue, f"to.{other}")])
    late = [("late", other, 0.1), ("later", other, 0.3), ("elsewhere", third, 0.1)]
    broker.send([routed(id, queue, f"to.{name}", delay=delay) for id, name, delay in late])

    assert {each.id for each in arrived(broker, other, 4)} == {f"of-{other}", "now", "late", "later"}
    assert {each.id for each in arrived(broker, third, 2)} == {f"of-{third}", "elsewhere"}
    assert broker.receive([queue], limit=1, wait=0, lease=PATIENCE) == []


@pytest.mark.full
def test_a_delayed_message_waits_for_a_queue_that_takes_its_key(make_broker: Callable[..., Broker], queue: str) -> None:
    """If no queue is bound by the key when it is due, it is not lost, and does not hold up those with other keys."""
    prefix, exchange = unique_name("delays"), unique_name("jobs")
    broker = make_broker(f"prefix={prefix}", f"exchange={exchange}", "exchange_type=topic", "binding_key=to.{queue}")
    broker.send([routed("nowhere", queue, "nowhere", delay=0.1), routed("there", queue, f"to.{queue}", delay=0.2)])

    assert [each.id for each in arrived(broker, queue, 1)] == ["there"]

    host, _, port = shared_address().partition(":")
    gate = Layout(AmqpOptions(prefix=prefix, exchange=exchange)).gate("nowhere").name
    with pika.BlockingConnection(pika.ConnectionParameters(host, int(port))) as connection:
        channel = connection.channel()
        channel.queue_bind(queue, exchange, "nowhere")
        assert [each.id for each in arrived(broker, queue, 1)] == ["nowhere"]
        channel.queue_delete(gate)


def arrived(broker: Broker, queue: str, count: int) -> list[Delivery]:
    """Return *count* messages, acknowledged."""
    found: list[Delivery] = []
    while len(found) < count:
        found += broker.receive([queue], limit=1, wait=broker.limits.max_wait, lease=PATIENCE)
    assert broker.settle([Ack(each) for each in found]) == []
    return found
