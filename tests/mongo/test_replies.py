"""Waiting for a server: each reply has its time, and the version of the layout is looked at first."""

from collections.abc import Callable
from typing import Any

import pymongo
import pytest

from queuekit.backend import Record
from queuekit.broker import Ack, CommitItem
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.layout import LAYOUT
from queuekit_mongo.options import MongoOptions
from queuekit_testing.kit import unique_name
from support.mongod import shared_url
from support.waiting import PATIENCE, UNHURRIED

SLOW = ["insert", "update", "find", "findAndModify", "commitTransaction"]


def test_a_slow_server_gets_through_a_call_of_several_commands(
    slow_replies: Callable[..., Any], connect: Callable[..., MongoBroker], queue: str
) -> None:
    """The timeout counts for each reply: together they may take longer, and the outcome is written at that pace."""
    prefix, key = unique_name("t"), f"result:{new_id()}"
    slow = slow_replies(UNHURRIED / 4, *SLOW)
    broker = connect(prefix=prefix)
    options = MongoOptions(prefix=prefix, timeout=UNHURRIED)
    backend = MongoBackend(EngineURL.parse(shared_url("plugin")), options=options)
    broker.send([Envelope(id=new_id(), queue=queue, body=b"")])
    (held,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=600)
    before = slow.passed

    lost = broker.extend([held.lease], lease=600)
    done = broker.commit([CommitItem(settlement=Ack(held), records=(Record(key=key, rank=9, final=True),))])

    taken = slow.passed - before
    found = backend.get([key])
    backend.close()
    assert (lost, done, list(found)) == ([], [True], [key])
    assert taken > UNHURRIED


@pytest.mark.parametrize("version", [0, 2])
def test_another_layout_is_refused(connect: Callable[..., MongoBroker], queue: str, version: int) -> None:
    """Nothing is read or written, and the error says what to do."""
    prefix = unique_name("t")
    url = shared_url("plugin")
    with pymongo.MongoClient[dict[str, object]](url) as client:
        database = client.get_default_database()
        database[f"{prefix}_layout"].insert_one({"_id": "layout", "version": version})
        broker = connect(url, prefix=prefix)

        with pytest.raises(UnavailableError, match=f"another version of queuekit: layout {version}") as caught:
            broker.send([Envelope(id=new_id(), queue=queue, body=b"")])

        assert "set another prefix" in caught.value.fix
        assert not caught.value.passing
        assert [name for name in database.list_collection_names() if name.startswith(prefix)] == [f"{prefix}_layout"]


def test_who_comes_first_writes_the_layout(connect: Callable[..., MongoBroker], queue: str) -> None:
    """What was there before there was a version has the first one."""
    prefix = unique_name("t")
    for _ in range(2):
        connect(prefix=prefix).send([Envelope(id=new_id(), queue=queue, body=b"")])

    with pymongo.MongoClient[dict[str, object]](shared_url("plugin")) as client:
        found = list(client.get_default_database()[f"{prefix}_layout"].find())

    assert found == [{"_id": "layout", "version": LAYOUT}]
