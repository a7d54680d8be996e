"""In which group of a FIFO queue a message is put."""

import hashlib
from typing import Any

import pytest

from queuekit.envelope import Envelope, Unique, join_frame
from queuekit_sqs.broker import SqsBroker
from queuekit_sqs.options import SqsMessageOptions
from queuekit_sqs.queues import SqsQueue
from queuekit_sqs.settling import send_job


def _hashed(group: str) -> str:
    """Return what SQS gets for a group that it does not take as it is."""
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()


@pytest.mark.parametrize(
    ("header", "unique", "group"),
    [
        pytest.param({"broker": {"group": "a"}}, None, "a", id="option"),
        pytest.param({"broker": {"group": "a"}, "headers": {"group": "b"}}, "c", "a", id="option-comes-first"),
        pytest.param({"headers": {"group": "b"}}, "c", "c", id="unique-key"),
        pytest.param({"headers": {"group": "b"}}, None, "b", id="header"),
        pytest.param({"broker": {"group": "a\ud800"}}, None, _hashed("a\ud800"), id="lone-surrogate"),
        pytest.param({"broker": {"group": 5}}, None, "queuekit", id="hostile"),
        pytest.param({}, None, "queuekit", id="none"),
    ],
)
def test_group_is_what_the_message_says(header: dict[str, Any], unique: str | None, group: str) -> None:
    """Its option first, then its unique key, then its header ``group``."""
    key = None if unique is None else Unique(key=unique)
    envelope = Envelope(id="a", queue="orders.fifo", body=join_frame(header, b"{}"), unique=key)

    job = send_job(SqsQueue("orders.fifo", "orders.fifo"), envelope)

    assert job.entry["MessageGroupId"] == group


def test_broker_declares_the_option() -> None:
    """Core checks it and suggests the right name."""
    assert SqsBroker.message_options is SqsMessageOptions
