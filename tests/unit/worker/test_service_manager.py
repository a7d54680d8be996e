"""What a worker tells systemd."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit.worker.service_manager import ServiceManager

Told = tuple[socket.socket, str]


@pytest.fixture
def manager_socket(tmp_path: Path) -> Iterator[Told]:
    """Return the socket of a service manager, and its address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)  # noqa: FBT003 - the name of the method says what is true
        yield manager, str(tmp_path / "notify")


def received(manager: socket.socket) -> list[str]:
    """Return all datagrams that have arrived."""
    found = []
    while True:
        try:
            found.append(manager.recv(100).decode())
        except BlockingIOError:
            return found


def test_tells_each_change_once(manager_socket: Told) -> None:
    """It is ready once, and stopping once."""
    told, address = manager_socket
    manager = ServiceManager({"NOTIFY_SOCKET": address})

    for ready, stopping in [(False, False), (True, False), (True, False), (True, True), (True, True)]:
        manager.report(ready=ready, stopping=stopping, alive=True)

    assert received(told) == ["READY=1", "STOPPING=1"]


def test_gives_signs_of_life_at_half_the_interval(manager_socket: Told) -> None:
    """And none while the worker is deaf: the manager restarts it."""
    told, address = manager_socket
    now = [0.0]
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    manager = ServiceManager(environ, monotonic=lambda: now[0])

    for moment, alive in [(1.0, True), (2.0, True), (3.0, True), (6.0, False), (7.0, True)]:
        now[0] = moment
        manager.report(ready=False, stopping=False, alive=alive)

    assert (manager.pause, received(told)) == (2.0, ["WATCHDOG=1"] * 3)


@pytest.mark.parametrize("pid", ["1", "x"])
def test_leaves_the_watchdog_of_another_process_alone(manager_socket: Told, pid: str) -> None:
    """Systemd names the process that it watches."""
    told, address = manager_socket
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": pid})

    manager.report(ready=False, stopping=False, alive=True)

    assert received(told) == []


def test_takes_the_variables_away() -> None:
    """What a task starts must not speak for the worker."""
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "HOME": "/"}

    assert ServiceManager(environ)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}], ids=["none", "gone"])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    """Nor does it with one that does not answer."""
    ServiceManager(environ).report(ready=True, stopping=True, alive=True)


def test_speaks_to_an_abstract_socket() -> None:
    """Its name begins with an at sign in place of a null byte."""
    name = f"queuekit-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.setblocking(False)  # noqa: FBT003

        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).report(ready=True, stopping=False, alive=True)

        assert received(manager) == ["READY=1"]
