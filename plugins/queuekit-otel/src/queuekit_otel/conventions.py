"""Names of the semantic conventions for messaging that this plugin follows, and of its own attributes.

They are written down here, since the package that has them depends on the SDK's release.

Source:
    OpenTelemetry semantic conventions 1.44, messaging spans and metrics.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ATTEMPT",
    "BATCH",
    "BUCKETS",
    "CLIENT",
    "CONVERSATION",
    "DESTINATION",
    "ENDED_BY",
    "ERROR",
    "LIMIT",
    "MESSAGE",
    "NAME",
    "SCHEMA",
    "TASK",
    "TYPE",
    "about_broker",
]

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
BATCH = "messaging.batch.message_count"
CLIENT = "messaging.client.id"
CONVERSATION = "messaging.message.conversation_id"
DESTINATION = "messaging.destination.name"
MESSAGE = "messaging.message.id"
NAME = "messaging.operation.name"
TYPE = "messaging.operation.type"
ERROR = "error.type"
_SYSTEM = "messaging.system"
_ADDRESS, _PORT = "server.address", "server.port"
TASK = "queuekit.task.name"
ATTEMPT = "queuekit.task.attempt"
LIMIT = "queuekit.limit.name"
ENDED_BY = "queuekit.task.ended_by"
"""What a body raised to control its message: ``Retry``, ``Snooze`` or ``Cancel``."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bounds that the conventions advise for histograms, in seconds."""

_SYSTEMS = {
    "sqs": "aws_sqs",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
}
"""Systems whose names are not the schemes of their URLs."""


def about_broker(url: Any) -> dict[str, str | int]:
    """Return the attributes of the broker at *url*: which system it is, and where it listens."""
    scheme: str = url.scheme.partition("+")[0]
    found: dict[str, str | int] = {_SYSTEM: _SYSTEMS.get(scheme, scheme)}
    if url.hosts and scheme != "memory":
        address, port = _place(url.hosts[0])
        found[_ADDRESS] = address
        if port:
            found[_PORT] = int(port)
    return found


def _place(host: str) -> tuple[str, str]:
    """Return address and port of ``host``, ``host:port``, ``[::1]`` or ``[::1]:port``; without a port, an empty one."""
    address, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal() or (":" in address and not address.endswith("]")):
        return host.strip("[]"), ""
    return address.strip("[]"), port
