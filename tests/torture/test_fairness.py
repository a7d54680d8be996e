"""Fair shares of real workers at full size, on every engine: the ledger has the order in which tenants had starts."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuekit.worker.prefetch import FAIR_MOST
from support.engines import ENGINES
from support.fair_tasks import GATE, WEIGHT, app, visit
from support.fleet import Fleet
from support.waiting import wait_until

pytestmark = [pytest.mark.timeout(900)]

APP = "support.fair_tasks:app"
PROCESSES, CONCURRENCY = 2, 4
IN_FLIGHT = PROCESSES * CONCURRENCY
"""Messages that workers hold whose bodies take long: they fetch none ahead."""
HELD = IN_FLIGHT + PROCESSES * FAIR_MOST
"""... and the most that they hold of others."""
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


@pytest.mark.parametrize(
    ("engine", "many", "some"),
    [("sqlite", 400, 40), *(pytest.param(name, 10_000, 100, marks=pytest.mark.torture) for name in ENGINES)],
)
def test_lone_message_starts_within_a_round(
    fleet_on: FleetMaker, engine: str, many: int, some: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000, 100 and one in three lanes: the one, sent last, starts after one of each lane and what was in flight."""
    fleet = fleet_on(engine)
    gate = fleet.gate()
    monkeypatch.setenv(GATE, str(gate))
    app.send_many(visit.s("large") for _ in range(many))
    app.send_many(visit.s("medium") for _ in range(some))
    fleet.start_ready(app=APP, processes=PROCESSES, concurrency=CONCURRENCY)
    wait_until(lambda: len(tenants(fleet)) == IN_FLIGHT, lambda: f"{tenants(fleet)}\n{fleet.logs()}", timeout=20)
    visit.send("small")
    gate.touch()
    wait_until(lambda: tenants(fleet).count("medium") == some)

    found = tenants(fleet)
    place = found.index("small")
    last = len(found) - found[::-1].index("medium")
    print(f"\n{engine}: {place} before the lone one; large : medium = {found[:last].count('large')} : {some}")  # noqa: T201
    assert place <= IN_FLIGHT + 2 + IN_FLIGHT  # what was held, the round, and threads that began at the same moment
    assert abs(found[:last].count("large") - some) <= HELD


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
    """Each starts once, in about the order in which they were sent: a worker that stands still holds a few back."""
    fleet = fleet_on(engine)
    names = [f"tenant-{number * 7_919 % 10_000}" for number in range(10_000)]  # not in the order of names
    app.send_many(visit.s(name) for name in names)
    fleet.start_ready(app=APP, processes=PROCESSES, concurrency=CONCURRENCY)
    fleet.drained()

    place = {name: number for number, name in enumerate(names)}
    found = tenants(fleet)
    late = max(number - place[name] for number, name in enumerate(found))
    print(f"\n{engine}: the latest starts {late} places behind its own")  # noqa: T201
    assert Counter(found) == dict.fromkeys(names, 1)
    assert late < 1_000
