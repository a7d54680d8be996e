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
    ``none``: nothing, which protects only against passive eavesdropping. botocore cannot leave out one of the two."""


@attrs.frozen(kw_only=True)
class SqsOptions(AwsOptions):
    """Options of SQS.

    Attributes:
        ca_file: File with the certificates of trusted CAs, in PEM format; default: those of the system.
        cert_file: File with the client's certificate, in PEM format, if the server requires one.
        key_file: File with the key of the client's certificate, in PEM format; default: the key is in ``cert_file``.
        verify: What to check of the server: ``full``: that a trusted CA signed its certificate, and that it names the
            host of the URL; ``ca``: only that a trusted CA signed it; ``none``: nothing, which protects only against
            passive eavesdropping.
        region: AWS region, unless the URL names it; default: the region of the environment or the profile.
        profile: Profile of ``~/.aws/config`` with the credentials; default: botocore's credential chain.
        create: Whether to create missing queues; with ``false``, a missing queue is an error that names it.
        poll: Seconds of one long poll. A shorter poll costs more requests while idle, but lets a worker stop sooner.
        receivers: Most parallel receive requests per queue, ten messages each; fewer while the queue has few messages.
        connections: Most parallel requests, not counting long polls.
        timeout: Seconds without an answer after which a request fails; for long polls, from their expected end.
        connect_timeout: Most seconds to open a connection.
        max_delay: Longest delay to request from SQS; longer delays consist of several.
        max_message_bytes: Largest message of the queues, including attributes: their ``MaximumMessageSize``.
        cloudwatch: Whether to read the age of the oldest message from CloudWatch, which is minutes late and costs a
            request.
        payload_bucket: S3 bucket for bodies that are too large for SQS; it must exist.
        payload_prefix: Prefix of the names of objects in that bucket.
    """

    region: str | None = attrs.field(default=None, validator=_region)
    profile: str | None = None
    create: bool = True
    poll: Seconds = attrs.field(default=20.0, validator=_within(1, 20))
    receivers: int = attrs.field(default=16, validator=_within(1, 64))
    connections: int = attrs.field(default=32, validator=_within(1, 128))
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_positive)
    max_delay: Seconds = attrs.field(default=900.0, validator=_within(1, 900))
    max_message_bytes: int = attrs.field(default=1_048_576, validator=_within(65_536, 1_048_576))
    cloudwatch: bool = False
    payload_bucket: str | None = None
    payload_prefix: str = "queuekit/"


@attrs.frozen(kw_only=True)
class SqsMessageOptions:
    """Options of one message on SQS, given as ``broker={"group": "customer-7"}``.

    Attributes:
        group: Messages of a FIFO queue with the same group run in order; default: the unique key, else one group for
            all. Standard queues ignore it.
    """

    group: str | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.min_len(1)))


@attrs.frozen(kw_only=True)
class DynamoOptions(AwsOptions):
    """Options of DynamoDB.

    Attributes:
        ca_file: File with the certificates of trusted CAs, in PEM format; default: those of the system.
        cert_file: File with the client's certificate, in PEM format, if the server requires one.
        key_file: File with the key of the client's certificate, in PEM format; default: the key is in ``cert_file``.
        verify: What to check of the server: ``full``: that a trusted CA signed its certificate, and that it names the
            host of the URL; ``ca``: only that a trusted CA signed it; ``none``: nothing, which protects only against
            passive eavesdropping.
        region: AWS region, unless the URL names it; default: the region of the environment or the profile.
        profile: Profile of ``~/.aws/config`` with the credentials; default: botocore's credential chain.
        create: Whether to create a missing table, billed per request; with ``false``, a missing table is an error.
        shards: Partitions for the records of one kind; all clients of a table must use the same number.
        connections: Most parallel requests.
        timeout: Seconds without an answer after which a request fails.
        connect_timeout: Most seconds to open a connection.
    """

    region: str | None = attrs.field(default=None, validator=_region)
    profile: str | None = None
    create: bool = True
    shards: int = attrs.field(default=8, validator=_within(1, 64))
    connections: int = attrs.field(default=16, validator=_within(1, 128))
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_positive)
