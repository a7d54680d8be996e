"""Restarts of the service against the suite: Valkey and MongoDB with their persistence, and a SQLite file reopened."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit.broker import Broker
from queuekit.engines.sqlite import SqliteBroker
from queuekit.testing import RestartConformance
from queuekit.urls import EngineURL
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.options import MongoOptions
from queuekit_redis.broker import RedisBroker
from queuekit_redis.options import RedisOptions
from support.mongod import Mongod
from support.redis_servers import RedisServer, need
from support.server_process import ServerProcess
from support.waiting import PATIENCE, UNHURRIED, wait_until

pytest_plugins = ["queuekit.testing"]


class OnServer(RestartConformance):
    """A server of the test's own, which is stopped and started again at the same port."""

    PATIENCE = PATIENCE
    SHORT = 0.2
    _server: ServerProcess

    def restart(self) -> None:
        """Stop it as an administrator does, and start it again on its data."""
        self._server.stop()
        self._server.start()


class TestValkeyRestarts(OnServer):
    """Queues on Valkey with an append-only file."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[None]:
        """Start it."""
        arguments = ["--save", "", "--appendonly", "yes"]
        server = self._server = RedisServer(need("valkey"), tmp_path, arguments=arguments).start()
        self.url = server.url
        yield
        server.stop()

    def make_broker(self) -> Broker:
        """Return one more client."""
        options = RedisOptions(timeout=UNHURRIED, connect_timeout=UNHURRIED)
        return RedisBroker(EngineURL.parse(self.url), options=options)


@pytest.mark.full
class TestMongoRestarts(OnServer):
    """Queues on a lone MongoDB with its journal."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[None]:
        """Start it."""
        server = self._server = Mongod(tmp_path / "member", replica_set=None).start()
        self.url = f"mongodb://{server.address}/restarts"
        yield
        server.stop()

    def make_broker(self) -> Broker:
        """Return one more client."""
        return MongoBroker(EngineURL.parse(self.url), options=MongoOptions(timeout=UNHURRIED))


class TestSqliteRestarts(RestartConformance):
    """Queues in a file, which all clients close and open again."""

    url: EngineURL

    @pytest.fixture
    def server(self, tmp_path: Path) -> None:
        """Choose the file."""
        self.url = EngineURL.parse(f"sqlite:///{tmp_path}/queue.db")

    def make_broker(self) -> Broker:
        """Return one more client of the file."""
        return SqliteBroker(self.url)

    def restart(self) -> None:
        """Close the file: the last client leaves no write-ahead log behind."""
        for client in self._clients:
            client.close()
        log = Path(f"{self.url.path}-wal")
        wait_until(lambda: not log.exists() or not log.stat().st_size, "an empty write-ahead log")
