"""A real RabbitMQ for tests: a node with folders and ports of its own on the loopback interface, ended by pid.

It takes seconds to start, so all processes of a test run share one: the first that needs it starts it.
"""

import fcntl
import functools
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest

from support import venvs
from support.server_process import ServerProcess, free_port
from support.waiting import PATIENCE, UNHURRIED, wait_until

__all__ = ["RabbitMQ", "end_shared", "need", "need_plugin", "shared_address", "shared_url"]

_PLACES = ("/usr/lib/rabbitmq/bin", "/usr/sbin", "/opt/rabbitmq/sbin")
_HEADER = b"AMQP\x00\x00\x09\x01"
_NOTE = "rabbitmq.json"
_CONFIG = """[
 {kernel, [{inet_dist_use_interface, {127,0,0,1}}]},
 {rabbit, [{channel_tick_interval, 1000}, {dead_letter_worker_publisher_confirm_timeout, 5000}]}
].
"""
"""How long consumers hold messages is looked at each second, not each minute; and what could not be passed on from a
delay queue while the node was starting is passed on after five seconds, not after three minutes."""
_MISSING = "no rabbitmq-server: apt-get install rabbitmq-server (Debian, Ubuntu), or put one on PATH"


def need() -> str:
    """Return the server program; skip where it is missing, fail where engines are required."""
    folders = os.pathsep.join([*_PLACES, os.environ.get("PATH", "")])
    found = shutil.which("rabbitmq-server", path=folders)
    if found is None or shutil.which("epmd") is None:
        if os.environ.get("QUEUEKIT_REQUIRE_ENGINES"):
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    return found


def need_plugin() -> None:
    """Skip the module that calls this where queuekit-amqp is not installed, unless engines are required."""
    if importlib.util.find_spec("queuekit_amqp") is None and not os.environ.get("QUEUEKIT_REQUIRE_ENGINES"):
        pytest.skip("queuekit-amqp is missing: pip install plugins/queuekit-amqp", allow_module_level=True)


class RabbitMQ(ServerProcess):
    """A node, and the port mapper that Erlang needs beside it.

    Args:
        folder: Where it keeps its data, its log and its cookie.
        consumer_timeout: Seconds for which a message may be held.
        settings: More lines of its config file.
    """

    def __init__(self, folder: Path, *, consumer_timeout: float = 1_800.0, settings: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self._mapper_port, spread = free_port(), free_port(), free_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        config = folder / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nconsumer_timeout = {int(consumer_timeout * 1_000)}\n"
            f"log.file.level = warning\n{settings}\n"
        )
        (folder / "advanced.config").write_text(_CONFIG)
        (folder / "plugins").write_text("[].\n")
        environ = {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"queuekit{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_DIST_PORT": str(spread),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +SDio 1 +A 4 +sbwt none +sbwtdcpu none +sbwtdio none",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_CRASH_DUMP": str(folder / "crash"),
            "LANG": "C.UTF-8",
        }
        super().__init__(folder / "output", environ=environ, own_group=True)
        self._program = need()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def url(self, *options: str) -> str:
        """URL of a broker on it, which bears with a server that takes its time."""
        return _url(self.address, *options)

    def call(self) -> list[str]:
        """Return its command line."""
        return [self._program]

    def start(self) -> Self:
        """Start it, and return when it answers; it finds the data of its last life."""
        if self._mapper is None:
            with self._log.open("ab") as log:
                self._mapper = subprocess.Popen(
                    ["epmd", "-address", "127.0.0.1", "-port", str(self._mapper_port)],
                    env={**os.environ, **self._environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        try:
            # A node that finds no port mapper starts one that nobody would end.
            wait_until(lambda: _listens(self._mapper_port), "the port mapper listens")
            return super().start()
        except BaseException:
            self.close()
            raise

    def answers(self) -> bool:
        """Return whether it begins to speak AMQP."""
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), timeout=5)) as connection:
                connection.sendall(_HEADER)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def control(self, *arguments: str) -> None:
        """Run ``rabbitmqctl`` on it."""
        program = shutil.which("rabbitmqctl", path=os.pathsep.join([*_PLACES, os.environ.get("PATH", "")]))
        assert program is not None, _MISSING
        environ = {**os.environ, **self._environ}
        call = [program, "-n", self._environ["RABBITMQ_NODENAME"], *arguments]
        done = subprocess.run(call, env=environ, capture_output=True, text=True, check=False, timeout=10 * PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr

    def pids(self) -> list[int]:
        """Return the ids of its processes: of the node, which leads a group, and of the port mapper."""
        return [self.pid, *([self._mapper.pid] if self._mapper else [])]

    def close(self) -> None:
        """End it at once, with its port mapper."""
        self.kill()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()
            self._mapper = None

    def leave(self) -> None:
        """Let it run on after this object and this process."""
        for process in filter(None, (self._process, self._mapper)):
            process.returncode = 0  # or Popen warns of a process that it does not know to have ended
        self._process = self._mapper = None


def _listens(port: int) -> bool:
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=5)):
            return True
    except OSError:
        return False


def _url(address: str, *options: str) -> str:
    query = "&".join([f"timeout={UNHURRIED:g}", f"connect_timeout={UNHURRIED:g}", "heartbeat=120", *options])
    return f"amqp://{address}/?{query}"


def shared_url(*options: str) -> str:
    """Return the URL of a broker on a RabbitMQ that all processes of this test run share.

    The variable ``QUEUEKIT_TEST_AMQP_ADDRESS`` names the host and port of another one.
    """
    return _url(shared_address(), *options)


@functools.cache
def shared_address() -> str:
    """Return host and port of that RabbitMQ; the first process that asks starts it, and the run's end ends it."""
    given = os.environ.get("QUEUEKIT_TEST_AMQP_ADDRESS")
    if given:
        return given
    need()
    note = Path(os.environ[venvs.RUN]) / _NOTE
    with note.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not note.exists():
            server = RabbitMQ(Path(tempfile.mkdtemp(prefix="queuekit-rabbitmq-"))).start()
            found = {"address": server.address, "pids": server.pids(), "folder": str(server.folder)}
            server.leave()
            note.write_text(json.dumps(found))
    return str(json.loads(note.read_text())["address"])


def end_shared(run: Path) -> None:
    """End the RabbitMQ that was started for the run with the folder *run*, if one was."""
    note = run / _NOTE
    if not note.exists():
        return
    found = json.loads(note.read_text())
    node, mapper = found["pids"]
    for end, pid in ((os.killpg, node), (os.kill, mapper)):
        try:
            end(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        wait_until(lambda pid=pid: _is_gone(pid), f"process {pid} ends")
    shutil.rmtree(found["folder"], ignore_errors=True)


def _is_gone(pid: int) -> bool:
    """Return whether a process has ended; it may be a child of ours, or of a process that has ended."""
    try:
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            return False
    except ChildProcessError:
        pass
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
