"""Indexes that somebody dropped, or made otherwise."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name
from support.mongod import ReplicaSet, shared_set
from support.waiting import error_of, wait_until

HANG = "hangAfterStartingIndexBuild"
"""Makes the server stand still over an index."""
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "of-its-name": ("queuekit_waiting", "messages", {"keys": [("queue", 1)], "name": "queuekit_waiting"}),
    "without-its-filter": (
        "queuekit_waiting",
        "messages",
        {
            "keys": [("queue", 1), ("state", 1), ("priority", -1), ("due", 1), ("seq", 1), ("due_at", 1)],
            "name": "queuekit_waiting",
        },
    ),
    "of-its-keys": ("queuekit_expire", "records", {"keys": [("expires_at", 1)], "name": "by_expiry"}),
}


@pytest.fixture
def server() -> Iterator[ReplicaSet]:
    """Return the shared replica set, which fails nothing any more when the test is over."""
    members = shared_set()
    yield members
    members.heal()


@pytest.fixture
def humble(server: ReplicaSet, connect: Callable[..., MongoBroker]) -> MongoBroker:
    """Return a broker whose user may make no index."""
    server.fail(["createIndexes"], mode="alwaysOn", errorCode=13)
    broker = connect(prefix=unique_name("t"))
    broker.queues()
    return broker


def follow(lines: list[str], broker: MongoBroker, **changed: Any) -> None:
    """Do what each of *lines* says, with the options *changed*."""
    for line in lines:
        found = re.search(r"getCollection\((.*)\)\.createIndex\((\{.*?\}), (\{.*\})\)$", line)
        assert found is not None
        name, keys, options = map(json.loads, found.groups())
        made = {key: value for key, value in {**options, **changed}.items() if value is not None}
        broker._engine.database()[name].create_index(list(keys.items()), **made)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_an_index_in_the_place_of_ours_is_named_with_its_cure(
    connect: Callable[..., MongoBroker], other: tuple[str, str, dict[str, Any]]
) -> None:
    """Where somebody's index keeps ours from being made, the error says which, and what to type."""
    ours, collection, index = other
    prefix = unique_name("t")
    first = connect(prefix=prefix)
    first.queues()
    documents = first._engine.collection(collection)
    documents.drop_index(ours)
    documents.create_index(**index)

    with pytest.raises(UnavailableError, match=f"that conflict with queuekit's: {index['name']}") as caught:
        connect(prefix=prefix).queues()

    drop = f'db.getCollection("{prefix}_{collection}").dropIndex("{index["name"]}")'
    assert drop in (caught.value.fix or "")
    documents.drop_index(index["name"])
    assert connect(prefix=prefix).check() == []


def test_what_check_says_makes_the_indexes(server: ReplicaSet, humble: MongoBroker) -> None:
    """Whoever may make indexes can type what ``check`` prints, and then it is silent."""
    lines = humble.check()
    server.heal()

    follow(lines, humble)

    assert len(lines) == 7
    assert humble.check() == []


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("queuekit_unique", {"unique": None}),
        ("queuekit_waiting", {"partialFilterExpression": None}),
        ("queuekit_forget", {"expireAfterSeconds": 3_600}),
    ],
)
def test_check_tells_an_index_from_another_of_its_name(
    server: ReplicaSet, humble: MongoBroker, name: str, changed: dict[str, Any]
) -> None:
    """An index that is not unique, not partial, or ends documents later, is not the one that is needed."""
    lines = humble.check()
    server.heal()
    follow([line for line in lines if name not in line], humble)
    follow([line for line in lines if name in line], humble, **changed)

    again = humble.check()

    assert [name in line for line in again] == [True]


def test_an_index_over_much_is_made_in_the_end(server: ReplicaSet, connect: Callable[..., MongoBroker]) -> None:
    """Making it takes longer than a call may: who connects meanwhile is told so, and does not stop it."""
    prefix = unique_name("t")
    first = connect(prefix=prefix)
    first.send([Envelope(id=new_id(), queue="q", body=b"")])
    messages = first._engine.messages
    messages.drop_index("queuekit_waiting")

    server.primary.command({"configureFailPoint": HANG, "mode": "alwaysOn"})
    try:
        hurried = connect(prefix=prefix, timeout=1.0)
        error_of(hurried.queues, UnavailableError, f"indexes on {prefix}_messages are being built")
    finally:
        server.primary.command({"configureFailPoint": HANG, "mode": "off"})

    wait_until(lambda: "queuekit_waiting" in messages.index_information(), "the index is made")
