"""Users with few rights, on a server that asks who they are."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pymongo
import pytest

from queuekit.backend import Record
from queuekit.broker import Ack
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.options import MongoOptions
from support.mongod import Mongod
from support.waiting import PATIENCE, UNHURRIED

ACTIONS = ["find", "insert", "update", "remove"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """Return a server with a user who may read, one who may read and write, and one who may do that and no more."""
    server = Mongod(tmp_path_factory.mktemp("guarded"), replica_set=None, arguments=["--auth"])
    try:
        server.start()
        server.command({"createUser": "root", "pwd": "first", "roles": ["root"]})
        address = f"mongodb://root:first@{server.address}/?directConnection=true"
        with pymongo.MongoClient[dict[str, Any]](address) as client:
            jobs = client["jobs"]
            rights = [{"resource": {"db": "jobs", "collection": ""}, "actions": ACTIONS}]
            jobs.command({"createRole": "humble", "privileges": rights, "roles": []})
            for user, role in (("reader", "read"), ("writer", "readWrite"), ("humble", "humble")):
                jobs.command({"createUser": user, "pwd": "a/b@c:1", "roles": [role]})
        yield server
    finally:
        server.kill()


def url_of(server: Mongod, user: str) -> str:
    """Return the URL for *user*."""
    return f"mongodb://{user}:a%2Fb%40c%3A1@{server.address}/jobs"


@pytest.mark.parametrize("user", ["writer", "humble"])
def test_who_may_write_needs_no_other_right(
    guarded: Mongod, connect: Callable[..., MongoBroker], queue: str, user: str
) -> None:
    """Messages are sent and finished without the right to make an index, to follow a stream or to end a session."""
    broker = connect(url_of(guarded, user), prefix=user)
    sent = [Envelope(id=new_id(), queue=queue, body=b"")]
    broker.send(sent)

    held = broker.receive([queue], limit=9, wait=PATIENCE, lease=60)

    assert [one.id for one in held] == [one.id for one in sent]
    assert broker.settle([Ack(one) for one in held]) == []


def test_check_tells_of_a_user_who_may_only_read(guarded: Mongod, connect: Callable[..., MongoBroker]) -> None:
    """Whose every send would fail is told so before."""
    connect(url_of(guarded, "writer")).queues()

    lines = connect(url_of(guarded, "reader")).check()

    assert ["readWrite" in line for line in lines] == [False, True]
    assert connect(url_of(guarded, "writer")).check() == lines[:1]


def test_a_command_that_is_not_allowed_is_named_and_not_quoted(guarded: Mongod) -> None:
    """The server quotes the command that it refuses: what a task has returned stays out of logs all the same."""
    url, options = EngineURL.parse(url_of(guarded, "reader")), MongoOptions(timeout=UNHURRIED)

    with (
        closing(MongoBackend(url, options=options)) as backend,
        pytest.raises(UnavailableError, match="not authorized on jobs to execute command findAndModify;") as caught,
    ):
        backend.put([Record(key="result:1", body=b"4711", error="4711", state="4711")])

    assert "4711" not in str(caught.value)
    assert "readWrite" in (caught.value.fix or "")
