"""Waits for records on behalf of coroutines; one thread serves all of them.

A backend's ``wait`` blocks its caller and takes a fixed set of keys. So the thread waits for the keys of all coroutines
at once, and for a wake key: the process writes a record under that key when another coroutine begins to wait. If the
service cannot notify, the thread polls instead, for each key less and less often.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from queuekit.backend import Backend, Record
from queuekit.client.event_loop import running_loop
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit.timelimit import time_limit
from queuekit.values import define
from queuekit.wire.batches import alike

__all__ = ["ResultListener"]

LONGEST = 5.0
"""Longest wait, in seconds; after it all keys are read, and unknown ones are reported."""
_UNKNOWN_AFTER = 0.5
"""Seconds of waiting before the first check for unknown keys, so that a wrong id is reported soon."""
MOST_KEYS = 1_000
"""Most keys in one wait: the oldest and the newest. The others are only read, every few seconds."""
_FIRST, _AT_ONCE = 100, 500
"""Records to read in the first round trip, when their size is not known yet, and the most in any."""
_LINGER = 10.0
"""Idle seconds after which the thread ends."""
_FIRST_LOOK, _LONGEST_LOOK, _GROWTH = 0.05, 2.0, 1.5
"""Seconds between two polls for a key, if the service cannot notify."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_A_KEY, _LONGEST_REST = 20e-6, 0.05
"""Seconds to rest per key before the next wait, so that outcomes that arrive together are read together."""
_WAKE_TTL = 30.0
_PARTING = 1.0
"""Seconds to wait for the thread when its app closes."""


@define(eq=False)
class _Waiting:
    """One waiting coroutine."""

    keys: tuple[str, ...]
    future: asyncio.Future[dict[str, Record | None]]
    since: float
    pause: float = _FIRST_LOOK
    next_look: float = 0.0


