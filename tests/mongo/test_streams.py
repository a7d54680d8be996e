"""Change streams under options of pymongo's own that are in their way."""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from pymongo import MongoClient, monitoring

from queuekit.envelope import Envelope
from queuekit.ids import new_id
from queuekit_mongo import engine
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name
from support.mongod import shared_set
from support.waiting import PATIENCE, wait_until

LEASE = 60.0


class Counting(monitoring.CommandListener):
    """Counts the commands of one client that came to an end."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Nothing yet."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count it."""
        self.done[event.command_name] += 1

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count it as well."""
        self.done[event.command_name] += 1


def test_a_stream_is_kept_however_soon_sockets_are_given_up(
    connect: Callable[..., MongoBroker], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that waits keeps its stream, and the connection to it, where sockets are given up within a second."""
    commands = Counting()
    monkeypatch.setattr(engine, "MongoClient", partial(MongoClient, event_listeners=[commands]))
    broker = connect(shared_set().url("plugin") + "&socketTimeoutMS=800", prefix=unique_name("t"))
    waiting = threading.Thread(target=lambda: broker.receive([queue], limit=1, wait=60, lease=LEASE))
    waiting.start()

    wait_until(lambda: commands.done["getMore"] >= 5, "the stream has been asked some times")
    opened = commands.done["aggregate"]
    broker.interrupt()
    waiting.join(PATIENCE)

    assert opened == 1


def test_one_connection_will_do(connect: Callable[..., MongoBroker], queue: str) -> None:
    """Where a process may open one connection only, no stream keeps it from all else: it polls."""
    prefix = unique_name("t")
    broker = connect(shared_set().url("plugin") + "&maxPoolSize=1", prefix=prefix)
    sender = connect(prefix=prefix)
    envelope = Envelope(id=new_id(), queue=queue, body=b"")
    found: list[str] = []
    waiting = threading.Thread(
        target=lambda: found.extend(one.id for one in broker.receive([queue], limit=1, wait=60, lease=LEASE))
    )
    waiting.start()

    wait_until(lambda: bool(broker._notifier._listeners), "somebody waits")
    counted = broker.counts([queue])[queue].ready
    sender.send([envelope])
    waiting.join(PATIENCE)

    assert counted == 0
    assert found == [envelope.id]
    assert not broker._notifier.streams
