"""Waiting for a server: each reply has its time, and the version of the layout is looked at first."""

from collections.abc import Callable

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
from support.mongod import ReplicaSet, shared_url
from support.waiting import PATIENCE

SLOW = ["insert", "update", "find", "findAndModify", "commitTransaction"]


def test_a_slow_server_gets_through_a_call_of_several_commands(
    own_set: ReplicaSet, connect: Callable[..., MongoBroker], queue: str
) -> None:
    """The timeout counts for each reply: together they may take longer, and the outcome is written at that pace."""
    broker = connect(own_set.url("jobs"), timeout=8)
    backend = MongoBackend(EngineURL.parse(own_set.url("jobs")), options=MongoOptions(timeout=8))
    broker.send([Envelope(id=new_id(), queue=queue, body=b"")])
    (held,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=600)
    own_set.fail(SLOW, mode="alwaysOn", blockConnection=True, blockTimeMS=2_000)

    lost = broker.extend([held.lease], lease=600)
    done = broker.commit([CommitItem(settlement=Ack(held), records=(Record(key="result:one", rank=9, final=True),))])

    own_set.heal()
    found = backend.get(["result:one"])
    backend.close()
    assert (lost, done, list(found)) == ([], [True], ["result:one"])


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
