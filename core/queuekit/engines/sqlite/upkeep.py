"""Promotes due messages, reclaims expired leases, and deletes expired data.

Each snapshot is one SELECT on the heads of the indexes, so an idle engine takes no write lock; each change is one
statement on at most :data:`BATCH` rows, and any process may make it.
"""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

import json
from collections.abc import Sequence

from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.lanes import enter, entrants
from queuekit.engines.sqlite.waiting import Notifier
from queuekit.values import frozen

__all__ = ["BATCH", "Snapshot", "Upkeep", "promote"]

BATCH = 1_000
"""Most rows that one upkeep statement changes."""
SWEEP_EVERY = 1.0
"""Seconds between two sweeps, unless the last one left some rows."""
FREE_PAGES = 2_000
"""Pages to keep for reuse; more are returned to the file system, some at a time."""

_SNAPSHOT = """
SELECT (SELECT min(due) FROM messages WHERE state = 1), (SELECT min(lease_until) FROM messages WHERE state = 2),
    (SELECT json_group_array(value) FROM json_each(?)
     WHERE EXISTS (SELECT 1 FROM messages WHERE state = 0 AND queue = value))"""
_WHOSE = (
    "SELECT json_group_array(DISTINCT queue), count(lane) FROM (SELECT queue, lane FROM messages WHERE {due}"
    " LIMIT {batch})"
)
_DUE = "state = 1 AND due <= ?"
_EXPIRED = "state = 2 AND lease_until <= ?"
_PROMOTE = f"""
UPDATE messages SET state = 0
WHERE seq IN (SELECT seq FROM messages WHERE {_DUE} ORDER BY due LIMIT {BATCH})"""
_DUE_LANES = f"""
SELECT seq, queue, priority, hex(lane), hex(weight) FROM messages
WHERE {_DUE} AND lane IS NOT NULL AND seq IN (SELECT seq FROM messages WHERE {_DUE} ORDER BY due LIMIT {BATCH})
ORDER BY due, seq"""
_RECLAIM = f"""
UPDATE messages SET state = 0, crashes = crashes + 1, tag = 0, token = NULL, lease_until = NULL
WHERE seq IN (SELECT seq FROM messages WHERE {_EXPIRED} ORDER BY lease_until LIMIT {BATCH})"""

_ENDED = """
SELECT EXISTS (SELECT 1 FROM messages WHERE state = 4 AND due <= ?),
    EXISTS (SELECT 1 FROM unique_keys WHERE ends <= ?),
    EXISTS (SELECT 1 FROM records WHERE expires_at <= ?),
    EXISTS (SELECT 1 FROM groups WHERE expires_at <= ?)"""
_FORGET = (
    f"DELETE FROM messages WHERE seq IN (SELECT seq FROM messages WHERE state = 4 AND due <= ? LIMIT {BATCH})",
    f"DELETE FROM unique_keys WHERE key IN (SELECT key FROM unique_keys WHERE ends <= ? LIMIT {BATCH})",
    f"DELETE FROM records WHERE key IN (SELECT key FROM records WHERE expires_at <= ? LIMIT {BATCH})",
    f"""DELETE FROM members WHERE (grp, member) IN (
        SELECT grp, member FROM members WHERE grp IN (SELECT name FROM groups WHERE expires_at <= ?) LIMIT {BATCH})""",
)
_FORGET_GROUPS = f"""
DELETE FROM groups WHERE name IN (
    SELECT name FROM groups WHERE expires_at <= ? AND NOT EXISTS (SELECT 1 FROM members WHERE grp = name)
    LIMIT {BATCH})"""


@frozen
class Snapshot:
    """State of the messages at one time."""

    delayed: float | None
    """When the next delayed message of any queue is due."""
    leased: float | None
    """When the next lease of any queue ends."""
    ready: tuple[str, ...]
    """The given queues that have a ready message."""

    @property
    def next_event(self) -> float:
        """UTC epoch seconds of the next due time or end of a lease."""
        return min(
            float("inf") if self.delayed is None else self.delayed,
            float("inf") if self.leased is None else self.leased,
        )


class Upkeep:
    """Does the upkeep; every process that uses the file takes part.

    Args:
        database: The file.
        notifier: Notified when messages have become ready.
    """

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier
        self._next_sweep = float("-inf")

    def refresh(self, queues: Sequence[str]) -> Snapshot:
        """Promote due messages and reclaim expired leases, and return a snapshot taken afterwards."""
        now = self._database.time.now()
        snapshot = self._snapshot(queues)
        if snapshot.next_event > now:
            return snapshot
        if snapshot.delayed is not None and snapshot.delayed <= now:
            promote(self._database, self._notifier, now)
        if snapshot.leased is not None and snapshot.leased <= now:
            self._reclaim(now)
        return self._snapshot(queues)

    def sweep(self) -> None:
        """Delete expired ids, unique keys, records and groups, unless the last sweep was recent."""
        now = self._database.time.now()
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_EVERY
        ((*ended,),) = self._database.read(_ENDED, (now,) * 4)
        changed = [self._database.write(sql, (now,)) for sql, any_ in zip(_FORGET, ended, strict=True) if any_]
        if ended[-1]:
            changed.append(self._database.write(_FORGET_GROUPS, (now,)))
        if any(count >= BATCH for count in changed):
            self._next_sweep = now
        if changed:
            self._shrink()

    def _snapshot(self, queues: Sequence[str]) -> Snapshot:
        ((delayed, leased, ready),) = self._database.read(_SNAPSHOT, (json.dumps(queues),))
        return Snapshot(delayed, leased, tuple(json.loads(ready)))

    def _reclaim(self, now: float) -> None:
        queues = self._database.read(_WHOSE.format(due=_EXPIRED, batch=BATCH), (now,))
        if self._database.write(_RECLAIM, (now,)):
            self._notifier.notify(json.loads(queues[0][0]))

    def _shrink(self) -> None:
        """Return free pages to the file system once there are many."""
        ((free,),) = self._database.read("PRAGMA freelist_count")
        if free > FREE_PAGES:
            self._database.give_back(BATCH)


def promote(database: Database, notifier: Notifier, now: float) -> None:
    """Make due delayed messages ready."""
    ((names, lanes),) = database.read(_WHOSE.format(due=_DUE, batch=BATCH), (now,))
    queues = json.loads(names)
    if queues and (_promote_in_turn(database, now) if lanes else database.write(_PROMOTE, (now,))):
        notifier.notify(queues)


def _promote_in_turn(database: Database, now: float) -> int:
    """Make due messages ready, some of which have lanes; return how many."""
    with database.transaction() as transaction:
        rows = transaction.read(_DUE_LANES, (now, now))
        changed = transaction.write(_PROMOTE, (now,))
        enter(transaction, entrants(rows))
    return changed
