"""The probes of a real worker while faults are done to it."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from queuekit.worker.ask_health import ask
from support import fault_tasks
from support.fault_tasks import ablock
from support.fleet import Fleet, Group, freeze
from support.waiting import PATIENCE, wait_until

APP = """
from support.fault_tasks import app

app.configure({"plugins": {"load": ["faults"]}})
"""
FAULTS = """
import time
from pathlib import Path

from queuekit.errors import UnavailableError
from queuekit.hookspecs import hookimpl

queuekit_api = (1, 1)
HERE = Path(__file__).parent


@hookimpl
def queuekit_make_broker(url, spec, make):
    broker = make()
    receive = broker.receive

    def faulty(queues, **options):
        while (HERE / "hang").exists():
            time.sleep(0.01)
        if (HERE / "down").exists():
            raise UnavailableError("the engine is down")
        return receive(queues, **{**options, "wait": min(options["wait"], 0.1)})

    broker.receive = faulty
    return broker
"""
Says = Callable[[str], tuple[bool, str]]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Return workers on a file; probes do not ask which engine it is."""
    fleet = Fleet(tmp_path, fault_tasks.app, broker=f"sqlite:///{tmp_path}/queue.db")
    yield fleet
    fleet.close()


@pytest.fixture
def told() -> Iterator[socket.socket]:
    """Return the socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0queuekit-probes-{os.getpid()}")
        manager.settimeout(PATIENCE)
        yield manager


def start(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> tuple[Group, Says]:
    """Start a worker whose loops may stand still for a second, and return it with what its probes say."""
    monkeypatch.setenv("NOTIFY_SOCKET", f"@queuekit-probes-{os.getpid()}")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    (fleet.folder / "faulty.py").write_text(APP)
    (fleet.folder / "faults.py").write_text(FAULTS)
    port = str(fleet.folder / "health.sock")
    group = fleet.start("--health-port", port, app="faulty:app", folder=fleet.folder, stuck_after=1, concurrency=2)
    return group, lambda probe: ask(port, probe, timeout=PATIENCE)


def until(says: Says, probe: str, text: str) -> None:
    """Wait until *probe* says *text*."""
    wait_until(lambda: text in says(probe)[1], what=lambda: f"{probe}: {text!r}; it says {says(probe)[1]!r}")


@contextmanager
def fault(fleet: Fleet, name: str) -> Iterator[None]:
    """Do *name* to the worker's broker."""
    file = fleet.folder / name
    file.touch()
    yield
    file.unlink()


def test_probes_say_which_loop_is_deaf_and_the_service_manager_is_told(
    fleet: Fleet, told: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is down leaves the worker live; a fetch that hangs, a frozen process, a blocked loop do not.

    Each passes when the fault is gone. One worker for all of it, since a start takes longer than a fault.
    """
    group, says = start(fleet, monkeypatch)
    while told.recv(100) != b"READY=1":
        assert group.alive()
    until(says, "ready", "ok")
    until(says, "live", "ok")  # on a busy machine, a loop may stand still for longer than it may
    assert says("startup") == (True, "ok")

    gate = fleet.gate()
    blocked = ablock.send(5, str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [blocked.id]), what="a blocker running")
    with fault(fleet, "down"):
        until(says, "ready", "the broker does not answer")
        until(says, "live", "ok")

    with fault(fleet, "hang"):
        until(says, "live", "the fetch loop of")
        gate.touch()
        until(says, "live", "the event loop of")
        assert not says("ready")[0]
    blocked.get(timeout=PATIENCE)
    until(says, "live", "ok")

    (pid,) = group.workers()
    freeze(pid)
    until(says, "live", "has given no sign of life for")
    os.kill(pid, signal.SIGCONT)
    until(says, "live", "ok")

    group.signal(signal.SIGTERM)
    assert group.wait() == 0
    assert not says("live")[0]
