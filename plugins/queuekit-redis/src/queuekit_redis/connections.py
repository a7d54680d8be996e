"""Connections to one server: opened when needed, kept for reuse, left alone after a fork."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from queuekit_redis.failures import Failures
from queuekit_redis.options import RedisOptions
from queuekit_redis.urls import Address, Target

__all__ = ["Connections", "converse", "is_stale", "maker", "socket_of"]

Command = Sequence[Any]
"""A command and its arguments."""
_READ_SIZE = 131_072


def maker(target: Target, options: RedisOptions) -> Callable[[Address | None], AbstractConnection]:
    """Return what makes a connection to an address of *target* (``None``: the only one); it opens nothing."""
    common: dict[str, Any] = {
        "db": target.db,
        "username": target.username,
        "password": target.password,
        "socket_timeout": options.timeout,
        "socket_connect_timeout": options.connect_timeout,
        "socket_read_size": _READ_SIZE,
        "client_name": options.client_name or None,
        "protocol": 2,
        # The client library would repeat a command whose reply was lost, and most of ours must not be.
        "retry": Retry(NoBackoff(), 0),
    }
    if target.kind == "unix":
        del common["socket_connect_timeout"]
        return lambda _: UnixDomainSocketConnection(path=target.path, **common)
    common["socket_keepalive"] = True
    kind: type[Connection] = SSLConnection if target.tls else Connection
    if target.tls:
        common |= _tls(options)

    def make(address: Address | None) -> AbstractConnection:
        host, port = address or target.addresses[0]
        return kind(host=host, port=port, **common)

    return make


def _tls(options: RedisOptions) -> dict[str, Any]:
    files = {name: getattr(options, name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")}
    return {
        "ssl_cert_reqs": options.ssl_cert_reqs,
        "ssl_check_hostname": options.ssl_check_hostname and options.ssl_cert_reqs != "none",
        **{name: str(path) for name, path in files.items() if path is not None},
    }


class Connections:
    """A pool.

    Args:
        make: Makes a connection, opening nothing.
        options: How many there may be, and how long to wait for one.
        failures: Makes errors.
    """

    def __init__(self, make: Callable[[], AbstractConnection], *, options: RedisOptions, failures: Failures) -> None:
        self._make = make
        self._limit = options.max_connections
        self._timeout = options.timeout
        self._failures = failures
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[AbstractConnection] = deque()
        self._slots = threading.BoundedSemaphore(self._limit)

    @contextmanager
    def lent(self, *, checked: bool = False) -> Iterator[AbstractConnection]:
        """Lend a connection; after an error it is closed, and so are those that wait for reuse.

        Args:
            checked: Whether to make sure that the server has not closed it meanwhile.

        Raises:
            UnavailableError: None can be opened, or the body raised an error of the client library.
        """
        connection = self.take(checked=checked)
        try:
            yield connection
        except (RedisError, OSError) as error:
            self.give(connection, usable=False)
            raise self._failures.of(error) from error
        except BaseException:
            self.give(connection, usable=False)
            raise
        self.give(connection)

    def take(self, *, checked: bool = False) -> AbstractConnection:
        """Return an open connection, to be given back."""
        if os.getpid() != self._pid:
            self._start()  # after a fork they are the parent's, and are left alone
        if not self._slots.acquire(timeout=self._timeout):
            raise self._failures.crowded(self._limit)
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._open()
        if checked and is_stale(connection):
            self._close(connection)
            return self._open()
        return connection

    def _open(self) -> AbstractConnection:
        try:
            connection = self._make()
            connection.connect()
        except (RedisError, OSError) as error:
            self._slots.release()
            raise self._failures.of(error) from error
        except BaseException:
            self._slots.release()
            raise
        return connection

    def give(self, connection: AbstractConnection, *, usable: bool = True) -> None:
        """Take *connection* back; if it is not *usable*, it and all that wait for reuse are closed."""
        if not usable:
            self._close(connection)
            self.close()
        elif socket_of(connection) is not None:
            self._idle.append(connection)
        self._slots.release()

    def close(self) -> None:
        """Close all that wait for reuse; those in use are closed by their users."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            self._close(connection)

    def _close(self, connection: AbstractConnection) -> None:
        connection.disconnect()


def socket_of(connection: AbstractConnection) -> socket.socket | None:
    """Return the socket of *connection*, ``None`` if it is closed."""
    found: socket.socket | None = connection._sock  # noqa: SLF001 - there is no public way
    return found


def is_stale(connection: AbstractConnection) -> bool:
    """Tell whether a connection that waits for reuse has been closed by the server, or has bytes left over."""
    sock = socket_of(connection)
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def converse(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """Send *commands* at once and return the reply to each; one that was refused is answered by its error."""
    packed = connection.pack_command(*commands[0]) if len(commands) == 1 else connection.pack_commands(commands)
    connection.send_packed_command(packed, check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(connection.read_response(disable_decoding=True))
        except ResponseError as error:
            replies.append(error)
    return replies
