"""Options of a URL's query and of the config tables ``[sqs]`` and ``[dynamodb]``."""

from __future__ import annotations

from typing import Any

import attrs

from queuekit.durations import Seconds

__all__ = ["DynamoOptions", "SqsOptions"]

_positive: Any = attrs.validators.gt(0)
_region = attrs.validators.optional(attrs.validators.matches_re(r"[a-z0-9-]{1,40}"))


def _within(least: float, most: float) -> Any:
    return attrs.validators.and_(attrs.validators.ge(least), attrs.validators.le(most))


@attrs.frozen(kw_only=True)
class SqsOptions:
    """How SQS is used."""

    region: str | None = attrs.field(default=None, validator=_region)
    """AWS region, where the URL does not say it; by default what the environment or the profile says."""
    profile: str | None = None
    """Profile of ``~/.aws/config`` to sign in with; by default boto3's usual chain decides."""
    create: bool = True
    """Whether queues that are missing are created; with ``false`` a missing queue is an error that names it."""
    poll: Seconds = attrs.field(default=20.0, validator=_within(1, 20))
    """Seconds of one long poll. Fewer cost more requests while idle, and let a worker that stops take less with it."""
    receivers: int = attrs.field(default=16, validator=_within(1, 64))
    """Most requests for messages of one queue at a time, ten messages each; few while it brings few."""
    connections: int = attrs.field(default=32, validator=_within(1, 128))
    """Most requests at a time besides long polls."""
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    """Seconds without an answer after which a request fails; long polls count from when they should have ended."""
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_positive)
    """Seconds to open a connection in."""
    max_delay: Seconds = attrs.field(default=900.0, validator=_within(1, 900))
    """Longest delay asked of SQS at once; longer ones are made of several."""
    max_message_bytes: int = attrs.field(default=1_048_576, validator=_within(65_536, 1_048_576))
    """Largest message that the queues take, attributes included: their ``MaximumMessageSize``."""
    cloudwatch: bool = False
    """Whether CloudWatch is asked for the age of the oldest message: it is minutes behind, and each time costs."""
    payload_bucket: str | None = None
    """S3 bucket for bodies that are too large for SQS; it must exist."""
    payload_prefix: str = "queuekit/"
    """How the names of objects in that bucket begin."""


@attrs.frozen(kw_only=True)
class DynamoOptions:
    """How DynamoDB is used."""

    region: str | None = attrs.field(default=None, validator=_region)
    """AWS region, where the URL does not say it; by default what the environment or the profile says."""
    profile: str | None = None
    """Profile of ``~/.aws/config`` to sign in with; by default boto3's usual chain decides."""
    create: bool = True
    """Whether the table is created if it is missing, billed per request; with ``false`` that is an error."""
    shards: int = attrs.field(default=8, validator=_within(1, 64))
    """Partitions that the records of one kind are spread over; all who share a table must agree."""
    connections: int = attrs.field(default=16, validator=_within(1, 128))
    """Most requests at a time."""
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    """Seconds without an answer after which a request fails."""
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_positive)
    """Seconds to open a connection in."""
