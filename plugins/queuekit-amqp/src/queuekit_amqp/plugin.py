"""The plugin: its schemes, and the engine that serves them. It imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import BrokerSpec, hookimpl
from queuekit_amqp.capabilities import CAPABILITIES, LIMITS

queuekit_api = (1, 1)


@hookimpl
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the broker on RabbitMQ."""
    return [
        BrokerSpec(
            schemes=("amqp", "amqps"),
            factory="queuekit_amqp.broker:AmqpBroker",
            capabilities=CAPABILITIES,
            limits=LIMITS,
            options="queuekit_amqp.options:AmqpOptions",
            section="amqp",
            summary="quorum queues on RabbitMQ 3.10 or later",
        )
    ]
