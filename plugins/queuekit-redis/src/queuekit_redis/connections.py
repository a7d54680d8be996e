"""Links to one server: opened on demand, kept for reuse, not used after a fork."""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Callable
from types import TracebackType

from redis.exceptions import RedisError

from queuekit.errors import UnavailableError, bare
from queuekit.timelimit import time_left
from queuekit_redis.failures import Failures
from queuekit_redis.link import Link
from queuekit_redis.options import RedisOptions

__all__ = ["Connections"]


class Connections:
    """A pool of links.

    Args:
        make: Makes a link without opening it.
        options: Limits their number, and the time to wait for one.
        failures: Makes errors.
        is_outdated: Called before a link is lent; returns whether the current links lead to the wrong server.
        greet: Called with each new link.
    """

    def __init__(
        self,
        make: Callable[[], Link],
        *,
        options: RedisOptions,
        failures: Failures,
        is_outdated: Callable[[], bool] | None = None,
        greet: Callable[[Link], None] | None = None,
    ) -> None:
        self._greet = greet
        self._make = make
        self._is_outdated = is_outdated
        self._generation = 0
        self._limit = options.max_connections
        self._timeout = options.timeout
        self._failures = failures
        self._start()

    def _start(self) -> None:
        self._idle: deque[Link] = deque()
        # One entry for each link that may be taken. A semaphore of `threading` is slower: it is written in Python.
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(self._limit):
            self._slots.put(None)
        self._pid = os.getpid()  # set last: another thread of a child must not take a link of the parent meanwhile

    def lent(self, *, checked: bool = False) -> Loan:
        """Lend a link; after an error, close it and all idle links.

        Args:
            checked: Whether to check that the server has not closed it meanwhile.

        Raises:
            UnavailableError: No link can be opened, or the body raised an error of the client library.
        """
        return Loan(self, checked)

    def take(self, *, checked: bool) -> Link:
        """Lend a link, which the caller returns by :meth:`take_back`; see :meth:`lent`."""
        if os.getpid() != self._pid:
            self._start()  # after a fork, the links belong to the parent
        try:
            self._slots.get_nowait()
        except queue.Empty:
            self._wait_for_a_place()
        if self._is_outdated is not None:
            self._renew(self._is_outdated)
        try:
            link = self._idle.pop()
        except IndexError:
            return self._open()
        if checked and link.is_stale():
            link.close()
            return self._open()
        return link

    def _wait_for_a_place(self) -> None:
        try:
            self._slots.get(timeout=time_left(self._timeout))
        except queue.Empty:
            raise self._failures.exhausted(self._limit) from None

    def _renew(self, is_outdated: Callable[[], bool]) -> None:
        """Drop the current links if they lead to the wrong server; those in use are closed on return."""
        try:
            if is_outdated():
                self._generation += 1
                self.close()
        except BaseException:
            self._slots.put(None)
            raise

    def _open(self) -> Link:
        try:
            generation = self._generation
            link = self._make()
            link.generation = generation
            link.open()
            self._meet(link)
        except UnavailableError:
            self._slots.put(None)
            raise
        except (RedisError, OSError) as error:
            self._slots.put(None)
            raise self._failures.of(error) from bare(error)
        except BaseException:
            self._slots.put(None)
            raise
        return link

    def _meet(self, link: Link) -> None:
        try:
            if self._greet is not None:
                self._greet(link)
        except BaseException:
            link.close()
            raise

    def take_back(self, link: Link, error: BaseException | None) -> None:
        """Keep *link* for reuse; after an *error*, close it and all idle links, which are probably broken as well."""
        if error is not None:
            link.close()
            self.close()
        elif link.generation != self._generation:
            link.close()
        elif link.sock is not None:
            self._idle.append(link)
        self._slots.put(None)
        if isinstance(error, RedisError | OSError) and not isinstance(error, UnavailableError):
            raise self._failures.of(error) from bare(error)

    def close(self) -> None:
        """Close all idle links; the users of other links close them."""
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:
                return
            link.close()


class Loan:
    """A link for the duration of a ``with`` block."""

    __slots__ = ("_checked", "_connections", "_link")

    def __init__(self, connections: Connections, checked: bool) -> None:  # noqa: FBT001 - created for each call, in one place
        self._connections = connections
        self._checked = checked

    def __enter__(self) -> Link:
        self._link = link = self._connections.take(checked=self._checked)
        return link

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._connections.take_back(self._link, error)
