"""What SQS and DynamoDB do at times, done on purpose by a proxy: nothing is lost, and what is wrong is said once."""

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import attrs
import pytest

from queuekit import Queuekit
from queuekit.broker import Ack, Dead, Delivery, Place, Release, Replace
from queuekit.envelope import Envelope, Unique
from queuekit.errors import PartialSendError, UnavailableError
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit.worker import Worker
from queuekit_sqs.broker import SqsBroker
from queuekit_sqs.settling import read_token
from support.aws_clients import sqs_broker
from support.aws_proxy import AwsProxy
from support.waiting import PATIENCE, UNHURRIED

Make = Callable[..., SqsBroker]
LEASE = 30.0


@pytest.fixture
def make(proxy: AwsProxy) -> Iterator[Make]:
    """Return what makes a broker behind the proxy, always with the same queues."""
    made: list[SqsBroker] = []
    url = EngineURL.parse(proxy.sqs(f"f{secrets.token_hex(4)}"))

    def make_one(**options: Any) -> SqsBroker:
        made.append(sqs_broker(url, **options))
        return made[-1]

    yield make_one
    for broker in made:
        broker.close()


def with_bucket(make: Make) -> tuple[SqsBroker, str]:
    """Return a broker that keeps large bodies in S3, and its bucket, which is no other test's: the server is shared."""
    bucket = f"payloads-{secrets.token_hex(4)}"
    broker = make(payload_bucket=bucket)
    broker._s3_service().call("create_bucket", doing="test", Bucket=bucket)
    return broker, bucket


def messages(count: int, queue: str = "q", **fields: Any) -> list[Envelope]:
    """Return *count* messages."""
    return [Envelope(id=new_id(), queue=queue, body=b"%d" % n, **fields) for n in range(count)]


