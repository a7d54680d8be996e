"""The lane of a message is its group in a standard queue, which SQS shares out fairly, but not in a FIFO queue."""

import hashlib

import pytest

from queuekit.envelope import Envelope, Lane
from queuekit_sqs.queues import SqsQueue
from queuekit_sqs.settling import send_job


@pytest.mark.parametrize(
    ("lane", "group"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(Lane("acme"), "acme", id="name"),
        pytest.param(Lane(), "queuekit", id="common"),
        pytest.param(Lane("two words"), hashlib.sha256(b"two words").hexdigest(), id="not-taken-by-sqs"),
    ],
)
def test_lane_is_the_group_of_a_standard_queue(lane: Lane | None, group: str | None) -> None:
    """SQS takes ASCII without spaces; any other name is replaced by its digest."""
    entry = send_job(SqsQueue("jobs", "jobs"), Envelope(id="1", queue="jobs", body=b"", lane=lane)).entry

    assert entry.get("MessageGroupId") == group


def test_lane_changes_no_group_of_a_fifo_queue() -> None:
    """There a group is an order, and one of its messages at a time is in flight."""
    entry = send_job(SqsQueue("jobs.fifo", "jobs"), Envelope(id="1", queue="jobs", body=b"", lane=Lane("acme"))).entry

    assert entry["MessageGroupId"] == "queuekit"
