"""Serve the probes of a worker over HTTP, on a port or a Unix socket."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from queuekit.errors import ConfigError
from queuekit.worker.ask_health import parse_address

__all__ = ["HealthServer"]

_PATIENCE = 2.0
"""Seconds that a request may take to arrive."""
_LONGEST = 8_192
_MOST = 32
"""Most connections at a time; further ones are closed."""
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

Answer = Callable[[str], tuple[bool, str] | None]


class HealthServer:
    """Answers requests in threads of its own until it is closed.

    Args:
        address: As for :func:`~queuekit.worker.ask_health.parse_address`.
        answer: Returns whether the probe at a path passes, and why not; ``None`` if there is none.

    Raises:
        ConfigError: It cannot listen there.
    """

    def __init__(self, address: str, answer: Answer) -> None:
        self._answer = answer
        self._path = ""
        self._places = threading.BoundedSemaphore(_MOST)
        try:
            self._socket = self._listen(address)
        except OSError as error:
            raise ConfigError(
                f"worker.health_port: cannot listen on {address}: {error.strerror or error}",
                fix="Choose another port, or stop the program that uses it",
            ) from error
        self.thread = threading.Thread(target=self._loop, name="queuekit-health", daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        """Where it listens: a path, or host and port."""
        if self._path:
            return self._path
        host, port, *_ = self._socket.getsockname()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Stop listening."""
        if self._path:
            with suppress(OSError):  # first, for as soon as this does not listen, the path may be another worker's
                Path(self._path).unlink()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which close() does not
        self._socket.close()
        self.thread.join(_PATIENCE)

    def _listen(self, address: str) -> socket.socket:
        place = parse_address(address)
        if isinstance(place, str):
            self._path = place
            return _unix_socket(place)
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        return socket.create_server(place, family=family)

    def _loop(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if not self._places.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                request = _request(connection)
                connection.settimeout(_PATIENCE)
                connection.sendall(self._reply(request))
                connection.shutdown(socket.SHUT_WR)
        finally:
            self._places.release()

    def _reply(self, request: bytes) -> bytes:
        method, _, rest = request.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        status, text = 405, "only GET"
        if method in {"GET", "HEAD"}:
            found = self._answer(path)
            status, text = (404, "no such probe") if found is None else (200 if found[0] else 503, found[1])
        body = f"{text}\n".encode()
        head = (
            f"HTTP/1.0 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)


def _request(connection: socket.socket) -> bytes:
    """Return a request up to the end of its headers, as far as it is short.

    Raises:
        TimeoutError: It has not arrived in time, as from a client that sends a byte now and then.
    """
    data, end = b"", time.monotonic() + _PATIENCE
    while b"\r\n\r\n" not in data and len(data) < _LONGEST:
        connection.settimeout(max(0.001, end - time.monotonic()))
        part = connection.recv(1_024)
        if not part:
            break
        data += part
    return data


def _unix_socket(path: str) -> socket.socket:
    """Listen at *path*; a socket there that nobody listens on any more is replaced."""
    made = socket.socket(socket.AF_UNIX)
    try:
        with socket.socket(socket.AF_UNIX) as other, suppress(FileNotFoundError):
            try:
                other.connect(path)
            except ConnectionRefusedError:  # also what any other file answers
                if not Path(path).is_socket():
                    raise FileExistsError(errno.EEXIST, "a file that is not a socket is there") from None
                Path(path).unlink()
        made.bind(path)
        Path(path).chmod(0o600)
        made.listen()
    except BaseException:
        made.close()
        raise
    return made