def take(broker: SqsBroker, count: int, queue: str = "q", *, lease: float = LEASE) -> list[Delivery]:
    """Return *count* deliveries."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + PATIENCE
    while len(taken) < count and time.monotonic() < deadline:
        taken += broker.receive([queue], limit=count - len(taken), wait=1.0, lease=lease)
    assert len(taken) == count
    return taken


def drained(broker: SqsBroker, queue: str = "q") -> bool:
    """Return whether nothing is left of a queue."""
    counts = broker.counts([queue])[queue]
    return counts.ready + counts.leased + counts.delayed == 0


def test_failing_entries_are_tried_again(make: Make, proxy: AwsProxy) -> None:
    """Where one in ten entries of a batch fails, all messages are sent once, taken and deleted."""
    broker = make()
    proxy.failing_entry = 10
    batch = messages(60)

    broker.send(batch)
    taken = take(broker, 60)
    lost = broker.settle([Ack(delivery) for delivery in taken])

    assert sorted(each.id for each in taken) == sorted(each.id for each in batch)
    assert lost == []
    assert proxy.upset["failed"] >= 12
    assert drained(broker)


def test_entries_that_are_refused_are_named(make: Make, proxy: AwsProxy) -> None:
    """What SQS refuses for good of a batch is told of, message by message, and the others are sent."""
    broker = make()
    batch = messages(20)
    proxy.failing_entry, proxy.failing_for_good = 7, True

    with pytest.raises(PartialSendError) as caught:
        broker.send(batch)

    proxy.failing_entry = 0
    assert set(caught.value.failures.values()) == {"InvalidMessageContents: no"}
    assert len(caught.value.failures) == 2
    assert {each.id for each in take(broker, 18)} == {each.id for each in batch} - caught.value.failures.keys()


def test_lost_replies_to_a_send_lose_no_message(make: Make, proxy: AwsProxy) -> None:
    """A send whose reply is lost is repeated: each message is there, at least once."""
    broker = make()
    proxy.lost_replies["SendMessageBatch"] = 2
    batch = messages(20)

    broker.send(batch)

    proxy.lost_replies.clear()
    counts = broker.counts(["q"])["q"]
    assert proxy.upset["lost"] == 2
    assert {each.id for each in take(broker, counts.ready)} == {each.id for each in batch}


def test_lost_replies_to_a_delete_leave_nothing_behind(make: Make, proxy: AwsProxy) -> None:
    """A delete whose reply is lost is repeated, and what it finds done is not reported as a lost lease."""
    broker = make()
    broker.send(messages(10))
    taken = take(broker, 10)
    proxy.lost_replies["DeleteMessageBatch"] = 1

    lost = broker.settle([Ack(delivery) for delivery in taken])

    assert lost == []
    assert drained(broker)


def test_a_retry_that_is_settled_again_is_sent_once(make: Make, proxy: AwsProxy) -> None:
    """If the delete after the send of a retry does not go through, settling again sends nothing twice."""
    broker = make()
    broker.send(messages(1))
    (delivery,) = take(broker, 1)
    retry = Replace(delivery, attrs.evolve(delivery.envelope, attempt=1))
    proxy.denied["DeleteMessageBatch"] = (403, "AccessDenied", "no")
    with pytest.raises(UnavailableError, match="sqs:DeleteMessage on"):
        broker.settle([retry])
    proxy.denied.clear()

    broker.settle([retry])

    assert [each.envelope.attempt for each in take(broker, 1)] == [1]
    assert broker.receive(["q"], limit=10, wait=0, lease=LEASE) == []


def test_throttling_is_waited_out(make: Make, proxy: AwsProxy) -> None:
    """A short burst of throttling is not seen by who sends."""
    broker = make()
    broker.send(messages(1))
    proxy.throttle(0.3)

    broker.send(messages(9))

    assert len(take(broker, 10)) == 10
    assert proxy.upset["throttled"] > 0


def test_a_send_that_fails_in_part_is_repeated_in_part(make: Make, proxy: AwsProxy) -> None:
    """What has arrived of a send that failed is not sent again with the rest."""
    broker = make()
    broker.send([*messages(1, "one"), *messages(1, "two")])
    batch = [*messages(10, "one"), *messages(10, "two")]
    proxy.failing_entry = 3
    proxy.throttle(0.0)
    broker.send(batch)
    proxy.failing_entry = 0

    broker.send(batch[:0])

    counts = broker.counts(["one", "two"])
    assert (counts["one"].ready, counts["two"].ready) == (11, 11)


def test_credentials_that_have_expired_are_one_clear_error(make: Make, proxy: AwsProxy) -> None:
    """The error names action and queue and says what to do, in a few lines."""
    proxy.denied["GetQueueUrl"] = (403, "ExpiredToken", "The security token included in the request is expired")

    with pytest.raises(UnavailableError) as caught:
        make().send(messages(1))

    assert "sqs:GetQueueUrl on" in caught.value.what
    assert "renew" in caught.value.fix
    assert len(caught.value.lines()) <= 4


def test_a_missing_queue_is_one_clear_error(make: Make) -> None:
    """Where queues may not be created, a missing one is named, with the permission that would help."""
    broker = make(create=False)

    with pytest.raises(UnavailableError, match=r"the SQS queue 'f\w+-q' is missing") as caught:
        broker.send(messages(1))

    assert "sqs:CreateQueue" in caught.value.fix


def test_malformed_messages_are_delivered_as_they_are(make: Make) -> None:
    """A message that is none of ours has its bytes and an id, so that it can be quarantined (QK9)."""
    broker = make()
    broker.send(messages(1))
    take(broker, 1)
    url = broker._queues.url(broker._queues.of_priority("q", 4))
    strange = {"queuekit-meta": {"DataType": "String", "StringValue": '{"p":"x","u":[1],"a":-1e999,"x":true}'}}
    broker._service.call("send_message", doing="test", QueueUrl=url, MessageBody="{]", MessageAttributes=strange)

    (delivery,) = take(broker, 1)
    broker.settle([Dead(delivery, reason="malformed")])

    assert delivery.envelope.body == b"{]"
    assert delivery.envelope.priority == 4
    assert [each.envelope.body for each in broker.peek("q", place=Place.DEAD).items] == [b"{]"]


def test_order_within_a_group_is_kept_across_a_retry(make: Make) -> None:
    """On a FIFO queue what comes after a message of the same group waits until that has been retried."""
    broker = make()
    batch = [attrs.evolve(each, unique=Unique(key="customer-1")) for each in messages(3, "orders.fifo")]
    broker.send(batch)
    (first,) = broker.receive(["orders.fifo"], limit=1, wait=1.0, lease=LEASE)
    broker.settle([Replace(first, attrs.evolve(first.envelope, attempt=1))])

    order = []
    for _ in range(3):
        (delivery,) = take(broker, 1, "orders.fifo")
        order.append((delivery.id, delivery.envelope.attempt))
        broker.settle([Ack(delivery)])

    assert order == [(batch[0].id, 1), (batch[1].id, 0), (batch[2].id, 0)]


def test_large_bodies_wait_in_s3_and_go_with_their_message(make: Make) -> None:
    """A body above 1 MiB travels by S3, survives release, retry and death, and is deleted with the message."""
    broker, bucket = with_bucket(make)
    body = secrets.token_bytes(2_000_000)
    broker.send([Envelope(id="large", queue="q", body=body)])
    (delivery,) = take(broker, 1)
    broker.settle([Release(delivery)])
    (delivery,) = take(broker, 1)
    broker.settle([Replace(delivery, attrs.evolve(delivery.envelope, attempt=1))])
    (delivery,) = take(broker, 1)
    broker.settle([Dead(delivery, reason="failed")])

    (stored,) = broker.peek("q", place=Place.DEAD).items
    broker.requeue("q")
    (delivery,) = take(broker, 1)
    broker.settle([Ack(delivery)])

    assert stored.envelope.body == delivery.envelope.body == body
    left = broker._s3_service().call("list_objects_v2", doing="test", Bucket=bucket)
    assert left["KeyCount"] == 0


def test_no_lease_goes_beyond_twelve_hours(make: Make) -> None:
    """Renewals end where SQS's own do, and what is left until then is granted in whole seconds."""
    broker = make()
    broker.send(messages(1))
    (delivery,) = take(broker, 1)
    token = read_token(delivery.token)
    assert token is not None
    began = time.monotonic() - 43_200.0
    near, over = (delivery.lease._replace(token=str(attrs.evolve(token, claimed=began + left))) for left in (2.5, 0.5))
    near, over = (one._replace(token=one.token.replace(" 30 ", " 43200 ")) for one in (near, over))

    assert broker.extend([near, over], lease=600.0) == [over]
    assert take(broker, 1)[0].id == delivery.id, "two seconds later it is another's"
    assert broker.extend([near], lease=600.0) == [near]


