"""The connections of one client: one to publish, one to consume, since RabbitMQ may block the one that publishes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from queuekit.errors import UnavailableError
from queuekit.timelimit import time_left
from queuekit_amqp.channel import Channel
from queuekit_amqp.connection import Connection, connect
from queuekit_amqp.options import AmqpOptions
from queuekit_amqp.urls import Target

__all__ = ["Connections", "Link"]


class Link:
    """A connection that is opened at first use, and again when it is broken.

    Args:
        open_one: Returns a new connection.
        timeout: Seconds that a call may take.
        renewed: Called with each new connection.
    """

    def __init__(
        self, open_one: Callable[[], Connection], *, timeout: float, renewed: Callable[[], None] = lambda: None
    ) -> None:
        self._open_one = open_one
        self._timeout = timeout
        self._renewed = renewed
        self._connection: Connection | None = None
        self._free: dict[bool, list[Channel]] = {True: [], False: []}
        self._lock = threading.Lock()

    def renew_in_fork(self) -> None:
        """Leave the connection to the parent."""
        if self._connection is not None:
            self._connection.abandon()
        self._connection, self._free, self._lock = None, {True: [], False: []}, threading.Lock()

    def timeout(self) -> float:
        """Return the seconds that a call may take now."""
        return max(0.001, time_left(self._timeout))

    def connection(self) -> Connection:
        """Return the connection.

        Raises:
            UnavailableError: No server takes one.
        """
        with self._lock:
            old = self._connection
            if old is not None and old.error is None:
                return old
            self._connection, self._free = None, {True: [], False: []}
            if old is not None:
                old.close()
            self._connection = new = self._open_one()
            self._renewed()
            return new

    def take(self, *, holds: bool = False) -> Channel:
        """Return a channel that nobody uses.

        Args:
            holds: Whether it is for deliveries. Other calls have channels of their own: RabbitMQ closes a channel
                whose call it refuses, and takes back all that was delivered on it.
        """
        connection = self.connection()
        with self._lock:
            free = self._free[holds]
            while free:
                channel = free.pop()
                if channel.error is None:
                    return channel
        channel = connection.open_channel(timeout=self.timeout())
        channel.holds = holds
        return channel

    def give(self, channel: Channel) -> None:
        """Let others use a channel, if it is in order."""
        with self._lock:
            if channel.error is None and not channel.cancelled and channel.connection is self._connection:
                self._free[channel.holds].append(channel)

    @property
    def error(self) -> UnavailableError | None:
        """Why the connection is broken, if it is."""
        return self._connection.error if self._connection is not None else None

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._lock:
            connection, self._connection = self._connection, None
            self._free = {True: [], False: []}
        if connection is not None:
            with contextlib.suppress(UnavailableError):
                connection.close()


class Connections:
    """Both connections.

    Args:
        target: The servers.
        options: Options of the connections.
        hide: Removes secrets from a text.
        renewed: Called when a connection to publish is new: queues may be gone.
    """

    def __init__(
        self,
        target: Target,
        options: AmqpOptions,
        *,
        hide: Callable[[str], str],
        renewed: Callable[[], None],
    ) -> None:
        def open_one() -> Connection:
            return connect(target, options, hide=hide)

        self.publish = Link(open_one, timeout=options.timeout, renewed=renewed)
        self.consume = Link(open_one, timeout=options.timeout, renewed=renewed)

    def renew_in_fork(self) -> None:
        """Leave both to the parent."""
        self.publish.renew_in_fork()
        self.consume.renew_in_fork()

    def close(self) -> None:
        """Close both."""
        self.publish.close()
        self.consume.close()
