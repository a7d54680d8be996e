"""Dead letters by filter: select, group, export, and replay or delete them at a bounded rate."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from queuekit.broker import Stored
from queuekit.operations.admin import Admin, QueuedMessage
from queuekit.operations.filters import EVERYTHING, Filter, Subject
from queuekit.values import define

__all__ = [
    "MOST_GROUPS",
    "DeadGroup",
    "Selection",
    "fingerprint",
    "group",
    "grouped",
    "in_steps",
    "parse_rate",
    "select",
    "walk",
]

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
) -> Iterator[QueuedMessage]:
    """Yield the dead letters of *queue*, or of all queues, that *wanted* selects, newest first in each queue.

    At most *most* dead letters are looked at.
    """
    now = admin.now()
    for stored in islice(admin.dead_stored(queue), most):
        task = admin.task_of(stored)
        if not wanted or wanted.matches(_subject(stored, task, now)):
            yield QueuedMessage(stored=stored, task=task)


def select(admin: Admin, queue: str | None, wanted: Filter = EVERYTHING) -> Selection:
    """Return the ids of the dead letters that *wanted* selects, by queue, oldest first."""
    found: dict[str, list[str]] = {}
    for queued in walk(admin, queue, wanted):
        found.setdefault(queued.stored.envelope.queue, []).append(queued.id)
    return {name: ids[::-1] for name, ids in found.items()}


def group(admin: Admin, queue: str | None, wanted: Filter = EVERYTHING) -> list[DeadGroup]:
    """Return the dead letters that *wanted* selects in groups, the largest first."""
    return grouped(walk(admin, queue, wanted))


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
    chosen: Selection,
    *,
    rate: float | None,
    sleep: Callable[[float], None],
) -> Iterator[str]:
    """Change the *chosen* dead letters step by step and yield the ids of those that changed.

    Args:
        change: Called with a queue and ids; returns the ids that changed.
        chosen: Ids by queue.
        rate: Most messages per second; ``None`` for no limit.
        sleep: Blocks for so many seconds.
    """
    size = _STEP if rate is None else max(1, min(_STEP, int(rate)))
    steps = [(queue, ids[first : first + size]) for queue, ids in chosen.items() for first in range(0, len(ids), size)]
    for number, (queue, ids) in enumerate(steps):
        if number and rate is not None:
            sleep(len(steps[number - 1][1]) / rate)
        yield from change(queue, ids)
