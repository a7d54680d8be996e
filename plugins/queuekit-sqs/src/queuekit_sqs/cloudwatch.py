"""Read from CloudWatch how long the oldest message of a queue has waited, which SQS does not report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from queuekit_sqs.service import Service

__all__ = ["oldest_ages"]

_METRIC = "ApproximateAgeOfOldestMessage"
_PERIOD = 60
_BEHIND = 900
"""Seconds to look back: CloudWatch reports a queue that was idle for long minutes late."""
_AT_ONCE = 500
"""Most metrics of one request."""


def oldest_ages(service: Service, sqs_queues: Mapping[str, Sequence[str]], *, now: float) -> dict[str, float]:
    """Return the latest age that CloudWatch reports for each queue, in seconds; omit queues without data.

    Args:
        service: Makes requests to CloudWatch.
        sqs_queues: Names of the SQS queues of each queue.
        now: Current time in UTC epoch seconds.
    """
    asked = [(queue, name) for queue, names in sqs_queues.items() for name in names]
    found: dict[str, float] = {}
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        reply = service.call(
            "get_metric_data",
            doing="cloudwatch:GetMetricData",
            StartTime=datetime.fromtimestamp(now - _BEHIND, UTC),
            EndTime=datetime.fromtimestamp(now + _PERIOD, UTC),
            ScanBy="TimestampDescending",
            MetricDataQueries=[_query(number, name) for number, (_, name) in enumerate(part)],
        )
        for row in reply.get("MetricDataResults", []):
            queue = part[int(row["Id"][1:])][0]
            if row.get("Values"):
                found[queue] = max(found.get(queue, 0.0), float(row["Values"][0]))
    return found


def _query(number: int, name: str) -> dict[str, Any]:
    metric = {"Namespace": "AWS/SQS", "MetricName": _METRIC, "Dimensions": [{"Name": "QueueName", "Value": name}]}
    return {"Id": f"m{number}", "MetricStat": {"Metric": metric, "Period": _PERIOD, "Stat": "Maximum"}}