def test_a_retry_on_a_fifo_queue_is_not_taken_for_a_repeat(make: Make) -> None:
    """Each attempt and each replay has a deduplication id of its own, and the send of one message twice has one."""
    broker = make()
    (first,) = messages(1, "orders.fifo")
    broker.send([first])
    broker.send([first])
    (delivery,) = take(broker, 1, "orders.fifo")
    broker.settle([Replace(delivery, attrs.evolve(first, queue="others.fifo", attempt=1))])
    (again,) = take(broker, 1, "others.fifo")
    broker.settle([Dead(again, reason="failed")])
    broker.requeue("others.fifo")
    (replayed,) = take(broker, 1, "others.fifo")

    assert (again.envelope.attempt, replayed.envelope.generation) == (1, 1)
    assert {delivery.id, again.id, replayed.id} == {first.id}
    assert drained(broker, "orders.fifo")


def test_messages_delivered_twice_have_one_outcome(proxy: AwsProxy) -> None:
    """Where every fifth receive is doubled, each message has one result, and none is lost."""
    app = Queuekit()
    prefix = secrets.token_hex(4)
    app.configure(
        {
            "broker": proxy.sqs(prefix),
            "backend": proxy.dynamodb("faults"),
            "send_timeout": UNHURRIED,
            "worker.concurrency": 4,
        }
    )

    @app.task(name="double")
    def double(number: int) -> int:
        return 2 * number

    results = app.send_many(double.s(number) for number in range(100))
    proxy.doubled_receive = 5

    Worker(app, burst=True).run()

    assert [result.get(timeout=PATIENCE) for result in results] == [2 * number for number in range(100)]
    assert proxy.upset["doubled"] > 0
    app.close()


@pytest.mark.torture  # how many messages a request brings depends on the machine's other work
def test_a_bulk_drain_takes_few_requests(proxy: AwsProxy) -> None:
    """Sending and draining a bulk costs at most 0.45 requests a task, results included."""
    app = Queuekit()
    app.configure(
        {
            "broker": proxy.sqs(secrets.token_hex(4)),
            "backend": proxy.dynamodb("faults"),
            "send_timeout": UNHURRIED,
            "worker.concurrency": 8,
        }
    )

    @app.task(name="nothing")
    def nothing(number: int) -> int:
        return number

    app.send_many([nothing.s(0)])
    proxy.counts.clear()
    app.send_many(nothing.s(number) for number in range(600))

    Worker(app, burst=True).run()

    print(proxy.counts)  # noqa: T201 - shown where the test fails
    assert proxy.counts.total() / 600 <= 0.45
    app.close()


