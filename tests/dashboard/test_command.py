"""``queuekit dashboard`` serves on this machine, opens with the address that it prints, and ends when it is told to."""

import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from support.commands import MAIN, environment, write
from support.preloaded import Preloaded
from support.waiting import PATIENCE

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")


def _status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return status


@contextmanager
def _asked(connection: HTTPConnection, root: str, token: str) -> Iterator[HTTPResponse]:
    """Open the dashboard at *root* with its token, and yield the beginning of its stream of events."""
    form = {"Origin": root, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/login", urllib.parse.urlencode({"token": token}), form)
    with connection.getresponse() as opened:
        opened.read()
        cookie = next(value for value in opened.msg.get_all("set-cookie", []) if value.startswith("queuekit_session"))
    connection.request("GET", "/events", headers={"Cookie": cookie.partition(";")[0]})
    with connection.getresponse() as stream:
        yield stream


def test_open_page_does_not_hold_it_up(tmp_path: Path) -> None:
    """Ctrl-C ends it without an error, while a page follows the figures."""
    write(tmp_path, {"tasks.py": "from queuekit import Queuekit\napp = Queuekit(broker='sqlite:///jobs.db')\n"})
    command = [*MAIN, "--app", "tasks:app", "dashboard", "--port", "0"]
    with Preloaded(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        root, _, token = process.stderr.readline().split()[1].partition("/login?token=")
        connection = HTTPConnection(urllib.parse.urlsplit(root).netloc, timeout=PATIENCE)
        try:
            with _asked(connection, root, token) as stream:
                first = stream.readline()
                process.send_signal(signal.SIGINT)
                rest = stream.read()
            process.wait(PATIENCE)
        finally:
            connection.close()
            process.kill()
        said = process.stderr.read()

    assert first == b"event: figures\n"
    assert rest.endswith(b"\n\n")
    assert "Traceback" not in said
    assert "Cancel" not in said


def test_connections_send_at_once() -> None:
    """Else the system holds the body of an answer back until the browser has acknowledged its head: 40 ms a page."""
    from queuekit_dashboard.command import _bound

    with _bound("127.0.0.1", 0) as bound, socket.create_connection(bound.getsockname(), PATIENCE):
        connection, _ = bound.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


SLOW = """
import time

from queuekit import Queuekit
from queuekit_dashboard.figures import Figures

app = Queuekit(broker="sqlite:///jobs.db")
Figures.look = lambda self: time.sleep(3)
"""
"""An app whose engine takes longer to answer than the dashboard takes to stop."""


@pytest.mark.full
def test_open_request_is_cancelled_without_a_traceback(tmp_path: Path) -> None:
    """A request that does not end in time, e.g. since an engine does not answer, is cut off in a line."""
    write(tmp_path, {"tasks.py": SLOW})
    command = [*MAIN, "--app", "tasks:app", "dashboard", "--port", "0"]
    with Preloaded(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        root, _, token = process.stderr.readline().split()[1].partition("/login?token=")
        connection = HTTPConnection(urllib.parse.urlsplit(root).netloc, timeout=PATIENCE)
        try:
            with _asked(connection, root, token):
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)
        finally:
            connection.close()
            process.kill()
        said = process.stderr.read()

    assert "Traceback" not in said


def test_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    """The printed address shows the login, all else is closed, and Ctrl-C ends it."""
    write(tmp_path, {"tasks.py": "from queuekit import Queuekit\napp = Queuekit(broker='sqlite:///jobs.db')\n"})
    command = [*MAIN, "--app", "tasks:app", "dashboard", "--port", "0"]
    with Preloaded(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            name, address = process.stderr.readline().split()
            root = address.partition("/login?token=")[0]

            found = [_status(address), _status(f"{root}/"), _status(f"{root}/static/live.js")]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)

    assert name == "dashboard"
    assert root.startswith("http://127.0.0.1:")
    assert found == [200, 403, 200]
