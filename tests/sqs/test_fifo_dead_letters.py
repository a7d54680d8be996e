"""Dead letters of FIFO queues: SQS hands out at most ten messages of a group, until these are gone or given back."""

import secrets
from collections.abc import Iterator

import pytest

from queuekit.broker import Dead, Place
from queuekit.envelope import Envelope, Unique
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_sqs.broker import SqsBroker
from support.aws_clients import sqs_broker
from support.aws_servers import AwsServer
from support.waiting import wait_until

QUEUE = "orders.fifo"
MANY = 20
"""More than SQS hands out of one group."""


@pytest.fixture(params=["ministack_server", pytest.param("moto_server", marks=pytest.mark.full)])
def broker(request: pytest.FixtureRequest) -> Iterator[SqsBroker]:
    """Return a client of queues of its own, on one imitation after the other."""
    server: AwsServer = request.getfixturevalue(request.param)
    made = sqs_broker(EngineURL.parse(server.sqs(f"d{secrets.token_hex(4)}")))
    yield made
    made.close()


def bury(broker: SqsBroker, groups: int) -> list[str]:
    """Send messages of so many groups, let all die, and return their ids."""
    envelopes = [
        Envelope(id=new_id(), queue=QUEUE, body=b"{}", unique=Unique(key=f"g{number % groups}"))
        for number in range(MANY)
    ]
    ids = broker.send(envelopes)
    dead: list[str] = []

    def all_are_dead() -> bool:
        claimed = broker.receive([QUEUE], limit=10, wait=0.5, lease=60)
        broker.settle([Dead(delivery, reason="failed") for delivery in claimed])
        dead.extend(delivery.envelope.id for delivery in claimed)
        return len(dead) == MANY

    wait_until(all_are_dead)
    return ids


@pytest.mark.parametrize("groups", [1, 3])
def test_a_look_shows_all(broker: SqsBroker, groups: int) -> None:
    """Lists, walks and searches reach each dead letter, and change none."""
    ids = bury(broker, groups)

    page = broker.peek(QUEUE, place=Place.DEAD)
    walked = {stored.envelope.id for stored in broker.walk(QUEUE, Place.DEAD)}

    assert page.cursor is None
    assert sorted(stored.envelope.id for stored in page.items) == sorted(ids)
    assert walked == set(ids)
    assert [stored.envelope.id for stored in broker.find(QUEUE, [ids[-1]])] == [ids[-1]]
    assert broker.counts([QUEUE])[QUEUE].dead == MANY


@pytest.mark.parametrize("groups", [1, 3])
def test_changes_reach_each(broker: SqsBroker, groups: int) -> None:
    """One is replayed and one removed by its id, the rest is replayed in one call."""
    ids = bury(broker, groups)

    assert broker.requeue(QUEUE, [ids[-1]]) == [ids[-1]]
    assert broker.remove(QUEUE, [ids[MANY // 2]], place=Place.DEAD) == [ids[MANY // 2]]
    assert len(broker.requeue(QUEUE)) == MANY - 2
    assert broker.counts([QUEUE])[QUEUE].dead == 0


def test_a_replayed_message_is_back_in_its_group(broker: SqsBroker) -> None:
    """Only in the dead queue does each have a group of its own."""
    bury(broker, 1)
    broker.requeue(QUEUE)

    (first,) = broker.receive([QUEUE], limit=1, wait=5, lease=60)

    assert broker.receive([QUEUE], limit=MANY, wait=0, lease=60) == []
    assert first.envelope.generation == 1


def test_all_that_sqs_moved_itself_are_replayed(broker: SqsBroker) -> None:
    """A redrive policy keeps the group, so that later ones come only when the earlier are gone."""
    ids = [new_id() for _ in range(MANY)]
    dead = broker._queues.dead(QUEUE)
    url = broker._queues.url(dead)
    for id in ids:
        broker._service.call(
            "send_message",
            doing="send",
            QueueUrl=url,
            MessageBody="{}",
            MessageGroupId="g",
            MessageDeduplicationId=id,
            MessageAttributes={"queuekit-id": {"DataType": "String", "StringValue": id}},
        )

    assert sorted(broker.requeue(QUEUE)) == sorted(ids)
    assert broker.counts([QUEUE])[QUEUE].dead == 0
