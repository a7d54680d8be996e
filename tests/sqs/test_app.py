"""An app on SQS and DynamoDB, as its user meets it: the check, what is refused at start, and the demo."""

import json
import secrets
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from queuekit import Queuekit, Signature, State
from queuekit.broker import Place
from queuekit.operations.admin import Admin
from queuekit.worker import Worker
from support.aws_clients import sqs_broker
from support.aws_servers import AwsServer
from support.commands import queuekit, write
from support.waiting import PATIENCE, UNHURRIED

TASKS = """
from queuekit import Queuekit

app = Queuekit()

@app.task({options})
def charge(order: int) -> int:
    return order
"""

PATIENTLY = {"QUEUEKIT_SEND_TIMEOUT": str(UNHURRIED)}
"""An imitation that is busy or cold may take more than the ten seconds of a command."""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with an app."""
    write(tmp_path, {"tasks.py": TASKS.replace("{options}", "")})
    return tmp_path


def test_check_tells_what_tasks_cost(shop: Path, ministack_server: AwsServer) -> None:
    """Beside each URL stands how many requests a task takes, and none."""
    mark = secrets.token_hex(4)
    urls = {"QUEUEKIT_BROKER": ministack_server.sqs(mark), "QUEUEKIT_BACKEND": ministack_server.dynamodb(mark)}

    done = queuekit("check", "--app", "tasks:app", folder=shop, **PATIENTLY, **urls)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0.3 requests per task in bulk, 3 for a single task; idle: 4,320 long polls a day" in done.stdout
    assert "0.1 requests per task in bulk" in done.stdout


def test_check_reads_redrive_policies(shop: Path, ministack_server: AwsServer) -> None:
    """A queue that a task is sent to may not lose messages after fewer receives than ten times the deliveries."""
    write(shop, {"tasks.py": TASKS.replace("{options}", 'queue="orders"')})
    urls = {"QUEUEKIT_BROKER": ministack_server.sqs(secrets.token_hex(4)), "QUEUEKIT_BACKEND": "none"}
    broker = sqs_broker(urls["QUEUEKIT_BROKER"])
    url, _ = (broker._queues.url(broker._queues.of_priority(queue, 4)) for queue in ("orders", "graves"))
    arn = broker._queues.attributes(broker._queues.of_priority("graves", 4), "QueueArn")["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 20})
    broker._service.call("set_queue_attributes", doing="test", QueueUrl=url, Attributes={"RedrivePolicy": policy})
    broker.close()

    strict = queuekit("check", "--app", "tasks:app", folder=shop, **PATIENTLY, **urls)
    fine = queuekit(
        "check", "--app", "tasks:app", folder=shop, QUEUEKIT_WORKER__MAX_DELIVERIES="2", **PATIENTLY, **urls
    )

    assert (strict.returncode, fine.returncode) == (1, 0)
    assert "Set maxReceiveCount to 30 or more: 10 times worker.max_deliveries" in strict.stdout


def test_a_worker_refuses_what_sqs_cannot(shop: Path, ministack_server: AwsServer) -> None:
    """A unique task needs a backend here; a start without one names task and option."""
    write(shop, {"tasks.py": TASKS.replace("{options}", "unique=True")})
    url = ministack_server.sqs(secrets.token_hex(4))

    done = queuekit("worker", "tasks:app", folder=shop, QUEUEKIT_BROKER=url, QUEUEKIT_BACKEND="none", **PATIENTLY)

    assert done.returncode != 0
    assert "tasks.charge asks for unique, which sqs+http:// does not support" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def app(ministack_server: AwsServer) -> Iterator[Queuekit]:
    """Return an app with queues of its own."""
    made = Queuekit()
    mark = secrets.token_hex(4)
    urls = {"broker": ministack_server.sqs(mark), "backend": ministack_server.dynamodb("apps")}
    made.configure({**urls, "send_timeout": UNHURRIED})
    yield made
    made.close()


def test_values_come_back_as_what_they_were(app: Queuekit) -> None:
    """Whatever type a task returns, its caller gets the same."""

    @app.task(name="echo")
    def echo(value: object) -> object:
        return value

    zone = timezone(timedelta(hours=2))
    values: list[object] = [b"\0\xff", "\0 text", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=zone), date(2026, 1, 2)]
    values += [UUID(int=1), Decimal("1.10"), (1, [2.5, None]), {1, 2}, {"a": {"b": True}}, 2**80, -0.0]
    results = app.send_many(echo.s(value) for value in values)

    Worker(app, burst=True).run()

    got = [result.get(timeout=PATIENCE) for result in results]
    assert got == values
    assert [type(value) for value in got] == [type(value) for value in values]


def test_a_message_is_cancelled_by_a_mark(app: Queuekit) -> None:
    """SQS gives no message back by its id, so the worker is told when it comes; it does not run."""
    runs: list[int] = []

    @app.task(name="note")
    def note(number: int) -> None:
        runs.append(number)

    cancelled, kept = app.send_many(note.s(number) for number in range(2))
    cancelled.cancel()

    Worker(app, burst=True).run()

    assert kept.get(timeout=PATIENCE) is None
    assert cancelled.state is State.CANCELLED
    assert runs == [1]


def test_what_is_no_message_of_ours_is_set_aside(app: Queuekit) -> None:
    """Bodies that nobody can read go, as they are, to the dead letters; the others are run."""

    @app.task(name="double")
    def double(number: int) -> int:
        return 2 * number

    good = double.send(21)
    broker = sqs_broker(app.config.broker)
    url = broker._queues.url(broker._queues.of_priority("default", 4))
    for body in ("{]", "hello", '{"v":99}', '{"v":1}'):
        broker._service.call("send_message", doing="test", QueueUrl=url, MessageBody=body)

    Worker(app, burst=True).run()

    letters = broker.peek("default", place=Place.DEAD).items
    assert good.get(timeout=PATIENCE) == 42
    assert {letter.envelope.body for letter in letters} == {b"{]", b"hello", b'{"v":99}', b'{"v":1}'}
    assert {letter.reason for letter in letters} == {"malformed"}
    broker.close()


@pytest.mark.torture
@pytest.mark.timeout(240)
def test_the_demo_comes_out_right(tmp_path: Path, ministack_server: AwsServer) -> None:
    """The demo, with nothing changed but its URLs, kills a worker half-way, and its totals are exact."""
    write(tmp_path, {f"sources/{n}.py": f"import os\ndef f{n}():\n    return {n}\n" for n in range(60)})
    mark = secrets.token_hex(4)
    urls = ["--broker", ministack_server.sqs(mark), "--backend", ministack_server.dynamodb(mark)]

    done = queuekit("demo", "sources", *urls, folder=tmp_path, **PATIENTLY)

    assert done.returncode == 0, done.stderr
    assert "The totals are exactly right" in done.stdout
    assert "got SIGKILL" in done.stdout


@pytest.mark.parametrize(
    ("service", "stored", "queue"),
    [
        pytest.param("ministack_server", True, "default", id="ministack-results-standard"),
        pytest.param("ministack_server", False, "jobs.fifo", id="ministack-no-results-fifo"),
        pytest.param("moto_server", True, "jobs.fifo", id="moto-results-fifo", marks=pytest.mark.full),
        pytest.param("moto_server", False, "default", id="moto-no-results-standard", marks=pytest.mark.full),
        pytest.param("ministack_server", True, "jobs.fifo", id="ministack-results-fifo"),
        pytest.param("ministack_server", False, "default", id="ministack-no-results-standard", marks=pytest.mark.full),
        pytest.param("moto_server", True, "default", id="moto-results-standard", marks=pytest.mark.full),
        pytest.param("moto_server", False, "jobs.fifo", id="moto-no-results-fifo", marks=pytest.mark.full),
    ],
)
def test_a_copy_without_its_body_is_dropped_or_says_why(
    request: pytest.FixtureRequest, service: str, queue: str, *, stored: bool
) -> None:
    """A crash between two requests leaves two messages with one body in S3: the one that runs deletes it for both."""
    server: AwsServer = request.getfixturevalue(service)
    mark = secrets.token_hex(4)
    app = Queuekit()
    url = server.sqs(mark, payload_bucket="bodies", max_message_bytes=65_536)
    urls = {"broker": url, "backend": server.dynamodb(mark)}
    app.configure({**urls, "send_timeout": UNHURRIED, "worker": {"queues": {queue: 1}}})
    client = sqs_broker(url, payload_bucket="bodies")
    client._s3_service().call("create_bucket", doing="test", Bucket="bodies")
    app.task(name="size", ignore_result=not stored, queue=queue)(len)
    app.send(Signature("size", args=("x" * 60_000,), id="one"))
    place = client._queues.url(client._queues.of_priority(queue, 4))
    wanted: dict[str, Any] = {"MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["MessageGroupId"]}
    wanted |= {"QueueUrl": place, "VisibilityTimeout": 0}
    (message,) = client._service.call("receive_message", doing="test", **wanted)["Messages"]
    Worker(app, burst=True).run()
    copy = {"MessageBody": message["Body"], "MessageAttributes": message["MessageAttributes"]}
    if queue.endswith(".fifo"):
        copy |= {"MessageGroupId": message["Attributes"]["MessageGroupId"], "MessageDeduplicationId": mark}
    client._service.call("send_message", doing="test", QueueUrl=place, **copy)

    Worker(app, burst=True).run()
    dead = [(one.stored.reason, one.stored.error) for one in Admin(app).dead(queue)]
    app.close()
    client.close()

    if stored:
        assert dead == []
    else:
        ((reason, error),) = dead
        assert reason == "malformed"
        assert "is gone: a copy of the message has run" in error
