"""Options of a URL's query and of the config tables ``[sqs]`` and ``[dynamodb]``."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from queuekit.durations import Seconds
from queuekit.tls import TLSOptions

__all__ = ["AwsOptions", "DynamoOptions", "SqsMessageOptions", "SqsOptions"]

_positive: Any = attrs.validators.gt(0)
_region = attrs.validators.optional(attrs.validators.matches_re(r"[a-z0-9-]{1,40}"))


def _within(least: float, most: float) -> Any:
    return attrs.validators.and_(attrs.validators.ge(least), attrs.validators.le(most))


@attrs.frozen(kw_only=True)
class AwsOptions(TLSOptions):
    """What the options of both services have in common."""

    verify: Literal["full", "none"] = "full"
    """What to check of the server: ``full``: that a trusted CA signed its certificate, and that it names the host;
    ``none``: nothing, which protects only against passive eavesdropping. boto3 cannot leave out one of the two."""


@attrs.frozen(kw_only=True)
class SqsOptions(AwsOptions):
    """Options of SQS."""

    region: str | None = attrs.field(default=None, validator=_region)
    """AWS region, unless the URL names it; default: the region of the environment or the profile."""
    profile: str | None = None
    """Profile of ``~/.aws/config`` with the credentials; default: boto3's credential chain."""
    create: bool = True
    """Whether to create missing queues; with ``false``, a missing queue is an error that names it."""
    poll: Seconds = attrs.field(default=20.0, validator=_within(1, 20))
    """Seconds of one long poll. A shorter poll costs more requests while idle, but lets a worker stop sooner."""
    receivers: int = attrs.field(default=16, validator=_within(1, 64))
    """Most parallel receive requests per queue, ten messages each; fewer while the queue has few messages."""
    connections: int = attrs.field(default=32, validator=_within(1, 128))
    """Most parallel requests, not counting long polls."""
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    """Seconds without an answer after which a request fails; for long polls, from their expected end."""
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_positive)
    """Most seconds to open a connection."""
    max_delay: Seconds = attrs.field(default=900.0, validator=_within(1, 900))
    """Longest delay to request from SQS; longer delays consist of several."""
    max_message_bytes: int = attrs.field(default=1_048_576, validator=_within(65_536, 1_048_576))
    """Largest message of the queues, including attributes: their ``MaximumMessageSize``."""
    cloudwatch: bool = False
    """Whether to read the age of the oldest message from CloudWatch, which is minutes late and costs a request."""
    payload_bucket: str | None = None
    """S3 bucket for bodies that are too large for SQS; it must exist."""
    payload_prefix: str = "queuekit/"
    """Prefix of the names of objects in that bucket."""


@attrs.frozen(kw_only=True)
class SqsMessageOptions:
    """Options of one message on SQS, given as ``broker={"group": "customer-7"}``."""

    group: str | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.min_len(1)))
    """Messages of a FIFO queue with the same group run in order; default: the unique key, else one group for all.
    Standard queues ignore it."""


@attrs.frozen(kw_only=True)
class DynamoOptions(AwsOptions):
    """Options of DynamoDB."""

    region: str | None = attrs.field(default=None, validator=_region)
    """AWS region, unless the URL names it; default: the region of the environment or the profile."""
    profile: str | None = None
    """Profile of ``~/.aws/config`` with the credentials; default: boto3's credential chain."""
    create: bool = True
    """Whether to create a missing table, billed per request; with ``false``, a missing table is an error."""
    shards: int = attrs.field(default=8, validator=_within(1, 64))
    """Partitions for the records of one kind; all clients of a table must use the same number."""
    connections: int = attrs.field(default=16, validator=_within(1, 128))
    """Most parallel requests."""
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    """Seconds without an answer after which a request fails."""
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_positive)
    """Most seconds to open a connection."""
