"""The plugin: its schemes, and the engines that serve them. It imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import BackendSpec, BrokerSpec, hookimpl
from queuekit_sqs.capabilities import BACKEND_CAPABILITIES, BACKEND_LIMITS, CAPABILITIES, LIMITS

queuekit_api = (1, 1)


@hookimpl
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the broker on SQS."""
    return [
        BrokerSpec(
            schemes=("sqs", "sqs+http", "sqs+https"),
            factory="queuekit_sqs.broker:SqsBroker",
            capabilities=CAPABILITIES,
            limits=LIMITS,
            options="queuekit_sqs.options:SqsOptions",
            section="sqs",
            summary="queues on Amazon SQS, standard and FIFO",
        )
    ]


@hookimpl
def queuekit_backends() -> Iterable[BackendSpec]:
    """Return the result backend on DynamoDB."""
    return [
        BackendSpec(
            schemes=("dynamodb", "dynamodb+http", "dynamodb+https"),
            factory="queuekit_sqs.backend:DynamoBackend",
            capabilities=BACKEND_CAPABILITIES,
            limits=BACKEND_LIMITS,
            options="queuekit_sqs.options:DynamoOptions",
            section="dynamodb",
            summary="results on Amazon DynamoDB",
        )
    ]
