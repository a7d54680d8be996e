"""Connections of the client library that never wait longer than the time limit of their caller."""

from __future__ import annotations

import socket
import ssl
from time import monotonic
from typing import Any

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from queuekit.timelimit import LIMITS, time_left
from queuekit.tls import TLSOptions

__all__ = ["LimitedConnection", "LimitedSSLConnection", "LimitedUnixConnection"]

_SHORTEST = 0.001
"""Least timeout of a socket, in seconds: 0 would make it non-blocking, which raises other errors."""

_SHORT = 8_192
"""Bytes of a request that never blocks: all earlier requests were answered, so the socket's buffer is empty."""
_NEARLY = 0.95
"""Share of the usual timeout that counts as all of it. Setting a timeout costs a system call for each send."""


class LimitedSocket:
    """A connected socket whose reads and writes obey the time limit of the caller.

    The library itself sets a timeout once, and restarts it with each part of a reply.

    Args:
        sock: The socket, with or without TLS.
        usual: Seconds to wait if the caller has set no limit.
    """

    __slots__ = ("_cut", "_enough", "_sock", "_usual")

    def __init__(self, sock: socket.socket, usual: float) -> None:
        self._sock = sock
        self._usual = usual
        self._enough = _NEARLY * usual
        self._cut = True
        """Whether the socket's timeout differs from the usual one."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        """Write *data*."""
        if self._cut or len(data) > _SHORT:
            self._limit()
        self._sock.sendall(data)

    def recv_into(self, buffer: bytearray) -> int:
        """Read the bytes that have arrived; wait for the first one."""
        end = LIMITS.here.end
        if self._cut or (end is not None and end - monotonic() < self._enough):
            self._limit()
        return self._sock.recv_into(buffer)

    def _limit(self) -> None:
        left = time_left(self._usual)
        if left < self._enough:
            self._cut = True
            self._sock.settimeout(max(_SHORTEST, left))
        elif self._cut:
            self._cut = False
            self._sock.settimeout(self._usual)


class _Limited:
    """Connects within the time limit of the caller, except for name resolution, which cannot be interrupted.

    Args:
        usual: Seconds to wait for replies if the caller has set no limit.
        usual_connect: Seconds to wait for a connection if the caller has set no limit.
        **options: Options of the client library.
    """

    def __init__(self, *, usual: float, usual_connect: float, **options: Any) -> None:
        self._usual = usual
        self._usual_connect = usual_connect
        untyped: Any = super()
        untyped.__init__(socket_timeout=usual, socket_connect_timeout=usual_connect, **options)

    @property
    def socket_timeout(self) -> float:
        """Seconds to wait for a reply, and for a TLS handshake."""
        return max(_SHORTEST, time_left(self._usual))

    @socket_timeout.setter
    def socket_timeout(self, value: object) -> None:
        """Ignore the value: the library sets what it has just read."""

    @property
    def socket_connect_timeout(self) -> float:
        """Seconds to wait for a connection to one address."""
        return max(_SHORTEST, time_left(self._usual_connect))

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: object) -> None:
        """Ignore the value: the library sets what it has just read."""

    def _connect(self) -> Any:
        if not time_left(_SHORTEST):
            raise TimeoutError  # otherwise the library would still connect
        untyped: Any = super()
        return LimitedSocket(untyped._connect(), self._usual)  # noqa: SLF001 - extends the library's own step


class LimitedConnection(_Limited, Connection):  # type: ignore[misc]  # the timeouts are attributes there
    """A plain connection."""


class LimitedSSLConnection(_Limited, SSLConnection):  # type: ignore[misc]  # the timeouts are attributes there
    """A connection with TLS.

    Args:
        tls: Options of TLS.
        **options: Other options.
    """

    def __init__(self, *, tls: TLSOptions, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        """Do the handshake, with a timeout measured after the certificates are read."""
        context = self._tls.context()
        sock.settimeout(self.socket_timeout)
        return context.wrap_socket(sock, server_hostname=self.host)


class LimitedUnixConnection(_Limited, UnixDomainSocketConnection):  # type: ignore[misc]  # the timeouts are attributes there
    """A connection through a Unix socket."""
