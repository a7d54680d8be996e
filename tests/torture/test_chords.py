"""Chords whose workers are killed every second: each callback is recorded once, and every sum is right."""

import time
from pathlib import Path
from typing import Any

import pytest

from queuekit import chord
from support import chord_tasks
from support.engines import ENGINES
from support.fleet import Fleet
from support.waiting import PATIENCE

SIZE = 20
CONCURRENCY = 10
WORKER: dict[str, Any] = {
    "app": "support.chord_tasks:app",
    "lease": 2.0,
    "concurrency": CONCURRENCY,
    "max_deliveries": 100,
}
"""The kills come from outside: nobody is to be blamed for being in the way of three of them."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("engine", "chords", "kills"),
    [
        pytest.param("sqlite", 30, 3, marks=pytest.mark.full),
        *(pytest.param(engine, 200, 20, marks=pytest.mark.torture) for engine in ENGINES),
    ],
)
def test_chords_survive_a_kill_every_second(engine: str, chords: int, kills: int, tmp_path: Path) -> None:
    """No chord is lost, none gives a wrong sum, and a callback runs again only where a kill came into its run."""
    fleet = Fleet(tmp_path, chord_tasks.app, **ENGINES[engine](tmp_path))
    try:
        results = [
            chord([chord_tasks.member.s(i + j) for j in range(SIZE)], chord_tasks.total.s()).send()
            for i in range(chords)
        ]
        for _ in range(kills):
            group = fleet.start_ready(**WORKER)
            time.sleep(1.0)
            group.kill()
        fleet.start(**WORKER)

        sums = [result.get(timeout=5 * PATIENCE) for result in results]

        fleet.drained()
        ends = fleet.ledger.counts("end")
        assert sums == [SIZE * i + sum(range(SIZE)) for i in range(chords)]
        assert set(ends) == {result.id for result in results}
        assert sum(ends.values()) - chords <= kills * CONCURRENCY
        assert not fleet.dead()
        print("callbacks that ran more than once:", sum(count > 1 for count in ends.values()))  # noqa: T201
    finally:
        fleet.close()
