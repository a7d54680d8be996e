"""Apply settlements: the acks of one claim by one update, each other one by its own, in one round trip.

Each update is guarded by the claim (QK4) and stores a mark of this call in ``settled``. If the server matches all
documents, all leases were held. If not, or if the call is repeated after a lost reply, the marks show which ones were.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from bson.timestamp import Timestamp
from pymongo import UpdateMany, UpdateOne
from pymongo.client_session import ClientSession

from queuekit.broker import Ack, Dead, Delivery, Release, Replace, Settlement
from queuekit_mongo import lanes
from queuekit_mongo.engine import Engine
from queuekit_mongo.layout import (
    BACK,
    CLAIM_FIELDS,
    DEAD,
    DEAD_LETTERED_NOW,
    DELAYED,
    DONE,
    LEASED,
    WAITING,
    WHOLE,
    Doc,
    claim_of,
    fields_of,
    message_id,
    moment,
    task_of,
    text,
)

__all__ = ["NOW_DUE", "PUT_BACK", "carry_out", "gone", "kept_key"]

MAX_ERROR_CHARACTERS = 2_000
NOW_DUE: Doc = {"$not": [{"$and": [{"$eq": [{"$type": "$due"}, "date"]}, {"$gt": ["$due", "$$NOW"]}]}]}
"""Expression: the message is due on the server's clock, or its due time is not a time."""

PUT_BACK: Doc = {"$cond": [{"$eq": [{"$type": "$due"}, "timestamp"]}, BACK, "$due"]}
"""Expression: ``due`` of a message that comes back: its position in the queue, before all lanes if it was in one."""

Change = UpdateOne | UpdateMany
Fence = tuple[str, str]
"""The ``_id`` and ``claim`` that a document must have while a delivery holds it."""


def carry_out(engine: Engine, settlements: Sequence[Settlement], *, session: ClientSession | None = None) -> list[bool]:
    """Apply *settlements* and return whether the lease of each was held."""
    mark = engine.new_mark()
    fences = [fence_of(each.delivery) for each in settlements]
    first: dict[Fence, int] = {}
    for place, fence in enumerate(fences):
        first.setdefault(fence, place)
    chosen = {fence: settlements[place] for fence, place in first.items()}
    changes = _changes(engine, chosen, mark)
    if session is None:
        _end_abandoned_transactions(engine, settlements)

    def write() -> int:
        return engine.messages.bulk_write(changes, ordered=False, session=session).matched_count

    matched = write() if session is not None else engine.insist(write)
    held = set(chosen) if matched == len(chosen) else _marked(engine, chosen, mark, session)
    return [first[fence] == place and fence in held for place, fence in enumerate(fences)]


def _marked(engine: Engine, fences: Collection[Fence], mark: str, session: ClientSession | None) -> set[Fence]:
    """Return those of *fences* whose messages have the mark of this call."""
    wanted: Doc = {"_id": {"$in": [id for id, _ in fences]}, "settled": {"$exists": True}}
    marks = {(doc["_id"], doc["settled"]) for doc in engine.messages.find(wanted, {"settled": True}, session=session)}
    return {(id, claim) for id, claim in fences if (id, mark + claim) in marks}


def _end_abandoned_transactions(engine: Engine, settlements: Sequence[Settlement]) -> None:
    """End the transactions of dead holders whose messages another process releases."""
    ids = [fence_of(each.delivery)[0] for each in settlements if isinstance(each, Release) and each.counted]
    if ids:
        found = engine.messages.find({"_id": {"$in": ids}, "state": LEASED}, {"session": True})
        engine.kill_sessions(doc.get("session") for doc in found)


def fence_of(delivery: Delivery) -> Fence:
    """Return the ``_id`` and ``claim`` that a document must have while *delivery* holds it."""
    return message_id(delivery.envelope.queue, delivery.envelope.id), claim_of(delivery.token)


def _changes(engine: Engine, chosen: dict[Fence, Settlement], mark: str) -> list[Change]:
    changes: list[Change] = []
    acks: dict[str, list[str]] = {}
    now = engine.time.earliest()
    forget_at = moment(now + engine.options.dedup_window)
    tags = lanes.enter_sent(engine, [each.envelope for each in chosen.values() if isinstance(each, Replace)], now)
    for (id, claim), each in chosen.items():
        if isinstance(each, Ack) and each.delivery.envelope.unique is None:
            acks.setdefault(claim, []).append(id)
        else:
            changes.append(
                UpdateOne(_held(id, claim), _change(each, mark + claim, engine.options.dedup_window, tags.get(id)))
            )
    for claim, ids in acks.items():
        done: Doc = {
            "$set": {"state": DONE, "forget_at": forget_at, "settled": mark + claim},
            "$unset": dict.fromkeys(("body", *CLAIM_FIELDS), True),
        }
        changes.append(UpdateMany(_held({"$in": ids}, claim), done))
    return changes


