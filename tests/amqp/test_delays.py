"""Delays: on their way through the delay queues, no message holds up another one."""

from collections.abc import Callable

import pytest

from queuekit.broker import Ack, Broker, Delivery
from queuekit.envelope import Envelope
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


def arrived(broker: Broker, queue: str, count: int) -> list[Delivery]:
    """Return *count* messages, acknowledged."""
    found: list[Delivery] = []
    while len(found) < count:
        found += broker.receive([queue], limit=1, wait=broker.limits.max_wait, lease=PATIENCE)
    assert broker.settle([Ack(each) for each in found]) == []
    return found
