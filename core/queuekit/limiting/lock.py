"""A lock that processes share: a record with one holder, which expires unless it is renewed."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from queuekit.backend import Backend, Record
from queuekit.clock import Clock
from queuekit.errors import LockLostError, LockTimeout, OptionError, UnavailableError
from queuekit.ids import new_id, worker_name
from queuekit.logs.errors import log_error
from queuekit.values import frozen
from queuekit.wire.call_options import Duration, seconds

__all__ = ["Lock", "LockStore"]

_logger = logging.getLogger("queuekit.lock")

_FREED_TTL = 10.0
"""Seconds for which the record of a free lock is kept, so that those who wait for it notice."""
_RENEWALS = 3
"""Renewals per ``ttl``."""
_LEAST_TTL, _LONGEST_TTL = 1.0, 1e9
_LEAST_WAIT = 0.05
"""Least seconds to wait for a lock whose time is almost over."""
_LONGEST_NAME = 200


@frozen(kw_only=True)
class LockStore:
    """What locks need from their app.

    Attributes:
        clock: Source of time.
        backend: Returns the backend that stores locks.
        run: Runs a short blocking call for a coroutine.
        wait: Waits for a coroutine until the record of a key is final, at most so many seconds.
    """

    clock: Clock
    backend: Callable[[], Backend]
    run: Callable[[Callable[[], Any]], Awaitable[Any]]
    wait: Callable[[str, float], Awaitable[object]]


class Lock:
    """A lock that one holder has at a time, among all processes with the same backend; made by ``app.lock(name)``.

    ``with`` and ``async with`` acquire and release it. While it is held, a thread renews it three times per ``ttl``. If
    the process dies or is stopped, the lock ends ``ttl`` seconds after its last renewal, and another holder may acquire
    it. The release wakes those who wait, if the backend can notify.

    A process that was stopped for longer than ``ttl`` does not know at once that it has lost the lock. So pass
    :attr:`token` to what the lock protects, and have that refuse a token that is smaller than one it has seen.
    """

    def __init__(self, store: LockStore, name: str, *, ttl: Duration, wait: Duration | None) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise OptionError(f"lock: expected a name of 1 to {_LONGEST_NAME} printable characters, got {name!r:.60}")
        self.name = name
        """Its name."""
        self._store = store
        self._ttl = _ttl(ttl)
        self._wait = seconds(wait, option="wait")
        self._hold: _Hold | None = None
        self._in_use = threading.Lock()

    @property
    def token(self) -> int:
        """Number of this acquisition, which grows with each acquisition of the lock in any process; 0 if not held."""
        return self._hold.token if self._hold is not None else 0

    @property
    def held(self) -> bool:
        """Whether it is held now, as far as this process knows. No round trip."""
        return self._hold is not None and self._hold.is_live

    def __enter__(self) -> Self:
        hold, deadline = self._begin()
        try:
            while not hold.attempt():
                self._store.backend().wait([hold.key], timeout=self._pause(hold, deadline))
        except BaseException:
            self._give_up(hold)
            raise
        return self

    async def __aenter__(self) -> Self:
        hold, deadline = self._begin()
        try:
            while not await self._store.run(hold.attempt):
                await self._store.wait(hold.key, self._pause(hold, deadline))
        except BaseException:
            self._give_up(hold)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hold = self._taken_back()
        hold.end()
        self._check(hold, error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hold = self._taken_back()
        hold.signal_end()  # now: if this coroutine is cancelled while no thread is free, the call is never made
        await self._store.run(hold.end)
        self._check(hold, error)

    def _begin(self) -> tuple[_Hold, float | None]:
        """Return a new hold, and the monotonic time until which to try."""
        if not self._in_use.acquire(blocking=False):
            what = f"the lock {self.name!r} is in use through this object"
            raise OptionError(what, fix="Call app.lock(...) for each block")
        hold = self._hold = _Hold(self._store, f"lock:{self.name}", self._ttl)
        return hold, None if self._wait is None else self._store.clock.monotonic() + self._wait

    def _pause(self, hold: _Hold, deadline: float | None) -> float:
        """Return how many seconds to wait before the next attempt.

        Raises:
            LockTimeout: *deadline* has passed.
        """
        pause = max(_LEAST_WAIT, hold.left)
        if deadline is None:
            return pause
        left = deadline - self._store.clock.monotonic()
        if left <= 0:
            by = f" by {hold.other}" if hold.other else ""
            raise LockTimeout(f"the lock {self.name!r} is held{by}; waited {self._wait:g} s")
        return min(pause, left)

    def _give_up(self, hold: _Hold) -> None:
        """End an acquisition, which may still go on in another thread."""
        hold.signal_end()
        self._hold = None
        self._in_use.release()

    def _taken_back(self) -> _Hold:
        hold = self._hold
        assert hold is not None  # noqa: S101 - a block is left only after it was entered
        self._hold = None
        self._in_use.release()
        return hold

    def _check(self, hold: _Hold, error: BaseException | None) -> None:
        """Raise if the lock was lost inside a block that ended without an error."""
        if hold.lost and error is None:
            raise LockLostError(
                f"the lock {self.name!r} was lost before its block ended: it was not renewed for {self._ttl:g} s",
                fix="Raise ttl, or pass the token of the lock to what it protects",
            )


class _Hold:
    """One acquisition of a lock, from the first attempt to the release. A thread renews it, and releases it at the end.

    Args:
        store: Backend and clock.
        key: Key of the record.
        ttl: Seconds without renewal after which the lock is free.
    """

    def __init__(self, store: LockStore, key: str, ttl: float) -> None:
        self._store, self.key, self._ttl = store, key, ttl
        self._record = Record(key=key, body=f"{new_id()} {worker_name()}".encode(), ttl=ttl)
        self._pid = os.getpid()
        self._until = float("-inf")
        self._changed = threading.Condition()
        self._ends = False
        self._thread: threading.Thread | None = None
        self.token = 0
        self.lost = False
        """Whether another holder may have had the lock before this one released it."""
        self.left = 0.0
        """Seconds left to the current holder, as last seen."""
        self.other = ""
        """Name of the current holder, as last seen."""

    @property
    def is_live(self) -> bool:
        """Whether the lock is held now, by the monotonic clock of this process."""
        return self._store.clock.monotonic() < self._until

    def attempt(self) -> bool:
        """Acquire the lock if it is free; return whether it is held now."""
        backend, asked = self._store.backend(), self._store.clock.monotonic()
        found = backend.get([self.key]).get(self.key)
        if found is not None and not found.final and found.body != self._record.body:
            self.left = self._ttl if found.ttl is None else found.ttl
            self.other = found.body.decode("utf-8", "replace").partition(" ")[2]
            return False
        if not self._write(backend, found, asked):
            self.left = 0.0
            return False
        written = backend.get([self.key]).get(self.key)
        if written is None or written.body != self._record.body:
            return False
        self.token = written.version
        self._thread = threading.Thread(target=self._keep, name="queuekit-lock", daemon=True)
        self._thread.start()
        return True

    def _write(self, backend: Backend, found: Record | None, asked: float) -> bool:
        """Write the record if it is still as *found*; *asked* is when it was read, in monotonic seconds."""
        written = backend.put([self._record], expect=0 if found is None else found.version)[0]
        if written:
            self._until = asked + self._ttl - backend.limits.ttl_granularity
        return written

    def end(self) -> None:
        """Release the lock. A process that was forked inside the block leaves it to its parent."""
        self.signal_end()
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join()

    def signal_end(self) -> None:
        """Have the lock released, once it is acquired."""
        if os.getpid() == self._pid:
            with self._changed:
                self._ends = True
                self._changed.notify_all()

    def _keep(self) -> None:
        """Renew the lock until it is to end, and release it."""
        clock = self._store.clock
        while not self.lost and not self._wait_for_end(clock.monotonic() + self._ttl / _RENEWALS):
            self._quietly(self._renew)
        self._wait_for_end(float("inf"))
        self._quietly(self._release)
        self._until = float("-inf")

    def _wait_for_end(self, until: float) -> bool:
        """Wait until the lock is to end, or until a monotonic time; return whether it is to end."""
        clock = self._store.clock
        with self._changed:
            while not self._ends and (left := until - clock.monotonic()) > 0:
                clock.wait(self._changed, min(left, self._ttl))
            return self._ends

    def _quietly(self, call: Callable[[Backend, float], None]) -> None:
        """Call *call*; if the backend does not answer, or refuses, the lock is held until its time is over."""
        try:
            call(self._store.backend(), self._store.clock.monotonic())
        except Exception as error:  # noqa: BLE001 - also those of an engine: this thread must live as long as the block
            self.lost = self.lost or not self.is_live
            if not isinstance(error, UnavailableError):
                log_error(_logger, "cannot renew or free %s", self.key, error=error)

    def _renew(self, backend: Backend, asked: float) -> None:
        """Renew the record, unless it is no longer of this holder: others may have had the lock meanwhile."""
        found = backend.get([self.key]).get(self.key)
        if found is None or found.body != self._record.body or not self._write(backend, found, asked):
            self.lost, self._until = True, float("-inf")

    def _release(self, backend: Backend, _: float) -> None:
        """Mark the record as free, which wakes those who wait for it."""
        found = backend.get([self.key]).get(self.key)
        if self.lost or found is None or found.body != self._record.body:
            self.lost = True
        else:
            free = Record(key=self.key, ttl=_FREED_TTL, final=True)
            self.lost = not backend.put([free], expect=found.version)[0]


def _ttl(value: Duration) -> float:
    ttl = seconds(value, option="ttl")
    if ttl is None or not _LEAST_TTL <= ttl <= _LONGEST_TTL:
        raise OptionError(f"ttl: expected from {_LEAST_TTL:g} to {_LONGEST_TTL:g} seconds, got {value!r:.60}")
    return ttl
