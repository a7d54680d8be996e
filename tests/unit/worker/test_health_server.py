"""Probes over HTTP, and who asks for them without importing queuekit."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import queuekit_start
from queuekit.errors import ConfigError
from queuekit.worker import health_server
from queuekit.worker.ask_health import VARIABLE, ask, parse_address, quick
from queuekit.worker.health_server import HealthServer
from support.commands import python, queuekit
from support.waiting import PATIENCE

STATE = {"/livez": (True, "ok"), "/readyz": (False, "the broker does not answer host-1"), "/startupz": (True, "ok")}


@pytest.fixture
def server() -> Iterator[HealthServer]:
    """Return a server on a free port."""
    server = HealthServer("0", STATE.get)
    yield server
    server.close()
    assert not server.thread.is_alive()


def talk(server: HealthServer, text: bytes) -> bytes:
    """Send *text* as it is, and return the whole answer."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4_096), b""))


def test_listens_on_loopback_unless_told_otherwise(server: HealthServer) -> None:
    """A port alone is nobody else's to see."""
    assert server.address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"200", id="passes"),
        pytest.param(b"GET /livez?verbose=1 HTTP/1.1\r\n\r\n", b"200", id="query"),
        pytest.param(b"HEAD /livez HTTP/1.1\r\n\r\n", b"200", id="head"),
        pytest.param(b"GET /readyz HTTP/1.1\r\n\r\n", b"503", id="fails"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n\r\n", b"404", id="unknown"),
        pytest.param(b"POST /livez HTTP/1.1\r\n\r\n", b"405", id="post"),
        pytest.param(b"\xff\x00\r\n\r\n", b"405", id="noise"),
        pytest.param(b"", b"405", id="nothing"),
        pytest.param(b"GET /" + b"a" * 8_000, b"404", id="long"),
    ],
)
def test_answers_whatever_is_asked(server: HealthServer, request_: bytes, status: bytes) -> None:
    """Each request has one answer, and the next one has its own."""
    answer = talk(server, request_)

    assert answer.split(b" ")[1] == status
    assert talk(server, b"GET /livez HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nok\n")


def test_a_slow_client_keeps_nobody_waiting(server: HealthServer) -> None:
    """One that says nothing holds its own connection only."""
    host, _, port = server.address.rpartition(":")

    with socket.create_connection((host, int(port)), PATIENCE):
        assert ask(server.address, "live", timeout=PATIENCE) == (True, "ok")


def test_serves_on_a_socket_in_a_folder(tmp_path: Path) -> None:
    """Only its owner may ask; one that a dead worker left behind is replaced, and in the end it is gone."""
    path = tmp_path / "qk.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    server = HealthServer(str(path), STATE.get)
    found = ask(str(path), "live", timeout=PATIENCE)
    mode = path.stat().st_mode & 0o777
    server.close()

    assert (found, mode, path.exists()) == ((True, "ok"), 0o600, False)


def test_replaces_no_file_that_is_not_a_socket(tmp_path: Path) -> None:
    """A path that was mistyped keeps its content."""
    path = tmp_path / "queuekit.toml"
    path.write_text("[worker]")

    with pytest.raises(ConfigError, match="a file that is not a socket is there"):
        HealthServer(str(path), STATE.get)

    assert path.read_text() == "[worker]"


def test_leaves_the_socket_of_its_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts at the same path as soon as this one no longer listens can be asked."""
    path = str(tmp_path / "qk.sock")
    server, join = HealthServer(path, STATE.get), threading.Thread.join
    successors: list[HealthServer] = []

    def start_successor(thread: threading.Thread, timeout: float | None = None) -> None:
        join(thread, timeout)
        if thread is server.thread:
            successors.append(HealthServer(path, STATE.get))

    monkeypatch.setattr(threading.Thread, "join", start_successor)
    server.close()
    monkeypatch.undo()

    found = ask(path, "live", timeout=PATIENCE)
    successors[0].close()
    assert found == (True, "ok")


def test_a_request_must_arrive_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte just before each timeout holds a connection no longer than one that is silent."""

    class Dripping:
        now = wait = 0.0

        def settimeout(self, wait: float) -> None:
            self.wait = wait

        def recv(self, _most: int) -> bytes:
            self.now += min(self.wait, 1.5)
            if self.wait < 1.5:
                raise TimeoutError
            return b"a"

    client: Any = Dripping()
    monkeypatch.setattr(time, "monotonic", lambda: client.now)

    with pytest.raises(TimeoutError):
        health_server._request(client)

    assert client.now == health_server._PATIENCE