def test_a_redrive_policy_is_kept_to(make: Make) -> None:
    """Dead letters go to the queue that the owner has named, and too small a count is told of."""
    broker = make()
    broker.send(messages(1))
    own = broker._queues.url(broker._queues.of_priority("q", 4))
    graves = broker._service.call("create_queue", doing="test", QueueName=f"graves-{secrets.token_hex(4)}")["QueueUrl"]
    arn = broker._service.call("get_queue_attributes", doing="test", QueueUrl=graves, AttributeNames=["QueueArn"])[
        "Attributes"
    ]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    broker._service.call("set_queue_attributes", doing="test", QueueUrl=own, Attributes={"RedrivePolicy": policy})
    (delivery,) = take(broker, 1)

    broker.settle([Dead(delivery, reason="failed", error="ValueError: no")])

    reply = broker._service.call("receive_message", doing="test", QueueUrl=graves, MessageAttributeNames=["All"])
    (letter,) = reply["Messages"]
    assert letter["MessageAttributes"]["queuekit-reason"]["StringValue"] == "failed"
    assert [line for line in broker.check_queues(["q", "none"], max_deliveries=1) if "to 10 or more" in line]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 10})
    broker._service.call("set_queue_attributes", doing="test", QueueUrl=own, Attributes={"RedrivePolicy": policy})
    assert broker.check_queues(["q"], max_deliveries=1) == []
    assert [line for line in broker.check_queues(["q"], max_deliveries=3) if "to 30 or more" in line]


def test_dead_letters_are_shown_in_pages_and_stay(make: Make) -> None:
    """The latest of more than a page, each once, and all of them are there afterwards."""
    broker = make()
    dead = bury(broker, 23)

    page = broker.peek("q", place=Place.DEAD, limit=10)
    rest = broker.peek("q", place=Place.DEAD, limit=20, cursor=page.cursor)

    assert len(page.items) == 10
    assert {each.envelope.id for each in (*page.items, *rest.items)} == dead
    assert broker.counts(["q"])["q"].dead == 23


def test_dead_letters_are_found_by_id(make: Make) -> None:
    """The others are handed out to find one, and are back at once."""
    broker = make()
    dead = sorted(bury(broker, 23))

    found = broker.find("q", [dead[7], "nobody"])

    assert [each.envelope.id for each in found] == [dead[7]]
    assert broker.requeue("q", [dead[7]]) == [dead[7]]
    assert sorted(broker.remove("q", dead[:2], place=Place.DEAD)) == dead[:2]
    assert {each.envelope.id for each in broker.peek("q", place=Place.DEAD, limit=50).items} == {*dead[2:7], *dead[8:]}


