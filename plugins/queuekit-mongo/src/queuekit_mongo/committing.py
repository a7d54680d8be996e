"""Commit the settlements, records, joins and sends of many items in one transaction (QK12)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import attrs
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError

from queuekit.backend import Condition, Join
from queuekit.broker import Ack, CommitItem, Dead, Replace, Settlement
from queuekit.envelope import Envelope
from queuekit_mongo import groups, lanes, records, settling
from queuekit_mongo.engine import Engine
from queuekit_mongo.layout import LEASED, Doc, message_id, new_message, new_messages
from queuekit_mongo.sending import holder_of, is_known, replace, send_all

__all__ = ["commit", "in_order", "is_move", "may_send", "without_move"]

LARGEST = 8_000_000
"""Approximate limit of one transaction, in bytes."""
_TRIES = 6


def may_send(item: CommitItem) -> Sequence[Envelope]:
    """Return all envelopes that *item* may send."""
    if not item.joins and not isinstance(item.settlement, Replace):
        return item.sends  # the usual case
    envelopes = [*item.sends, *(envelope for one in item.joins for envelope in _follow_ups(one))]
    return [*envelopes, item.settlement.envelope] if isinstance(item.settlement, Replace) else envelopes


def is_move(settlement: Settlement | None) -> bool:
    """Return whether a settlement puts its message on another queue."""
    return isinstance(settlement, Replace) and settlement.envelope.queue != settlement.delivery.queue


def without_move(item: CommitItem) -> CommitItem:
    """Return *item* with an ack and a send in place of a move: the ``_id`` of a message, which has its queue, is fixed.

    A key that only time frees stays with the message that is gone.
    """
    move = item.settlement
    if not isinstance(move, Replace) or not is_move(move):
        return item
    unique = move.envelope.unique
    kept = unique if unique is not None and unique.until == "done" else None
    moved = attrs.evolve(move.envelope, unique=kept)
    return attrs.evolve(item, settlement=Ack(move.delivery), sends=(*item.sends, moved))


def commit(engine: Engine, items: Sequence[CommitItem]) -> list[bool]:
    """Commit *items*; skip those whose lease is lost, without stopping the others.

    Only items that need several writes use a transaction. Others are done by one write.
    """
    settled: list[int] = []
    whole: list[int] = []
    sends: list[Envelope] = []
    for place, item in enumerate(items):
        if not _is_single(item):
            whole.append(place)
        elif item.settlement is not None:
            settled.append(place)
        else:
            sends += item.sends
    done = [True] * len(items)
    for places, carry_out in ((settled, _settle), (whole, _in_transactions)):
        for place, yes in zip(places, carry_out(engine, [items[place] for place in places]), strict=True):
            done[place] = yes
    if sends:
        send_all(engine, sends, engine.time.earliest())
    return done


def _in_transactions(engine: Engine, items: Sequence[CommitItem]) -> list[bool]:
    return [yes for part in _parts(items) for yes in _commit_part(engine, part)]


def _is_single(item: CommitItem) -> bool:
    """Return whether *item* is only a settlement, or only sends."""
    return not item.records and not item.joins and (item.settlement is None or not item.sends)


def in_order(engine: Engine, items: Sequence[CommitItem]) -> list[bool]:
    """Commit *items* without transactions: records, joins, sends, settlements. Each step may be repeated."""
    held = _held(engine, items)
    chosen = _chosen(items, held)
    records.put_each(engine, [record for item in chosen for record in item.records], condition=Condition.NEWER)
    sends = _sends_of(chosen) + _arrive(engine, _joins_of(chosen))
    if sends:
        _free_keys(engine, chosen)
        send_all(engine, sends, engine.time.earliest())
    answers = iter(_settle(engine, chosen))
    return [yes and next(answers) for yes in held]


def _chosen(items: Sequence[CommitItem], held: Sequence[bool]) -> list[CommitItem]:
    """Return those of *items* whose lease is held."""
    return [item for item, yes in zip(items, held, strict=True) if yes]


def _sends_of(items: Sequence[CommitItem]) -> list[Envelope]:
    return [envelope for item in items for envelope in item.sends]


def _joins_of(items: Sequence[CommitItem]) -> list[Join]:
    return [one for item in items for one in item.joins]


def _arrive(engine: Engine, joins: Sequence[Join]) -> list[Envelope]:
    """Count *joins* at once, outside a transaction, and return the envelopes that complete groups send."""
    counts = groups.join_many(engine, joins) if joins else ()
    complete = [one for one, count in zip(joins, counts, strict=True) if count >= one.size]
    return [envelope for one in complete for envelope in _follow_ups(one)]


def _settle(engine: Engine, items: Sequence[CommitItem], session: ClientSession | None = None) -> list[bool]:
    """Apply the settlements of *items*; return whether the lease of each was held, or true without a settlement."""
    settlements = [item.settlement for item in items if item.settlement is not None]
    answers = iter(settling.carry_out(engine, settlements, session=session) if settlements else ())
    return [item.settlement is None or next(answers) for item in items]


def _free_keys(engine: Engine, items: Sequence[CommitItem]) -> None:
    """Free the unique keys that items hold until their end if one of their sends needs the same key."""
    for item in items:
        settlement = item.settlement
        unique = settlement.delivery.envelope.unique if isinstance(settlement, Ack | Dead) else None
        if settlement is None or unique is None or unique.until == "ttl":
            continue
        if any(one.unique is not None and one.unique.key == unique.key for one in item.sends):
            id, claim = settling.fence_of(settlement.delivery)
            engine.messages.update_one({"_id": id, "claim": claim}, {"$unset": {"key": True, "key_until": True}})


def _commit_part(engine: Engine, items: Sequence[CommitItem]) -> list[bool]:
    careful = False
    touches_leases = any(item.settlement is not None for item in items)
    sends = _sends_of(items)
    tags = lanes.enter_sent(engine, sends, engine.time.earliest())
    for left in range(_TRIES, -1, -1):
        try:
            body = partial(_carry_out, engine, items, tags, careful=careful)
            done = engine.in_transaction(body, touches_leases=touches_leases)
        except (BulkWriteError, DuplicateKeyError):
            # A message is known, or a key is held: now read before writing.
            if not left:
                raise
            careful = True
        else:
            if careful or not all(done):
                lanes.give_back(engine, sends, tags)
            return done
    raise AssertionError("unreachable")


def _carry_out(
    engine: Engine, items: Sequence[CommitItem], tags: lanes.Tags, session: ClientSession, *, careful: bool
) -> list[bool]:
    done = _settle(engine, items, session)
    chosen = _chosen(items, done)
    _record(engine, chosen, session, careful=careful)
    follow_ups = _join(engine, _joins_of(chosen), session)
    if sends := _sends_of(chosen) + follow_ups:
        now = engine.time.earliest()
        _send(engine, sends, session, now, tags | lanes.enter_sent(engine, follow_ups, now), careful=careful)
    return done


def _record(engine: Engine, items: Sequence[CommitItem], session: ClientSession, *, careful: bool) -> None:
    """Write the records. A record of a send is the first of its message; a record of a settlement is a later one."""
    fresh = [record for item in items if item.settlement is None for record in item.records]
    later = [record for item in items if item.settlement is not None for record in item.records]
    if fresh and not careful:
        records.insert_fresh(engine, fresh, session)
    else:
        later = fresh + later
    records.write_newer(engine, later, session)


def _join(engine: Engine, joins: Sequence[Join], session: ClientSession) -> list[Envelope]:
    """Count *joins*, group by group, and return the envelopes that complete groups send."""
    arrivals: dict[str, list[Join]] = {}
    for one in joins:
        arrivals.setdefault(one.group, []).append(one)
    sends: list[Envelope] = []
    for group, some in arrivals.items():
        count = groups.join_in(engine, session, group, [one.member for one in some], ttl=some[-1].ttl)
        sends += [envelope for one in some if count >= one.size for envelope in _follow_ups(one)]
    return sends


def _send(
    engine: Engine,
    envelopes: Sequence[Envelope],
    session: ClientSession,
    now: float,
    tags: lanes.Tags,
    *,
    careful: bool,
) -> None:
    """Send within the transaction. A refusal by a unique index would end it, so *careful* checks before writing."""
    if not careful:
        steps = {(one.queue, one.id, _step(one)): one for one in envelopes}
        engine.messages.insert_many(new_messages(list(steps.values()), now, tags), ordered=True, session=session)
        return
    latest: dict[str, Envelope] = {}
    for one in sorted(envelopes, key=_step):
        latest[message_id(one.queue, one.id)] = one
    known = {doc["_id"]: doc for doc in engine.messages.find({"_id": {"$in": list(latest)}}, session=session)}
    for id, envelope in latest.items():
        _send_one(engine, envelope, new_message(envelope, now, tags), known.get(id), session)


def _send_one(engine: Engine, envelope: Envelope, doc: Doc, earlier: Doc | None, session: ClientSession) -> None:
    now = engine.time.earliest()
    if earlier is not None and is_known(earlier, envelope, now):
        return
    if envelope.unique is not None:
        holder = holder_of(engine, envelope.unique.key, now, session)
        if holder not in (None, doc["_id"]):
            return
    if earlier is not None:
        replace(engine, earlier, doc, session)
    else:
        engine.messages.insert_one(doc, session=session)


def _held(engine: Engine, items: Sequence[CommitItem]) -> list[bool]:
    fences = [settling.fence_of(item.settlement.delivery) if item.settlement else None for item in items]
    ids = [fence[0] for fence in fences if fence is not None]
    if not ids:
        return [True] * len(items)
    found = engine.messages.find({"_id": {"$in": ids}, "state": LEASED}, {"claim": True})
    held = {(doc["_id"], doc.get("claim")) for doc in found}
    return [fence is None or fence in held for fence in fences]


def _parts(items: Sequence[CommitItem]) -> Iterator[list[CommitItem]]:
    """Yield *items* in parts that fit into a transaction."""
    part: list[CommitItem] = []
    size = 0
    for item in items:
        bodies = [record.body for record in item.records] + [envelope.body for envelope in may_send(item)]
        bytes_here = sum(map(len, bodies))
        if part and size + bytes_here > LARGEST:
            yield part
            part, size = [], 0
        part.append(item)
        size += bytes_here
    if part:
        yield part


def _step(envelope: Envelope) -> tuple[int, int, int]:
    return envelope.generation, envelope.attempt, envelope.hop


def _follow_ups(one: Join) -> list[Envelope]:
    """Return the envelopes that *one* sends when its group is complete."""
    return [envelope for envelope in one.then if isinstance(envelope, Envelope)]
