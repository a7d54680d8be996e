"""Dead letters by filter: select, group, export, and replay or delete them at a bounded rate."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice

from queuekit.broker import Place, QueueCounts, Stored
from queuekit.operations.admin import HELD, HELD_BYTES, Admin, QueuedMessage, held_bytes
from queuekit.operations.filters import EVERYTHING, Filter, Subject
from queuekit.values import define
from queuekit.wire.batches import in_batches

__all__ = [
    "MOST_GROUPS",
    "MOST_LOOKED",
    "DeadGroup",
    "Selection",
    "fingerprint",
    "group",
    "grouped",
    "in_steps",
    "most_looked",
    "out_of_order",
    "parse_rate",
    "seek",
    "select",
    "walk",
]

MOST_LOOKED = 10_000
"""Most messages that one call looks at to find those that a filter selects."""
MOST_GROUPS = 1_000
"""Most groups; what fits none of them is counted in one more."""
_CHANGING = (
    (re.compile(r"0x[0-9a-f]+", re.IGNORECASE), "#"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "#"),
    (re.compile(r"\b[0-9a-f]{12,}\b", re.IGNORECASE), "#"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "'#'"),
    (re.compile(r"\d+"), "#"),
)
"""Parts of an error that differ between messages with the same fault."""
_LONGEST_ERROR = 500
"""Characters of an error that a fingerprint looks at."""
_STEP = 500
"""Most messages to change in one step."""
_OTHERS = "others"
_SLOWEST = 1e-6
"""Lowest rate: one in twelve days. The pauses of lower ones are beyond what systems can wait."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

Selection = Mapping[str, list[str]]
"""Ids of dead letters by queue, oldest first."""


@define(kw_only=True)
class DeadGroup:
    """Dead letters with the same task, reason and kind of error."""

    fingerprint: str
    task: str
    reason: str
    error: str
    """Error of the last one."""
    sample: str
    """Id of the last one."""
    count: int = 0
    first: float | None = None
    """UTC epoch seconds at which the first of them died."""
    last: float | None = None


def walk(
    admin: Admin, queue: str | None, wanted: Filter = EVERYTHING, *, most: int | None = None
) -> Generator[QueuedMessage, None, None]:
    """Yield the dead letters of *queue*, or of all queues, that *wanted* selects, newest first in each queue.

    At most *most* dead letters are looked at.
    """
    return _matching(admin, islice(admin.dead_stored(queue), most), wanted)


def _matching(admin: Admin, letters: Iterable[Stored], wanted: Filter) -> Generator[QueuedMessage, None, None]:
    now = admin.now()
    for stored in letters:
        task = admin.task_of(stored)
        if not wanted or wanted.matches(_subject(stored, task, now)):
            yield QueuedMessage(stored=stored, task=task)


def most_looked(admin: Admin) -> int:
    """Return how many dead letters a command looks at unless it is to look at all."""
    return min(MOST_LOOKED, admin.dead_in_order or MOST_LOOKED)


def out_of_order(admin: Admin, counts: QueueCounts) -> str:
    """Return in words that dead letters are more than the engine puts in order; empty if they are not."""
    most = admin.dead_in_order
    if most is None or (counts.dead <= most and Place.DEAD not in counts.at_least):
        return ""
    return f"only the first {most} dead letters that were found in a queue are in order: others may be newer"


def seek(
    admin: Admin,
    queue: str | None,
    wanted: Filter = EVERYTHING,
    *,
    ids: Sequence[str] | None = None,
    selects: Callable[[QueuedMessage], bool] = lambda _: True,
) -> Iterator[tuple[str, list[str]]]:
    """Yield the ids of the dead letters that *wanted* and *selects* select (of all, or of *ids*), in parts, by queue.

    For a broker that :attr:`Admin.searches_dead`: it reads its dead letters once, and reaches those of a part without
    a search until the next one is asked for. Others are selected first, by :func:`select`.
    """
    names = [queue] if queue else admin.queue_names() if ids is None else admin.dead_queues(ids)
    left = None if ids is None else [*dict.fromkeys(ids)]
    for name in names:
        if left == []:
            return
        with closing(_seek_in(admin, name, left, selects, wanted)) as parts:
            for found in parts:
                left = left and [id for id in left if id not in found]
                yield name, found


