"""``mongodb://`` against the suites: on a replica set, by polling alone, and on a lone server."""

import pytest

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.testing import BackendConformance, BrokerConformance
from queuekit.urls import EngineURL
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.options import MongoOptions
from support.mongod import Mongod

pytest_plugins = ["queuekit.testing", "support.mongo_fixtures"]


class OnSet:
    """Clients of a replica set."""

    OPTIONS = MongoOptions()
    SHORT = 0.15

    @pytest.fixture
    def server(self, mongo_url: str) -> None:
        """Start the set, once for all tests."""
        self.url = mongo_url

    def make_broker(self) -> Broker:
        """Return one more client."""
        return MongoBroker(EngineURL.parse(self.url), options=self.OPTIONS)

    def make_backend(self) -> Backend:
        """Return a backend of the same database."""
        return MongoBackend(EngineURL.parse(self.url), options=self.OPTIONS)


class TestMongoBroker(OnSet, BrokerConformance):
    """Queues on a replica set."""


class TestMongoBackend(OnSet, BackendConformance):
    """Records on a replica set."""


class OnPollingSet(OnSet):
    """Clients that follow no change stream."""

    OPTIONS = MongoOptions(change_streams=False)


class TestPollingMongoBroker(OnPollingSet, BrokerConformance):
    """Queues, watched by polling alone."""


class TestPollingMongoBackend(OnPollingSet, BackendConformance):
    """Records, watched by polling alone."""


class OnLoneServer(OnSet):
    """Clients of a server without transactions."""

    @pytest.fixture
    def server(self, lone_mongod: Mongod) -> None:
        """Start the server, once for all tests."""
        self.url = f"mongodb://{lone_mongod.address}/queuekit-test"


class TestLoneMongoBroker(OnLoneServer, BrokerConformance):
    """Queues on a lone server."""


class TestLoneMongoBackend(OnLoneServer, BackendConformance):
    """Records on a lone server."""
