"""The result backend of ``dynamodb://`` and its variants."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

from queuekit.backend import Backend, Condition, Join, Page, Record
from queuekit.clock import Clock, SystemClock
from queuekit.errors import UnavailableError
from queuekit.forks import renew_in_forks
from queuekit.urls import EngineURL
from queuekit_sqs import items
from queuekit_sqs.capabilities import BACKEND_CAPABILITIES, BACKEND_LIMITS
from queuekit_sqs.failures import code_of
from queuekit_sqs.items import KINDS, Item, Stamp, is_live, key_of, kind_of, partition, read_record
from queuekit_sqs.options import DynamoOptions
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.servertime import ServerTime
from queuekit_sqs.service import Service, Settings
from queuekit_sqs.table import Table
from queuekit_sqs.urls import read_target

__all__ = ["DynamoBackend"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
"""First and longest seconds between two polls of ``wait``; they grow, since each poll costs a request."""
_JOIN_TRIES = 8


class DynamoBackend(Backend):
    """Records in one table of DynamoDB; see :class:`~queuekit.backend.Backend` for the methods.

    Args:
        url: Region, and prefix of the table's name.
        options: Options of the requests and the table.
        clock: The local clock; the service's is estimated from its replies.
        random: Adds jitter to pauses.
    """

    capabilities = BACKEND_CAPABILITIES
    limits = BACKEND_LIMITS

    def __init__(
        self,
        url: EngineURL,
        *,
        options: DynamoOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        options = options or DynamoOptions()
        target = read_target(url, options)
        self._random = random or Random()  # noqa: S311 - not a secret
        self._time = ServerTime(clock or SystemClock())
        self._shards = options.shards
        self._pool = RequestPool(options.connections, name="queuekit-dynamodb")
        settings = Settings(
            connections=options.connections,
            timeout=options.timeout,
            connect_timeout=options.connect_timeout,
            tls=options,
        )
        self._service = Service("dynamodb", url, target=target, settings=settings, time=self._time, random=self._random)
        name = f"{target.prefix}-records" if target.prefix else "queuekit-records"
        self._table = Table(self._service, name, create=options.create, pool=self._pool, random=self._random)
        self._kinds: set[str] = set()
        self.renew_in_fork()
        renew_in_forks(self)
        self._version = 0

    def renew_in_fork(self) -> None:
        """Create a new lock: another thread of the parent may hold the old one."""
        self._lock = threading.Lock()

    # -- records

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write the *records* that *condition* and *expect* allow."""
        self.check_sizes(records)
        self._note({kind_of(record.key) for record in records})
        now = self._time.now()
        return self._table.write(
            [items.put(record, condition, expect, stamp=self._stamp(now), shards=self._shards) for record in records]
        )

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys*."""
        found = self._table.read([key_of(key, self._shards) for key in dict.fromkeys(keys)])
        now = self._time.now()
        return {item["sk"]["S"]: read_record(item, now) for item in found if is_live(item, now)}

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Poll, with growing pauses, for a final record under one of *keys*."""
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        while True:
            final = {key: record for key, record in self.get(keys).items() if record.final}
            left = deadline - time.monotonic()
            if final or left <= 0:
                return final
            time.sleep(min(left, pause))
            pause = min(_LONGEST_PAUSE, pause * 1.3)

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Remove records."""
        now = self._time.now()
        removals = [items.delete(key, expect, now=now, shards=self._shards) for key in dict.fromkeys(keys)]
        return sum(self._table.write(removals))

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records whose key starts with *prefix*, shard by shard, by queries only."""
        parts = self._partitions(prefix)
        part, after = json.loads(cursor) if cursor else ("", "")
        start = parts.index(part) if part in parts else 0
        now = self._time.now()
        found: list[Record] = []
        for part in parts[start:]:
            while True:
                rows, more = self._query(part, prefix, after, limit - len(found))
                found += [read_record(row, now) for row in rows if is_live(row, now)]
                after = rows[-1]["sk"]["S"] if rows else after
                if len(found) >= limit:
                    return Page(items=tuple(found), cursor=json.dumps([part, after]))
                if not more:
                    break
            after = ""
        return Page(items=tuple(found))

    # -- groups

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* into *group*, a set of numbers in one item, in one step."""
        before = self._arrive(group, {str(member)}, ttl)
        return str(member) not in before, len(before | {str(member)})

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count members into their groups, by parallel requests, one for each group."""
        arrivals: dict[str, set[str]] = {}
        for one in joins:
            arrivals.setdefault(one.group, set()).add(str(one.member))
        ttls = {one.group: one.ttl for one in joins}
        calls = [partial(self._arrive, group, members, ttls[group]) for group, members in arrivals.items()]
        before = dict(zip(arrivals, self._pool.map(calls), strict=True))
        return [len(before[one.group] | arrivals[one.group]) for one in joins]

    def _arrive(self, group: str, members: set[str], ttl: float) -> set[str]:
        """Add *members* to a group and return the earlier members."""
        for _ in range(_JOIN_TRIES):
            now = self._time.now()
            for live in (True, False):
                before = self._join(group, members, now=now, until=now + ttl, live=live)
                if before is not None:
                    return before
        raise UnavailableError(f"other clients keep changing group {group!r}")

    def _join(self, group: str, members: set[str], *, now: float, until: float, live: bool) -> set[str] | None:
        """Add *members* to a live group, or replace an expired one, according to *live*.

        Returns:
            The earlier members; ``None`` if the group is not in the state that *live* says.
        """
        verb = "ADD group_members :members SET" if live else "SET group_members = :members,"
        test = "attribute_not_exists(live_until) OR live_until > :now" if live else "live_until <= :now"
        try:
            reply = self._table.call(
                "update_item",
                TableName=self._table.name,
                Key=items.group_key(group),
                UpdateExpression=f"{verb} live_until = :until, expires_at = :expires",
                ConditionExpression=test,
                ExpressionAttributeValues={
                    ":members": {"NS": sorted(members)},
                    ":until": items.number(until),
                    ":expires": {"N": str(int(until) + 1)},
                    ":now": items.number(now),
                },
                ReturnValues="ALL_OLD",
            )
        except UnavailableError as error:
            if error.__cause__ is None or code_of(error.__cause__) != "ConditionalCheckFailedException":
                raise
            return None
        old: dict[str, Any] = reply.get("Attributes", {}) if live else {}
        return set(old.get("group_members", {}).get("NS", ()))

    # -- other methods

    def now(self) -> float | None:
        """Return the service's time in UTC epoch seconds, as estimated from its replies."""
        return self._time.now()

    def check(self) -> list[str]:
        """Return a line if DynamoDB does not remove expired records."""
        try:
            if self._table.expires():
                return []
        except UnavailableError as error:
            return [error.what]
        return [f"time to live is off in {self._table.name}, so expired records pile up. Turn it on for 'expires_at'"]

    def notes(self) -> list[str]:
        """Return the cost of results."""
        return ["0.1 requests per task in bulk, 3 for a single task"]

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        self._service.close()

    def _partitions(self, prefix: str) -> list[str]:
        """Return the partitions that may hold keys with *prefix*."""
        if ":" in prefix:
            kinds = [kind_of(prefix)]
        else:
            rows: list[Item] = []
            more = True
            while more:
                after = rows[-1]["sk"]["S"] if rows else ""
                found, more = self._query(KINDS, prefix, after, 1_000)
                rows += found
            kinds = ["", *(row["sk"]["S"] for row in rows)]
        return [partition(kind, shard) for kind in kinds for shard in range(self._shards)]

    def _query(self, part: str, prefix: str, after: str, limit: int) -> tuple[list[Item], bool]:
        """Return items of a partition after *after* whose key begins with *prefix*, and whether there are more."""
        start = {"ExclusiveStartKey": {"pk": {"S": part}, "sk": {"S": after}}} if after else {}
        begins = " AND begins_with(sk, :prefix)" if prefix else ""
        values = {":pk": {"S": part}} | ({":prefix": {"S": prefix}} if prefix else {})
        reply = self._table.call(
            "query",
            TableName=self._table.name,
            KeyConditionExpression=f"pk = :pk{begins}",
            ExpressionAttributeValues=values,
            Limit=max(1, limit),
            ConsistentRead=True,
            **start,
        )
        return reply.get("Items", []), "LastEvaluatedKey" in reply

    def _note(self, kinds: set[str]) -> None:
        """Store kinds that are new to this client, for scans whose prefix is shorter than a kind."""
        for kind in kinds - self._kinds - {""}:
            key = {"pk": {"S": KINDS}, "sk": {"S": kind}}
            self._table.call("put_item", TableName=self._table.name, Item=key)
            self._kinds.add(kind)

    def _stamp(self, now: float) -> Stamp:
        """Return the identity of a write; its version is the time in microseconds, or the last version plus one.

        The writer does not come from a Random, whose numbers a fork would repeat.
        """
        with self._lock:
            self._version = max(self._version + 1, int(now * 1e6))
            return Stamp(now=now, version=self._version, writer=os.urandom(8).hex())
