"""One connection to one server: sends commands in batches and reads their replies, within the time of the caller."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

import attrs

from queuekit.errors import UnavailableError
from queuekit.timelimit import time_left
from queuekit_memcached.failures import Failures
from queuekit_memcached.options import MemcachedOptions
from queuekit_memcached.protocol import FAULTS, Reply, read_reply, sign_in, value_bytes
from queuekit_memcached.urls import Address, Target

__all__ = ["Connection", "RunningServer", "connect"]

_READ = 262_144
"""Most bytes of one read."""
_LONGEST_LINE = 4_096
_SHORTEST = 0.001
"""Least timeout of a socket, in seconds: 0 would make it non-blocking."""
_OLDEST = (1, 6, 12)
_CAS_LENGTH, _PID_LENGTH = 48, 22
"""Bits of a version that hold the CAS of the item, and the id of the process that keeps it."""


@attrs.frozen(kw_only=True)
class RunningServer:
    """The server process at the other end of a connection."""

    started: int
    """Number of its start, which grows with its time: its CAS numbers begin anew with each start."""
    time_apart: float
    """Its time in UTC epoch seconds less the monotonic time here."""
    item_bytes: int
    """Its largest item."""
    stats: dict[str, str] = attrs.field(factory=dict, repr=False)

    def version(self, cas: int) -> int:
        """Return the version of a record whose item has *cas*: it grows with each write, also over a restart."""
        return (self.started << _CAS_LENGTH) + cas

    def cas(self, version: int) -> int | None:
        """Return the CAS of the item with *version*; ``None`` if another server process wrote it, which lost it."""
        started, cas = version >> _CAS_LENGTH, version & ((1 << _CAS_LENGTH) - 1)
        return cas if started == self.started and cas else None

    def now(self) -> float:
        """Return its time, in UTC epoch seconds."""
        return monotonic() + self.time_apart


class Connection:
    """A connected socket; see :func:`connect`.

    Args:
        sock: The socket, with or without TLS.
        failures: Makes errors.
        timeout: Seconds to wait for the server if the caller has more time.
    """

    server: RunningServer
    """Set by :func:`connect`."""

    def __init__(self, sock: socket.socket, failures: Failures, *, timeout: float) -> None:
        self._sock = sock
        self._failures = failures
        self._timeout = timeout
        self._buffer = bytearray()

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def is_stale(self) -> bool:
        """Return whether the server closed it while it was idle, or it holds unread bytes."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(self._buffer) or bool(poll.poll(0))

    def ask(self, commands: Sequence[bytes], *, ahead: int | None = None) -> list[Reply]:
        """Send *commands* and return the reply to each.

        Args:
            commands: The commands.
            ahead: Bytes to send before the replies are read; ``None`` for all, if the replies are short.

        Raises:
            UnavailableError: The server does not answer, or does not know a command.
        """
        replies: list[Reply] = []
        batch: list[bytes] = []
        size = 0
        for command in commands:
            if batch and ahead is not None and size + len(command) > ahead:
                replies += self._converse(batch)
                batch, size = [], 0
            batch.append(command)
            size += len(command)
        return replies + self._converse(batch)

    def _converse(self, commands: Sequence[bytes]) -> list[Reply]:
        try:
            self._send(b"".join(commands))
            return [self._reply() for _ in commands]
        except UnavailableError:
            raise
        except (OSError, ValueError) as error:
            raise self._failures.of(error) from error

    def stats(self, *names: str) -> dict[str, str]:
        """Return the statistics called *names*: ``""`` for the general ones, ``"settings"``; the first of a name."""
        found: dict[str, str] = {}
        try:
            self._send(b"".join(f"stats {name}".rstrip().encode("ascii") + b"\r\n" for name in names))
            for _ in names:
                while (line := self._line()) != b"END":
                    name, value = self._statistic(line)
                    found.setdefault(name, value)
        except UnavailableError:
            raise
        except (OSError, ValueError) as error:
            raise self._failures.of(error) from error
        return found

    def _statistic(self, line: bytes) -> tuple[str, str]:
        word, name, value = [*line.decode("ascii", "replace").split(" ", 2), "", ""][:3]
        if word.encode() in FAULTS:
            raise self._failures.of_command(read_reply(line))
        if word != "STAT":
            raise ValueError(line[:100])
        return name, value

    def sign_in(self, username: str, password: str) -> None:
        """Send user and password."""
        self._send(sign_in(username, password))
        line = self._line()
        if line != b"STORED":
            raise self._failures.of_sign_in(line.decode("ascii", "replace")[:200])

    def _reply(self) -> Reply:
        line = self._line()
        length = value_bytes(line)
        reply = read_reply(line, b"" if length is None else self._value(length))
        if reply.code in (b"ERROR", b"CLIENT_ERROR"):
            raise self._failures.of_command(reply)
        return reply

    # -- bytes

    def _send(self, data: bytes) -> None:
        self._limit()
        self._sock.sendall(data)

    def _line(self) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\r\n", start)) < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise ValueError(bytes(self._buffer[:100]))
            start = max(0, len(self._buffer) - 1)
            self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _value(self, length: int) -> bytes:
        while len(self._buffer) < length + 2:
            self._fill()
        value = bytes(self._buffer[:length])
        del self._buffer[: length + 2]
        return value

    def _fill(self) -> None:
        self._limit()
        data = self._sock.recv(_READ)
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        self._buffer += data

    def _limit(self) -> None:
        left = time_left(self._timeout)
        if not left:
            raise TimeoutError("the time of the call is over")
        self._sock.settimeout(max(_SHORTEST, left))