def test_a_look_at_dead_letters_reads_a_bounded_number(
    make: Make, proxy: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are; all are back afterwards."""
    monkeypatch.setattr("queuekit_sqs.dead_letters.DEAD_IN_ORDER", 10)
    broker = make()
    bury(broker, 200)
    proxy.counts.clear()

    page = broker.peek("q", place=Place.DEAD, limit=5)
    listed = islice(broker.walk("q", Place.DEAD), 5)
    shown = [each.envelope.id for each in listed]
    del listed
    beyond = broker.dead_beyond("q", count=150, before=None)

    assert (len(page.items), len(shown), len(beyond)) == (5, 5, 50)
    assert proxy.counts["ReceiveMessage"] <= 3 * 8  # of 10 messages each; all would take 60 and more
    assert broker.purge("q", place=Place.DEAD) == 200


def test_dead_letters_are_changed_while_they_are_read_once(
    make: Make, proxy: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass reads each once, and what it has just yielded is changed without a search. The others are back."""
    monkeypatch.setattr("queuekit_sqs.dead_letters.DEAD_IN_ORDER", 10)
    broker = make()
    dead = bury(broker, 200)
    proxy.counts.clear()
    changed: list[str] = []

    seen: set[str] = set()
    with contextlib.closing(broker.seek_dead("q")) as found:
        for number, stored in enumerate(found):
            seen.add(stored.envelope.id)
            if number == 50:  # as after a part that was changed at a low rate
                broker._dead_letters._passes[0].renew_at = hidden_before = 0.0
                changed += broker.requeue("q", [stored.envelope.id])
                assert broker._dead_letters._passes[0].renew_at > hidden_before
            if number == 150:
                changed += broker.remove("q", [stored.envelope.id], place=Place.DEAD)

    assert (seen, len(changed)) == (dead, 2)
    assert proxy.counts["ReceiveMessage"] <= 20 + 16
    counts = broker.counts(["q"])["q"]
    assert (counts.ready, counts.dead) == (1, 198)
    assert {one.envelope.id for one in broker.walk("q", Place.DEAD)} == dead - set(changed)


def bury(broker: SqsBroker, count: int) -> set[str]:
    """Send messages, let them die, and return their ids."""
    broker.send(messages(count))
    broker.settle([Dead(delivery, reason="failed") for delivery in take(broker, count)])
    return {each.envelope.id for each in broker.walk("q", Place.DEAD)}


def test_a_body_in_s3_that_is_too_large_is_not_read(make: Make) -> None:
    """Its size is asked first; the message is malformed without it, and its bytes stay where they are."""
    broker, _ = with_bucket(make)
    broker.send([Envelope(id="large", queue="q", body=b"x" * 2_000_000)])
    broker.largest_wanted = 1_000_000

    (delivery,) = take(broker, 1)

    assert len(delivery.envelope.body) < 1_000


@pytest.mark.parametrize(
    "pointer", [{}, {"key": "queuekit/\ud800"}, {"key": "queuekit/" + "x" * 5_000}], ids=["empty", "surrogate", "long"]
)
def test_a_pointer_that_s3_would_refuse_takes_no_other_message_along(make: Make, pointer: dict[str, str]) -> None:
    """Whatever a message says about the place of its body, it is read, and so are its neighbours (QK8, QK9)."""
    broker, bucket = with_bucket(make)
    encoding = {"queuekit-encoding": {"DataType": "String", "StringValue": "s3"}}
    url = broker._queues.url(broker._queues.of_priority("q", 4))
    body = json.dumps({"bucket": bucket, **pointer})
    broker._service.call("send_message", doing="test", QueueUrl=url, MessageBody=body, MessageAttributes=encoding)
    broker.send([Envelope(id="good", queue="q", body=b"good")])

    taken = take(broker, 2)

    assert sorted(bool(one.unread) for one in taken) == [False, True]


def test_a_body_that_s3_does_not_give_out_takes_no_other_along(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message comes again later, and that is no crash; the others are delivered."""
    broker, _ = with_bucket(make)
    broker.send([Envelope(id=id, queue="q", body=id.encode() * 1_000_000) for id in ("good", "lost")])
    monkeypatch.setattr("queuekit_sqs.broker._AWAY", 1.0)
    payloads = broker._payloads
    assert payloads is not None
    read, failed = payloads._get, list[str]()

    def get(pointer: str) -> Any:
        found = read(pointer)
        if isinstance(found, bytes) and found.startswith(b"lost") and not failed:
            failed.append(pointer)
            return UnavailableError("AccessDenied")
        return found

    monkeypatch.setattr(payloads, "_get", get)

    taken: dict[str, Delivery] = {}
    deadline = time.monotonic() + PATIENCE
    while len(taken) < 2 and time.monotonic() < deadline:
        with contextlib.suppress(UnavailableError):  # it may have come alone
            taken |= {one.id: one for one in broker.receive(["q"], limit=10, wait=1.0, lease=LEASE)}

    assert len(failed) == 1
    assert {id: one.crashes for id, one in taken.items()} == {"good": 0, "lost": 0}


def test_a_service_that_gives_out_no_body_is_down(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing could be read a worker is told why, and no lease has to end first."""
    broker, _ = with_bucket(make)
    broker.send([Envelope(id="large", queue="q", body=b"x" * 2_000_000)])
    monkeypatch.setattr(broker._payloads, "fetch", lambda pointers: [UnavailableError("AccessDenied")] * len(pointers))

    with pytest.raises(UnavailableError, match="AccessDenied"):
        take(broker, 1)

    assert broker.counts(["q"])["q"].delayed == 1


@pytest.mark.parametrize("way", ["remove", "purge", "requeue", "look"])
def test_copies_of_a_dead_letter_are_treated_as_one(make: Make, way: str) -> None:
    """A crash between two requests leaves two with one id: both go, or both are put back."""
    broker = make()
    sqs_queue = broker._queues.dead("q")
    url = broker._queues.url(sqs_queue)
    marked = {"queuekit-id": {"DataType": "String", "StringValue": "twin"}}
    for _ in range(2):
        broker._service.call("send_message", doing="test", QueueUrl=url, MessageBody="{}", MessageAttributes=marked)
    calls: dict[str, Callable[[], Any]] = {
        "remove": lambda: broker.remove("q", ["twin"], place=Place.DEAD),
        "purge": lambda: broker.purge("q", place=Place.DEAD),
        "requeue": lambda: broker.requeue("q"),
        "look": lambda: broker.find("q", ["twin"]),
    }

    calls[way]()

    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    counts = broker._queues.attributes(sqs_queue, *names)
    assert [int(counts[name]) for name in names] == [2 if way == "look" else 0, 0]
