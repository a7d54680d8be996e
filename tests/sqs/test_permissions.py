"""The policies of the page on SQS: they allow what the plugin calls, and no more."""

import ast
import json
import re
import secrets
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.operations.admin import Admin
from queuekit.operations.moves import move
from queuekit.operations.pauses import pause, resume
from queuekit.retry import Fixed
from support.aws_servers import AwsServer
from support.waiting import UNHURRIED, wait_until
from support.working import burst

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "sqs.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "plugins" / "queuekit-sqs" / "src").rglob("*.py"))
SERVICES = ("sqs", "dynamodb", "s3", "cloudwatch")
ACTIONS = {
    "sqs:SendMessageBatch": {"sqs:SendMessage"},
    "sqs:DeleteMessageBatch": {"sqs:DeleteMessage"},
    "sqs:ChangeMessageVisibilityBatch": {"sqs:ChangeMessageVisibility"},
    "dynamodb:TransactWriteItems": {"dynamodb:PutItem", "dynamodb:DeleteItem"},
    "s3:DeleteObjects": {"s3:DeleteObject"},
    "s3:GetBucketLifecycleConfiguration": {"s3:GetLifecycleConfiguration"},
}
"""Operation -> the actions that allow it, where they have another name."""
UNASKED = {"s3:ListBucket"}
"""Actions of no operation: without this one S3 says "forbidden" of an object that is gone."""


def texts(source: str) -> Iterator[str]:
    """Yield all texts in *source*; one that is the name of an operation calls it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def operations() -> set[str]:
    """Return the operations that the plugin's sources name, as ``service:Operation``."""
    botocore = pytest.importorskip("botocore", reason="pip install botocore")
    session, xform_name = pytest.importorskip("botocore.session").get_session(), botocore.xform_name
    known: dict[str, str] = {}
    for service in SERVICES:
        for operation in session.get_service_model(service).operation_names:
            known.setdefault(xform_name(operation), f"{service}:{operation}")
    return {known[text] for path in SOURCES for text in texts(path.read_text(encoding="utf-8")) if text in known}


def statements() -> list[dict[str, Any]]:
    """Return the statements of all policies on the page."""
    policies = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    return [statement for policy in policies if "Statement" in policy for statement in policy["Statement"]]


def test_policies_allow_what_is_called_and_no_more() -> None:
    """Each operation in the sources has its action in a policy, and each action its operation."""
    called = {action for operation in operations() for action in ACTIONS.get(operation, {operation})}

    allowed = {action for statement in statements() for action in statement["Action"]}

    assert allowed == called | UNASKED


def test_each_action_is_in_the_table() -> None:
    """The table says what each is for."""
    table = "\n".join(line for line in PAGE.split("\n") if line.startswith("|"))

    assert [one for statement in statements() for one in statement["Action"] if f"`{one}`" not in table] == []


def test_policies_name_what_they_allow() -> None:
    """Each statement allows, and only for the queues, the table or the bucket with the names that queuekit gives."""
    for statement in statements():
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        wide = {"sqs:ListQueues", "cloudwatch:GetMetricData"}  # these know no resource
        assert ("*" in resources) is (set(statement["Action"]) <= wide)


# -- a run, call by call

SHOP = "shop"


def resource_of(service: str, params: dict[str, Any]) -> str:
    """Return what a call is about, as a policy names it, in the region and account of the page."""
    if service == "dynamodb":
        table = params.get("TableName") or next(iter(params.get("RequestItems", {})), "")
        tables = {one["TableName"] for item in params.get("TransactItems", ()) for one in item.values()} | {table}
        (name,) = tables - {""}
        return f"arn:aws:dynamodb:eu-west-1:123456789012:table/{name}"
    name = params.get("QueueName") or str(params.get("QueueUrl", "")).rpartition("/")[2]
    return f"arn:aws:sqs:eu-west-1:123456789012:{name}"


def is_allowed(action: str, resource: str) -> bool:
    """Return whether a statement of the page allows *action* on *resource*."""
    return any(
        action in statement["Action"] and fnmatchcase(resource, pattern)
        for statement in statements()
        for pattern in ([statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"])
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Return a set that fills with the actions that botocore is asked for, each with its resource."""
    client = pytest.importorskip("botocore.client", reason="pip install botocore")
    make, found = client.BaseClient._make_api_call, set[tuple[str, str]]()

    def recorded(self: Any, operation: str, params: dict[str, Any]) -> Any:
        service = self.meta.service_model.service_name
        for action in ACTIONS.get(f"{service}:{operation}", {f"{service}:{operation}"}):
            found.add((action, resource_of(service, params)))
        return make(self, operation, params)

    monkeypatch.setattr(client.BaseClient, "_make_api_call", recorded)
    return found


def test_policies_allow_each_call_of_a_run(ministack_server: AwsServer, calls: set[tuple[str, str]]) -> None:
    """Sends, runs, retries, deaths, and what operators ask and do: each call is recorded, and tried on the policies."""
    mark = f"{SHOP}-{secrets.token_hex(4)}"
    engines: dict[str, Any] = {"broker": ministack_server.sqs(mark), "backend": ministack_server.dynamodb(SHOP)}
    app, ran = Queuekit(send_timeout=UNHURRIED, **engines), list[int]()
    app.task(name="note", unique=True)(ran.append)
    app.task(name="fail", retries=1, retry=Fixed(0.01))(lambda: 1 / 0)
    app.tasks["note"].options(priority=9).send(1)
    app.send_many([app.tasks["note"].s(2), app.tasks["fail"].s()])

    admin = Admin(app)

    def failed() -> int:
        burst(app)
        return admin.dead_count().dead

    wait_until(failed, what="a dead letter")  # SQS does not show the retry at once, so a burst may end before it
    admin.queues()
    admin.check()
    pause(admin, queue="default", by="ann")
    resume(admin, queue="default")
    dead: list[str] = wait_until(lambda: [queued.id for queued in admin.dead()], what="the dead letter in a list")
    admin.show(dead[0])
    admin.replay("default", dead)
    list(move(admin, "default", "other", sleep=lambda _: None))
    admin.purge("other")
    app.close()

    assert (sorted(ran), len(dead)) == ([1, 2], 1)
    assert {"sqs:SendMessage", "sqs:ReceiveMessage", "dynamodb:Query"} <= {action for action, _ in calls}
    assert [one for one in sorted(calls) if not is_allowed(*one)] == []
    assert not is_allowed("sqs:ReceiveMessage", "arn:aws:sqs:eu-west-1:123456789012:bank-mail")
