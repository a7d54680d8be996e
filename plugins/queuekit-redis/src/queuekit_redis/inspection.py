"""Show, replay and remove stored messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from queuekit.backend import Page
from queuekit.broker import Place, QueueCounts, Stored
from queuekit.timelimit import made_progress
from queuekit_redis.encoding import micros, read_stored
from queuekit_redis.engine import Engine
from queuekit_redis.server import RedisCall, run

__all__ = ["counts", "dead_beyond", "find", "peek", "purge", "queues", "remove", "requeue", "search"]

PART = 500
"""Most messages that one step reads or changes."""
_FIELDS = 6
_ANY_BYTES = ("utf-8", "surrogateescape")
"""Codec of cursors, which hold ids that may not be text."""


def queues(engine: Engine) -> list[str]:
    """Return the names of all queues, sorted."""
    names = engine.server.one(RedisCall(engine.keys.queues, ("SMEMBERS", engine.keys.queues)), again=True)
    return sorted(name.decode(errors="backslashreplace") for name in names)


def counts(engine: Engine, names: Sequence[str]) -> dict[str, QueueCounts]:
    """Return the counts of each queue."""
    replies = engine.server.call([run("counts", [engine.keys.queue(name)], ()) for name in names], again=True)
    return {name: _counts(reply) for name, reply in zip(names, replies, strict=True)}


def _counts(reply: Sequence[Any]) -> QueueCounts:
    ready, delayed, leased, dead, oldest = reply
    age = float(oldest) / 1e6 if oldest else None
    return QueueCounts(ready=ready, delayed=delayed, leased=leased, dead=dead, oldest_age=age)


def peek(engine: Engine, queue: str, *, place: Place, limit: int, cursor: str | None) -> Page[Stored]:
    """Return messages of *queue* in *place*."""
    call = run("peek", [engine.keys.queue(queue)], (place.value, limit, (cursor or "").encode(*_ANY_BYTES)))
    following, shown = engine.server.one(call, again=True)
    items = tuple(read_stored(queue, place, part) for part in _parts(shown))
    return Page(items=items, cursor=following.decode(*_ANY_BYTES) or None)


def find(engine: Engine, queue: str, ids: Sequence[str]) -> list[Stored]:
    """Return those of *ids* that *queue* holds."""
    found: list[Stored] = []
    for part in _portions(list(dict.fromkeys(ids))):
        places, shown = engine.server.one(run("find", [engine.keys.queue(queue)], part), again=True)
        for place, fields in zip(places, _parts(shown), strict=True):
            found.append(read_stored(queue, Place(place.decode()), fields))
    return found


def search(engine: Engine, queues: Sequence[str], id: str) -> Stored | None:
    """Return the message from the first of *queues* that holds it; ask for all of them in one round trip."""
    calls = [run("find", [engine.keys.queue(queue)], [id]) for queue in queues]
    replies = engine.server.call(calls, again=True) if calls else []
    for queue, (places, shown) in zip(queues, replies, strict=True):
        for place, fields in zip(places, _parts(shown), strict=True):
            return read_stored(queue, Place(place.decode()), fields)
    return None


def dead_beyond(engine: Engine, queue: str, *, count: int | None, before: float | None, limit: int) -> list[str]:
    """Return the ids of dead letters beyond the bounds, oldest first."""
    dead = f"{engine.keys.queue(queue)}:dead"
    ranges: list[tuple[Any, ...]] = []
    if count is not None:
        ranges.append(("ZRANGE", dead, 0, -count - 1))
    if before is not None:
        ranges.append(("ZRANGEBYSCORE", dead, "-inf", f"({micros(before):.0f}", "LIMIT", 0, limit))
    found = [_ids(engine.server.one(RedisCall(dead, words), again=True)) for words in ranges]
    return list(dict.fromkeys(id for ids in found for id in ids))[:limit]


def remove(engine: Engine, queue: str, ids: Sequence[str], places: Iterable[Place]) -> list[str]:
    """Remove those of *ids* that are in one of *places*."""
    removed: list[str] = []
    for part in _portions(list(dict.fromkeys(ids))):
        removed += _take_out(engine, queue, places, part)
    return removed


def purge(engine: Engine, queue: str, place: Place) -> int:
    """Remove all messages in *place*; those that arrive meanwhile may stay."""
    left, purged = getattr(counts(engine, [queue])[queue], place.value), 0
    while left > 0:
        taken = len(_take_out(engine, queue, [place], []))
        purged += taken
        left -= PART
    return purged


def _take_out(engine: Engine, queue: str, places: Iterable[Place], ids: Sequence[str]) -> list[str]:
    names = ",".join(place.value for place in places)
    window = round(engine.options.dedup_window)
    arguments = (engine.keys.unique(queue), window, names, PART, *ids)
    removed = _ids(engine.server.one(run("remove", [engine.keys.queue(queue)], arguments), again=False))
    made_progress()
    return removed


def requeue(engine: Engine, queue: str, ids: Sequence[str] | None) -> list[str]:
    """Replay all current dead letters, or *ids*."""
    keys, unique = [engine.keys.queue(queue)], engine.keys.unique(queue)
    replayed: list[str] = []
    if ids is not None:
        for part in _portions(list(dict.fromkeys(ids))):
            replayed += _ids(engine.server.one(run("requeue", keys, (unique, PART, *part)), again=False))
            made_progress()
        return replayed
    for _ in range(0, counts(engine, [queue])[queue].dead, PART):
        replayed += _ids(engine.server.one(run("requeue", keys, (unique, PART)), again=False))
        made_progress()
    return replayed


def _ids(reply: Iterable[bytes]) -> list[str]:
    return [id.decode(errors="backslashreplace") for id in reply]


def _parts(flat: Sequence[Any]) -> list[Sequence[Any]]:
    return [flat[start : start + _FIELDS] for start in range(0, len(flat), _FIELDS)]


def _portions(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + PART] for start in range(0, len(ids), PART)]
