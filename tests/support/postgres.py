"""A PostgreSQL of the tests' own."""

import importlib.util
import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

import psycopg

from support.server_process import ServerProcess, free_port

__all__ = ["Postgres", "postgres_program"]


class Postgres(ServerProcess):
    """PostgreSQL with its data in *folder*, as a user who owns nothing else where we are root.

    Args:
        folder: Others must be able to reach it.
        settings: Settings of the server.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder / "log")
        self._settings = settings
        self.data = folder / "data"
        self.port = free_port()
        # It refuses to run as root.
        self.user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        if self.user:
            shutil.chown(folder, "nobody", "nogroup")
        make = [postgres_program("initdb"), "-D", str(self.data), "-U", "tests", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*self.user, *make], check=True, capture_output=True, cwd=folder)

    @property
    def url(self) -> str:
        """URL of its database."""
        return f"postgresql://tests@127.0.0.1:{self.port}/postgres"

    def call(self) -> list[str]:
        """Return its command line."""
        place = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.data), "port": str(self.port)}
        options = [text for name, value in {**self._settings, **place}.items() for text in ("-c", f"{name}={value}")]
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
