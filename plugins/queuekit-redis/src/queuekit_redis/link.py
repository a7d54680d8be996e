"""One connection that sends commands and reads replies; it wraps the untyped one of the client library."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, ResponseError, TryAgainError
from redis.retry import Retry

from queuekit_redis.deadlines import LimitedConnection, LimitedSSLConnection, LimitedUnixConnection
from queuekit_redis.options import RedisOptions
from queuekit_redis.urls import Address, Target

__all__ = ["Command", "Link", "link_maker"]

Command = Sequence[Any]
"""A command and its arguments."""
_READ_SIZE = 131_072
_CLUSTER_ERRORS = {"ASK": AskError, "CLUSTERDOWN": ClusterDownError, "MOVED": MovedError, "TRYAGAIN": TryAgainError}


class Link:
    """A connection that is opened by :meth:`open`.

    Args:
        connection: The connection of the client library.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.generation = 0
        """Generation of its pool at its creation; an older one than the pool's leads to a former primary."""

    def open(self) -> None:
        """Connect and authenticate."""
        self._connection.connect()

    def close(self) -> None:
        """Close it if it is open; in a fork, the parent's connection stays usable."""
        self._connection.disconnect()

    @property
    def sock(self) -> socket.socket | None:
        """The socket, ``None`` if it is closed."""
        found: socket.socket | None = self._connection._sock  # noqa: SLF001 - the library has no public access to it
        return found

    def is_stale(self) -> bool:
        """Return whether the server closed it while it was idle, or it holds unread bytes."""
        sock = self.sock
        if sock is None:
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, *commands: Command) -> None:
        """Send *commands* at once."""
        if len(commands) == 1:  # the common case, on the path of each send
            packed = pack_command(tuple(commands[0]))
        else:
            packed = b"".join([pack_command(tuple(command)) for command in commands])
        self._connection.send_packed_command([packed], check_health=False)

    def read(self) -> Any:
        """Return the next reply.

        Raises:
            RedisError: The server refused the command, or does not answer.
        """
        return self._connection.read_response(disable_decoding=True)

    def answer(self) -> Any:
        """Return the next reply, or the error if the server refused the command."""
        try:
            return self.read()
        except ResponseError as error:
            return _told_apart(error)

    def has_reply(self, timeout: float) -> bool:
        """Return whether there is a reply to read within *timeout* seconds."""
        return bool(self._connection.can_read(timeout=timeout))

    def converse(self, commands: Sequence[Command]) -> list[Any]:
        """Send *commands* and return the reply to each, or the error if it was refused."""
        self.send(*commands)
        return [self.answer()] if len(commands) == 1 else [self.answer() for _ in commands]


def _told_apart(error: ResponseError) -> ResponseError:
    """Return *error* with the client library's specific class; older versions leave a Cluster's answers as text."""
    text = str(error)
    if ": -READONLY " in text:  # raised inside a script, in the format of servers before version 7
        return ReadOnlyError(text.partition(": -READONLY ")[2])
    word, _, rest = text.partition(" ")
    kind: Any = _CLUSTER_ERRORS.get(word)
    return error if kind is None else kind(rest)


def link_maker(target: Target, options: RedisOptions) -> Callable[[Address | None], Link]:
    """Return a function that makes a link to an address of *target*; ``None`` means its first."""
    common: dict[str, Any] = {
        "db": target.db,
        "username": target.username,
        "password": target.password,
        "usual": options.timeout,
        "usual_connect": options.connect_timeout,
        "socket_read_size": _READ_SIZE,
        "client_name": options.client_name or None,
        "protocol": 2,
        # The client library would repeat a command whose reply was lost; most commands here must not be repeated.
        "retry": Retry(NoBackoff(), 0),
    }
    if target.kind == "unix":
        unix: Any = LimitedUnixConnection
        return lambda _: Link(unix(path=target.path, **common))
    common |= {"socket_keepalive": True}
    kind: Any = LimitedSSLConnection if target.tls else LimitedConnection
    if target.tls:
        common |= {"tls": options}

    def make(address: Address | None) -> Link:
        host, port = address or target.addresses[0]
        if target.tls:
            options.context()  # here, since the client library would turn its error into one of its own
        return Link(kind(host=host, port=port, **common))

    return make
