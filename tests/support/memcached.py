"""Real Memcached servers for tests: started on a free port of the loopback interface, ended by pid.

The program comes from the system: ``memcached`` on PATH.
"""

import atexit
import functools
import importlib.util
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.server_process import ServerProcess, free_port

REQUIRED = "QUEUEKIT_REQUIRE_ENGINES"
if importlib.util.find_spec("queuekit_memcached") is None and not os.environ.get(REQUIRED):
    pytest.skip("pip install --no-deps -e plugins/queuekit-memcached", allow_module_level=True)

from queuekit_memcached.backend import MemcachedBackend  # noqa: E402 - what imports this module is skipped without it
from queuekit_memcached.options import MemcachedOptions  # noqa: E402

__all__ = ["Memcached", "MemcachedBackend", "MemcachedOptions", "need", "shared", "version"]


def need() -> str:
    """Return the server program; skip where it is missing, fail where engines are required."""
    found = shutil.which("memcached", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/bin", "/usr/local/bin"]))
    if found is None:
        missing = "no memcached: install the package memcached of the system"
        if os.environ.get(REQUIRED):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class Memcached(ServerProcess):
    """A server process.

    Args:
        folder: Where it logs; it must be there.
        arguments: Added to its command line.
        port: Where it listens; by default a free one.
    """

    def __init__(self, folder: Path, *, arguments: Sequence[str] = (), port: int | None = None) -> None:
        super().__init__(folder / "log")
        self.port = port or free_port()
        self._program = need()
        self._arguments = list(arguments)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"memcache://127.0.0.1:{self.port}"

    def call(self) -> list[str]:
        """Return its command line; root must say that it means it."""
        user = ["-u", "root"] if os.geteuid() == 0 else []
        listen = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-t", "1"]
        return [self._program, *listen, *user, *self._arguments]

    def stop(self) -> None:
        """End it at once: it keeps nothing, and would take a second to say goodbye."""
        self.kill()

    def answers(self) -> bool:
        """Return whether it accepts connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def ask(self, command: str) -> bytes:
        """Return the first bytes of what it answers to *command*."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10.0) as client:
            client.sendall(command.encode() + b"\r\n")
            return client.recv(65_536)


@functools.cache
def shared() -> Memcached:
    """Return a server that all tests of this process share, started at first use and ended with the process."""
    folder = Path(tempfile.mkdtemp(prefix="queuekit-memcached-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = Memcached(folder)
    atexit.register(server.stop)
    return server.start()


def version() -> str:
    """Return the version of the shared server."""
    return shared().ask("version").decode().split()[1]
