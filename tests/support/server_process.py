"""A server for tests as a process of its own: started on a free port, ended by pid."""

import abc
import atexit
import os
import random
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

import pytest

from support.waiting import wait_until

__all__ = ["ServerProcess", "free_port"]

_LONGEST_STOP = 15.0
_END_OF_LOG = 2_000
_PORTS = range(10_240, 20_240)
"""Ports for servers. A Redis Cluster uses the port 10,000 above its own as well."""


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on, and that nobody else gets from here meanwhile.

    The system gives ports above these to clients: one that asked for such a port of a server that is down could be
    given that very port, and be connected to itself. Until this process ends, the UDP port of the same number is taken
    as a sign for other processes that run tests.
    """
    while True:
        port = random.choice(_PORTS)
        sign = socket.socket(type=socket.SOCK_DGRAM)
        try:
            sign.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            sign.close()
        else:
            atexit.register(sign.close)
            return port


class ServerProcess(abc.ABC):
    """One server; a subclass says how it is called, and when it answers.

    Args:
        log: File for what it prints; its folder must be there when it starts.
        environ: What it needs in its environment beside ours.
        own_group: Whether it leads a process group, which ends as a whole.
    """

    def __init__(self, log: Path, *, environ: dict[str, str] | None = None, own_group: bool = False) -> None:
        self._log = log
        self._environ = environ or {}
        self._own_group = own_group
        self._process: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def call(self) -> list[str]:
        """Return the command that starts it."""

    @abc.abstractmethod
    def answers(self) -> bool:
        """Return whether it answers."""

    @property
    def pid(self) -> int:
        """Process id; that of its group as well, if it leads one."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> Self:
        """Start it, and return when it answers."""
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                self.call(),
                env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=self._own_group,
            )
        wait_until(lambda: process.poll() is not None or self.answers(), self._account)
        if process.poll() is not None:
            pytest.fail(f"it ended: {self._account()}")
        return self

    def _account(self) -> str:
        return f"{' '.join(self.call())}\n{self._log.read_text(errors='replace')[-_END_OF_LOG:]}"

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        (os.killpg if self._own_group else os.kill)(self.pid, number)

    def kill(self) -> None:
        """End it as the kernel does when memory runs out; may be called twice."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it; may be called twice."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None or self._own_group:
            self._signal_if_there(how)
        try:
            process.wait(_LONGEST_STOP)
        except subprocess.TimeoutExpired:
            self._signal_if_there(signal.SIGKILL)
            process.wait()
        self._process = None

    def _signal_if_there(self, how: signal.Signals) -> None:
        try:
            self.send_signal(how)
        except ProcessLookupError:
            return
