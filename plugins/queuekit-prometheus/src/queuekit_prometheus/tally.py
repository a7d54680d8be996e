"""What happened in this process, as numbers: counters and histograms that events move, without a metrics library."""

from __future__ import annotations

import json
import threading
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from queuekit.events import (
    ChildRecycled,
    DeadLettersDropped,
    EngineDown,
    MessageFacts,
    MessagesLimited,
    MessagesSent,
    MessagesSettled,
    SettledMessage,
    TickFailed,
    TickSent,
    TickSkipped,
    TicksMissed,
    WorkerCrashed,
    WorkerRecycled,
)

__all__ = ["BOUNDS", "OTHER", "TALLY", "Key", "ProcessTally", "from_json", "to_json"]

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0)
"""Upper bounds of the buckets of all histograms, in seconds."""
OTHER = "other"
"""Label of tasks and queues that are not known here, or too many."""
_MOST = 1_000
"""Most pairs of queue and task; more are counted as ``other``."""

_MOST_KEPT = 2_000
"""Most deliveries to keep until they are counted together."""

Key = tuple[str, ...]
"""Name of a series, then its labels; the last part of a bucket is its number."""


class _Cell:
    """The numbers of one task on one queue."""

    __slots__ = ("dead", "outcomes", "runs", "runs_sum", "waits", "waits_sum")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.dead: dict[str, int] = {}
        self.runs, self.waits = [0] * (len(BOUNDS) + 1), [0] * (len(BOUNDS) + 1)
        self.runs_sum = self.waits_sum = 0.0