def _seek_in(
    admin: Admin, queue: str, ids: Sequence[str] | None, selects: Callable[[QueuedMessage], bool], wanted: Filter
) -> Generator[list[str], None, None]:
    """Yield the ids of the dead letters of one queue in parts."""
    with closing(admin.seek_dead(queue, ids)) as letters:
        chosen = (queued.stored for queued in _matching(admin, letters, wanted) if selects(queued))
        for part in in_batches(chosen, held_bytes, most=HELD, most_bytes=HELD_BYTES):
            yield [stored.envelope.id for stored in part]


def select(admin: Admin, queue: str | None, wanted: Filter = EVERYTHING) -> Selection:
    """Return the ids of the dead letters that *wanted* selects, by queue, oldest first."""
    found: dict[str, list[str]] = {}
    for queued in walk(admin, queue, wanted):
        found.setdefault(queued.stored.envelope.queue, []).append(queued.id)
    return {name: ids[::-1] for name, ids in found.items()}


def group(admin: Admin, queue: str | None, wanted: Filter = EVERYTHING, *, most: int | None = None) -> list[DeadGroup]:
    """Return the dead letters that *wanted* selects in groups, the largest first; at most *most* are looked at."""
    return grouped(walk(admin, queue, wanted, most=most))


def grouped(letters: Iterable[QueuedMessage]) -> list[DeadGroup]:
    """Return dead letters in groups, the largest first."""
    groups: dict[str, DeadGroup] = {}
    for queued in letters:
        stored = queued.stored
        key = fingerprint(queued.task, stored.reason, stored.error)
        if key not in groups and len(groups) >= MOST_GROUPS:
            key = _OTHERS
        found = groups.get(key)
        if found is None:
            others = key == _OTHERS
            task, reason = ("", "") if others else (queued.task, stored.reason)
            error = "" if others else stored.error
            found = DeadGroup(fingerprint=key, task=task, reason=reason, error=error, sample=queued.id)
            groups[key] = found
        _count(found, queued)
    return sorted(groups.values(), key=lambda one: one.count, reverse=True)


def _count(found: DeadGroup, queued: QueuedMessage) -> None:
    found.count += 1
    died = queued.stored.died_at
    if died is None:
        return
    found.first = died if found.first is None else min(found.first, died)
    if found.last is None or died > found.last:
        found.last, found.sample = died, queued.id


def fingerprint(task: str, reason: str, error: str) -> str:
    """Return a short text that is the same for dead letters with the same fault.

    Numbers, ids and quoted texts in the first line of *error* do not matter.
    """
    line = next(iter(error.splitlines()), "")[:_LONGEST_ERROR]
    for pattern, word in _CHANGING:
        line = pattern.sub(word, line)
    text = f"{task}\n{reason}\n{line}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _subject(stored: Stored, task: str, now: float) -> Subject:
    age = None if stored.died_at is None else now - stored.died_at
    envelope = stored.envelope
    lane = envelope.lane.key if envelope.lane is not None else None
    return Subject(task=task, queue=envelope.queue, reason=stored.reason, error=stored.error, age=age, lane=lane)


def parse_rate(text: str) -> float:
    """Return the messages per second that *text*, such as ``10/s`` or ``100/m``, asks for.

    Raises:
        ValueError: It is not of this form, or lower than one in twelve days.
    """
    number, slash, unit = text.partition("/")
    try:
        rate = float(number) / _UNITS[unit]
    except (ValueError, KeyError):
        rate = 0.0
    if not slash or not _SLOWEST <= rate < math.inf:
        raise ValueError(f"{text!r} is not a rate such as 10/s, 100/m or 5000/h")
    return rate


def in_steps(
    change: Callable[[str, Sequence[str]], list[str]],
    chosen: Iterable[tuple[str, Sequence[str]]],
    *,
    rate: float | None,
    sleep: Callable[[float], None],
) -> Iterator[str]:
    """Change the *chosen* dead letters step by step and yield the ids of those that changed.

    Args:
        change: Called with a queue and ids; returns the ids that changed.
        chosen: Queues, each with ids; one that :func:`seek` returns is read as far as it is carried out.
        rate: Most messages per second; ``None`` for no limit.
        sleep: Blocks for so many seconds.
    """
    size = _STEP if rate is None else max(1, min(_STEP, int(rate)))
    before = 0
    for queue, all_ids in chosen:
        for first in range(0, len(all_ids), size):
            ids = all_ids[first : first + size]
            if before and rate is not None:
                sleep(before / rate)
            before = len(ids)
            yield from change(queue, ids)
