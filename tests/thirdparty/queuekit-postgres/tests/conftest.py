"""A PostgreSQL of the tests' own, in a temporary folder, without network, as a user who owns nothing else."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

pytest_plugins = ["queuekit.testing"]

PATIENCE = 60.0


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, or skip where there is none."""
    found = shutil.which(name) or next(map(str, _elsewhere(name)), None)
    if found is None:
        (pytest.fail if os.environ.get("QUEUEKIT_REQUIRE_ENGINES") else pytest.skip)(f"no {name} here")
    return os.path.realpath(found)


def _elsewhere(name: str) -> list[Path]:
    """Return where Debian puts *name*, and where the package pgserver carries it."""
    spec = importlib.util.find_spec("pgserver")
    carried = [Path(folder, "pginstall", "bin", name) for folder in (spec and spec.submodule_search_locations) or ()]
    return [*sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), *carried]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Return the URL of a server, which is gone after the tests."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    # It refuses to run as root.
    user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    if user:
        shutil.chown(folder, "nobody", "nogroup")
    make = [program("initdb"), "-D", str(folder / "data"), "-U", "queuekit", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, **user)  # type: ignore[call-overload]
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off", "port": port}
    options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
    command = [program("postgres"), "-D", str(folder / "data"), *options]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **user)  # type: ignore[call-overload]
    url = f"postgresql://queuekit@127.0.0.1:{port}/postgres"
    try:
        wait_for(url, folder / "log")
        yield url
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(url: str, log: Path) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{log.read_text()}")
            time.sleep(0.05)
        else:
            return
