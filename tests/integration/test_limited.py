"""Limits on every engine."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from queuekit import Queuekit
from queuekit.broker import Place
from queuekit.limits import Concurrency, Rate, arg
from support import calls
from support.round_trips import RoundTrips
from support.waiting import PATIENCE, wait_until
from support.working import burst, counts, inside, working

ENGINES: dict[str, Callable[[Path], Queuekit]] = {
    "memory": calls.memory,
    "sqlite": calls.sqlite,
    "redis": calls.redis,
    "mongo": calls.mongo,
    "apart": calls.apart,
}


@pytest.fixture(params=list(ENGINES))
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queuekit]:
    """Return an app on one engine."""
    made = ENGINES[request.param](tmp_path)
    yield made
    made.close()


def test_message_that_had_its_turn_starts_on_sqs(tmp_path: Path) -> None:
    """A service that stores the count of hops as text and bounds it keeps the mark of a turn."""
    app = calls.aws(tmp_path)
    begun: list[int] = []

    @app.task(name="pay", limits=[Rate("1/s")], ignore_result=True)
    def pay(number: int) -> None:
        begun.append(number)

    app.send_many([pay.s(0), pay.s(1)])
    with working(app):
        wait_until(lambda: sorted(begun) == [0, 1])
    app.close()


class Inside:
    """Counts how many bodies are inside, and how many were at most."""

    def __init__(self) -> None:
        self.now = self.most = self.ended = 0
        self.met = threading.Event()
        """Two have been inside at a time."""
        self._lock = threading.Lock()

    def step(self, change: int) -> None:
        """Count a body that begins or ends."""
        with self._lock:
            self.now += change
            self.most = max(self.most, self.now)
            self.ended += change < 0
            if self.now > 1:
                self.met.set()


def work_in_turn(app: Queuekit, count: int) -> Inside:
    """Run *count* messages of a task of which two may run at a time, for each of two tenants, in two workers."""
    found = Inside()

    @app.task(name="pay", limits=[Concurrency(2, key=arg("tenant"))], ignore_result=True)
    def pay(tenant: str) -> None:
        found.step(+1)
        found.met.wait(PATIENCE)  # so that those which may run at the same time do
        time.sleep(0.005)
        found.step(-1)

    app.send_many([pay.s("acme") for _ in range(count)])
    with working(app), working(app):
        wait_until(lambda: found.ended == count, lambda: f"{found.ended} of {count}")
    return found


def test_no_more_run_at_a_time_than_the_limit_says(app: Queuekit) -> None:
    """All run in two workers, never more than two at a time, and nothing is left behind."""
    assert work_in_turn(app, 30).most == 2
    assert counts(app) == {}


def test_no_more_run_at_a_time_on_sqs(tmp_path: Path) -> None:
    """A service that counts each delivery hands a message back for its slot as well."""
    app = calls.aws(tmp_path)

    assert work_in_turn(app, 12).most <= 2
    app.close()


def test_each_message_waits_for_its_own_time(app: Queuekit) -> None:
    """Of five messages one starts; the others are due one interval after each other, exactly."""
    begun: list[str] = []

    @app.task(name="pay", limits=[Rate("1/h", key=arg("tenant"))], ignore_result=True)
    def pay(tenant: str) -> None:
        begun.append(tenant)

    app.send_many([pay.s("acme") for _ in range(5)] + [pay.s("other")])

    burst(app)

    assert sorted(begun) == ["acme", "other"]
    assert counts(app) == {"delayed": 4}
    due = sorted(one.envelope.not_before or 0.0 for one in inside(app, Place.DELAYED))
    assert [after - before for before, after in pairwise(due)] == pytest.approx([3600.0] * 3)


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.torture)])
@pytest.mark.parametrize("engine", ["sqlite", "redis", "mongo"])
def test_send_of_limited_messages_costs_no_round_trip_more(
    engine: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are computed at the send and go with the message, so as many calls store as many messages."""
    trips = RoundTrips(monkeypatch)
    trips.on(engine)
    app = ENGINES[engine](tmp_path)
    limits: list[Rate | Concurrency] = [Concurrency(3, key=arg("tenant")), Rate("100/m", key=arg("tenant"))]
    tasks = {
        "unlimited": app.task(name="notice")(lambda tenant: tenant),
        "limited": app.task(name="charge", limits=limits)(lambda tenant: tenant),
    }
    app.send_many([tasks["unlimited"].s("first")])
    found = {}
    for name, task in tasks.items():
        before = trips.count
        app.send_many(task.s(f"tenant-{number % 100}") for number in range(count))
        found[name] = trips.count - before
    app.close()

    print(f"\n{engine}: {count} messages, round trips {found}")  # noqa: T201
    assert 0 < found["limited"] == found["unlimited"] < count / 100
