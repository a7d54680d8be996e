"""One peer's turn in a round of the comparison: all of its figures, each on an empty server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import servers
from running import Run


@attrs.frozen
class Entry:
    """A queue on an engine, and how much it gets to do: about two seconds of work for each figure."""

    module: str
    server: servers.Server
    single: int
    many: int
    large: int = 200


@attrs.frozen
class Amount:
    """How many samples are taken."""

    rounds: int
    share: float
    """Part of the counts of an entry."""
    starts: int
    """Starts of a worker, each round."""
    idle: int
    """Sends to an idle worker, each round."""


@attrs.frozen
class Turn:
    """One peer's turn in a round."""

    entry: Entry
    amount: Amount
    described: dict[str, Any]
    """What :func:`description` returns."""

    def figures(self) -> dict[str, list[float]]:
        """Return all of its figures."""
        found = self._without_results()
        found |= self._with_results() if self.described["results"] else {}
        return found | self._idle() | self._large()

    def _without_results(self) -> dict[str, list[float]]:
        counts = counts_of(self.entry, self.amount)
        with self._run(stored=False) as run:
            sent = run.send(warm=20, single=counts["single"], many=counts["many"])
            with run.worker(self.described) as worker:
                rate = run.drained(20 + counts["single"] + counts["many"])
                memory = worker.memory()
        return {"single": [sent["single"]], "many": [sent["many"]], "drain": [rate], "memory": [memory]}

    def _with_results(self) -> dict[str, list[float]]:
        counts = counts_of(self.entry, self.amount)
        with self._run(stored=True) as run:
            sent = run.send(warm=20, single=counts["single"], many=counts["many"])
            with run.worker(self.described):
                rate = run.drained(20 + counts["single"] + counts["many"])
                run.send(check=1)  # results are where they can be read
        return {"single stored": [sent["single"]], "many stored": [sent["many"]], "drain stored": [rate]}

    def _idle(self) -> dict[str, list[float]]:
        starts: list[float] = []
        with self._run(stored=False) as run:
            for number in range(self.amount.starts):
                run.send(warm=1)
                with run.worker(self.described) as worker:
                    starts.append(run.stamps(number + 1)[-1] - worker.since)
            with run.worker(self.described):
                run.send(warm=1)
                run.stamps(self.amount.starts + 1)
                late = run.send(idle=self.amount.idle)["idle"]
        return {"start": starts, "idle": late}

    def _large(self) -> dict[str, list[float]]:
        count = counts_of(self.entry, self.amount)["large"]
        with self._run(stored=False) as run:
            sent = run.send(warm=1, large=count)  # a first send connects, and may import a client library
            with run.worker(self.described) as worker:
                rate = run.drained(1 + count)
                memory = worker.memory()
        return {"large": [sent["large"]], "large drain": [rate], "large memory": [memory]}

    @contextmanager
    def _run(self, *, stored: bool) -> Iterator[Run]:
        with servers.folder_for(self.entry.server) as (folder, url):
            yield Run(self.entry.module, folder, url, stored=stored)


def counts_of(entry: Entry, amount: Amount) -> dict[str, int]:
    """Return how many tasks *entry* gets, by kind."""
    return {name: int(getattr(entry, name) * amount.share) for name in ("single", "many", "large")}


def description(entry: Entry) -> dict[str, Any]:
    """Return what the peer says of itself, without what only this machine has."""
    with servers.folder_for(entry.server) as (folder, url):
        said = Run(entry.module, folder, url, stored=True).send(describe=1)["describe"]
        return {**said, "worker": [part.replace(url, "URL") for part in said["worker"]]}
