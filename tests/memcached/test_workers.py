"""Workers with their results in Memcached: lost groups, restarts in the middle, and kills."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from queuekit import TaskFailed, chord
from queuekit.errors import CapabilityError
from support.calls import Calls, calls_on
from support.fault_tasks import app, nap
from support.fleet import Fleet
from support.memcached import Memcached, shared
from support.waiting import PATIENCE, UNHURRIED, unhurried, wait_until
from support.working import burst, finish, make_app, take

LEASE = 3.0
"""Seconds; short, so that a test need not wait."""


def url_of(server: Memcached, *options: str) -> str:
    """Return the URL of a backend with keys of its own."""
    return "&".join([unhurried(server.url, "timeout", "connect_timeout"), f"prefix={secrets.token_hex(4)}", *options])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Memcached]:
    """Return a server of the test's own."""
    made = Memcached(tmp_path)
    try:
        yield made.start()
    finally:
        made.stop()


@contextmanager
def calls_with(server: Memcached, folder: Path) -> Iterator[Calls]:
    """Yield tasks with queues in a file and results in Memcached."""
    broker = unhurried(f"sqlite:///{folder}/queue.db", "busy_timeout")
    calls = calls_on(make_app(broker=broker, backend=url_of(server), send_timeout=UNHURRIED))
    try:
        yield calls
    finally:
        calls.app.close()


def test_runs_workflows(tmp_path: Path) -> None:
    """Chords in chords complete, by counts in Memcached."""
    with calls_with(shared(), tmp_path) as calls:
        inner = [chord([calls.add.si(1, 1), calls.add.si(2, 2)], calls.total.s()) for _ in range(3)]
        result = chord(inner, calls.total.s()).send()
        burst(calls.app)

        assert result.get(timeout=PATIENCE) == 18


def test_fails_a_chord_whose_group_was_evicted(tmp_path: Path) -> None:
    """If the count of the members is gone, and all else is there, the chord ends as failed and tells its callback."""
    with calls_with(shared(), tmp_path) as calls:
        result = chord([calls.add.si(n, 0) for n in range(3)], calls.total.s(), on_error=[calls.told.s()]).send()
        finish(calls.app, *take(calls.app))
        prefix = calls.app.config.url("backend").query["prefix"]
        assert shared().ask(f"md {prefix}:g:{result.id}.0") == b"HD\r\n"
        burst(calls.app)

        with pytest.raises(TaskFailed, match="GroupLost"):
            result.get(timeout=PATIENCE)
        assert (len(calls.failures), calls.seen) == (1, [])


@pytest.mark.parametrize("arrived", [0, 2])
def test_fails_a_chord_over_a_restart(server: Memcached, tmp_path: Path, arrived: int) -> None:
    """A restart loses graph, count and results: the members that are left run, and the chord ends as failed."""
    with calls_with(server, tmp_path) as calls:
        result = chord([calls.add.si(n, 0) for n in range(3)], calls.total.s()).send()
        for delivery in take(calls.app, arrived) if arrived else ():
            finish(calls.app, delivery)
        server.stop()
        server.start()
        burst(calls.app)

        with pytest.raises(TaskFailed):
            result.get(timeout=PATIENCE)
        assert calls.seen == []


def test_rejects_schedules(tmp_path: Path) -> None:
    """Memcached cannot list schedules, and the app learns that when it asks for one."""
    with (
        calls_with(shared(), tmp_path) as calls,
        pytest.raises(CapabilityError, match="a schedule needs a backend that can list its records"),
    ):
        calls.app.schedules.all()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.full)])
def test_loses_nothing_to_kills_and_a_restart(server: Memcached, tmp_path: Path, kills: int) -> None:
    """Workers are killed and Memcached is restarted in the middle: each task ends, the later ones with a result."""
    broker = unhurried(f"sqlite:///{tmp_path}/queue.db", "busy_timeout")
    fleet = Fleet(tmp_path, app, broker=broker, backend=url_of(server))
    try:
        first = [result.id for result in app.send_many(nap.s(0.01) for _ in range(20 * (kills + 1)))]
        for kill in range(kills):
            group = fleet.start(lease=LEASE, concurrency=4, prefetch=8)
            fleet.reached("end", 10 * (kill + 1))
            group.kill()
            if kill == 0:
                server.stop()
                server.start()
        fleet.start(lease=LEASE, concurrency=4, prefetch=8)
        wait_until(lambda: fleet.ledger.has("end", first), what="all tasks done")
        second = [result.id for result in app.send_many(nap.s(0.0) for _ in range(10))]
        wait_until(lambda: fleet.states(second) == {"SUCCESS": 10}, what="results of what came after the restart")

        fleet.drained(60)
        assert not fleet.dead()
    finally:
        fleet.close()
        print(fleet.logs())  # noqa: T201 - pytest shows it where a test has failed
