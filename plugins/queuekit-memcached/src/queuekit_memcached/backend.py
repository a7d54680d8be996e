"""The result backend of ``memcache://`` and its variants."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random

from queuekit.backend import Backend, Condition, Join, Page, Record
from queuekit.clock import Clock
from queuekit.errors import CapabilityError, TooLargeError, UnavailableError
from queuekit.rounds import in_rounds
from queuekit.timelimit import time_left
from queuekit.urls import EngineURL
from queuekit_memcached import protocol
from queuekit_memcached.capabilities import BACKEND_CAPABILITIES, limits_of
from queuekit_memcached.checks import check
from queuekit_memcached.connection import RunningServer
from queuekit_memcached.encoding import (
    FINAL,
    group_key,
    life_of,
    pack_group,
    pack_record,
    read_group,
    read_record,
    record_key,
)
from queuekit_memcached.options import MemcachedOptions
from queuekit_memcached.servers import AHEAD, Answer, Servers
from queuekit_memcached.urls import read_target

__all__ = ["MemcachedBackend"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
"""First and longest seconds between two polls of ``wait``."""
_LONGEST_RETRY = 0.05
"""Longest seconds before a write that another client has forestalled is tried again."""


class MemcachedBackend(Backend):
    """Records on Memcached servers; see :class:`~queuekit.backend.Backend` for the methods.

    The version of a record is the CAS of its item, behind the time at which its server was started: CAS numbers begin
    anew with each start.

    Args:
        url: Names the servers; each key belongs to one of them.
        options: Options of the connections and the stored data.
        clock: Not used: the servers' clocks decide (QK11).
        random: Spreads the retries of clients that change the same group.
    """

    capabilities = BACKEND_CAPABILITIES

    def __init__(
        self,
        url: EngineURL,
        *,
        options: MemcachedOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._url = url
        self._options = options or MemcachedOptions()
        self._target = read_target(url)
        self._servers = Servers(url, self._target, self._options)
        self._random = random or Random()  # noqa: S311 - not a secret
        self.limits = limits_of(self._options.max_item_bytes)

    # -- records

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write the *records* that *condition* and *expect* allow."""
        self.check_sizes(records)
        values = [pack_record(record) for record in records]
        if condition is Condition.SAME:
            return self._write(records, values, [record.version for record in records])
        if condition is Condition.ALWAYS:
            return self._write(records, values, [expect] * len(records))
        written = [False] * len(records)
        for places in in_rounds([record.key for record in records]):
            here = [records[place] for place in places]
            answers = self._put_checked(here, [values[place] for place in places], condition, expect)
            for place, answer in zip(places, answers, strict=True):
                written[place] = answer
        return written

    def _write(self, records: Sequence[Record], values: Sequence[bytes], versions: Sequence[int | None]) -> list[bool]:
        """Write records over the given versions: 0 for no record, ``None`` for any or none."""

        def make(place: int, server: RunningServer) -> bytes | None:
            version = versions[place]
            cas = server.cas(version) if version else version
            if version and cas is None:
                return None  # written before the server was restarted, and lost since
            record = records[place]
            return protocol.store(
                keys[place],
                values[place],
                life=life_of(record.ttl, now=server.now()),
                flags=FINAL if record.final else 0,
                cas=cas,
            )

        keys = self._keys([record.key for record in records])
        return [answer is not None and answer.reply.code == b"HD" for answer in self._servers.ask(keys, make)]

    def _put_checked(
        self, records: Sequence[Record], values: Sequence[bytes], condition: Condition, expect: int | None
    ) -> list[bool]:
        """Read the live records, and write over those that *condition* and *expect* allow; each key occurs once."""
        written = [False] * len(records)
        waiting = list(range(len(records)))
        for _ in self._tries(f"record {records[0].key}"):
            live = self.get([records[place].key for place in waiting])
            allowed = [place for place in waiting if _may_write(records[place], live, condition, expect)]
            chosen = [records[place] for place in allowed]
            versions = [live[record.key].version if record.key in live else 0 for record in chosen]
            answers = self._write(chosen, [values[place] for place in allowed], versions)
            for place, done in zip(allowed, answers, strict=True):
                written[place] = done
            waiting = [place for place in allowed if not written[place]]
            if not waiting:
                break
        return written

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys*."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Record] = {}
        for key, answer in zip(wanted, self._fetch(self._keys(wanted)), strict=True):
            reply = answer.reply
            if reply.code == b"VA":
                version = answer.server.version(reply.cas)
                found[key] = read_record(key, reply.value, version=version, left=reply.left)
        return found

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Poll, with growing pauses, for a final record under one of *keys*."""
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        wanted = list(dict.fromkeys(keys))
        stored = self._keys(wanted)
        while True:
            answers = self._servers.ask(stored, lambda place, _: protocol.look(stored[place]), ahead=AHEAD)
            final = [key for key, answer in zip(wanted, answers, strict=True) if answer and answer.reply.flags & FINAL]
            found = {key: record for key, record in self.get(final).items() if record.final} if final else {}
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(left, pause))
            pause = min(_LONGEST_PAUSE, pause * 1.3)

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Remove records."""

        def make(place: int, server: RunningServer) -> bytes | None:
            if expect is None:
                return protocol.delete(stored[place])
            cas = server.cas(expect)
            return None if cas is None else protocol.delete(stored[place], cas=cas)

        stored = self._keys(dict.fromkeys(keys))
        answers = self._servers.ask(stored, make)
        return sum(answer is not None and answer.reply.code == b"HD" for answer in answers)

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Raise an error: Memcached cannot list its keys."""
        raise CapabilityError(f"{self._url.scheme}:// cannot list records", fix="Use another result backend")

    # -- groups

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* into *group*, a bit of one item, which is written over the version that was read."""
        before = self._arrive({group: 1 << self._member(group, member)}, {group: ttl})[group]
        after = before | 1 << member
        return before != after, after.bit_count()

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count members into their groups, with two round trips for all of them if no other client joins meanwhile."""
        arrivals: dict[str, int] = {}
        for one in joins:
            arrivals[one.group] = arrivals.get(one.group, 0) | 1 << self._member(one.group, one.member)
        before = self._arrive(arrivals, {one.group: one.ttl for one in joins})
        return [(before[one.group] | arrivals[one.group]).bit_count() for one in joins]

    def _member(self, group: str, member: int) -> int:
        """Return *member*, if the item of a group has room for its bit.

        Raises:
            TooLargeError: It has not.
        """
        most = 8 * self.limits.max_record
        if member >= most:
            raise TooLargeError(f"group {group} has a member {member:,}; one item holds {most:,} of them")
        return member

    def _arrive(self, arrivals: dict[str, int], ttls: dict[str, float]) -> dict[str, int]:
        """Add members to groups and return the members that each had before."""
        before: dict[str, int] = {}
        waiting = list(arrivals)
        for _ in self._tries(f"group {waiting[0]}" if waiting else "no group"):
            keys = [group_key(self._options.prefix, group) for group in waiting]
            read = [self._members(answer) for answer in self._fetch(keys)]
            done = self._write_groups(keys, [(arrivals[group], ttls[group]) for group in waiting], read)
            before |= {group: had for group, (had, _), ok in zip(waiting, read, done, strict=True) if ok}
            waiting = [group for group, ok in zip(waiting, done, strict=True) if not ok]
            if not waiting:
                break
        return before

    def _members(self, answer: Answer) -> tuple[int, int]:
        """Return the members of a group, and its version; 0 and 0 if there is none."""
        reply = answer.reply
        if reply.code != b"VA":
            return 0, 0
        return read_group(reply.value), answer.server.version(reply.cas)

    def _write_groups(
        self, keys: Sequence[bytes], joining: Sequence[tuple[int, float]], read: Sequence[tuple[int, int]]
    ) -> list[bool]:
        """Write the members that were *read* and those *joining*, each over its version; return what was written."""

        def make(place: int, server: RunningServer) -> bytes | None:
            (members, ttl), (had, version) = joining[place], read[place]
            cas = server.cas(version) if version else 0
            if cas is None:
                return None
            value = pack_group(had | members)
            return protocol.store(keys[place], value, life=life_of(ttl, now=server.now()), cas=cas)

        return [answer is not None and answer.reply.code == b"HD" for answer in self._servers.ask(keys, make)]

    # -- other methods

    def _keys(self, keys: Iterable[str]) -> list[bytes]:
        return [record_key(self._options.prefix, key) for key in keys]

    def _fetch(self, keys: Sequence[bytes]) -> list[Answer]:
        """Get values."""
        answers = self._servers.ask(keys, lambda place, _: protocol.fetch(keys[place]), ahead=AHEAD)
        return [answer for answer in answers if answer is not None]

    def _tries(self, what: str) -> Iterator[None]:
        """Yield before each try to change *what*, with growing pauses, as long as a call may take.

        Raises:
            UnavailableError: Others were faster each time.
        """
        end = time.monotonic() + time_left(self._options.timeout)
        pause = 0.001
        while True:
            yield
            if time.monotonic() >= end:
                raise UnavailableError(f"other clients of {self._url} keep changing {what}")
            time.sleep(self._random.uniform(0.0, pause))
            pause = min(_LONGEST_RETRY, 2 * pause)

    def now(self) -> float | None:
        """Return the time of the first server, in whole UTC epoch seconds."""
        return self._servers.now()

    def check(self) -> list[str]:
        """Return what an operator should know: evictions, and TLS options that have no effect."""
        return check(self._servers, self._target, self._options)

    def notes(self) -> list[str]:
        """Return that records may be forgotten."""
        return ["Memcached forgets records that it has no room for, and all of them when it restarts"]

    def close(self) -> None:
        """Close all connections."""
        self._servers.close()


def _may_write(record: Record, live: Mapping[str, Record], condition: Condition, expect: int | None) -> bool:
    """Return whether *condition* and *expect* allow to write *record* over the *live* one."""
    there = live.get(record.key)
    if expect is not None and expect != (0 if there is None else there.version):
        return False
    return there is None or (condition is Condition.NEWER and record.rank > there.rank)
