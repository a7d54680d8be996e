"""Count messages from the keys of indexes, with a bound on the work.

A look reads the first keys of all queues, in the order of their names: mostly these are all. The queue in which a look
ends is counted by itself, faster by key, and the next look begins behind it. A number is a lower bound beyond
:data:`COUNTED` messages of a place, and where the server takes too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.min_key import MinKey
from pymongo.errors import PyMongoError

from queuekit.broker import Place, QueueCounts
from queuekit.timelimit import time_limit
from queuekit_mongo.engine import Engine
from queuekit_mongo.layout import BACK, DEAD, DELAYED, DELAYED_ORDER, IS_DELAYABLE, LEASED, WAITING, Doc, at, moment

__all__ = ["counts"]

LOOKED_AT = 10_000
"""Keys of each index that a look reads."""
COUNTED = 1_000_000
"""Most messages of a place to count."""
PATIENCE = 2.0
"""Seconds that the server may count the messages of one place."""
_UNKNOWN = QueueCounts(at_least=frozenset(Place))
_HAS_PLACE: Doc = {"until": {"$gte": MinKey()}}
"""As :data:`~queuekit_mongo.layout.HAS_PLACE`, which makes the server read documents: "exists" is not in the index."""
_IS_LATER = {"$and": [{"$eq": [{"$type": "$due"}, "date"]}, {"$gt": ["$due", "$$NOW"]}]}


def counts(engine: Engine, names: Sequence[str]) -> dict[str, QueueCounts]:
    """Return the number of messages by queue and place; in one round trip, unless a queue is long."""
    found: dict[str, QueueCounts] = {}
    left = sorted(names)
    while left:
        try:
            seen, end = _look(engine, left)
        except PyMongoError:
            if not found:
                raise
            break
        found |= {name: seen.get(name, QueueCounts()) for name in left if end is None or name < end}
        if end is not None:
            found[end] = _count_alone(engine, end)
        left = [name for name in left if end is not None and name > end]
    return {name: found.get(name, _UNKNOWN) for name in names}


def _look(engine: Engine, names: Sequence[str]) -> tuple[dict[str, QueueCounts], str | None]:
    """Return the counts of *names* from the first keys, and the queue in which those end; ``None`` if they are all."""
    wanted = {"$in": list(names)}
    first: list[Doc] = [{"$sort": {"queue": 1}}, {"$limit": LOOKED_AT}]
    waiting = [{"$match": {"queue": wanted, "state": WAITING}}, *first]
    held = [{"$match": {"queue": wanted, "state": {"$in": [LEASED, DEAD, DELAYED]}, **_HAS_PLACE}}, *first]
    others = {"coll": engine.messages.name, "pipeline": [*held, _by("$state", part="held")]}
    place = {"$cond": [_IS_LATER, DELAYED, "ready"]}
    by_place = _by(place, part="waiting", oldest={"$min": {"$ifNull": ["$due_at", "$due"]}})
    rows = list(engine.messages.aggregate([*waiting, by_place, {"$unionWith": others}]))
    now = engine.time.earliest()
    fields: dict[str, dict[str, Any]] = {}
    read: dict[str, int] = {}
    last: dict[str, str] = {}
    for row in rows:
        queue, place, part = (row["_id"][name] for name in ("queue", "place", "part"))
        read[part] = read.get(part, 0) + row["count"]
        if not isinstance(queue, str):
            continue  # a foreign document: a list that contains one of the names matches, too
        last[part] = max(queue, last.get(part, ""))
        of_queue = fields.setdefault(queue, {})
        of_queue[place] = of_queue.get(place, 0) + row["count"]
        if place == "ready" and isinstance(row["oldest"], DatetimeMS):
            of_queue["oldest_age"] = max(0.0, now - at(row["oldest"]))
    ends = [last.get(part, names[0]) for part, count in read.items() if count >= LOOKED_AT]
    return {queue: QueueCounts(**each) for queue, each in fields.items()}, min(ends, default=None)


def _by(place: Any, *, part: str, **more: Doc) -> Doc:
    id = {"queue": "$queue", "place": place, "part": {"$literal": part}}
    return {"$group": {"_id": id, "count": {"$sum": 1}, **more}}


def _count_alone(engine: Engine, queue: str) -> QueueCounts:
    """Return the counts of a long *queue*; in lanes, the oldest message is that of the first ones."""
    seen = _UNKNOWN
    with suppress(PyMongoError):
        seen = _look(engine, [queue])[0].get(queue, QueueCounts())
    waiting: Doc = {"queue": queue, "state": WAITING}
    latest = moment(engine.time.latest())
    all_waiting, is_all = _count(engine, waiting)
    later, is_later = _count(engine, waiting | IS_DELAYABLE | {"due": {"$gt": latest}})
    held = {state: _count(engine, {"queue": queue, "state": state, **_HAS_PLACE}) for state in (LEASED, DEAD, DELAYED)}
    in_lanes, is_in_lanes = held[DELAYED]
    counted = {
        Place.READY: (max(0, all_waiting - later) if is_later else 0, is_all and is_later),
        Place.DELAYED: (later + in_lanes, is_later and is_in_lanes),
        Place.LEASED: held[LEASED],
        Place.DEAD: held[DEAD],
    }
    return QueueCounts(
        **{name: number if exact else max(number, getattr(seen, name)) for name, (number, exact) in counted.items()},
        oldest_age=_oldest(engine, waiting | {"due": {"$gt": BACK, "$lte": latest}}, seen),
        at_least=frozenset(place for place, (_, exact) in counted.items() if not exact),
    )


def _count(engine: Engine, wanted: Doc) -> tuple[int, bool]:
    """Return the number of *wanted* messages, and whether it is exact; else it is a lower bound."""
    command = {"count": engine.messages.name, "query": wanted, "limit": COUNTED}
    try:
        with time_limit(PATIENCE):
            number = int(engine.database().command(command)["n"])
    except PyMongoError:
        return 0, False
    return number, number < COUNTED


def _oldest(engine: Engine, ready: Doc, seen: QueueCounts) -> float | None:
    """Return the age of the oldest message: that of *ready* ones without a lane, or the oldest *seen*."""
    with suppress(PyMongoError):
        first = engine.messages.find_one(ready | IS_DELAYABLE, {"due": True, "_id": False}, sort=DELAYED_ORDER)
        if first is not None:
            return max(seen.oldest_age or 0.0, engine.time.earliest() - at(first["due"]))
    return seen.oldest_age
