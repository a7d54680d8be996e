"""Send commands to one server, or to the current primary."""

from __future__ import annotations

import abc
import random
import time
from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from queuekit.errors import UnavailableError
from queuekit.timelimit import end_of_time
from queuekit_redis.connections import Connections
from queuekit_redis.failures import Failures
from queuekit_redis.layout import Layout
from queuekit_redis.link import Link, link_maker
from queuekit_redis.options import RedisOptions
from queuekit_redis.scripts import SCRIPTS, script
from queuekit_redis.sentinel import Primary
from queuekit_redis.urls import Target

__all__ = ["RedisCall", "Server", "SingleServer", "call_script", "is_fleeting", "load", "run", "with_scripts"]

TRIES = 3
"""Most attempts of a call that may be repeated."""
_PAUSE = 0.05


class RedisCall(NamedTuple):
    """A command, and a key by which a Cluster finds the node for it."""

    route: str
    arguments: tuple[Any, ...]


def run(name: str, keys: Sequence[str], arguments: Sequence[Any]) -> RedisCall:
    """Return the call of the script *name*; all *keys* must be in one slot."""
    return call_script(name, keys, arguments, route=keys[0])


def call_script(name: str, keys: Sequence[str], arguments: Sequence[Any], *, route: str = "") -> RedisCall:
    """Like :func:`run`, but allows no keys, on a server that needs no *route*."""
    return RedisCall(route, ("EVALSHA", script(name).sha, len(keys), *keys, *arguments))


class Server(abc.ABC):
    """Runs commands on one or more servers. All methods are thread-safe and raise ``UnavailableError``."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures

    @abc.abstractmethod
    def call(self, calls: Sequence[RedisCall], *, again: bool) -> list[Any]:
        """Return the reply to each of *calls*, in as few round trips as possible.

        Args:
            calls: The calls.
            again: Whether the calls may run twice, so that they are repeated after a lost reply.
        """

    @abc.abstractmethod
    def lent(self, route: str) -> AbstractContextManager[Link]:
        """Lend a link to the server of *route*, for a blocking command."""

    @abc.abstractmethod
    def node_of(self, route: str) -> Hashable:
        """Return a value that is equal for all routes that share the connections of *route*."""

    @abc.abstractmethod
    def nodes(self) -> list[str]:
        """Return a name for each server that holds a part of the keys, for :meth:`call_node`."""

    @abc.abstractmethod
    def call_node(self, node: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies of one server to *commands*, which may be repeated."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close all connections."""

    def one(self, call: RedisCall, *, again: bool) -> Any:
        """Return the reply to *call*."""
        return self.call([call], again=again)[0]

    def raised(self, replies: list[Any]) -> list[Any]:
        """Return *replies* if none is an error.

        Raises:
            UnavailableError: One of them is an error.
        """
        for reply in replies:
            if isinstance(reply, RedisError):
                raise self._failures.of(reply) from reply
        return replies


class SingleServer(Server):
    """One server, or the primary that Sentinels name.

    Args:
        target: Address and credentials.
        options: Options of the connections.
        failures: Makes errors.
        layout: Checked on each new connection, until it is known.
    """

    def __init__(self, target: Target, *, options: RedisOptions, failures: Failures, layout: Layout) -> None:
        super().__init__(failures)
        make = link_maker(target, options)
        if target.kind == "sentinel":
            primary = Primary(make, target, options)
            self._connections = Connections(
                primary.link,
                options=options,
                failures=failures,
                is_outdated=primary.has_moved,
                greet=layout.check,
            )
        else:
            self._connections = Connections(lambda: make(None), options=options, failures=failures, greet=layout.check)
        self._deadline = options.timeout

    def call(self, calls: Sequence[RedisCall], *, again: bool) -> list[Any]:
        """Return the reply to each of *calls*, in one round trip."""
        commands = [call.arguments for call in calls]
        return self._repeated(commands, again=again)

    def one(self, call: RedisCall, *, again: bool) -> Any:
        """Return the reply to *call*; the path of each send."""
        return self._repeated((call.arguments,), again=again)[0]

    def call_node(self, node: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies to *commands*."""
        return self._repeated(commands, again=True)

    def _repeated(self, commands: Sequence[tuple[Any, ...]], *, again: bool) -> list[Any]:
        began = time.monotonic()
        tries = TRIES if again else 1
        while True:
            tries -= 1
            try:
                return self._once(commands, checked=not again)
            except UnavailableError as error:
                if tries <= 0 or not is_fleeting(error) or self._is_over(began):
                    raise
                time.sleep(_PAUSE * random.random())  # noqa: S311 - spreads tries, guards nothing

    def _is_over(self, began: float) -> bool:
        """Return whether the time is up for a call that started at the monotonic time *began*."""
        now, end = time.monotonic(), end_of_time()
        return now > began + self._deadline or (end is not None and now > end)

    def _once(self, commands: Sequence[tuple[Any, ...]], *, checked: bool) -> list[Any]:
        with self._connections.lent(checked=checked) as link:
            replies = link.converse(commands)
            if not _any_refused(replies):
                return replies
            replies = _told_scripts(link, commands, replies)
            for reply in replies:
                if isinstance(reply, ReadOnlyError):
                    raise reply  # a former primary: the error makes the pool drop its connections
        return self.raised(replies)

    @contextmanager
    def lent(self, route: str) -> Iterator[Link]:
        """Lend a link for a blocking command."""
        with self._connections.lent(checked=True) as link:
            yield link

    def node_of(self, route: str) -> Hashable:
        """Return the same value for all routes."""
        return ""

    def nodes(self) -> list[str]:
        """Return the only server."""
        return [""]

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()


def is_fleeting(error: UnavailableError) -> bool:
    """Return whether a retry on another connection may succeed."""
    return error.passing and isinstance(error.__cause__, RedisConnectionError | OSError | ReadOnlyError)


def with_scripts(link: Link, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the replies to *commands*; load unknown scripts into the server and repeat their commands."""
    replies = link.converse(commands)
    return _told_scripts(link, commands, replies) if _any_refused(replies) else replies


def _any_refused(replies: Sequence[Any]) -> bool:
    for reply in replies:  # noqa: SIM110 - takes half the time of any(), for every message
        if isinstance(reply, RedisError):
            return True
    return False


def _told_scripts(link: Link, commands: Sequence[tuple[Any, ...]], replies: list[Any]) -> list[Any]:
    """Return *replies*, in which errors about unknown scripts are replaced by the replies to a second try."""
    missing = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if missing:
        load(link, {commands[index][1] for index in missing})
        for index, reply in zip(missing, link.converse([commands[index] for index in missing]), strict=True):
            replies[index] = reply
    return replies


def load(link: Link, digests: Collection[str]) -> None:
    """Load the scripts of *digests* into a server."""
    texts = [one.text for one in map(script, SCRIPTS) if one.sha in digests]
    for loaded in link.converse([("SCRIPT", "LOAD", text) for text in texts]):
        if isinstance(loaded, ResponseError):
            raise loaded
