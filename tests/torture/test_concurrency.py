"""A concurrency limit under kills: the ledger of all bodies never shows more at a time than the limit says."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.engines import AWS, ENGINES
from support.fleet import Fleet, freeze
from support.limited_tasks import MOST, app, call, hold, most_at_a_time
from support.waiting import wait_until

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]


@pytest.fixture(params=[*ENGINES, *AWS])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """Workers of the limited tasks, all gone when the test is over."""
    made = Fleet(tmp_path, app, **(ENGINES | AWS)[request.param](tmp_path))
    yield made
    made.close()


def begun(fleet: Fleet) -> set[int]:
    """Return the processes that have begun a body."""
    return {line.pid for line in fleet.ledger.lines("begin")}


def family(pid: int) -> list[int]:
    """Return a process and those that it has started, such as that of a suspect: they die with it."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    return found


@pytest.mark.parametrize(("count", "seconds"), [(400, 0.1), (2_000, 0.001)], ids=["usual", "quick"])
def test_never_more_than_the_limit_under_50_kills(fleet: Fleet, count: int, seconds: float) -> None:
    """Eight processes, 50 of them killed: never four inside, none lost, and the limit is used.

    Quick ones share slots, which their workers hand over.
    """
    killed = dict[int, float]()
    sent = [result.id for result in app.send_many(call.s(seconds) for _ in range(count))]
    group = fleet.start_ready(app="support.limited_tasks:app", processes=8, concurrency=2, lease=5.0)

    for _ in range(50):
        time.sleep(0.3)
        # Else the last ones are done before the last kill, and no process begins another.
        sent += [result.id for result in app.send_many(call.s(seconds) for _ in range(count // 50))]
        pid = random.choice(wait_until(lambda: sorted(begun(fleet) & set(group.workers()))))
        killed |= dict.fromkeys(family(pid), time.monotonic())
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    fleet.drained(timeout=400)
    lines = fleet.ledger.lines()

    assert set(fleet.ledger.counts("end")) == set(sent)
    # Quick ones need not meet.
    assert most_at_a_time(lines, killed) in ([MOST] if seconds >= 0.1 else range(1, MOST + 1))
    assert not fleet.dead()


def test_line_moves_when_all_holders_have_died(fleet: Fleet) -> None:
    """Nothing new is sent: those that waited begin within a lease and ten seconds."""
    gate = fleet.gate()
    app.send_many(hold.s(str(gate)) for _ in range(MOST))
    group = fleet.start_ready(app="support.limited_tasks:app", processes=2, concurrency=4, lease=5.0)
    fleet.reached("begin", MOST)
    waiting = {result.id for result in app.send_many(call.s(0.01) for _ in range(20))}
    wait_until(lambda: fleet.counts().leased >= MOST + 20)
    group.kill()
    died = time.monotonic()
    gate.touch()
    fleet.start_ready(app="support.limited_tasks:app", processes=1, concurrency=8, lease=5.0)
    fleet.drained()

    begun = {line.id: line.at for line in fleet.ledger.lines("begin") if line.id in waiting}
    assert begun.keys() == waiting
    print(f"\nthe line moved {min(begun.values()) - died:.1f} s after the kill, with a lease of 5 s")  # noqa: T201
    assert min(begun.values()) - died < 5 + 10


def test_frozen_worker_loses_its_slots(fleet: Fleet) -> None:
    """A worker that is frozen past its lease does not keep others from the limit, nor exceed it when it goes on."""
    sent = {result.id for result in app.send_many(call.s(0.5) for _ in range(60))}
    group = fleet.start_ready(app="support.limited_tasks:app", processes=2, concurrency=4, lease=3.0)
    fleet.reached("begin", MOST)
    pid = fleet.ledger.lines("begin")[-1].pid
    freeze(pid)
    frozen = time.monotonic()
    wait_until(lambda: len({line.id for line in fleet.ledger.lines("end") if line.at > frozen + 6}) > MOST)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    went_on = time.monotonic()
    fleet.drained(timeout=300)

    lines = [line for line in fleet.ledger.lines() if line.pid != pid or line.at > went_on + 5]
    began = {(line.id, line.pid) for line in lines if line.status == "begin"}
    lines = [line for line in lines if (line.id, line.pid) in began]
    assert set(fleet.ledger.counts("end")) == sent
    assert most_at_a_time(lines, {}) <= MOST
    assert group.alive()
