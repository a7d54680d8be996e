"""Notify a service manager such as systemd: ready, stopping, alive.

Source:
    sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

__all__ = ["ServiceManager"]


class ServiceManager:
    """Sends each change once, and signs of life at half the interval that the watchdog allows.

    Args:
        environ: Where the manager has put its variables. They are removed, so that no task speaks for the worker.
        monotonic: The clock.
    """

    def __init__(self, environ: MutableMapping[str, str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._socket = environ.pop("NOTIFY_SOCKET", "")
        micros, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        watched = micros.isdecimal() and pid in {"", str(os.getpid())}
        self.pause = int(micros) / 2e6 if watched else 0.0
        """Seconds between two signs of life; 0 without a watchdog."""
        self._monotonic = monotonic
        self._next = 0.0
        self._sent: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._socket)

    def report(self, *, ready: bool, stopping: bool, alive: bool) -> None:
        """Send what the manager does not know yet, and a sign of life if one is due."""
        if ready:
            self._once("READY=1")
        if stopping:
            self._once("STOPPING=1")
        now = self._monotonic()
        if alive and self.pause and now >= self._next:
            self._next = now + self.pause
            self._send("WATCHDOG=1")

    def _once(self, text: str) -> None:
        if text not in self._sent and self._send(text):
            self._sent.add(text)

    def _send(self, text: str) -> bool:
        """Send *text*; return false if the manager did not take it."""
        if not self._socket:
            return False
        address = f"\0{self._socket[1:]}" if self._socket.startswith("@") else self._socket
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # noqa: FBT003 - the name of the method says what is true
            sender.sendto(text.encode(), address)
            return True
        return False
