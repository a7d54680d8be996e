"""All servers of one URL: which of them has a key, and calls that go to several at once.

A key belongs to one server for good: the one for which the digest of address and key is highest. So all clients agree
without talking to each other, whatever the order of the servers in their URLs. If a server is down, calls for its keys
fail. Another server would have none of its records, and later, two servers would each have a part of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from queuekit.errors import UnavailableError
from queuekit.pool import Pool
from queuekit.urls import EngineURL
from queuekit_memcached.connection import Connection, RunningServer, connect
from queuekit_memcached.failures import Failures
from queuekit_memcached.options import MemcachedOptions
from queuekit_memcached.protocol import Reply
from queuekit_memcached.urls import Address, Target

__all__ = ["AHEAD", "Answer", "Servers"]

AHEAD = 65_536
"""Bytes of requests to send before their replies are read, where these may be long: else both may only write."""
MakeCommand = Callable[[int, RunningServer], bytes | None]


class Answer(NamedTuple):
    """The reply to a command, and the server that gave it.

    Attributes:
        server: The server.
        reply: Its reply.
    """

    server: RunningServer
    reply: Reply


class Servers:
    """A pool of connections to each server.

    Args:
        url: URL of the servers, for errors.
        target: Their addresses.
        options: Options of the connections.
    """

    def __init__(self, url: EngineURL, target: Target, options: MemcachedOptions) -> None:
        self.failures = {address: Failures(url, address) for address in target.addresses}
        self._addresses = target.addresses
        self._pools = {address: self._pool(url, address, target, options) for address in target.addresses}

    def _pool(self, url: EngineURL, address: Address, target: Target, options: MemcachedOptions) -> Pool[Connection]:
        return Pool(
            partial(connect, address, target, options, self.failures[address]),
            close=Connection.close,
            size=options.max_connections,
            timeout=options.timeout,
            to=f"{address} of {url}" if len(target.addresses) > 1 else str(url),
            is_stale=Connection.is_stale,
        )

    def address_of(self, key: bytes) -> Address:
        """Return the server of *key*."""
        if len(self._addresses) == 1:
            return self._addresses[0]
        return max(
            self._addresses, key=lambda address: hashlib.sha256(b"%b %b" % (str(address).encode(), key)).digest()
        )

    def ask(self, keys: Sequence[bytes], make: MakeCommand, *, ahead: int | None = None) -> list[Answer | None]:
        """Send a command for each of *keys* to its server, in one round trip for each server.

        Args:
            keys: The keys. One may occur several times; its commands stay in order.
            make: Called with the index of a key and its server; returns the command, or ``None`` for no command.
            ahead: See :meth:`Connection.ask`.

        Returns:
            For each key its server and reply, or ``None`` if there was no command.

        Raises:
            UnavailableError: A server does not answer, or refused a command. The others have carried theirs out.
        """
        answers: list[Answer | None] = [None] * len(keys)
        places: dict[Address, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(self.address_of(key), []).append(place)
        problems: list[UnavailableError] = []
        for address, its in places.items():
            try:
                answers_here = self._ask_one(address, its, make, ahead)
            except UnavailableError as error:
                problems.append(error)
                continue
            for place, answer in answers_here:
                if answer.reply.code == b"SERVER_ERROR":
                    problems.append(self.failures[address].of_command(answer.reply))
                answers[place] = answer
        if problems:
            raise problems[0]
        return answers

    def _ask_one(
        self, address: Address, places: Sequence[int], make: MakeCommand, ahead: int | None
    ) -> list[tuple[int, Answer]]:
        with self._pools[address].lend() as connection:
            server = connection.server
            commands = [(place, command) for place in places if (command := make(place, server)) is not None]
            replies = connection.ask([command for _, command in commands], ahead=ahead)
        return [(place, Answer(server, reply)) for (place, _), reply in zip(commands, replies, strict=True)]

    def now(self) -> float:
        """Return the time of the first server, in UTC epoch seconds; whole seconds."""
        with self._pools[self._addresses[0]].lend() as connection:
            return float(connection.stats("")["time"])

    def stats(self) -> Iterator[tuple[Address, dict[str, str]]]:
        """Yield the statistics and settings of each server."""
        for address, pool in self._pools.items():
            with pool.lend() as connection:
                yield address, connection.stats("", "settings")

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        for pool in self._pools.values():
            pool.close()
