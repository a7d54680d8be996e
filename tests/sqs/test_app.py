"""An app on SQS and DynamoDB, as its user meets it: the check, what is refused at start, and the demo."""

import secrets
from pathlib import Path

import pytest

from support.aws_servers import AwsServer
from support.commands import queuekit, write

TASKS = """
from queuekit import Queuekit

app = Queuekit()

@app.task({options})
def charge(order: int) -> int:
    return order
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with an app."""
    write(tmp_path, {"tasks.py": TASKS.replace("{options}", "")})
    return tmp_path


def test_check_tells_what_tasks_cost(shop: Path, ministack_server: AwsServer) -> None:
    """Beside each URL stands how many requests a task takes, and none."""
    mark = secrets.token_hex(4)
    urls = {"QUEUEKIT_BROKER": ministack_server.sqs(mark), "QUEUEKIT_BACKEND": ministack_server.dynamodb(mark)}

    done = queuekit("check", "--app", "tasks:app", folder=shop, **urls)

    assert done.returncode == 0, done.stderr
    assert "0.3 requests a task in bulk, 3 for one alone; idle: 4,320 long polls a day" in done.stdout
    assert "0.1 requests a task in bulk" in done.stdout


def test_a_worker_refuses_what_sqs_cannot(shop: Path, ministack_server: AwsServer) -> None:
    """A unique task needs a backend here; a start without one names task and option."""
    write(shop, {"tasks.py": TASKS.replace("{options}", "unique=True")})
    url = ministack_server.sqs(secrets.token_hex(4))

    done = queuekit("worker", "tasks:app", folder=shop, QUEUEKIT_BROKER=url, QUEUEKIT_BACKEND="none")

    assert done.returncode != 0
    assert "tasks.charge asks for unique, which sqs+http:// cannot do" in done.stderr
    assert "Traceback" not in done.stderr
