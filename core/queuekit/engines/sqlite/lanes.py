"""The order of lanes: gives each message that becomes ready a tag, by which the messages of a priority are sorted.

Each lane has a time of its own, which its messages move on by 1/weight each; the time of all lanes is that of the next
message. Both are read off the ready messages, so nothing else is stored, and a lane without a message leaves nothing. A
message that comes back after a claim has no tag, and is before all others of its priority.

Source:
    P. Goyal, H. Vin, H. Cheng, "Start-time fair queueing", 1996; S. Golestani, "A self-clocked fair queueing scheme",
    1994: the clock is read off the messages.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from queuekit.engines.sqlite.layout import READY
from queuekit.engines.sqlite.statements import Row, Statements
from queuekit.envelope import TURN, Envelope, Lane

__all__ = ["Entrant", "enter", "enter_sent", "entrants", "lane_in"]

# For each lane the last tag, and the first tag of its queue and priority with the weight of that message.
_TIMES = """
SELECT json_group_array(json_array(
    (SELECT max(tag) FROM messages WHERE state = 0 AND queue = json_extract(value, '$[0]')
        AND priority = json_extract(value, '$[1]') AND lane = json_extract(value, '$[2]')),
    json((SELECT json_array(tag, hex(weight)) FROM messages WHERE state = 0 AND queue = json_extract(value, '$[0]')
        AND priority = json_extract(value, '$[1]') AND tag > 0 ORDER BY tag LIMIT 1))))
FROM json_each(?)"""
_ENTER = """
UPDATE messages SET tag = json_extract(value, '$[1]'), lane = json_extract(value, '$[2]'),
    weight = json_extract(value, '$[3]')
FROM json_each(?) WHERE seq = json_extract(value, '$[0]')"""
_NEW = """
SELECT seq, json_extract(value, '$[2]'), state FROM json_each(?) CROSS JOIN messages
WHERE messages.id = json_extract(value, '$[0]') AND queue = json_extract(value, '$[1]')
    AND state < 2 AND number = 0 AND tag = 0"""


class Entrant(NamedTuple):
    """A message that enters its lane: now, if it is ready; otherwise its lane is stored for later."""

    seq: int
    queue: str
    priority: int
    lane: Lane
    state: int = READY


def enter(on: Statements, some: Sequence[Entrant]) -> None:
    """Let messages, whose tags are 0, enter their lanes, in order, within a transaction."""
    if not some:
        return
    asked = list(dict.fromkeys((one.queue, one.priority, one.lane.key) for one in some))
    found = json.loads(on.read(_TIMES, (json.dumps(asked),))[0][0])
    tails = {lane: tail or 0 for lane, (tail, _) in zip(asked, found, strict=True)}
    starts: defaultdict[tuple[str, int], int] = defaultdict(int)
    starts |= {lane[:2]: _start(*head) for lane, (_, head) in zip(asked, found, strict=True) if head}
    rows: list[tuple[int, int, str, str]] = []
    for seq, queue, priority, lane, state in some:
        tag, name = 0, (queue, priority, lane.key)
        if state == READY:
            tag = tails[name] = max(tails[name], starts[queue, priority]) + lane.step
        rows.append((seq, tag, lane.key, repr(lane.weight)))
    on.write(_ENTER, (json.dumps(rows),))


def enter_sent(on: Statements, envelopes: Sequence[Envelope]) -> None:
    """Let those of *envelopes* that a send has just inserted enter their lanes, within a transaction."""
    names = [(one.id, one.queue, place) for place, one in enumerate(envelopes) if one.lane is not None]
    if not names:
        return
    # Each once, as a message that is repeated within the batch has one row; in the order of the batch.
    found = {seq: (place, state) for seq, place, state in on.read(_NEW, (json.dumps(names),))}
    rows = sorted((place, seq, state) for seq, (place, state) in found.items())
    some = [(seq, envelopes[place], state) for place, seq, state in rows]
    enter(on, [Entrant(seq, one.queue, one.priority, one.lane or Lane(), state) for seq, one, state in some])


def entrants(rows: Sequence[Row]) -> list[Entrant]:
    """Return the messages of *rows*, each seq, queue, priority, hex of lane and of weight, that have a lane."""
    return [
        Entrant(seq, queue, priority, lane)
        for seq, queue, priority, key, weight in rows
        if type(priority) is int and (lane := lane_in(_text(key), _text(weight))) is not None
    ]


def lane_in(key: Any, weight: Any) -> Lane | None:
    """Return the lane that a row names; ``None`` if it names none that :func:`enter` wrote."""
    try:
        share = float(weight)
    except (TypeError, ValueError):
        return None
    return Lane(key, share) if type(key) is str and 0 < share < TURN else None


def _start(tag: Any, weight: str) -> int:
    """Return the time of all lanes: the start of the first one's share, but at most one turn before its end."""
    first = lane_in("", _text(weight)) or Lane()
    return int(tag) - min(TURN, first.step)


def _text(raw: str | None) -> str | None:
    """Return the text of a column that was read as hex, since it may be a foreign one."""
    return bytes.fromhex(raw).decode("utf-8", "replace") if raw else None
