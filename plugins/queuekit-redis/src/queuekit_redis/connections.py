"""Links to one server: opened when needed, kept for reuse, left alone after a fork."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from queuekit_redis.failures import Failures
from queuekit_redis.link import Link
from queuekit_redis.options import RedisOptions

__all__ = ["Connections"]


class Connections:
    """A pool.

    Args:
        make: Makes a link, opening nothing.
        options: How many there may be, and how long to wait for one.
        failures: Makes errors.
    """

    def __init__(self, make: Callable[[], Link], *, options: RedisOptions, failures: Failures) -> None:
        self._make = make
        self._limit = options.max_connections
        self._timeout = options.timeout
        self._failures = failures
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[Link] = deque()
        self._slots = threading.BoundedSemaphore(self._limit)

    @contextmanager
    def lent(self, *, checked: bool = False) -> Iterator[Link]:
        """Lend a link; after an error it is closed, and so are those that wait for reuse.

        Args:
            checked: Whether to make sure that the server has not closed it meanwhile.

        Raises:
            UnavailableError: None can be opened, or the body raised an error of the client library.
        """
        link = self._take(checked=checked)
        try:
            yield link
        except (RedisError, OSError) as error:
            self._drop(link)
            raise self._failures.of(error) from error
        except BaseException:
            self._drop(link)
            raise
        if link.sock is not None:
            self._idle.append(link)
        self._slots.release()

    def _take(self, *, checked: bool) -> Link:
        if os.getpid() != self._pid:
            self._start()  # after a fork they are the parent's, and are left alone
        if not self._slots.acquire(timeout=self._timeout):
            raise self._failures.crowded(self._limit)
        try:
            link = self._idle.pop()
        except IndexError:
            return self._open()
        if checked and link.is_stale():
            link.close()
            return self._open()
        return link

    def _open(self) -> Link:
        try:
            link = self._make()
            link.open()
        except (RedisError, OSError) as error:
            self._slots.release()
            raise self._failures.of(error) from error
        except BaseException:
            self._slots.release()
            raise
        return link

    def _drop(self, link: Link) -> None:
        """Close *link* and those that wait for reuse: the server has likely closed them as well."""
        link.close()
        self.close()
        self._slots.release()

    def close(self) -> None:
        """Close all that wait for reuse; those in use are closed by their users."""
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:
                return
            link.close()
