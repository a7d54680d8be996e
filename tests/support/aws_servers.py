"""Imitations of AWS for tests, each over HTTP on a free port of this machine, ended by pid.

``ministack`` is quick and takes many clients at once, but is lax about limits; ``moto`` is strict about limits, but
slow with long queues and wrong about some of FIFO. What one gets wrong the other gets right.
"""

import atexit
import functools
import importlib.util
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

import pytest

from queuekit.clock import SystemClock
from support.server_process import ServerProcess, free_port
from support.waiting import UNHURRIED

__all__ = ["AwsServer", "Hasty", "aws_url", "free_port", "ministack", "moto", "shared_ministack", "shared_moto"]

REQUIRED = "QUEUEKIT_REQUIRE_ENGINES"


class AwsServer(ServerProcess):
    """One process that speaks the protocols of SQS, DynamoDB and S3.

    Args:
        name: What it is, for errors.
        command: Starts it, with ``{port}`` where the port belongs.
        probe: Path that answers when it is ready.
        folder: For its log.
        environ: What it needs in its environment, with ``{port}`` alike.
    """

    def __init__(
        self, name: str, command: list[str], *, probe: str, folder: Path, environ: dict[str, str] | None = None
    ) -> None:
        self.port = free_port()
        environ = {key: value.format(port=self.port) for key, value in (environ or {}).items()}
        super().__init__(folder / f"{name}.log", environ=environ, own_group=True)
        self.name = name
        self._command = [part.format(port=self.port) for part in command]
        self._probe = probe

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def sqs(self, prefix: str, **options: object) -> str:
        """Return the URL of a broker, which bears with an imitation that takes its time."""
        return aws_url("sqs+http", self.address, prefix, **options)

    def dynamodb(self, prefix: str, **options: object) -> str:
        """Return the URL of a backend, likewise."""
        return aws_url("dynamodb+http", self.address, prefix, **options)

    def call(self) -> list[str]:
        """Return its command line."""
        return [sys.executable, *self._command]

    def start(self) -> Self:
        """Start it and return when it answers; it ends with the run of the tests at the latest."""
        atexit.register(self.stop)
        return super().start()

    def stop(self) -> None:
        """End it and the processes that it has started, at once; may be called twice."""
        self.kill()

    def answers(self) -> bool:
        """Return whether it does, without an error of its own."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{self._probe}", timeout=1) as reply:
                return bool(reply.status < 500)
        except urllib.error.HTTPError as error:
            return error.code < 500
        except OSError:
            return False


_PACE = """
import os, time
_real, _pace, _start = time.time, float(os.environ["QUEUEKIT_TEST_PACE"]), float(os.environ["QUEUEKIT_TEST_START"])
time.time = lambda: _start + _pace * (_real() - _start)
"""


class Hasty(SystemClock):
    """A clock that runs *pace* times as fast as ours, from now on."""

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.start = time.time()

    def time(self) -> float:
        """Return UTC epoch seconds."""
        return self.start + self.pace * (time.time() - self.start)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self.pace * time.monotonic()


_LEAN = ("--no-access-log", "--no-date-header", "--no-server-header", "--ws=none", "--timeout-keep-alive=600")
"""Options of uvicorn; with httptools it takes two thirds of the time that hypercorn takes for a request."""


def ministack(folder: Path, *, clock: Hasty | None = None) -> AwsServer:
    """Return a ministack that is not started yet, by *clock* if there is one."""
    _need("ministack")
    hurry: dict[str, str] = {}
    if clock is not None:
        (folder / "sitecustomize.py").write_text(_PACE)
        hurry = {
            "PYTHONPATH": str(folder),
            "QUEUEKIT_TEST_PACE": repr(clock.pace),
            "QUEUEKIT_TEST_START": repr(clock.start),
        }
    return AwsServer(
        "ministack",
        ["-m", "uvicorn", "ministack.app:app", "--host", "127.0.0.1", "--port", "{port}", *_LEAN],
        probe="/_ministack/health",
        folder=folder,
        environ={
            "GATEWAY_PORT": "{port}",
            "MINISTACK_HOST": "127.0.0.1",
            "SERVICES": "sqs,dynamodb,s3",
            "LOG_LEVEL": "ERROR",
            "PYTHONWARNINGS": "ignore",
            **hurry,
        },
    )


@functools.cache
def shared_ministack() -> AwsServer:
    """Return a ministack that all tests of this process share, started at first use and ended with the process."""
    return ministack(_folder()).start()


@functools.cache
def shared_moto(*, threaded: bool) -> AwsServer:
    """Return a moto likewise."""
    return moto(_folder(), threaded=threaded).start()


def _folder() -> Path:
    """Return a new folder, which goes when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="queuekit-aws-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_ONE_BY_ONE = (
    "from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app;"
    "from werkzeug.serving import run_simple;"
    "run_simple('127.0.0.1', {port}, DomainDispatcherApplication(create_backend_app), threaded={threaded})"
)


def moto(folder: Path, *, threaded: bool) -> AwsServer:
    """Return a moto in server mode that is not started yet; one without threads does one request after the other."""
    _need("moto")
    return AwsServer(
        "moto",
        ["-c", _ONE_BY_ONE.replace("{threaded}", str(threaded))],
        probe="/moto-api/",
        folder=folder,
        environ={"PYTHONWARNINGS": "ignore"},
    )


def _need(module: str) -> None:
    """Skip where *module* is not installed, unless everything is required."""
    if importlib.util.find_spec(module) is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{module} is missing, and {REQUIRED} is set")
        pytest.skip(f"{module} is not installed")


def aws_url(scheme: str, address: str, prefix: str, **options: object) -> str:
    """Return the URL of a broker or a backend, for a client that is in no hurry unless *options* say so."""
    options = {"timeout": UNHURRIED, "connect_timeout": UNHURRIED, **options}
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{scheme}://{address}/{prefix}?{query}"
