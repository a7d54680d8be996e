"""What DynamoDB does at times, done on purpose by a proxy: writes are known, reads are whole, nobody reads it all."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from queuekit.backend import Condition, Record
from queuekit.errors import TooLargeError, UnavailableError
from queuekit.timelimit import time_limit
from queuekit.urls import EngineURL
from queuekit_sqs.backend import DynamoBackend
from queuekit_sqs.items import key_of
from support.aws_clients import dynamo_backend
from support.aws_proxy import AwsProxy


@pytest.fixture
def backend(proxy: AwsProxy) -> Iterator[DynamoBackend]:
    """Return a backend behind the proxy."""
    made = dynamo_backend(proxy.dynamodb("faults"))
    yield made
    made.close()


def test_a_write_is_known_after_a_lost_reply(backend: DynamoBackend, proxy: AwsProxy) -> None:
    """A conditional write that is repeated after a lost reply finds what it has written itself, and says so."""
    record = Record(key=f"lock:{secrets.token_hex(4)}", body=b"mine", ttl=60.0)
    backend.put([Record(key="lock:warm-up", ttl=60.0)])
    proxy.lost_replies["PutItem"] = 1

    answers = [backend.put([record], condition=Condition.ABSENT), backend.put([record], condition=Condition.ABSENT)]

    assert answers == [[True], [False]]
    assert proxy.upset["lost"] == 1


def test_what_is_left_unread_is_read_again(backend: DynamoBackend, proxy: AwsProxy) -> None:
    """DynamoDB may answer for some of the keys only: the others are asked for again."""
    records = [Record(key=f"result:{secrets.token_hex(8)}", body=b"%d" % n, ttl=60.0) for n in range(150)]
    backend.put(records)
    proxy.partial_reads = 3

    found = backend.get([record.key for record in records])

    assert {key: record.body for key, record in found.items()} == {record.key: record.body for record in records}
    assert proxy.upset["unread"] >= 75


def test_records_are_found_without_a_scan(backend: DynamoBackend, proxy: AwsProxy) -> None:
    """Keys are made for being found by their prefix, so nobody reads the whole table."""
    kind = f"kind{secrets.token_hex(4)}"
    backend.put([Record(key=f"{kind}:{n}", ttl=60.0) for n in range(30)])

    found = [record.key for prefix in (f"{kind}:", f"{kind}:1", kind) for record in backend.scan(prefix).items]

    assert len(found) == 30 + 11 + 30
    assert proxy.counts["Query"] > 0
    assert not proxy.counts["Scan"]


def test_a_missing_table_is_one_clear_error(proxy: AwsProxy) -> None:
    """Where the table may not be created, its name is in the error, with the keys that it needs."""
    url = EngineURL.parse(proxy.dynamodb(f"f{secrets.token_hex(4)}"))
    backend = dynamo_backend(url, create=False)

    with pytest.raises(UnavailableError, match=r"the DynamoDB table 'f\w+-records' is missing") as caught:
        backend.get(["result:a"])

    assert "keys pk and sk" in caught.value.fix
    backend.close()


def test_a_record_that_dynamodb_refuses_is_named_as_such(backend: DynamoBackend) -> None:
    """It is no outage: whoever writes a batch can find the record, and settle the others (QK8)."""
    good = [Record(key=f"result:{n}", ttl=60) for n in range(3)]

    with pytest.raises(TooLargeError, match="refuses a record"):
        backend.put([*good, Record(key="result:bad", ttl=60, rank=10**130)])

    assert all(backend.put(good))


@pytest.mark.parametrize(
    "field", ["record_body", "record_rank", "record_version", "is_final", "task_state", "moved_at", "live_until"]
)
def test_an_item_of_somebody_else_takes_no_record_along(backend: DynamoBackend, field: str) -> None:
    """Whatever type an attribute has, what is read beside it is read (QK8, QK9)."""
    values: list[dict[str, Any] | None] = [None, {"S": "x"}, {"N": "1e120"}, {"N": "0.5"}, {"NULL": True}, {"M": {}}]
    mine, *names = [f"result:{secrets.token_hex(4)}" for _ in (None, *values)]
    backend.put([Record(key=name, body=b"body", ttl=60) for name in (mine, *names)])
    table = backend._table
    for name, value in zip(names, values, strict=True):
        (item,) = table.read([key_of(name, backend._shards)])
        wrong = {name: each for name, each in {**item, field: value}.items() if each is not None}
        table.call("put_item", TableName=table.name, Item=wrong)

    found = [backend.get([mine, name])[mine].body for name in names]
    seen = [record.key for record in backend.walk(mine)]

    assert found == [b"body"] * len(values)
    assert backend.get([*names, mine])[mine].body == b"body"
    assert seen == [mine]
    assert backend.put([Record(key=name, ttl=60) for name in names]) == [True] * len(values)


def test_check_waits_for_whoever_makes_the_table(backend: DynamoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new table removes nothing until its maker says so a moment later: that is no problem to report."""
    backend.put([Record(key="result:one", ttl=60)])
    call, early = backend._table.call, ["DISABLED"]

    def told(operation: str, **parameters: Any) -> Any:
        reply = call(operation, **parameters)
        return {"TimeToLiveDescription": {"TimeToLiveStatus": early.pop()}} if early else reply

    monkeypatch.setattr(backend._table, "call", told)

    assert backend.check() == []
    assert early == []


def test_check_says_that_expired_records_stay(backend: DynamoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table whose time to live is off for good is reported with the attribute to turn it on for."""
    monkeypatch.setattr(backend._table, "call", lambda *_, **__: {"TimeToLiveDescription": {}})

    with time_limit(0.1):
        (problem,) = backend.check()

    assert "Turn it on for 'expires_at'" in problem
