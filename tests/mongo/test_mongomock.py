"""A quick leg without a server: what mongomock does right, behind one lock, and by name what it does not.

Nothing about claiming rests on it: its ``find_one_and_update`` is not atomic, and it has no server's time.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from bson.datetime_ms import DatetimeMS
from pymongo import IndexModel, UpdateOne

from queuekit.broker import Place
from queuekit.clock import SystemClock
from queuekit.envelope import Envelope, Unique
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo import engine
from queuekit_mongo.broker import MongoBroker
from support.waiting import PATIENCE

mongomock = pytest.importorskip("mongomock")


class Locked:
    """An object of mongomock's, whose calls come one at a time."""

    def __init__(self, inner: Any, lock: Any) -> None:
        self._inner = inner
        self._lock = lock

    def create_indexes(self, indexes: list[IndexModel]) -> None:
        """Create them one by one: of many at once mongomock forgets that they are partial."""
        for document in (dict(each.document) for each in indexes):
            self._inner.create_index(list(document.pop("key").items()), **document)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or isinstance(found, mongomock.Collection | mongomock.Database):
            return found

        def call(*args: Any, **options: Any) -> Any:
            with self._lock:
                answer: Any = found(*args, **options)
                return list(answer) if name == "find" else answer

        return call


class Client:
    """As much of a client as a broker's sends need: a lone server, its time, and collections behind a lock."""

    codec_options = None

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self._client = mongomock.MongoClient()
        self._lock = threading.RLock()
        self.admin = self

    def command(self, _name: str, **_options: Any) -> dict[str, Any]:
        """Answer ``hello``, which mongomock does not know."""
        return {"localTime": DatetimeMS(int(SystemClock().time() * 1000)), "maxWireVersion": 9}

    def __getitem__(self, database: str) -> Any:
        return _Collections(lambda name: Locked(self._client[database][name], self._lock))

    def close(self) -> None:
        """Nothing is open."""


@attrs.frozen
class _Collections:
    make: Callable[[str], Any]

    def get_collection(self, name: str, **_: object) -> Any:
        return self.make(name)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoBroker]:
    """Return a broker on mongomock."""
    monkeypatch.setattr(engine, "MongoClient", Client)
    made = MongoBroker(EngineURL.parse("mongodb://nowhere/jobs"))
    yield made
    made.close()


def message(**fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(id=new_id(), queue="q", **{"body": b"body", **fields})


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff", "ünï".encode(), b"x" * 100_000], ids=["empty", "raw", "text", "long"]
)
def test_a_message_is_kept_as_it_was_sent(broker: MongoBroker, body: bytes) -> None:
    """Body, priority and expiry of a waiting message are what was sent."""
    sent = message(body=body, priority=7, expires=4e9)

    broker.send([sent])

    (stored,) = broker.find("q", [sent.id])
    assert (stored.envelope, stored.place) == (sent, Place.READY)


def test_a_delayed_message_is_kept_as_delayed(broker: MongoBroker) -> None:
    """What is not due yet is in its place."""
    sent = message(delay=60.0)

    broker.send([sent])

    assert [one.place for one in broker.find("q", [sent.id])] == [Place.DELAYED]


def test_a_repeated_send_adds_nothing(broker: MongoBroker) -> None:
    """The same id again, by itself or among others, is told its own id and leaves one document (QK13)."""
    first, second = message(), message()
    broker.send([first])

    holders = broker.send([first, second, first])

    assert holders == [first.id, second.id, first.id]
    assert broker._engine.messages.count_documents({}) == 2


def test_a_later_attempt_takes_the_place_of_an_earlier_one(broker: MongoBroker) -> None:
    """A send with the same id and a higher attempt replaces what waits; the earlier one again changes nothing."""
    first = message()
    later = attrs.evolve(first, attempt=1)

    broker.send([first])
    broker.send([later])
    broker.send([first])

    assert [one.envelope for one in broker.find("q", [first.id])] == [later]


def test_a_unique_key_is_held_by_the_first(broker: MongoBroker) -> None:
    """A second message with the key is told the id of the first, by a partial unique index."""
    one, two = (message(unique=Unique(key="key")) for _ in range(2))

    holders = [broker.send([each])[0] for each in (one, two)]

    assert holders == [one.id, one.id]


def test_threads_that_send_the_same_add_it_once(broker: MongoBroker) -> None:
    """Eight threads with the same messages: each is there once."""
    batch = [message() for _ in range(20)]
    threads = [threading.Thread(target=broker.send, args=(batch,)) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert broker._engine.messages.count_documents({}) == len(batch)


def test_queues_are_remembered(broker: MongoBroker) -> None:
    """Each queue that was ever sent to is listed once."""
    broker.send([message(), Envelope(id=new_id(), queue="a", body=b"")])
    broker.send([message()])

    assert broker.queues() == ["a", "q"]


GAPS: dict[str, Callable[[Any], object]] = {
    "sessions": lambda client: client.start_session(),
    "change-streams": lambda client: client["db"]["c"].watch(),
    "commands": lambda client: client.admin.command("hello"),
    "bulk-updates": lambda client: client["db"]["c"].bulk_write([UpdateOne({"_id": 1}, {"$set": {"a": 2}})]),
    "times-beyond-datetime": lambda client: list(client["db"]["c"].find().sort("at", 1)),
}


@pytest.mark.xfail(strict=True, raises=(NotImplementedError, TypeError), reason="mongomock does not do it")
@pytest.mark.parametrize("use", GAPS.values(), ids=GAPS.keys())
def test_what_mongomock_lacks(use: Callable[[Any], object]) -> None:
    """What the plugin needs beyond sending: once mongomock has it, more of the suites can run there."""
    client = mongomock.MongoClient()
    client["db"]["c"].insert_many([{"_id": number, "at": DatetimeMS(number)} for number in range(2)])

    use(client)


@pytest.mark.xfail(strict=True, reason="mongomock stores null for $$NOW")
def test_mongomock_knows_the_servers_time() -> None:
    """Leases and due times are compared with ``$$NOW``."""
    collection = mongomock.MongoClient()["db"]["c"]
    collection.insert_one({"_id": 1})

    collection.update_one({"_id": 1}, [{"$set": {"now": "$$NOW"}}])

    assert (collection.find_one({"_id": 1}) or {})["now"] is not None
