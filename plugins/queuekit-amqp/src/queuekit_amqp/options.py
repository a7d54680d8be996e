"""Options of a URL's query and of the config table ``[amqp]``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import attrs

from queuekit.durations import Seconds
from queuekit.tls import TLSOptions

__all__ = ["AmqpMessageOptions", "AmqpOptions"]

_positive: Any = attrs.validators.gt(0)
_name = attrs.validators.matches_re(r"[A-Za-z0-9_.:-]{1,100}")
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_OWN_ARGUMENTS = frozenset({"x-queue-type", "x-expires"})


def _within(least: float, most: float) -> Any:
    return attrs.validators.and_(attrs.validators.ge(least), attrs.validators.le(most))


def _longest(most: int) -> Any:
    """Return a validator of text: AMQP counts bytes, up to 255 with what the plugin adds."""

    def check(_instance: Any, _field: attrs.Attribute[Any], text: str) -> None:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ValueError("it has a lone surrogate, which AMQP cannot carry") from None
        if size > most:
            raise ValueError(f"it has {size} bytes, at most {most} are allowed")

    return check


def _not_own(_instance: Any, _field: attrs.Attribute[Any], arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the plugin sets itself, and values that AMQP cannot carry."""
    for name, value in arguments.items():
        if name in _OWN_ARGUMENTS:
            raise ValueError(f"{name} is set by the plugin (queues are quorum queues; x-expires is auto_delete)")
        if not isinstance(value, str | int | bool):
            raise ValueError(f"{name} must be text, a whole number, true or false")  # noqa: TRY004 - one kind of error


@attrs.frozen(kw_only=True)
class AmqpMessageOptions:
    """Options of one message, given as ``broker={"routing_key": "eu.orders"}``.

    Attributes:
        routing_key: Routing key on the option ``exchange``, in place of the queue's binding key; of a delayed message
            when it is due. A retry goes back to the queue from which the message was taken.
    """

    routing_key: str = attrs.field(default="", validator=_longest(200))


@attrs.frozen(kw_only=True)
class AmqpOptions(TLSOptions):
    """Options of RabbitMQ.

    Attributes:
        ca_file: File with the certificates of trusted CAs, in PEM format; default: those of the system.
        cert_file: File with the client's certificate, in PEM format, if the server requires one.
        key_file: File with the key of the client's certificate, in PEM format; default: the key is in ``cert_file``.
        verify: What to check of the server: ``full``: that a trusted CA signed its certificate, and that it names the
            host of the URL; ``ca``: only that a trusted CA signed it; ``none``: nothing, which protects only against
            passive eavesdropping.
        exchange: Exchange that messages are sent to, declared durable; empty: the default exchange, straight to their
            queue.
        exchange_type: Type of that exchange.
        binding_key: Key by which a queue is bound to the exchange, and by which its messages are sent; ``{queue}`` is
            its name.
        queue_arguments: More arguments of queues, such as ``{"x-quorum-initial-group-size": 5}``; names and values as
            in RabbitMQ.
        auto_delete: Seconds without a consumer after which RabbitMQ deletes a queue, with its messages; unset: never.
        prefetch: Most messages that RabbitMQ pushes to a worker ahead of their settlement; 0: as many as the worker can
            use.
        consumer_timeout: ``consumer_timeout`` of the servers: RabbitMQ takes back a message that was held for longer.
        heartbeat: Seconds without a sign of life after which a connection counts as broken; the servers may ask for
            less.
        timeout: Seconds without an answer after which a call fails.
        connect_timeout: Most seconds to open a connection to one server.
        prefix: Start of the names of the exchanges and queues that delay messages.
    """

    exchange: str = attrs.field(default="", validator=_longest(200))
    exchange_type: Literal["direct", "topic"] = "direct"
    binding_key: str = attrs.field(default="{queue}", validator=_longest(100))
    queue_arguments: Mapping[str, Any] = attrs.field(default=_NOTHING, validator=_not_own)
    auto_delete: Seconds | None = attrs.field(default=None, validator=attrs.validators.optional(_within(1, 2_000_000)))
    prefetch: int = attrs.field(default=0, validator=_within(0, 65_535))
    consumer_timeout: Seconds = attrs.field(default=1_800.0, validator=_positive)
    heartbeat: Seconds = attrs.field(default=30.0, validator=_within(2, 600))
    timeout: Seconds = attrs.field(default=10.0, validator=_positive)
    connect_timeout: Seconds = attrs.field(default=4.0, validator=_positive)
    prefix: str = attrs.field(default="queuekit", validator=_name)
