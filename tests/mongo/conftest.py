"""Servers and clients for the tests of the plugin."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient, monitoring

from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo import engine
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.options import MongoOptions
from queuekit_testing.kit import unique_name
from support.mongod import ReplicaSet, shared_url
from support.waiting import UNHURRIED

Connect = Callable[..., MongoBroker]
PREFIX = unique_name("t")
"""Of the collections that tests have for themselves, one after the other."""


@pytest.fixture
def queue() -> str:
    """Return the name of a queue that nobody else uses."""
    return f"q-{new_id()}"


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return what makes brokers, which are closed in the end; by default of the deployment that all tests share."""
    made: list[MongoBroker] = []

    def make(url: str | None = None, **options: Any) -> MongoBroker:
        options = {"timeout": UNHURRIED, **options}
        made.append(MongoBroker(EngineURL.parse(url or shared_url("plugin")), options=MongoOptions(**options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def broker(connect: Connect) -> MongoBroker:
    """Return a new broker whose collections are empty: to empty them takes a tenth of the time that new ones take."""
    made = connect(prefix=PREFIX)
    for name in ("messages", "queues", "lanes", "records", "groups"):
        made._engine.collection(name).delete_many({})
    return made


@pytest.fixture
def backend(broker: MongoBroker) -> Iterator[MongoBackend]:
    """Return a backend on the collections of ``broker``."""
    made = MongoBackend(EngineURL.parse(shared_url("plugin")), options=broker._engine.options)
    yield made
    made.close()


class SlowReplies(monitoring.CommandListener):
    """Lets some commands take their time by the clock that the client library keeps its deadlines with.

    Args:
        seconds: How long each of them takes.
        commands: Their names.
    """

    def __init__(self, seconds: float, commands: tuple[str, ...]) -> None:
        self._seconds = seconds
        self._commands = commands
        self.passed = 0.0
        """Seconds that they have taken together."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Nothing yet."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Let the time pass."""
        if event.command_name in self._commands:
            self.passed += self._seconds

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing either."""

    def monotonic(self) -> float:
        """Return the time by that clock."""
        return time.monotonic() + self.passed


@pytest.fixture
def slow_replies(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SlowReplies]:
    """Return what makes replies to *commands* take *seconds* each, for the clients of the test, and nobody wait."""

    def make(seconds: float, *commands: str) -> SlowReplies:
        made = SlowReplies(seconds, commands)
        monkeypatch.setattr("pymongo._csot.time", SimpleNamespace(monotonic=made.monotonic))
        monkeypatch.setattr(engine, "MongoClient", partial(MongoClient, event_listeners=[made]))
        return made

    return make


@pytest.fixture
def own_set(tmp_path: Path) -> Iterator[ReplicaSet]:
    """Return a replica set of one of the test's own, which it may kill."""
    members = ReplicaSet(tmp_path / "mongo")
    try:
        yield members.start()
    finally:
        members.stop()


@pytest.fixture
def set_of_three(tmp_path: Path) -> Iterator[ReplicaSet]:
    """Return a replica set of three of the test's own."""
    members = ReplicaSet(tmp_path / "mongo", size=3)
    try:
        yield members.start()
    finally:
        members.stop()
