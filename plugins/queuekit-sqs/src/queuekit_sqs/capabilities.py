"""Capabilities and limits of SQS and DynamoDB, as data, so that core knows them before it connects."""

from __future__ import annotations

import attrs

from queuekit.backend import BackendCapabilities, BackendLimits
from queuekit.broker import Capabilities, Limits
from queuekit_sqs.options import SqsOptions

__all__ = [
    "BACKEND_CAPABILITIES",
    "BACKEND_LIMITS",
    "CAPABILITIES",
    "DEAD_IN_ORDER",
    "DEAD_SEARCHED",
    "LIMITS",
    "MAX_HOLD",
    "PART",
    "limits_of",
]

PART = 10
"""Most messages of one request to SQS."""
MAX_HOLD = 43_200.0
"""Most seconds that SQS hides a message from other consumers, including extensions: 12 hours."""
DEAD_IN_ORDER = 1_000
"""Dead letters that one look receives, to put them in order: 100 requests, and as many to give them back."""
DEAD_SEARCHED = 10_000
"""Most dead letters of a queue to read in search of some."""
_MAX_WAIT = 20.0
_ATTRIBUTES_ROOM = 16_384
"""Bytes of a message that are reserved for its attributes."""
_LARGEST_OBJECT = 256_000_000

CAPABILITIES = Capabilities(
    fenced_ack=False,
    dedup=False,
    unique=False,
    fifo=False,
    inspect=False,
    remove=False,
    counts=True,
    approximate_lanes=True,
)
LIMITS = Limits(
    max_batch=1_000,
    batch_bytes=4_000_000,
    max_wait=_MAX_WAIT,
    max_delay=900.0,
    max_lease=MAX_HOLD,
    max_body=(1_048_576 - _ATTRIBUTES_ROOM) // 4 * 3,
    lease_granularity=1.0,
    dedup_window=0.0,
    dead_retention=1_209_600.0,
    dead_in_order=DEAD_IN_ORDER,
    dead_searched=DEAD_SEARCHED,
)
"""Limits of a queue with default options: 1 MiB per message, of which base64 leaves three quarters to a binary body.

A batch is sent as several parallel requests of up to 1 MiB each.
"""
BACKEND_CAPABILITIES = BackendCapabilities(same=True)
BACKEND_LIMITS = BackendLimits(max_record=380_000, ttl_granularity=1.0)
"""DynamoDB limits an item to 400 KB, including keys and names."""


def limits_of(options: SqsOptions) -> Limits:
    """Return the limits of a broker with these *options*."""
    largest = (options.max_message_bytes - _ATTRIBUTES_ROOM) // 4 * 3
    return attrs.evolve(
        LIMITS,
        max_delay=options.max_delay,
        max_body=_LARGEST_OBJECT if options.payload_bucket else largest,
    )
