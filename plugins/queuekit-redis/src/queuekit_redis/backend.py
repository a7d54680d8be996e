"""The result backend of ``redis://`` and its variants."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from random import Random
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from queuekit.backend import Backend, Condition, Join, Page, Record
from queuekit.clock import Clock
from queuekit.forks import renew_in_forks
from queuekit.urls import EngineURL
from queuekit_redis.capabilities import BACKEND_CAPABILITIES, BACKEND_LIMITS
from queuekit_redis.checks import check
from queuekit_redis.encoding import pack_record, read_record
from queuekit_redis.engine import open_engine
from queuekit_redis.link import Link
from queuekit_redis.options import RedisOptions
from queuekit_redis.server import RedisCall, run
from queuekit_redis.settling import milliseconds

__all__ = ["RedisBackend"]

LONGEST_SLEEP = 5.0
"""Seconds after which ``wait`` reads again, in case it missed a notification."""
_CONDITIONS = {Condition.ALWAYS: 0, Condition.ABSENT: 1, Condition.NEWER: 2, Condition.SAME: 3}
_GLOB = re.compile(r"([\\*?\[\]])")
_PAUSE = 0.2
"""Seconds between two polls of a waiter that has no connection for notifications."""
_PART = 1_000
"""Most records of one script, and most keys that one step of a scan visits."""


class RedisBackend(Backend):
    """Records on a Redis or Valkey server; see :class:`~queuekit.backend.Backend` for the methods.

    Args:
        url: URL of the server; a broker with the same URL can commit together with the backend.
        options: Options of the connection and the stored data.
        clock: Not used: the server's clock decides (QK11).
        random: Not used.
    """

    capabilities = BACKEND_CAPABILITIES
    limits = BACKEND_LIMITS

    def __init__(
        self,
        url: EngineURL,
        *,
        options: RedisOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._engine = engine = open_engine(url, options)
        self._server, self._keys = engine.server, engine.keys
        self.engine_id = engine.id
        self._times = True
        """Whether the last :meth:`get` found records, so that the next one is likely to."""
        # A listener holds one connection and reads through another.
        most = engine.options.max_connections
        self._most_listeners = most - 1 - most // 8
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Start without listeners: those of the parent process do not count."""
        self._listeners = threading.Semaphore(self._most_listeners)

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write the *records* that *condition* and *expect* allow."""
        self.check_sizes(records)
        calls = self._put_calls(records, condition, expect)
        # Repeated after a lost reply, "absent", "same" and "expect" would report records as not written that are.
        again = condition in (Condition.ALWAYS, Condition.NEWER) and expect is None
        return [done == 1 for reply in self._server.call(calls, again=again) for done in reply] if calls else []

    def _put_calls(self, records: Sequence[Record], condition: Condition, expect: int | None) -> list[RedisCall]:
        """Return the calls that write *records*."""
        # On a Cluster, a script accesses one slot only; elsewhere, one script writes many records.
        size = 1 if self._engine.cluster else _PART
        prefix = self._keys.record("")
        channel = (int(self._engine.cluster), self._keys.channel(""), len(prefix))
        first = (_CONDITIONS[condition], -1 if expect is None else expect, *channel)
        calls = []
        for start in range(0, len(records), size):
            part = records[start : start + size]
            arguments: list[Any] = [*first]
            for record in part:
                arguments += (pack_record(record), milliseconds(record.ttl))
            if condition is Condition.SAME:
                arguments += [record.version for record in part]
            calls.append(run("put", [self._keys.record(record.key) for record in part], arguments))
        return calls

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys*."""
        found = self._read(keys, timed=self._times)
        # Workers read marks, of which there are almost none: without records, nobody needs the server's time.
        self._times = bool(found)
        return found

    def _read(self, keys: Sequence[str], *, timed: bool) -> dict[str, Record]:
        """Return the live records among *keys*; if any is likely, ask with *timed* for the time in the same trip."""
        keys = list(dict.fromkeys(keys))
        if not keys:
            return {}
        names = [self._keys.record(key) for key in keys]
        time_call = RedisCall(names[0], ("TIME",))
        if self._engine.cluster:
            reads = [RedisCall(name, ("GET", name)) for name in names]
        else:
            reads = [RedisCall("", ("MGET", *names))]
        replies = self._server.call([*reads, time_call] if timed else reads, again=True)
        values = replies[: len(names)] if self._engine.cluster else replies[0]
        stored = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
        if not stored:
            return {}
        now = replies[-1] if timed else self._server.one(time_call, again=True)
        micros = int(now[0]) * 1e6 + int(now[1])
        records = (read_record(key, value, micros) for key, value in stored)
        return {record.key: record for record in records if record is not None}

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Wait for a final record under one of *keys*; its channel notifies the waiter."""
        deadline = time.monotonic() + timeout
        found = self._final(keys)
        if found or timeout <= 0 or not keys:
            return found
        if not self._listeners.acquire(blocking=False):
            return self._poll(keys, deadline)
        try:
            notified = self._listen(keys, deadline)
        finally:
            self._listeners.release()
        return self._poll(keys, deadline) if notified is None else notified

    def _poll(self, keys: Sequence[str], deadline: float) -> dict[str, Record]:
        """Poll, if this user may not subscribe or no connection is left for it."""
        while True:
            found = self._final(keys)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(left, _PAUSE))

    def _listen(self, keys: Sequence[str], deadline: float) -> dict[str, Record] | None:
        """Read whenever a channel notifies; return ``None`` if this user may not subscribe."""
        # The first channel shows writers that there are listeners.
        channels = [self._keys.channel(key) for key in ("", *dict.fromkeys(keys))]
        with self._server.lent("") as link:
            if not _subscribe(link, channels):
                return None
            while True:
                found = self._final(keys)
                left = deadline - time.monotonic()
                if found or left <= 0:
                    break
                if link.has_reply(timeout=min(left, LONGEST_SLEEP)):
                    link.read()
            _unsubscribe(link, len(channels))
        return found

    def _final(self, keys: Sequence[str]) -> dict[str, Record]:
        return {key: record for key, record in self._read(keys, timed=True).items() if record.final}

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Remove records."""
        names = [self._keys.record(key) for key in dict.fromkeys(keys)]
        if not names:
            return 0
        parts = [[name] for name in names] if self._engine.cluster else [names]
        if expect is None and not any(map(self._keys.listed, keys)):
            calls = [RedisCall(part[0], ("UNLINK", *part)) for part in parts]
        else:
            place = (len(self._keys.record("")), int(self._engine.cluster))
            calls = [run("delete", part, (-1 if expect is None else expect, *place)) for part in parts]
        return sum(self._server.call(calls, again=False))

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records whose key starts with *prefix*, unsorted.

        This scans the keys of one kind, e.g. ``worker:``; on a Cluster, and for results, all keys of the server.
        """
        nodes = self._server.nodes()
        node, position, names = _read_cursor(cursor)
        listed = self._keys.listed(prefix)
        start = "" if listed else self._keys.record("")
        pattern = _GLOB.sub(r"\\\1", start + prefix) + "*"
        scanned = ("SCAN",) if listed is None else ("ZSCAN", listed)
        while len(names) < limit and node < len(nodes):
            (reply,) = self._server.call_node(nodes[node], [(*scanned, position, "MATCH", pattern, "COUNT", _PART)])
            position = int(reply[0])
            found = reply[1] if listed is None else reply[1][::2]
            names += [name.decode(errors="backslashreplace")[len(start) :] for name in found]
            node += position == 0
        names = list(dict.fromkeys(names))
        part, rest = names[:limit], names[limit:]
        following = json.dumps([node, position, rest]) if rest or node < len(nodes) else None
        return Page(items=tuple(self._read(part, timed=True).values()), cursor=following)

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* into *group*."""
        call = run("join", [self._keys.group(group)], (member, milliseconds(ttl)))
        first, count = self._server.one(call, again=False)
        return first == 1, count

    def now(self) -> float | None:
        """Return the server's time, in UTC epoch seconds; one round trip."""
        (reply,) = self._server.call([RedisCall(self._keys.record(""), ("TIME",))], again=True)
        return int(reply[0]) + int(reply[1]) / 1e6

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count members into their groups, in one round trip."""
        arrivals: dict[str, list[Any]] = {}
        for one in joins:
            arrivals.setdefault(one.group, [milliseconds(one.ttl)]).append(one.member)
        calls = [run("join_many", [self._keys.group(group)], arguments) for group, arguments in arrivals.items()]
        # Counting a member twice adds nothing, so the call may be repeated.
        counts = dict(zip(arrivals, self._server.call(calls, again=True), strict=True)) if calls else {}
        return [counts[one.group] for one in joins]

    def check(self) -> list[str]:
        """Return the problems of the server that may lose or refuse data."""
        return check(self._engine)

    def close(self) -> None:
        """Close all connections."""
        self._server.close()


def _subscribe(link: Link, channels: Sequence[str]) -> bool:
    """Subscribe to *channels* before records are read; return false if this user may not."""
    link.send(("SUBSCRIBE", *channels))
    first = link.answer()
    if isinstance(first, NoPermissionError):
        return False
    if isinstance(first, ResponseError):
        raise first
    for _ in channels[1:]:
        link.read()
    return True


def _unsubscribe(link: Link, count: int) -> None:
    """Unsubscribe, so that the connection can be used for something else."""
    link.send(("UNSUBSCRIBE",))
    while count > 0:
        count -= link.read()[0] == b"unsubscribe"


def _read_cursor(cursor: str | None) -> tuple[int, int, list[str]]:
    """Return the node, the position in its scan, and the keys that were found but not returned yet."""
    if cursor is None:
        return 0, 0, []
    node, position, names = json.loads(cursor)
    return node, position, names
