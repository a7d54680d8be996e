"""Real workers on SQS and DynamoDB: killed, stopped, and with tasks longer than a lease."""

import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.client.sender import Sending
from support.aws_clients import sqs_broker
from support.aws_proxy import AwsProxy
from support.aws_servers import AwsServer, Hasty, ministack
from support.fault_tasks import app, fail_at_first, hold, kill_self, nap, weigh
from support.fleet import Fleet
from support.waiting import PATIENCE, wait_until

LEASE = 3.0
"""Seconds; short, so that a test need not wait."""
PACE = 400.0
"""Seconds on the clock of a service in a hurry, to each of ours."""
DELAYS = (2_400.0, 2_700.0)
"""Seconds on that clock, three delays of SQS's in a row."""
EXPIRY: dict[str, Any] = {
    "LifecycleConfiguration": {
        "Rules": [{"ID": "all", "Status": "Enabled", "Filter": {"Prefix": "queuekit/"}, "Expiration": {"Days": 28}}]
    }
}
"""A rule that removes bodies that nobody needs."""


@pytest.fixture
def fleet(ministack_server: AwsServer, tmp_path: Path) -> Iterator[Fleet]:
    """Workers on queues of their own."""
    mark = secrets.token_hex(4)
    made = Fleet(tmp_path, app, broker=ministack_server.sqs(mark), backend=ministack_server.dynamodb("workers"))
    yield made
    made.close()
    print(made.logs())  # noqa: T201 - pytest shows it where a test has failed


def kill_again_and_again(fleet: Fleet, ids: list[str], *, times: int, lease: float) -> None:
    """Kill worker and supervisor *times*, each time with some more of *ids* done; then have all of them done."""
    step = len(ids) // (times + 3)
    for kill in range(times):
        group = fleet.start(lease=lease, concurrency=8, prefetch=16)
        fleet.reached("end", step * (kill + 1))
        group.kill()
    fleet.start(lease=lease, concurrency=8, prefetch=16)
    wait_until(lambda: fleet.ledger.has("end", ids), what="all tasks done")
    fleet.drained()
    runs = fleet.ledger.counts("begin")
    again = sum(count > 1 for count in runs.values())
    print(f"\n{len(ids)} tasks, {times} kills, visibility {lease:g} s: {again} run again, none lost")  # noqa: T201


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("count", "times", "lease"),
    [
        pytest.param(120, 3, LEASE, id="small", marks=pytest.mark.full),
        pytest.param(2_000, 8, 10.0, id="full-size", marks=pytest.mark.torture),
    ],
)
def test_kills_of_the_whole_group_lose_nothing(fleet: Fleet, count: int, times: int, lease: float) -> None:
    """Killing worker and supervisor again and again loses no message, and each has its result."""
    sent = [result.id for result in fleet.app.send_many(nap.s(0.02) for _ in range(count))]

    kill_again_and_again(fleet, sent, times=times, lease=lease)

    assert not fleet.dead()
    assert fleet.states(sent) == {"SUCCESS": count}


@pytest.mark.full
@pytest.mark.timeout(240)
def test_kills_lose_neither_priorities_nor_large_bodies(fleet: Fleet) -> None:
    """Messages of several levels, half of them with a body in S3, survive kills; next to no body is left behind."""
    fleet.urls["broker"] += "&payload_bucket=bodies&max_message_bytes=65536"
    fleet.app.configure(dict(fleet.urls))
    broker = sqs_broker(fleet.urls["broker"], payload_bucket="bodies")
    broker._s3_service().call("create_bucket", doing="test", Bucket="bodies")
    calls = [weigh.options(priority=(0, 4, 9)[n % 3]).s("x" * (60_000 if n % 2 else 6)) for n in range(120)]
    sent = [result.id for result in fleet.app.send_many(calls)]

    kill_again_and_again(fleet, sent, times=2, lease=LEASE)

    left = broker._s3_service().call("list_objects_v2", doing="test", Bucket="bodies")["KeyCount"]
    print(f"{left} of 60 bodies left behind")  # noqa: T201
    assert not fleet.dead()
    assert fleet.states(sent) == {"SUCCESS": len(sent)}
    assert [fleet.app.result(id).get(timeout=PATIENCE) for id in sent[:2]] == [6, 60_000]
    assert left <= 2 * (8 + 16), "at most what was in hand at a kill"
    assert any("lifecycle rule" in line for line in broker.check())
    broker._s3_service().call("put_bucket_lifecycle_configuration", doing="test", Bucket="bodies", **EXPIRY)
    assert broker.check() == []
    broker.close()


