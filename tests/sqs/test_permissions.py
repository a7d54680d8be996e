"""The policies of the page on SQS: they allow what the plugin calls, and no more."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
    botocore = pytest.importorskip("botocore", reason="pip install boto3")
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
