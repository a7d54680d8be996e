"""A concurrency limit around a block: in the body of a task, in a web server, in a script."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from queuekit.backend import Record
from queuekit.errors import LimitReachedError, OptionError, UnavailableError
from queuekit.ids import check_name, new_id
from queuekit.limiting.slot_store import Slots, Wish
from queuekit.limiting.slots import SlotKey, Waiter, beat_of
from queuekit.limiting.throttle import LimitStore
from queuekit.limits import Concurrency
from queuekit.logs.errors import log_error
from queuekit.wire.call_options import Duration, seconds

__all__ = ["SlotLimit"]

_logger = logging.getLogger("queuekit.lock")
_LOOK = 0.25
"""Seconds between two looks of a block that waits."""
_BEATS = 3
"""Signs of life per lease."""


class SlotLimit:
    """A slot of a concurrency limit, which a block holds; made by ``app.limit(name)``.

    ``with`` and ``async with`` wait for a slot, in turn with the messages and blocks that share the limit and the key,
    and free it at the end. A thread shows meanwhile that this process is alive.
    """

    def __init__(
        self, store: LimitStore, name: str, *, limit: Concurrency, key: object, wait: Duration | None, lease: float
    ) -> None:
        self.name = check_name(name, what="limit")
        """Its name."""
        self._store, self._lease, self._limit = store, lease, limit
        self._place = SlotKey(name, "" if key is None else str(key), limit)
        self._wait = seconds(wait, option="wait")
        self._hold: _Hold | None = None
        self._in_use = threading.Lock()

    def __enter__(self) -> Self:
        hold, clock = self._begin(), self._store.clock
        end = None if self._wait is None else clock.monotonic() + self._wait
        try:
            while not hold.attempt():
                clock.sleep(self._pause(end))
        except BaseException:
            self._take_back().end()
            raise
        hold.keep()
        return self

    async def __aenter__(self) -> Self:
        hold, clock = self._begin(), self._store.clock
        end = None if self._wait is None else clock.monotonic() + self._wait
        try:
            while not await self._store.run(hold.attempt):  # noqa: ASYNC110 - other processes free slots
                await asyncio.sleep(self._pause(end))
        except BaseException:
            self._take_back().keep(ended=True)  # a thread of its own: this coroutine may have been cancelled
            raise
        hold.keep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._take_back().end()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hold = self._take_back()
        hold.signal_end()  # now: if this coroutine is cancelled while no thread is free, the call is never made
        await self._store.run(hold.end)

    def _begin(self) -> _Hold:
        if not self._in_use.acquire(blocking=False):
            what = f"the limit {self.name!r} is in use through this object"
            raise OptionError(what, fix="Call app.limit(...) for each block")
        self._hold = _Hold(self._store, self._store.slots(), self._place, lease=self._lease)
        return self._hold

    def _take_back(self) -> _Hold:
        hold = self._hold
        assert hold is not None  # noqa: S101 - a block is left only after it was entered
        self._hold = None
        self._in_use.release()
        return hold

    def _pause(self, end: float | None) -> float:
        """Return how many seconds to wait before the next look.

        Raises:
            LimitReachedError: The time to wait is over.
        """
        left = _LOOK if end is None else end - self._store.clock.monotonic()
        if left <= 0:
            waited = 0.0 if self._wait is None else self._wait
            raise LimitReachedError(f"all {self._limit.most} slots of {self.name!r} are held; waited {waited:g} s")
        return min(left, _LOOK)


class _Hold:
    """One slot, from the first attempt to its end. A thread shows that its holder is alive, and frees it."""

    def __init__(self, store: LimitStore, slots: Slots, place: SlotKey, *, lease: float) -> None:
        self._store, self._slots, self._place, self._lease = store, slots, place, lease
        self._waiter = Waiter("", new_id(), "", 1)
        self._waits = False
        self._changed = threading.Condition()
        self._ends = False
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._until = float("inf")
        """Monotonic time until which others know that the holder is alive."""

    def attempt(self) -> bool:
        """Return whether it holds a slot now; if not, it waits in line."""
        now = self._store.now()
        if self._waits and self._stands_in_line(now):
            return False
        wish = Wish(self._waiter, (self._place,))
        self._slots.acquire([wish], now)
        self._waits = wish.waits is not None
        return wish.done and wish.waits is None

    def _stands_in_line(self, now: float) -> bool:
        """Return whether it still has to wait. Slots whose holders have died go to the first in line.

        False also means that it has lost its place, because this process was stopped for longer than a lease.
        """
        state, id = self._slots.read([self._place], now)[self._place], self._waiter.id
        if id in state.holders:  # perhaps not for long any more, so its time is to start anew
            return False
        if state.waiting and state.in_use < state.most:  # nobody else may be there to look
            self._slots.move([self._place], now)
            return True
        return bool(state.parts) or any(one.id == id for one in (*state.front, *state.back))

    def keep(self, *, ended: bool = False) -> None:
        """Start the thread."""
        self._ends, self._until = ended, self._store.clock.monotonic() + self._lease
        self._thread = threading.Thread(target=self._keep, name="queuekit-limit", daemon=True)
        self._thread.start()

    def signal_end(self) -> None:
        """Have the slot freed. A process that was forked inside the block leaves it to its parent."""
        if os.getpid() == self._pid:
            with self._changed:
                self._ends = True
                self._changed.notify_all()

    def end(self) -> None:
        """Free the slot, or wait no longer."""
        if os.getpid() != self._pid:
            return
        if self._thread is None:
            self._quietly(release=True)
            return
        self.signal_end()
        self._thread.join()

    def _keep(self) -> None:
        clock = self._store.clock
        while not self._ends:
            with self._changed:
                until = clock.monotonic() + self._lease / _BEATS
                while not self._ends and (left := until - clock.monotonic()) > 0:
                    clock.wait(self._changed, left)
            if not self._ends:
                self._quietly(release=False)
        self._quietly(release=True)

    def _quietly(self, *, release: bool) -> None:
        """Show a sign of life, or free the slot; without an answer it is free when its time is over."""
        id, claim, now = self._waiter.id, self._waiter.claim, self._store.clock.monotonic()
        if now >= self._until:
            self._until = float("inf")
            self._warn("a slot of the limit %s may have another holder: its block has shown no sign of life for %g s")
        try:
            if release:
                self._slots.release([(self._place, id, claim)], self._store.now())
            else:
                self._store.backend().put([Record(key=beat_of(id), ttl=self._lease)])
                self._until = now + self._lease
        except UnavailableError:
            if release:
                self._warn("cannot free a slot of the limit %s, which is free in at most %g s")
        except Exception as error:  # noqa: BLE001 - of an engine: this thread must live as long as the block
            log_error(_logger, "cannot keep or free a slot of %s", self._place.name, error=error)

    def _warn(self, text: str) -> None:
        with suppress(Exception):  # of a handler: this thread must live as long as the block
            _logger.warning(text, self._place.name, self._lease)