@pytest.mark.full
def test_a_copy_whose_body_went_with_its_message_is_dropped(fleet: Fleet) -> None:
    """A crash in the middle of a move leaves two messages with one body in S3: the one that runs removes it."""
    fleet.urls["broker"] += "&payload_bucket=bodies&max_message_bytes=65536"
    fleet.app.configure(dict(fleet.urls))
    broker = sqs_broker(fleet.urls["broker"], payload_bucket="bodies")
    broker._s3_service().call("create_bucket", doing="test", Bucket="bodies")
    sent = weigh.send("x" * 60_000)
    url = broker._queues.url(broker._queues.of_priority("default", 4))
    (message,) = broker._service.call(
        "receive_message", doing="test", QueueUrl=url, MessageAttributeNames=["All"], VisibilityTimeout=0
    )["Messages"]

    fleet.start(lease=LEASE, concurrency=1)
    done = sent.get(timeout=PATIENCE)
    copy = {"MessageBody": message["Body"], "MessageAttributes": message["MessageAttributes"]}
    broker._service.call("send_message", doing="test", QueueUrl=url, **copy)
    after = nap.send(0.0)
    fleet.drained()

    assert (done, after.state.value) == (60_000, "SUCCESS")
    assert not fleet.dead()
    broker.close()


@pytest.mark.full
def test_a_task_of_two_leases_runs_once(fleet: Fleet) -> None:
    """A lease is renewed while a task runs, so nobody else gets its message."""
    fleet.start_ready(lease=LEASE, concurrency=2)
    fleet.start_ready(lease=LEASE, concurrency=2)
    ids = [nap.send(2.2 * LEASE).id, nap.send(0.0).id]

    wait_until(lambda: fleet.ledger.has("end", ids), what="both done")
    fleet.drained()

    assert set(fleet.ledger.counts("begin").values()) == {1}


