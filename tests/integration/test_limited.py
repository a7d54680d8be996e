"""Rate limits on every engine whose messages can be seen."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from queuekit import Queuekit
from queuekit.broker import Place
from queuekit.limits import Rate, arg
from support import calls
from support.waiting import wait_until
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