class ProcessTally:
    """Counts events of one process; any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, str], _Cell] = {}
        self.known: set[str] = set()
        """Names of the tasks of this process; a message can invent others."""
        self._kept: list[SettledMessage] = []
        """Deliveries that are not counted yet."""
        self._sends: list[MessageFacts] = []
        """Sends that are not counted yet."""
        self._plain: Counter[Key] = Counter()
        self._late = [0] * (len(BOUNDS) + 1)
        self._late_sum = 0.0
        self.load: Callable[[], Mapping[str, int]] = dict
        """Returns how busy the worker of this process is, by state."""
        self.listeners: dict[type, Callable[[Any], None]] = {
            MessagesSent: self._sent,
            MessagesSettled: self._settled,
            MessagesLimited: self._limited,
            DeadLettersDropped: lambda event: self._add(("dropped", event.queue, event.reason), event.count),
            EngineDown: self._down,
            TickSent: self._tick,
            TicksMissed: lambda event: self._add(("ticks", "missed"), event.count),
            TickSkipped: lambda _: self._add(("ticks", "skipped")),
            TickFailed: lambda _: self._add(("ticks", "failed")),
            WorkerRecycled: lambda event: self._add(("recycled", "worker", event.reason)),
            ChildRecycled: lambda event: self._add(("recycled", "child", event.reason)),
            WorkerCrashed: lambda _: self._add(("crashes",)),
        }

    def __call__(self, event: Any) -> None:
        """Count *event*."""
        listener = self.listeners.get(type(event))
        if listener is not None:
            listener(event)

    def _add(self, key: Key, count: int = 1) -> None:
        with self._lock:
            self._plain[key] += count

    def _settled(self, event: MessagesSettled) -> None:
        """Keep the deliveries; many are counted in a fourth of the time that each by itself takes."""
        with self._lock:
            self._kept += event.messages
            if len(self._kept) >= _MOST_KEPT:
                self._count()

    def _count(self) -> None:
        """Count the deliveries that are kept; the caller holds the lock."""
        kept, self._kept = self._kept, []
        by_cell: defaultdict[tuple[str, str], list[SettledMessage]] = defaultdict(list)
        for row in kept:
            by_cell[row[2], row[1]].append(row)
        for (queue, task), rows in by_cell.items():
            *_, outcomes, reasons, runs, waits = zip(*rows, strict=True)
            ran = [seconds for seconds in runs if seconds is not None]
            if ran:
                self.known.add(task)  # also one that is core's own
            cell = self._cells.get((queue, task)) or self._cell(queue, task)
            for outcome, count in Counter(outcomes).items():
                cell.outcomes[outcome] = cell.outcomes.get(outcome, 0) + count
            for reason, count in Counter(filter(None, reasons)).items():
                cell.dead[reason] = cell.dead.get(reason, 0) + count
            cell.runs_sum += _spread(ran, cell.runs)
            cell.waits_sum += _spread([seconds for seconds in waits if seconds is not None], cell.waits)

    def _cell(self, queue: str, task: str) -> _Cell:
        if task not in self.known:
            task = OTHER
        if len(self._cells) >= _MOST:
            queue = task = OTHER
        return self._cells.setdefault((queue, task), _Cell())

    def _sent(self, event: MessagesSent) -> None:
        """Keep the messages, as those that are settled."""
        with self._lock:
            self._sends += event.messages
            if len(self._sends) >= _MOST_KEPT:
                self._count_sends()

    def _count_sends(self) -> None:
        """Count the sends that are kept; the caller holds the lock."""
        sends, self._sends = self._sends, []
        counts = Counter((message.queue, message.task) for message in sends if not message.duplicate)
        for (queue, task), count in counts.items():
            key = ("sent", queue, task)
            self._plain[key if key in self._plain or len(self._plain) < _MOST else ("sent", OTHER, OTHER)] += count

    def _limited(self, event: MessagesLimited) -> None:
        """Count messages by the limit that they wait for; its name comes from the code, never from a message."""
        for limit, count in Counter(message.limit for message in event.messages).items():
            self._add(("limited", limit), count)

    def _down(self, event: EngineDown) -> None:
        self._add(("errors", event.doing.partition(" ")[0]))

    def _tick(self, event: TickSent) -> None:
        with self._lock:
            self._plain["ticks", "sent"] += 1
            self._late[bisect_left(BOUNDS, event.late)] += 1
            self._late_sum += event.late

    def snapshot(self) -> Counter[Key]:
        """Return all numbers, by series and labels."""
        with self._lock:
            self._count()
            self._count_sends()
            found: Counter[Key] = Counter(self._plain)
            for (queue, task), cell in self._cells.items():
                found.update({("tasks", queue, task, name): count for name, count in cell.outcomes.items()})
                found.update({("dead", queue, task, name): count for name, count in cell.dead.items()})
                _histogram(found, ("run", queue, task), cell.runs, cell.runs_sum)
                _histogram(found, ("wait", queue, task), cell.waits, cell.waits_sum)
            _histogram(found, ("late",), self._late, self._late_sum)
        found.update({("load", state): count for state, count in self.load().items()})
        return found


def _spread(values: list[Any], buckets: list[int]) -> float:
    """Add the numbers of *values* to *buckets*, by :data:`BOUNDS`; return the sum of *values*."""
    rest = sorted([value for value in values if value > BOUNDS[0]])  # most bodies are short
    buckets[0] += len(values) - len(rest)
    below = 0
    for place, bound in enumerate(BOUNDS[1:], 1):
        upto = bisect_right(rest, bound, lo=below)
        buckets[place] += upto - below
        below = upto
    buckets[-1] += len(rest) - below
    return float(sum(values))


def _histogram(found: Counter[Key], key: Key, buckets: Iterable[int], total: float) -> None:
    if any(buckets):
        found.update({(*key, str(place)): count for place, count in enumerate(buckets) if count})
        numbers: Any = found  # a counter of floats, as far as sums go
        numbers[*key, "sum"] += total


def to_json(snapshot: Mapping[Key, float]) -> bytes:
    """Return *snapshot* as bytes for another process."""
    return json.dumps([[*key, value] for key, value in snapshot.items()]).encode()


def from_json(data: bytes) -> Counter[Key]:
    """Return the snapshot in *data*.

    Raises:
        ValueError: It is cut off.
    """
    return Counter({tuple(row[:-1]): row[-1] for row in json.loads(data)})


TALLY = ProcessTally()
"""The numbers of this process, as those of prometheus_client are the process's."""