def test_a_killed_process_hands_its_messages_back(fleet: Fleet) -> None:
    """The supervisor hands back what a dead process held, long before its leases end."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=4, lease=600)
    ids = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(4))]
    wait_until(lambda: fleet.ledger.has("begin", ids), what="all running")
    (killed,) = group.workers()

    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: min(fleet.ledger.counts("begin")[id] for id in ids) == 2, what="the same tasks in a new process")
    gate.touch()
    fleet.drained()

    assert fleet.ledger.has("end", ids)
    assert not fleet.dead()


@pytest.mark.full
def test_a_poison_task_is_buried_and_harms_no_other(fleet: Fleet) -> None:
    """A task that ends its process runs exactly three times, then lies among the dead letters; the others are done."""
    poison = kill_self.send().id
    others = [result.id for result in fleet.app.send_many(nap.s(0.01) for _ in range(20))]
    fleet.start(lease=LEASE, concurrency=4)

    wait_until(fleet.dead, what="the poison is dead")
    wait_until(lambda: fleet.ledger.has("end", others), what="all others done")

    assert {id: stored.reason for id, stored in fleet.dead().items()} == {poison: "crashed"}
    assert fleet.ledger.counts("begin")[poison] == 3


@pytest.mark.full
def test_retries_are_made(fleet: Fleet) -> None:
    """Each message makes all its attempts."""
    ids = [result.id for result in fleet.app.send_many(fail_at_first.s(2) for _ in range(10))]

    fleet.start(lease=LEASE, concurrency=4)

    assert [fleet.app.result(id).get(timeout=PATIENCE) for id in ids] == [2] * 10


def test_a_long_delay_is_made_of_hops(fleet: Fleet, ministack_server: AwsServer) -> None:
    """A delay beyond what SQS can is kept, to the second and once."""
    broker = fleet.urls["broker"] + "&max_delay=1"
    fleet.urls["broker"] = broker
    fleet.app.configure(dict(fleet.urls))
    fleet.start_ready(lease=LEASE, concurrency=2)
    sent = time.monotonic()
    late = nap.options(delay=4.0).send(0.0)

    late.get(timeout=PATIENCE)

    (line,) = fleet.ledger.lines("begin", late.id)
    assert line.at - sent >= 4.0 - 1.0
    assert fleet.ledger.counts("begin")[late.id] == 1


@pytest.mark.full
def test_forty_minutes_are_kept(tmp_path: Path) -> None:
    """A delay of 40 minutes, three of SQS's, ends no earlier by the service's clock, and the task runs once."""
    clock = Hasty(PACE)
    server = ministack(tmp_path, clock=clock).start()
    fleet = Fleet(tmp_path, Queuekit(clock=clock), broker=server.sqs("late"), backend="none")
    later = fleet.app.task(name="support.fault_tasks.nap")(lambda seconds: seconds)
    sent = time.monotonic()
    ids = [later.options(delay=delay).send(0.0).id for delay in DELAYS]

    fleet.start(lease=40_000.0, concurrency=2)
    wait_until(lambda: fleet.ledger.has("end", ids), what="both done")
    fleet.drained()

    begun = [fleet.ledger.lines("begin", id) for id in ids]
    fleet.close()
    server.stop()
    assert [len(lines) for lines in begun] == [1, 1]
    assert all((line.at - sent) * PACE >= delay - 2.0 for (line,), delay in zip(begun, DELAYS, strict=True))


@pytest.mark.full
@pytest.mark.timeout(240)
@pytest.mark.parametrize("whole", [True, False], ids=["group", "process"])
def test_kills_keep_the_order_of_a_fifo_queue(fleet: Fleet, *, whole: bool) -> None:
    """Whatever is killed, a message begins only after the one before it in its group has ended, and none is lost."""
    groups = {name: [nap.options(queue="o.fifo", headers={"group": name}).s(0.1) for _ in range(12)] for name in "abc"}
    sent = {name: [result.id for result in fleet.app.send_many(calls)] for name, calls in groups.items()}
    settings: dict[str, Any] = {"lease": LEASE, "concurrency": 4}
    workers = [fleet.start("-q", "o.fifo", **settings) for _ in range(2)]

    for kill in range(2):
        fleet.reached("end", 8 * (kill + 1))
        if whole:
            workers[kill].kill()
            fleet.start("-q", "o.fifo", **settings)
        else:
            os.kill(wait_until(workers[kill].workers, what="a process")[0], signal.SIGKILL)
    everything = [id for ids in sent.values() for id in ids]
    wait_until(lambda: fleet.ledger.has("end", everything), what="all done")

    for ids in sent.values():
        begun = [next(line.at for line in fleet.ledger.lines("begin", id)) for id in ids]
        ended = [next(line.at for line in fleet.ledger.lines("end", id)) for id in ids]
        assert all(end <= begin for end, begin in zip(ended, begun[1:], strict=False))
    assert not fleet.dead("o.fifo")


@pytest.mark.full
@pytest.mark.parametrize("killed", [False, True], ids=["quiet", "holder-killed"])
def test_copies_of_a_callback_run_one_at_a_time(fleet: Fleet, *, killed: bool) -> None:
    """Of what several workers have sent again one copy runs; if its worker is killed another does, and then none."""
    gate = fleet.gate()
    callback = Sending(fleet.app.runtime, fleet.app.tasks).prepare(
        hold.s(str(gate)), parent="sent-by-each-batch-that-came-back"
    )
    for _ in range(4):
        sqs_broker(fleet.urls["broker"]).send([callback.envelope])
    id = callback.envelope.id
    groups = [fleet.start_ready(lease=LEASE, concurrency=4) for _ in range(2)]
    wait_until(lambda: fleet.ledger.has("begin", [id]), what="one copy runs")
    if killed:
        groups[0].kill()
        fleet.start_ready(lease=LEASE, concurrency=4)
        nap.send(2 * LEASE).get(timeout=PATIENCE)
    nap.send(2 * LEASE).get(timeout=PATIENCE)

    begun = fleet.ledger.counts("begin")[id]
    gate.touch()
    fleet.drained()

    assert begun <= 1 + killed
    assert fleet.ledger.counts("end")[id] == 1
    assert not fleet.dead()


@pytest.fixture
def harmed(proxy: AwsProxy, tmp_path: Path) -> Iterator[Fleet]:
    """Workers behind the proxy."""
    mark = secrets.token_hex(4)
    urls = {"broker": proxy.sqs(mark), "backend": proxy.dynamodb("workers")}
    made = Fleet(tmp_path, app, **urls)
    yield made
    made.close()
    print(made.logs())  # noqa: T201 - pytest shows it where a test has failed


@pytest.mark.full
def test_a_worker_outlives_throttling(harmed: Fleet, proxy: AwsProxy) -> None:
    """While all requests are refused the worker says so in single lines; then it goes on, and nothing is lost."""
    ids = [result.id for result in harmed.app.send_many(nap.s(0.05) for _ in range(60))]
    group = harmed.start_ready(lease=20.0, concurrency=2)
    wait_until(lambda: len(harmed.ledger.counts("end")) >= 5, what="some tasks done")

    proxy.throttle(2 * PATIENCE)
    wait_until(lambda: proxy.upset["throttled"] > 10, what="a worker that asks again and again")
    proxy.throttled.clear()

    wait_until(lambda: harmed.ledger.has("end", ids), what="all tasks done")
    harmed.drained()
    assert group.alive()
    assert "Traceback" not in group.read_log()
    assert harmed.states(ids) == {"SUCCESS": len(ids)}


@pytest.mark.torture
def test_an_idle_worker_asks_rarely(harmed: Fleet, proxy: AwsProxy) -> None:
    """While there is nothing to do, a worker has one long poll under way, and begins no other."""
    harmed.start_ready(concurrency=2)
    wait_until(lambda: proxy.counts["ReceiveMessage"] >= 2, what="a look and a long poll")

    time.sleep(12)  # about time itself: two rounds of the fetcher, and less than a long poll

    assert proxy.counts["ReceiveMessage"] == 2