def connect(address: Address, target: Target, options: MemcachedOptions, failures: Failures) -> Connection:
    """Open a connection, sign in, and ask the server about itself.

    Raises:
        UnavailableError: The server does not answer, or the plugin cannot use it.
    """
    context = options.context() if target.tls else None
    try:
        sock = _open(address, options)
    except OSError as error:
        raise failures.of(error) from error
    try:
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=address.host)
        connection = Connection(sock, failures, timeout=options.timeout)
        if target.username is not None:
            connection.sign_in(target.username, target.password or "")
        connection.server = _server(connection, options, failures)
    except BaseException as error:
        with suppress(OSError):
            sock.close()
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, UnavailableError):
            raise failures.of(error) from error
        raise
    return connection


def _open(address: Address, options: MemcachedOptions) -> socket.socket:
    """Return a connected socket; the timeout that it has is for a handshake."""
    left = time_left(options.connect_timeout)
    if not left:
        raise TimeoutError("the time of the call is over")
    left = max(_SHORTEST, left)
    if address.path:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(left)
        try:
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((address.host, address.port), timeout=left)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def _server(connection: Connection, options: MemcachedOptions, failures: Failures) -> RunningServer:
    """Return what the server says about itself.

    Raises:
        UnavailableError: It is too old, keeps no CAS, or takes smaller items than the options say.
    """
    asked = monotonic()
    stats = connection.stats("", "settings")
    version = tuple(int(part) for part in stats["version"].split(".")[:3] if part.isdigit())
    if version < _OLDEST:
        raise failures.of_server(f"is Memcached {stats['version']}", "Use Memcached 1.6.12 or later")
    if stats.get("cas_enabled") == "no":
        raise failures.of_server("keeps no versions of its items", "Start it without the option -C")
    item_bytes = int(stats["item_size_max"])
    if item_bytes < options.max_item_bytes:
        what = f"takes items of up to {item_bytes:,} bytes (-I), less than max_item_bytes, {options.max_item_bytes:,}"
        raise failures.of_server(what, f"Start it with -I {options.max_item_bytes}, or set max_item_bytes={item_bytes}")
    # Its uptime is counted from the same second as its time, so the difference stays the same. The process id tells two
    # starts in one second apart.
    started = int(stats["time"]) - int(stats["uptime"])
    return RunningServer(
        started=(started << _PID_LENGTH) + int(stats["pid"]) % (1 << _PID_LENGTH),
        time_apart=int(stats["time"]) - asked,
        item_bytes=item_bytes,
        stats=stats,
    )
