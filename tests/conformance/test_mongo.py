"""``mongodb://`` against the suites: on a replica set, by polling alone, and on a lone server."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any, ClassVar

import pymongo
import pytest

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.testing import BackendConformance, BrokerConformance
from queuekit.urls import EngineURL
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.options import MongoOptions
from queuekit_testing.kit import unique_name
from support.mongod import shared_lone, shared_url
from support.waiting import UNHURRIED

pytest_plugins = ["queuekit.testing"]
DATABASE = unique_name("conformance")
"""Gone with the server; on a server that was given it stays for who wants to look."""


class OnSet:
    """Clients of a replica set."""

    OPTIONS = MongoOptions(timeout=UNHURRIED)
    SHORT = 0.15

    @pytest.fixture
    def server(self) -> None:
        """Start the set, once for all tests."""
        self.url = shared_url(f"{DATABASE}-{type(self).__name__}")

    def against(self) -> Mapping[str, str]:
        """Return the versions of server and client library."""
        with closing(pymongo.MongoClient[dict[str, Any]](self.url)) as client:
            return {"MongoDB": client.server_info()["version"], "pymongo": pymongo.version}

    def make_broker(self) -> Broker:
        """Return one more client."""
        return MongoBroker(EngineURL.parse(self.url), options=self.OPTIONS)

    def make_backend(self) -> Backend:
        """Return a backend of the same database."""
        return MongoBackend(EngineURL.parse(self.url), options=self.OPTIONS)


class TestMongoBroker(OnSet, BrokerConformance):
    """Queues on a replica set."""

    CLAIMS: ClassVar = 100
    EXAMPLES: ClassVar = 10
    HOARD: ClassVar = 800


class TestMongoBackend(OnSet, BackendConformance):
    """Records on a replica set."""


class OnPollingSet(OnSet):
    """Clients that follow no change stream."""

    OPTIONS = MongoOptions(timeout=UNHURRIED, change_streams=False)


@pytest.mark.full
class TestPollingMongoBroker(OnPollingSet, BrokerConformance):
    """Queues, watched by polling alone."""


@pytest.mark.full
class TestPollingMongoBackend(OnPollingSet, BackendConformance):
    """Records, watched by polling alone."""


class OnLoneServer(OnSet):
    """Clients of a server without transactions."""

    @pytest.fixture
    def server(self) -> None:
        """Start the server, once for all tests."""
        self.url = f"mongodb://{shared_lone().address}/{DATABASE}-{type(self).__name__}"


@pytest.mark.full
class TestLoneMongoBroker(OnLoneServer, BrokerConformance):
    """Queues on a lone server."""


@pytest.mark.full
class TestLoneMongoBackend(OnLoneServer, BackendConformance):
    """Records on a lone server."""
