"""Capabilities and limits of RabbitMQ, as data, so that core knows them before it connects."""

from __future__ import annotations

import attrs

from queuekit.broker import Capabilities, Limits
from queuekit_amqp.options import AmqpOptions

__all__ = ["CAPABILITIES", "DELAY_BITS", "DELAY_STEP", "LIMITS", "limits_of"]

DELAY_STEP = 0.1
"""Seconds of the shortest delay; others are multiples of it."""
DELAY_BITS = 26
"""Delay queues, each for twice the time of the one before; RabbitMQ allows a time to live of at most 49 days."""

CAPABILITIES = Capabilities(
    dedup=False,
    unique=False,
    fifo=False,
    blocking_receive=False,
    inspect=False,
    remove=False,
    dead_letters=False,
    portable_leases=False,
    tells_time=False,
    counts=True,
    push=True,
)
LIMITS = Limits(
    max_batch=1_000,
    batch_bytes=4_000_000,
    max_delay=float(int(DELAY_STEP * (2**DELAY_BITS - 2))),
    max_lease=1_800.0,
    max_body=16_000_000,
    lease_granularity=DELAY_STEP,
    dedup_window=0.0,
)
"""Limits with default options."""


def limits_of(options: AmqpOptions) -> Limits:
    """Return the limits of a broker with these *options*."""
    return attrs.evolve(LIMITS, max_lease=options.consumer_timeout)
