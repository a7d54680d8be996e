"""Clients of imitations of AWS, which bear with one that takes its time."""

from typing import Any

from queuekit.urls import EngineURL
from queuekit_sqs.backend import DynamoBackend
from queuekit_sqs.broker import SqsBroker
from queuekit_sqs.options import DynamoOptions, SqsOptions
from support.waiting import UNHURRIED

__all__ = ["dynamo_backend", "sqs_broker"]

_PATIENT: dict[str, Any] = {"timeout": UNHURRIED, "connect_timeout": UNHURRIED}


def sqs_broker(url: EngineURL | str, **options: Any) -> SqsBroker:
    """Return a broker; by *options* alone, as for whoever makes one without an app."""
    parsed = EngineURL.parse(url) if isinstance(url, str) else url
    return SqsBroker(parsed, options=SqsOptions(**{**_PATIENT, **options}))


def dynamo_backend(url: EngineURL | str, **options: Any) -> DynamoBackend:
    """Return a backend, likewise."""
    parsed = EngineURL.parse(url) if isinstance(url, str) else url
    return DynamoBackend(parsed, options=DynamoOptions(**{**_PATIENT, **options}))