def test_a_port_in_use_is_named(server: HealthServer) -> None:
    """The setting, the address and the reason."""
    with pytest.raises(ConfigError, match=r"worker\.health_port: cannot listen on 127\.0\.0\.1:\d+: Address already"):
        HealthServer(server.address, STATE.get)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("8081", ("127.0.0.1", 8081)),
        (" 0.0.0.0:80 ", ("0.0.0.0", 80)),  # noqa: S104 - only parsed
        ("[::1]:80", ("::1", 80)),
        ("./qk.sock", "./qk.sock"),
    ],
)
def test_reads_addresses(text: str, place: object) -> None:
    """A port is on loopback, and a path has a slash."""
    assert parse_address(text) == place


@pytest.mark.parametrize("text", ["", "x", "host:", ":80", "65536", "::1:80", "\u0661"])
def test_refuses_what_is_no_address(text: str) -> None:
    """The error shows it."""
    with pytest.raises(ValueError, match="is not a port, HOST:PORT or the path of a socket"):
        parse_address(text)


def test_asks_and_says_what_is_wrong(
    server: HealthServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 1, and the reason is on standard error."""
    monkeypatch.setenv(VARIABLE, server.address)

    codes = [quick(arguments) for arguments in ([], ["live"], ["ready"], [f"--port={server.address}", "startup"])]

    assert codes == [0, 0, 1, 0]
    assert capsys.readouterr() == ("ok\nok\nok\n", "the broker does not answer host-1\n")


def test_a_worker_that_is_gone_fails(server: HealthServer, capsys: pytest.CaptureFixture[str]) -> None:
    """No answer is an answer."""
    address = server.address
    server.close()

    assert quick(["--port", address]) == 1
    assert capsys.readouterr().err == f"no answer from {address}: Connection refused\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--app", "x"], ["--port"], ["dead"], ["--port", "nonsense"], []])
def test_leaves_other_arguments_to_the_command_line(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """That prints help, errors, and knows the settings."""
    monkeypatch.delenv(VARIABLE, raising=False)

    assert quick(arguments) is None


def test_the_program_asks_without_queuekit(server: HealthServer, tmp_path: Path) -> None:
    """Neither queuekit nor click is imported, which would take ten times as long."""
    program = (
        "import sys; before = {*sys.modules}; sys.argv[1:] = ['health', '--port', sys.argv[1]]\n"
        "import atexit, queuekit_start\n"
        "unwanted = {'queuekit', 'click', 'attr', 'json', 'asyncio'} - before\n"
        "atexit.register(lambda: print(sorted(unwanted & {*sys.modules})))\n"
        "queuekit_start.main()"
    )

    done = python(program, server.address, folder=tmp_path, PYTHONDONTWRITEBYTECODE="1")

    assert (done.returncode, done.stdout) == (0, "ok\n[]\n")


def test_other_commands_are_those_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program hands everything else on."""
    called = []
    monkeypatch.setattr("queuekit.cli.main", lambda: called.append([*sys.argv]))
    monkeypatch.setattr(sys, "argv", ["queuekit", "queues"])

    queuekit_start.main()

    assert called == [["queuekit", "queues"]]


@pytest.mark.parametrize("how", ["option", "file"])
def test_the_command_line_asks_too(server: HealthServer, tmp_path: Path, how: str) -> None:
    """It also finds the port in the settings."""
    (tmp_path / "queuekit.toml").write_text(f'[worker]\nhealth_port = "{server.address}"\n')
    arguments = ["--port", server.address] if how == "option" else []

    passed, failed = (queuekit("health", probe, *arguments, folder=tmp_path) for probe in ("live", "ready"))

    assert (passed.returncode, passed.stdout) == (0, "ok\n")
    assert (failed.returncode, failed.stderr) == (1, "the broker does not answer host-1\n")


def test_without_a_port_the_command_line_says_what_to_name(tmp_path: Path) -> None:
    """A usage error has exit code 2."""
    done = queuekit("health", folder=tmp_path)

    assert done.returncode == 2
    assert "--port" in done.stderr
