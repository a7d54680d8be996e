"""Counts of queues: few requests each, and those of several queues side by side."""

import secrets
import threading
from contextlib import closing

import pytest

from queuekit.broker import QueueCounts
from queuekit.envelope import Envelope
from queuekit.ids import new_id
from queuekit_sqs.broker import SqsBroker
from support.aws_clients import sqs_broker
from support.aws_proxy import AwsProxy
from support.waiting import UNHURRIED


def test_asks_once_for_what_it_can_ask_together(proxy: AwsProxy) -> None:
    """A list names the queues of other priorities with their URLs, and the counts bring the redrive policy along."""
    url, queues = proxy.sqs(f"c{secrets.token_hex(4)}"), ["a", "b", "c"]
    with closing(sqs_broker(url)) as sender:
        sender.send(
            [Envelope(id=new_id(), queue=name, body=b"{}", priority=level) for name in queues for level in (4, 9)]
        )
    proxy.counts.clear()

    with closing(sqs_broker(url)) as broker:
        counts = broker.counts(queues)

    assert {name: each.ready for name, each in counts.items()} == dict.fromkeys(queues, 2)
    assert proxy.counts["ListQueues"] == len(queues)
    assert proxy.counts["GetQueueUrl"] == 2 * len(queues), "for the usual queue and the dead one"
    assert proxy.counts["GetQueueAttributes"] == 2 * len(queues), "there is no dead queue yet"


def test_counts_queues_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes several round trips, which do not wait for those of another queue."""
    together = threading.Barrier(3)

    def count(_broker: SqsBroker, _queue: str) -> QueueCounts:
        together.wait(UNHURRIED)
        return QueueCounts(ready=1)

    monkeypatch.setattr(SqsBroker, "_count", count)
    with closing(sqs_broker("sqs+http://localhost:9/none")) as broker:
        assert list(broker.counts(["a", "b", "c"])) == ["a", "b", "c"]