def _held(id: Any, claim: str) -> Doc:
    return {"_id": id, "claim": claim, "state": LEASED}


def _change(settlement: Settlement, mark: str, window: float, tag: Timestamp | None) -> Any:
    if isinstance(settlement, Ack):
        return gone(window, mark)
    if isinstance(settlement, Release):
        return _release(settlement, mark)
    if isinstance(settlement, Replace):
        return _retry(settlement, mark, tag)
    return _dead_letter(settlement, mark)


def gone(window: float, mark: str) -> list[Doc]:
    """Return the update that ends a message: it keeps only the id, and the unique key while that is held."""
    forget_at = {"$add": ["$$NOW", int(window * 1000)]}
    return [
        {
            "$set": {
                "state": DONE,
                "settled": mark,
                "key": kept_key(),
                "forget_at": {
                    "$cond": [{"$eq": ["$unique.until", "ttl"]}, {"$max": [forget_at, "$key_until"]}, forget_at]
                },
            }
        },
        {"$unset": ["body", *CLAIM_FIELDS]},
    ]


def kept_key() -> Doc:
    """Return an expression: the unique key of an ended message if only time frees it."""
    return {"$cond": [{"$eq": ["$unique.until", "ttl"]}, "$key", "$$REMOVE"]}


def _release(release: Release, mark: str) -> list[Doc]:
    # Without a delay, the message keeps its due time, and so its position in the queue.
    change: Doc = {"state": WAITING, "settled": mark, "due": PUT_BACK}
    if release.counted:
        change["crashes"] = {"$add": [WHOLE("$crashes"), 1]}
    if release.delay > 0:
        change |= _delayed(_in(release.delay), in_lane=release.delivery.envelope.lane is not None)
    return _without_claim(change)


def _delayed(due: Doc, *, in_lane: bool) -> Doc:
    """Return the fields of a message that is delayed until *due*."""
    return {"due": due, "due_at": due, "state": DELAYED, "until": due} if in_lane else {"due": due}


def _without_claim(change: Doc, *others: str) -> list[Doc]:
    """Return the update that sets the fields of *change*, and removes those of the claim, and *others*."""
    return [{"$set": change}, {"$unset": [name for name in (*CLAIM_FIELDS, *others) if name not in change]}]


def _retry(retry: Replace, mark: str, tag: Timestamp | None) -> list[Doc]:
    envelope = retry.envelope
    fields = {name: {"$literal": value} for name, value in fields_of(envelope).items()}
    due: Doc = {"$max": [_in(envelope.delay), moment(envelope.not_before or 0.0)]}
    change = {**fields, "state": WAITING, "settled": mark, "crashes": 0}
    if tag is None:
        change |= _delayed(due, in_lane=envelope.lane is not None)
    else:
        change |= {"due": {"$literal": tag}, "due_at": due}
    return _without_claim(change, "not_before", "expires", "unique", "lane", "due_at")


def _in(seconds: float) -> Doc:
    """Return an expression: the server's time *seconds* from now."""
    return {"$add": ["$$NOW", {"$literal": moment_length(seconds)}]}


def moment_length(seconds: float) -> int:
    """Return *seconds* in milliseconds, rounded up."""
    return int(moment(max(seconds, 0.0)))


def _dead_letter(dead: Dead, mark: str) -> Doc:
    change: Doc = {
        "$set": {
            "state": DEAD,
            "settled": mark,
            "reason": text(dead.reason),
            "error": text(dead.error[:MAX_ERROR_CHARACTERS]),
            "holder": text(dead.holder),
        },
        "$currentDate": DEAD_LETTERED_NOW,
        "$unset": {"claim": True, "session": True},
    }
    if task := task_of(dead.delivery.envelope.body):
        change["$set"]["task"] = task
    unique = dead.delivery.envelope.unique
    if unique is not None and unique.until != "ttl":
        change["$unset"]["key"] = True
    return change
