"""What is sent to a server is what MongoDB 4.4 knows: the tests have newer ones only."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient, monitoring

from queuekit.envelope import Envelope
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo import engine
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.options import MongoOptions
from queuekit_testing.kit import unique_name
from support.mongo_verbs import LEASE, use_every_verb
from support.mongod import shared_lone, shared_url
from support.waiting import UNHURRIED

NEWER = {
    "5.0": "$dateAdd $dateDiff $dateSubtract $dateTrunc $getField $rand $sampleRate $setField $setWindowFields "
    "$unsetField",
    "5.1": "$densify $documents $lookupShard",
    "5.2": "$bottom $bottomN $firstN $lastN $locf $maxN $minN $sortArray $top $topN $tsIncrement $tsSecond",
    "5.3": "$fill $linearFill",
    "6.0": "$changeStreamSplitLargeEvent $shardedDataDistribution",
    "7.0": "$bitAnd $bitNot $bitOr $bitXor $median $percentile $$USER_ROLES",
    "8.0": "$toUUID $querySettings $queryStats $rankFusion $sigmoid",
}
"""Operators, stages and variables by the version that brought them."""
NEWER_COMMANDS = {"bulkWrite": "8.0", "analyze": "7.0", "setQuerySettings": "8.0", "clusterBulkWrite": "8.0"}
NEWER_FIELDS = {
    ("find", "let"): "5.0",
    ("aggregate", "let"): "5.0",
    ("update", "let"): "5.0",
    ("delete", "let"): "5.0",
    ("findAndModify", "let"): "5.0",
}
"""Fields of commands; what any command may have is in :data:`NEWER_ANYWHERE`."""
NEWER_ANYWHERE = {"apiVersion": "5.0", "apiStrict": "5.0", "encryptionInformation": "6.0"}
IN_PARTIAL_FILTERS = {"$exists", "$eq", "$gt", "$gte", "$lt", "$lte", "$type", "$and"}
"""What a partial index may be made of before 6.0."""


class Sent(monitoring.CommandListener):
    """Keeps every command of the clients that it listens to."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Keep a command."""
        self.commands.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing: what it came to is not looked at."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing either."""


@pytest.fixture(params=["set", "lone"])
def sent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return all that is sent while every verb is used, on a replica set and on a lone server."""
    listener = Sent()
    monkeypatch.setattr(engine, "MongoClient", partial(MongoClient, event_listeners=[listener]))
    database = unique_name("versions")
    url = shared_url(database) if request.param == "set" else f"mongodb://{shared_lone().address}/{database}"
    parsed, patient = EngineURL.parse(url), MongoOptions(timeout=UNHURRIED)
    queue = unique_name("q")
    with (
        closing(MongoBroker(parsed, options=patient)) as broker,
        closing(MongoBackend(parsed, options=patient)) as backend,
    ):
        broker.send([Envelope(id=new_id(), queue=queue, body=b"") for _ in range(60)])
        use_every_verb(broker, backend, queue)
        broker.receive(["empty"], limit=1, wait=0.2, lease=LEASE)
        broker.check()
    return listener.commands


def name_of(command: dict[str, Any]) -> str:
    """Return what *command* is."""
    return next(iter(command))


def words(value: Any) -> Iterator[str]:
    """Yield each operator and variable in *value*, at any depth."""
    if isinstance(value, dict):
        yield from (key for key in value if key.startswith("$"))
        for inner in value.values():
            yield from words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from words(inner)
    elif isinstance(value, str) and value.startswith("$$"):
        yield value.partition(".")[0]


def test_nothing_is_sent_that_is_newer_than_4_4(sent: list[dict[str, Any]]) -> None:
    """No command, field of a command, stage, operator or variable of a later version is used by any verb."""
    newer = {word: version for version, listed in NEWER.items() for word in listed.split()}
    names = {name_of(command) for command in sent}
    used = {word for command in sent for word in words(command)}
    fields = {(name_of(command), field) for command in sent for field in command}

    assert {"find", "insert", "update", "findAndModify", "aggregate", "createIndexes", "hello"} <= names
    assert {word: newer[word] for word in used & newer.keys()} == {}
    assert names & NEWER_COMMANDS.keys() == set()
    assert fields & NEWER_FIELDS.keys() == set()
    assert {field for _, field in fields} & NEWER_ANYWHERE.keys() == set()


def test_no_update_is_sorted(sent: list[dict[str, Any]]) -> None:
    """``updateOne`` with ``sort`` is of version 8.0."""
    updates = [each for command in sent if name_of(command) == "update" for each in command["updates"]]

    assert updates
    assert [each for each in updates if "sort" in each] == []


def test_partial_indexes_are_of_the_old_kind(sent: list[dict[str, Any]]) -> None:
    """Their filters use what could be used before 6.0."""
    indexes = [each for command in sent if name_of(command) == "createIndexes" for each in command["indexes"]]
    filters = [each["partialFilterExpression"] for each in indexes if "partialFilterExpression" in each]

    assert filters
    assert {word for each in filters for word in words(each)} <= IN_PARTIAL_FILTERS
