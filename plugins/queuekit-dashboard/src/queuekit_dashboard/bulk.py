"""Change many messages in the background, at a bounded rate: retry or delete dead letters, move what waits."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import attrs

from queuekit.broker import Place
from queuekit.errors import OptionError, QueuekitError
from queuekit.ids import new_id
from queuekit.operations.admin import Admin, QueuedMessage
from queuekit.operations.dead_letters import fingerprint, in_steps, seek, walk
from queuekit.operations.filters import Filter
from queuekit.operations.moves import move

__all__ = ["Bulk", "BulkAction", "BulkActions", "BulkTarget", "MoveTarget"]

_MOST = 4
"""Most of them at a time."""
_KEPT = 20
"""Ended ones that are still shown."""
_FAST = 10_000.0
"""Messages per second of a move without a rate: it can be stopped between its steps."""
_COMMANDS = {"retry": "dlq retry", "drop": "dlq drop", "move": "move"}
"""What an action is called in the log of actions."""


BulkAction = Literal["retry", "drop", "move"]


@attrs.define(kw_only=True, eq=False)
class Bulk:
    """A change of many messages, and how far it is."""

    id: str
    what: BulkAction
    on: str
    """Which messages, in words."""
    by: str
    rate: float | None
    """Most messages per second; ``None`` for no limit."""
    chosen: int | None = None
    """How many there are; ``None`` until that is known."""
    done: int = 0
    state: Literal["running", "done", "stopped", "failed"] = "running"
    error: str = ""
    stopping: threading.Event = attrs.field(factory=threading.Event, repr=False)


@attrs.frozen(kw_only=True)
class BulkTarget:
    """Dead letters of *queue*, or of all queues, that *wanted* and the fingerprint select."""

    queue: str | None
    wanted: Filter
    fingerprint: str = ""

    def __str__(self) -> str:
        parts = [self.wanted.text, self.fingerprint and f"fingerprint:{self.fingerprint}"]
        where = f"queue:{self.queue}" if self.queue else ""
        return " ".join(part for part in [where, *parts] if part) or "all"

    def ids(self, admin: Admin) -> Iterator[tuple[str, str]]:
        """Yield queue and id of each, newest first in each queue."""
        for queued in walk(admin, self.queue, self.wanted):
            if self.selects(queued):
                yield queued.stored.envelope.queue, queued.id

    def parts(self, admin: Admin) -> Iterator[tuple[str, list[str]]]:
        """Yield queues and ids in parts, while the dead letters are read; see :func:`seek`."""
        return seek(admin, self.queue, self.wanted, selects=self.selects)

    def selects(self, queued: QueuedMessage) -> bool:
        """Return whether the fingerprint selects a dead letter."""
        stored = queued.stored
        return not self.fingerprint or fingerprint(queued.task, stored.reason, stored.error) == self.fingerprint


@attrs.frozen(kw_only=True)
class MoveTarget:
    """What waits in *queue*, and goes to the queue *to*; ``None``: each to the queue that it was sent to."""

    queue: str
    to: str | None

    def __str__(self) -> str:
        return f"{self.queue} to {self.to or 'their own queues'}"


class _Stopped(Exception):
    """An operator stops it."""


class BulkActions:
    """The changes that run or ran in this process.

    What it has not come to when the process ends is where it was, so it can be begun again.

    Args:
        admin: The operator's interface to the app.
    """

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._lock = threading.Lock()
        self._all: list[Bulk] = []
        self._threads: dict[str, threading.Thread] = {}

    def all(self) -> list[Bulk]:
        """Return all that run, and those that ended lately, newest first."""
        with self._lock:
            return self._all[::-1]

    def begin(self, what: BulkAction, choice: BulkTarget | MoveTarget, *, by: str, rate: float | None) -> Bulk:
        """Begin to change the messages of *choice*.

        Raises:
            OptionError: Too many run already, or the same one does.
        """
        bulk = Bulk(id=new_id(), what=what, on=str(choice), by=by, rate=rate)
        with self._lock:
            running = [one for one in self._all if one.state == "running"]
            if len(running) >= _MOST:
                raise OptionError(f"{len(running)} of these run already", fix="Wait, or stop one")
            if any((one.what, one.on) == (bulk.what, bulk.on) for one in running):
                raise OptionError("the same one runs already", fix="Wait, or stop it")
            ended = [one for one in self._all if one.state != "running"]
            self._all = [*ended[-_KEPT:], *running, bulk]
            thread = threading.Thread(target=self._run, args=(bulk, choice), name="queuekit-bulk", daemon=True)
            self._threads[bulk.id] = thread
        thread.start()
        return bulk

    def stop(self, id: str) -> None:
        """Stop one that runs, before its next step."""
        for bulk in self.all():
            if bulk.id == id:
                bulk.stopping.set()

    def close(self) -> None:
        """Stop all, and wait until they have."""
        for bulk in self.all():
            bulk.stopping.set()
        for thread in list(self._threads.values()):
            thread.join()

    def _run(self, bulk: Bulk, choice: BulkTarget | MoveTarget) -> None:
        try:
            bulk.state = self._steps(bulk, choice)
        except QueuekitError as error:
            bulk.state, bulk.error = "failed", error.what
        except Exception as error:
            bulk.state, bulk.error = "failed", type(error).__name__
            logging.getLogger("queuekit.dashboard").exception("a change of many messages failed")
        finally:
            self._threads.pop(bulk.id, None)

    def _steps(self, bulk: Bulk, choice: BulkTarget | MoveTarget) -> Literal["done", "stopped"]:
        admin, changed = self._admin, list[str]()
        try:
            with contextlib.suppress(_Stopped):
                for id in self._changes(bulk, choice):
                    changed.append(id)
                    bulk.done = len(changed)
        finally:
            if changed:
                admin.acted(_COMMANDS[bulk.what], by=bulk.by, on=bulk.on, ids=changed)
        return "stopped" if bulk.stopping.is_set() else "done"

    def _changes(self, bulk: Bulk, choice: BulkTarget | MoveTarget) -> Iterator[str]:
        """Yield the ids of what changes."""
        admin = self._admin
        if isinstance(choice, MoveTarget):
            counts = admin.counts_of(choice.queue)
            bulk.chosen = None if counts is None or Place.READY in counts.at_least else counts.ready
            yield from move(admin, choice.queue, choice.to, rate=bulk.rate or _FAST, sleep=_pausing(bulk))
            return
        change: Callable[[str, Sequence[str]], list[str]] = admin.replay if bulk.what == "retry" else admin.drop
        if admin.searches_dead:
            yield from in_steps(change, choice.parts(admin), rate=bulk.rate, sleep=_pausing(bulk))
            return
        found: dict[str, list[str]] = {}
        for queue, id in choice.ids(admin):
            found.setdefault(queue, []).append(id)
            if bulk.stopping.is_set():
                raise _Stopped
        chosen = {queue: ids[::-1] for queue, ids in found.items()}
        bulk.chosen = sum(map(len, chosen.values()))
        yield from in_steps(change, chosen.items(), rate=bulk.rate, sleep=_pausing(bulk))


def _pausing(bulk: Bulk) -> Callable[[float], None]:
    """Return a sleep that ends when *bulk* is to stop."""

    def pause(seconds: float) -> None:
        if bulk.stopping.wait(seconds):
            raise _Stopped

    return pause
