"""Fair shares of real workers at full size, on every engine: the ledger has the order in which tenants had starts."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from queuekit.worker.prefetch import FAIR_MOST
from support.engines import ENGINES
from support.fair_tasks import GATE, WEIGHT, app, visit
from support.fleet import Fleet
from support.waiting import wait_until

pytestmark = [pytest.mark.timeout(900)]

APP = "support.fair_tasks:app"
PROCESSES, CONCURRENCY = 2, 4
MANY = 5_000

FleetMaker = Callable[[str], Fleet]


@pytest.fixture
def fleet_on(tmp_path: Path) -> Iterator[FleetMaker]:
    """Return a function that returns a fleet on the engine of that name."""
    made: list[Fleet] = []

    def make(engine: str) -> Fleet:
        made.append(Fleet(tmp_path, app, **ENGINES[engine](tmp_path)))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()


def tenants(fleet: Fleet) -> list[str]:
    """Return whose messages have begun, in order."""
    return [line.status for line in fleet.ledger.lines()]


class Case(NamedTuple):
    """How many messages of two lanes there are, and who runs them."""

    engine: str
    many: int = 10_000
    some: int = 100
    processes: int = PROCESSES
    concurrency: int = CONCURRENCY


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case("sqlite", 400, 20, processes=1, concurrency=1), id="sqlite-420"),
        *(pytest.param(Case(name), id=name, marks=pytest.mark.torture) for name in ENGINES),
    ],
)
def test_lone_message_starts_within_a_round(fleet_on: FleetMaker, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000, 100 and one in three lanes: the one, sent last, starts after one of each lane and what was in flight.

    Workers fetch nothing ahead of bodies that take long. One worker with one slot shows the order itself.
    """
    engine, many, some, processes, concurrency = case
    in_flight = processes * concurrency
    fleet = fleet_on(engine)
    gate = fleet.gate()
    monkeypatch.setenv(GATE, str(gate))
    app.send_many(visit.s("large") for _ in range(many))
    app.send_many(visit.s("medium") for _ in range(some))
    fleet.start_ready(app=APP, processes=processes, concurrency=concurrency)
    wait_until(lambda: len(tenants(fleet)) == in_flight, lambda: f"{tenants(fleet)}\n{fleet.logs()}")
    visit.send("small")
    gate.touch()
    wait_until(lambda: tenants(fleet).count("medium") == some)

    found = tenants(fleet)
    place = found.index("small")
    last = len(found) - found[::-1].index("medium")
    print(f"\n{engine}: {place} before the lone one; large : medium = {found[:last].count('large')} : {some}")  # noqa: T201
    # Threads of several processes that have fetched at the same time begin in any order.
    assert place <= in_flight + 2 + (in_flight if in_flight > 1 else 0)
    held = in_flight + (processes * FAIR_MOST if in_flight > 1 else 0)
    assert abs(found[:last].count("large") - some) <= held


@pytest.mark.torture
@pytest.mark.parametrize("engine", list(ENGINES))
def test_starts_are_shared_out_by_weight(fleet_on: FleetMaker, engine: str) -> None:
    """While both have messages, a tenant of weight 9 gets nine starts for each one of another, within 10 %."""
    fleet = fleet_on(engine)
    calls = [visit.s("premium") for _ in range(MANY)] + [visit.s("free") for _ in range(MANY)]
    random.Random(7).shuffle(calls)
    app.send_many(calls)
    fleet.start_ready(app=APP, processes=PROCESSES, concurrency=CONCURRENCY)
    fleet.drained()

    shares = Counter(tenants(fleet)[:MANY])
    print(f"\n{engine}: of the first {MANY} {dict(shares)}")  # noqa: T201
    assert shares["premium"] / shares["free"] == pytest.approx(WEIGHT, rel=0.1)


@pytest.mark.torture
@pytest.mark.parametrize("engine", list(ENGINES))
def test_each_of_10000_lanes_gets_its_start(fleet_on: FleetMaker, engine: str) -> None:
    """Each starts once, in about the order of the sends: a process that stands still holds back what it has fetched."""
    fleet = fleet_on(engine)
    names = [f"tenant-{number * 7_919 % 10_000}" for number in range(10_000)]  # not in the order of names
    app.send_many(visit.s(name) for name in names)
    fleet.start_ready(app=APP, processes=PROCESSES, concurrency=CONCURRENCY)
    fleet.drained()

    place = {name: number for number, name in enumerate(names)}
    found = tenants(fleet)
    late = sorted(number - place[name] for number, name in enumerate(found))
    print(f"\n{engine}: the latest starts {late[-1]} places behind its own")  # noqa: T201
    assert Counter(found) == dict.fromkeys(names, 1)
    assert late[-1 - PROCESSES * FAIR_MOST] < 1_000
