"""The order of lanes: gives each message that becomes ready a tag, by which the messages of a priority are sorted.

A tag is stored in ``due``, as a timestamp. Timestamps sort behind all dates, so index and claim are as without lanes,
and messages without a lane come first. A message whose delay has not passed is in the state ``delayed``, where no claim
finds it, until the upkeep gives it a tag. One that comes back after a claim gets the date ``BACK``, and is before all
others of its priority.

The last tag of each lane is a document of the collection ``lanes``. It is written before the messages are, in one call
for all lanes of a batch. A sender that dies in between leaves a gap in the order, and nothing else. Messages that are
refused give their turns back, or a lane that repeats itself would fall behind the others: the lane is owed these turns,
and its next messages do not move it on for as many. The time of all lanes is read off the first tagged message; if none
is ready, it is the last tag of any lane. The upkeep removes lanes whose last tags it has passed.

Source:
    P. Goyal, H. Vin, H. Cheng, "Start-time fair queueing", 1996; S. Golestani, "A self-clocked fair queueing scheme",
    1994: the clock is read off the messages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bson.int64 import Int64
from bson.timestamp import Timestamp
from pymongo import ASCENDING, DESCENDING, UpdateOne

from queuekit.envelope import TURN, Envelope, Lane
from queuekit_mongo.engine import Engine
from queuekit_mongo.layout import (
    DELAYED,
    WAITING,
    WHOLE,
    Doc,
    MalformedError,
    is_later,
    lane_of,
    message_id,
    moment,
    text,
    whole,
)

__all__ = ["Tags", "enter_again", "enter_sent", "give_back", "leave", "promote", "sweep"]

QUIET = 60.0
"""Seconds after the last change of a lane before it may be removed, longer than its messages take to be inserted."""
_HOLD = 10_000
"""Milliseconds after which another worker may promote messages that one has begun to promote."""
_LEVELS = 50
"""Most queues and priorities that one call reads the times of."""
_LATEST = 2**62
_TAGGED: Doc = {"$gte": Timestamp(0, 1)}

Tags = dict[str, Timestamp]
"""The tags of messages by their ``_id``."""


class _Entrant(NamedTuple):
    """A message that enters its lane."""

    level: str
    """Queue and priority, within which lanes take turns."""
    lane: Lane

    @property
    def name(self) -> str:
        """The ``_id`` of its lane."""
        return f"{self.level}/{text(self.lane.key)}"


def enter_sent(engine: Engine, envelopes: Sequence[Envelope], now: float) -> Tags:
    """Return the tags of those of *envelopes* that have a lane and are ready at *now*, in order."""
    some = {  # each once, as a message that is repeated within the batch is stored once
        message_id(one.queue, one.id): _Entrant(_level(one.queue, one.priority), one.lane)
        for one in envelopes
        if one.lane is not None and not is_later(one, now)
    }
    return _enter(engine, list(some), list(some.values()))


def enter_again(engine: Engine, docs: Sequence[Doc]) -> Tags:
    """Return the tags of stored messages that become ready, in order; malformed ones get none."""
    some = [(doc["_id"], one) for doc in docs if (one := _entrant(doc)) is not None]
    return _enter(engine, [id for id, _ in some], [one for _, one in some])


def give_back(engine: Engine, envelopes: Sequence[Envelope], tags: Tags) -> None:
    """Owe lanes the turns of those of *envelopes* that are not stored with their *tags*: they were refused."""
    if not tags:
        return
    found = engine.messages.find({"_id": {"$in": list(tags)}}, {"due": True})
    stored = {doc["_id"] for doc in found if doc.get("due") == tags[doc["_id"]]}
    absent: dict[str, _Entrant] = {}
    for one in envelopes:
        id = message_id(one.queue, one.id)
        if one.lane is not None and id in tags and id not in stored:
            absent[id] = _Entrant(_level(one.queue, one.priority), one.lane)
    owed: defaultdict[str, int] = defaultdict(int)
    for entrant in absent.values():
        owed[entrant.name] += entrant.lane.step
    if owed:
        more = {name: {"$set": {"owed": {"$add": [WHOLE("$owed"), Int64(step)]}}} for name, step in owed.items()}
        engine.lanes.bulk_write([UpdateOne({"_id": name}, [change]) for name, change in more.items()], ordered=False)


def leave(engine: Engine, docs: Sequence[Doc]) -> None:
    """Move lanes back whose last messages were *docs*, which are removed: nobody takes their turns."""
    turns: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for doc in docs:
        entrant, tag = _entrant(doc), doc.get("due")
        if entrant is not None and isinstance(tag, Timestamp):
            turns[entrant.name][_number(tag)] = entrant.lane.step
    moves: list[UpdateOne] = []
    for lane in engine.lanes.find({"_id": {"$in": list(turns)}}, {"tail": True}) if turns else ():
        steps, tail = turns[lane["_id"]], _bounded(lane.get("tail"))
        before = tail
        while tail in steps:
            tail -= steps[tail]
        if tail != before:
            moves.append(UpdateOne({"_id": lane["_id"], "tail": before}, {"$set": {"tail": Int64(tail)}}))
    if moves:
        engine.lanes.bulk_write(moves, ordered=False)


def promote(engine: Engine, ids: Sequence[Any]) -> int:
    """Let delayed messages whose time has come enter their lanes; return how many there were.

    First they are marked, so that no two workers move the lanes on for the same messages.
    """
    messages, mark = engine.messages, engine.new_mark()
    due = {"_id": {"$in": ids}, "state": DELAYED, "$expr": {"$lte": ["$until", "$$NOW"]}}
    hold: list[Doc] = [{"$set": {"claim": mark, "until": {"$add": ["$$NOW", _HOLD]}}}]
    engine.insist(lambda: messages.update_many(due, hold))
    mine = {"_id": {"$in": ids}, "state": DELAYED, "claim": mark}
    order = [("due", ASCENDING), ("seq", ASCENDING)]
    docs = list(messages.find(mine, {"queue": True, "priority": True, "lane": True}, sort=order))
    if not docs:
        return 0
    tags = enter_again(engine, docs)
    changes = [UpdateOne({"_id": doc["_id"], "state": DELAYED, "claim": mark}, _ready(doc, tags)) for doc in docs]
    engine.insist(lambda: messages.bulk_write(changes, ordered=False))
    return len(docs)


def sweep(engine: Engine, queues: Sequence[str], *, quiet: float = QUIET) -> bool:
    """Remove the lanes of *queues* that the time of all lanes has passed; return whether there were any lanes.

    Only lanes that nobody has entered for *quiet* seconds are removed: the messages of others may not be inserted yet.
    """
    names = [_level(queue, priority) for queue in queues for priority in range(10)]
    levels = engine.lanes.distinct("level", {"level": {"$in": names}})
    before = moment(engine.time.earliest() - quiet)
    for some in _parts(levels):
        passed = [
            {"level": level, "tail": {"$lte": Int64(time)}, "at": {"$lt": before}}
            for level, time in _Times(engine, some).starts.items()
        ]
        engine.lanes.delete_many({"$or": passed})
    return bool(levels)


def _ready(doc: Doc, tags: Tags) -> Doc:
    # A malformed message is ready, too: its claim dead-letters it.
    due = {"due": tags[doc["_id"]]} if doc["_id"] in tags else {}
    return {"$set": {"state": WAITING, **due}, "$unset": {"claim": True, "until": True}}


def _entrant(doc: Doc) -> _Entrant | None:
    queue, priority = doc.get("queue"), doc.get("priority")
    try:
        lane = lane_of(doc)
    except MalformedError:
        return None
    if lane is None or type(doc["_id"]) is not str or type(queue) is not str or type(priority) not in (int, Int64):
        return None
    return _Entrant(_level(queue, whole(priority)), lane)


def _enter(engine: Engine, ids: Sequence[str], entrants: Sequence[_Entrant]) -> Tags:
    """Move the lanes of *entrants* on, and return the tags of their messages *ids*."""
    steps: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in entrants:
        steps[one.level][one.name] += one.lane.step
    states: dict[str, _State] = {}
    for levels in _parts(list(steps)):
        some = {level: steps[level] for level in levels}
        states |= _move_on(engine, some)
    tags: Tags = {}
    for id, one in zip(ids, entrants, strict=True):
        states[one.name] = state = states[one.name].after(one.lane.step)
        end = min(state.tail, _LATEST)
        tags[id] = Timestamp(end >> 32, end & 0xFFFFFFFF)
    return tags


def _move_on(engine: Engine, steps: Mapping[str, Mapping[str, int]]) -> dict[str, _State]:
    """Move lanes on by their *steps*, and return where each of them was.

    A batch of one lane, as most have, learns that from the write itself. Others have read it before: if two senders do
    so at the same time, some of their messages share tags, but the lane has moved on for all of them.
    """
    names = [name for lanes in steps.values() for name in lanes]
    times = _Times(engine, list(steps), names)
    lanes = engine.lanes
    changes = {
        name: [{"$set": {"level": level, "at": "$$NOW", **_moved(times.starts[level], step)}}]
        for level, some in steps.items()
        for name, step in some.items()
    }
    if len(names) == 1:
        (name,) = names
        before = engine.insist(lambda: lanes.find_one_and_update({"_id": name}, changes[name], upsert=True))
        times.lanes[name] = _State.read(before or {})
    else:
        writes = [UpdateOne({"_id": name}, change, upsert=True) for name, change in changes.items()]
        engine.insist(lambda: lanes.bulk_write(writes, ordered=False))
    return {
        name: times.lanes.get(name, _State()).begun(times.starts[level])
        for level, some in steps.items()
        for name in some
    }


def _moved(start: int, step: int) -> Doc:
    """Return what a lane is after it has moved on by *step*, not from before *start*; as :class:`_State` says."""
    tail, begin = WHOLE("$tail"), Int64(start)
    owed = {"$cond": [{"$lt": [tail, begin]}, Int64(0), WHOLE("$owed")]}
    left = {"$subtract": [owed, Int64(step)]}
    return {
        "tail": {"$subtract": [{"$max": [tail, begin]}, {"$min": [left, Int64(0)]}]},
        "owed": {"$cond": [{"$gt": [left, Int64(0)]}, left, "$$REMOVE"]},
    }


class _State(NamedTuple):
    """Where a lane is."""

    tail: int = 0
    """Its last tag."""
    owed: int = 0
    """What its next messages need not move it on."""

    @classmethod
    def read(cls, doc: Doc) -> _State:
        """Return what a document, which may be a foreign one, says."""
        return cls(_bounded(doc.get("tail")), _bounded(doc.get("owed")))

    def begun(self, start: int) -> _State:
        """Return it where the time of all lanes is *start*: it keeps nothing of before that."""
        return self if self.tail >= start else _State(start)

    def after(self, step: int) -> _State:
        """Return it after a message of *step*."""
        left = self.owed - step
        return _State(self.tail - min(left, 0), max(left, 0))


class _Times:
    """The time of all lanes in each of *levels*, and where *lanes* are, read in one call."""

    def __init__(self, engine: Engine, levels: Sequence[str], lanes: Sequence[str] = ()) -> None:
        pipeline: list[Doc] = [{"$match": {"_id": {"$in": list(lanes)}}}, {"$project": {"tail": True, "owed": True}}]
        for level in levels:
            pipeline += [_union(engine.messages.name, _head(level)), _union(engine.lanes.name, _last(level))]
        self.lanes: dict[str, _State] = {}
        heads: dict[str, int] = {}
        lasts = dict.fromkeys(levels, 0)
        whole_reply = len(lanes) + 2 * len(levels) + 1
        for doc in engine.lanes.aggregate(pipeline, batchSize=whole_reply):
            if "head" in doc:
                heads[doc["_id"]] = _start(doc)
            elif "last" in doc:
                lasts[doc["_id"]] = _bounded(doc["last"])
            else:
                self.lanes[doc["_id"]] = _State.read(doc)
        self.starts = lasts | heads


def _union(collection: str, pipeline: Sequence[Doc]) -> Doc:
    return {"$unionWith": {"coll": collection, "pipeline": pipeline}}


def _head(level: str) -> list[Doc]:
    """Return the stages that find the first tagged message."""
    queue, _, priority = level.rpartition("/")
    return [
        {"$match": {"queue": queue, "state": WAITING, "priority": int(priority), "due": _TAGGED}},
        {"$sort": {"due": ASCENDING, "seq": ASCENDING}},
        {"$limit": 1},
        {"$project": {"_id": {"$literal": level}, "head": "$due", "weight": "$lane.weight"}},
    ]


def _last(level: str) -> list[Doc]:
    """Return the stages that find the last tag of any lane."""
    return [
        {"$match": {"level": level}},
        {"$sort": {"tail": DESCENDING}},
        {"$limit": 1},
        {"$project": {"_id": {"$literal": level}, "last": "$tail"}},
    ]


def _start(head: Doc) -> int:
    """Return where the share of the first message begins, but at most one turn before its tag."""
    tag: Timestamp = head["head"]
    weight = head.get("weight")
    step = Lane("", weight).step if isinstance(weight, int | float) and 0 < weight < TURN else TURN
    return max(0, _bounded(_number(tag)) - min(TURN, step))


def _number(tag: Timestamp) -> int:
    return tag.time << 32 | tag.inc


def _bounded(tag: object) -> int:
    return max(0, min(whole(tag), _LATEST))


def _level(queue: str, priority: int) -> str:
    return f"{queue}/{priority}"


def _parts(levels: Sequence[str]) -> Iterator[Sequence[str]]:
    return (levels[first : first + _LEVELS] for first in range(0, len(levels), _LEVELS))