class ResultListener:
    """Waits for final records of one backend.

    Args:
        backend: Backend that stores them.
        run: Runs a short blocking call in another thread.
    """

    def __init__(self, backend: Backend, *, run: Callable[[Callable[[], object]], object]) -> None:
        self.backend = backend
        self._run = run
        self._reports = backend.capabilities.notify
        self._changed = threading.Condition()
        self._waiting: dict[str, set[_Waiting]] = {}
        self._fresh: dict[_Waiting, None] = {}
        """Coroutines whose keys have not been checked for being unknown; oldest first."""
        self._thread: threading.Thread | None = None
        self._wake_key = ""
        self._names = (f"wake:{new_id()}:{number}" for number in itertools.count())
        self._closing = False
        self._last_look = time.monotonic()
        self._at_once = _FIRST
        """Records to read in the next round trip."""
        self._cut = 1
        """Fraction of :data:`MOST_KEYS` to wait for: less after failures, since the records may be large."""
        self.trouble: UnavailableError | None = None
        """The current outage of the backend, if any."""

    async def wait(self, keys: Sequence[str], timeout: float) -> dict[str, Record | None]:
        """Wait at most *timeout* seconds until a record among *keys* is final, and return the final records.

        Returns:
            Empty on timeout. ``None`` for a key without a record, after half a second at the earliest.

        Raises:
            UnavailableError: On timeout, if the service does not answer; at once, if it never will.
        """
        loop = running_loop()
        waiting = _Waiting(keys=tuple(keys), future=loop.create_future(), since=time.monotonic())
        self._add(waiting)
        try:
            await asyncio.wait([waiting.future], timeout=None if timeout == math.inf else timeout)
            if waiting.future.done():
                return waiting.future.result()
        finally:
            self._remove(waiting)
        if self.trouble is not None:
            raise self.trouble
        return {}

    def close(self) -> None:
        """End the thread, once no coroutine waits."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread, needed = self._thread, bool(self._waiting)
            wake_key, self._wake_key = self._wake_key, ""
        if thread is not None and not needed:
            if wake_key:
                with time_limit(_PARTING):
                    self._wake(wake_key)
            thread.join(_PARTING)

    # -- in event loops

    def _add(self, waiting: _Waiting) -> None:
        with self._changed:
            for key in waiting.keys:
                self._waiting.setdefault(key, set()).add(waiting)
            self._fresh[waiting] = None
            self._closing = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="queuekit-results", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            wake_key, self._wake_key = self._wake_key, ""
        if wake_key:
            self._run(lambda: self._wake(wake_key))

    def _remove(self, waiting: _Waiting) -> None:
        with self._changed:
            self._fresh.pop(waiting, None)
            for key in waiting.keys:
                others = self._waiting.get(key)
                if others is not None:
                    others.discard(waiting)
                    if not others:
                        del self._waiting[key]

    def _wake(self, key: str) -> None:
        """End the current wait; if this fails, the wait ends by itself."""
        with suppress(UnavailableError):
            self.backend.put([Record(key=key, ttl=_WAKE_TTL, final=True)])

    # -- in the thread

    def _work(self) -> None:
        pause = _FIRST_PAUSE
        while self._is_needed():
            try:
                if self._reports:
                    self._wait_for_one()
                else:
                    self._ask_for_those_due()
            except UnavailableError as error:
                if not error.passing:
                    self._fail(error)
                self.trouble = error
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)
            except Exception as error:  # noqa: BLE001 - raised in the waiting coroutines
                self._fail(error)
            else:
                self.trouble = None
                pause = _FIRST_PAUSE

    def _is_needed(self) -> bool:
        """Return True once a coroutine waits, False when the thread should end."""
        end = time.monotonic() + _LINGER
        with self._changed:
            while not self._waiting:
                left = end - time.monotonic()
                if self._closing or left <= 0:
                    self._thread = None
                    return False
                self._changed.wait(left)
            return True

    def _wait_for_one(self) -> None:
        """Wait for any of all keys, or for another coroutine."""
        begun = time.monotonic()
        with self._changed:
            keys = list(self._waiting)
            wake_key = self._wake_key = next(self._names)
            fresh = next(iter(self._fresh), None)
        # Of messages sent together, the oldest end first; of long-running ones, the newest may. So watch both ends.
        half = max(1, MOST_KEYS // 2 // self._cut)
        waited, rest = (keys, []) if len(keys) <= 2 * half else ([*keys[:half], *keys[-half:]], keys[half:-half])
        longest = _LONGEST_LOOK if rest else LONGEST
        until_look = longest if fresh is None else max(0.0, fresh.since + _UNKNOWN_AFTER - begun)
        try:
            found = self.backend.wait([*waited, wake_key], timeout=min(longest, until_look))
        except UnavailableError:
            self._cut = min(2 * self._cut, MOST_KEYS)
            raise
        finally:
            with self._changed:
                self._wake_key = ""
        self._cut = max(1, self._cut // 2)
        self._report(found, asked=waited, begun=begun)
        self._look_at_fresh()
        if time.monotonic() - self._last_look >= longest:
            self._last_look = begun = time.monotonic()
            self._look(keys, begun=begun)
        time.sleep(min(_LONGEST_REST, len(keys) * _A_KEY))

    def _look_at_fresh(self) -> None:
        """Check once, after a moment, whether the keys of new coroutines are known."""
        begun = time.monotonic()
        with self._changed:
            due = list(itertools.takewhile(lambda one: one.since + _UNKNOWN_AFTER <= begun, self._fresh))
            for one in due:
                del self._fresh[one]
        if due:
            keys = list(dict.fromkeys(key for one in due for key in one.keys))
            self._look(keys, begun=begun)

    def _ask_for_those_due(self) -> None:
        """Read the keys that are due for a poll; if none is, wait until one is or another coroutine begins to wait."""
        now = time.monotonic()
        with self._changed:
            some = {one for others in self._waiting.values() for one in others}
            due = [one for one in some if one.next_look <= now]
            if not due:
                nearest = min((one.next_look for one in some), default=now)
                self._changed.wait(max(0.0, nearest - now))
                return
            for one in due:
                one.next_look = now + one.pause
                one.pause = min(_LONGEST_LOOK, one.pause * _GROWTH)
        asked = list(dict.fromkeys(key for one in due for key in one.keys))
        self._look(asked, begun=now)

    def _look(self, keys: Sequence[str], *, begun: float) -> None:
        """Read *keys*, and report the records of each round trip, which is limited in bytes."""
        first = 0
        while first < len(keys):
            some = keys[first : first + self._at_once]
            try:
                found = self.backend.get(some)
            except UnavailableError:
                self._at_once = max(1, self._at_once // 2)
                raise
            first += len(some)
            self._at_once = alike([len(record.body) for record in found.values()], most=_AT_ONCE)
            self._report(found, asked=some, begun=begun, all_read=True)

    def _report(
        self, found: Mapping[str, Record], *, asked: Sequence[str], begun: float, all_read: bool = False
    ) -> None:
        """Pass the final records of *found* to the coroutines that wait for them.

        Args:
            found: Records.
            asked: Keys that were read.
            begun: Start of the read, in monotonic seconds; coroutines that came later are not concerned.
            all_read: Whether *found* holds all records of *asked*, so that missing keys are unknown.
        """
        with self._changed:
            some = {one for key in asked for one in self._waiting.get(key, ()) if one.since <= begun}
        unknown = set(asked).difference(found) if all_read else set[str]()
        known_by = time.monotonic() - _UNKNOWN_AFTER
        for one in some:
            final: dict[str, Record | None] = {key: found[key] for key in one.keys if key in found and found[key].final}
            if not final and unknown and one.since <= known_by:
                final = {key: None for key in one.keys if key in unknown}
            if final:
                _call(one, lambda one=one, final=final: one.future.set_result(final))  # type: ignore[misc]

    def _fail(self, error: Exception) -> None:
        """Raise *error*, which will not pass, in all waiting coroutines."""
        with self._changed:
            some = {one for others in self._waiting.values() for one in others}
            self._waiting.clear()
        for one in some:
            _call(one, lambda one=one: one.future.set_exception(error))  # type: ignore[misc]


def _call(waiting: _Waiting, call: Callable[[], Any]) -> None:
    """Run *call* in the event loop of *waiting*, unless the loop is closed or the future is done."""
    with suppress(RuntimeError):  # the loop is closed, so nothing waits
        waiting.future.get_loop().call_soon_threadsafe(lambda: None if waiting.future.done() else call())
