"""Waits for records on behalf of coroutines: one thread for all of them, however many there are.

A backend's own ``wait`` blocks its caller, and knows from the start for which keys. So the thread waits for the keys of
all coroutines at once, and for one key more, under which the process itself writes a record when another coroutine
comes along. Where a service can only be asked again and again, the thread asks, for each key more and more rarely.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from queuekit.backend import Backend, Record
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit.timelimit import time_limit

__all__ = ["ResultListener"]

LONGEST = 5.0
"""Seconds of one wait; then all keys are looked at, and those of which nothing is known are told."""
_UNKNOWN_AFTER = 0.5
"""Seconds of waiting after which is looked whether anything is known, so that a wrong id is soon known to be one."""
MOST_KEYS = 1_000
"""Most keys that are waited for at once, the first and the last; those in between are looked at in turn."""
_AT_ONCE = 500
"""Most records that are asked for in one round trip."""
_LINGER = 10.0
"""Seconds without anybody waiting after which the thread ends."""
_FIRST_LOOK, _LONGEST_LOOK, _GROWTH = 0.05, 2.0, 1.5
"""Seconds between two looks for a key, where the service does not tell by itself."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_A_KEY, _LONGEST_REST = 20e-6, 0.05
"""Seconds of rest for each key before the next wait, so that outcomes that come in a swarm are taken together."""
_WAKE_TTL = 30.0
_PARTING = 1.0
"""Seconds that the thread is waited for when its app closes."""


@attrs.define(eq=False)
class _Waiting:
    """One coroutine."""

    keys: tuple[str, ...]
    future: asyncio.Future[dict[str, Record | None]]
    since: float
    pause: float = _FIRST_LOOK
    next_look: float = 0.0


class ResultListener:
    """Waits for final records of one backend.

    Args:
        backend: Where they are.
        run: Runs a short call elsewhere, since the event loop must not.
    """

    def __init__(self, backend: Backend, *, run: Callable[[Callable[[], object]], object]) -> None:
        self.backend = backend
        self._run = run
        self._reports = backend.capabilities.notify
        self._changed = threading.Condition()
        self._waiting: dict[str, set[_Waiting]] = {}
        self._fresh: dict[_Waiting, None] = {}
        """Those for which nobody has looked yet whether anything is known; the first has waited longest."""
        self._thread: threading.Thread | None = None
        self._wake_key = ""
        self._names = (f"wake:{new_id()}:{number}" for number in itertools.count())
        self._closing = False
        self._last_look = time.monotonic()
        self.trouble: UnavailableError | None = None
        """Why the backend cannot be asked at the moment."""

    async def wait(self, keys: Sequence[str], timeout: float) -> dict[str, Record | None]:
        """Return the final records among *keys*, waiting at most *timeout* seconds until there is one.

        Returns:
            Empty if the time passes. ``None`` for a key of which nothing is known, half a second later at the earliest.

        Raises:
            UnavailableError: When the time passes, the service does not answer; or at once, if it never will.
        """
        loop = asyncio.get_running_loop()
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
        """End the thread if nobody waits, else as soon as nobody does."""
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
        """End the wait that goes on; if that fails it ends by itself."""
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
            except Exception as error:  # noqa: BLE001 - it is raised where the results are awaited
                self._fail(error)
            else:
                self.trouble = None
                pause = _FIRST_PAUSE

    def _is_needed(self) -> bool:
        """Return true once somebody waits, false when the thread is to end."""
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
        """Wait for one of all keys, or another coroutine."""
        begun = time.monotonic()
        with self._changed:
            keys = list(self._waiting)
            wake_key = self._wake_key = next(self._names)
            fresh = next(iter(self._fresh), None)
        # Many that were sent together end in their order; among many that stay for long the newest ends first.
        half = MOST_KEYS // 2
        waited, rest = (keys, []) if len(keys) <= MOST_KEYS else ([*keys[:half], *keys[-half:]], keys[half:-half])
        longest = _LONGEST_LOOK if rest else LONGEST
        until_look = longest if fresh is None else max(0.0, fresh.since + _UNKNOWN_AFTER - begun)
        try:
            found = self.backend.wait([*waited, wake_key], timeout=min(longest, until_look))
        finally:
            with self._changed:
                self._wake_key = ""
        self._report(found, asked=waited, begun=begun)
        self._look_at_fresh()
        if time.monotonic() - self._last_look >= longest:
            self._last_look = begun = time.monotonic()
            self._report(self._look(keys), asked=keys, begun=begun, all_read=True)
        time.sleep(min(_LONGEST_REST, len(keys) * _A_KEY))

    def _look_at_fresh(self) -> None:
        """Look once, after a moment, whether anything is known of what somebody has begun to wait for."""
        begun = time.monotonic()
        with self._changed:
            due = list(itertools.takewhile(lambda one: one.since + _UNKNOWN_AFTER <= begun, self._fresh))
            for one in due:
                del self._fresh[one]
        if due:
            keys = list(dict.fromkeys(key for one in due for key in one.keys))
            self._report(self._look(keys), asked=keys, begun=begun, all_read=True)

    def _ask_for_those_due(self) -> None:
        """Look at the keys whose turn it is; if there is none, wait until there is."""
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
        self._report(self._look(asked), asked=asked, begun=now, all_read=True)

    def _look(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the records among *keys*, final or not."""
        found: dict[str, Record] = {}
        for start in range(0, len(keys), _AT_ONCE):
            found |= self.backend.get(keys[start : start + _AT_ONCE])
        return found

    def _report(
        self, found: Mapping[str, Record], *, asked: Iterable[str], begun: float, all_read: bool = False
    ) -> None:
        """Hand the final ones of *found* to those who wait for them.

        Args:
            found: Records.
            asked: Keys that were looked at.
            begun: When.
            all_read: Whether *found* has all records of *asked*, so that nothing is known of the others.
        """
        with self._changed:
            some = {one for key in asked for one in self._waiting.get(key, ()) if one.since <= begun}
        known_by = time.monotonic() - _UNKNOWN_AFTER
        for one in some:
            final: dict[str, Record | None] = {key: found[key] for key in one.keys if key in found and found[key].final}
            if not final and all_read and one.since <= known_by:
                final = {key: None for key in one.keys if key not in found}
            if final:
                _call(one, lambda one=one, final=final: one.future.set_result(final))  # type: ignore[misc]

    def _fail(self, error: Exception) -> None:
        """Tell all who wait of an *error* that will not pass."""
        with self._changed:
            some = {one for others in self._waiting.values() for one in others}
            self._waiting.clear()
        for one in some:
            _call(one, lambda one=one: one.future.set_exception(error))  # type: ignore[misc]


def _call(waiting: _Waiting, call: Callable[[], Any]) -> None:
    """Make *call* in the event loop of who waits, unless that has ended or has its answer."""
    with suppress(RuntimeError):  # the loop is closed, so nobody waits
        waiting.future.get_loop().call_soon_threadsafe(lambda: None if waiting.future.done() else call())
