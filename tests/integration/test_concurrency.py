"""A concurrency limit in several processes, one of which is killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engines import ENGINES
from support.fleet import Fleet
from support.limited_tasks import MOST, app, call, most_at_a_time
from support.waiting import wait_until


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Workers of the limited tasks, all gone when the test is over."""
    made = Fleet(tmp_path, app, **ENGINES["sqlite"](tmp_path))
    yield made
    made.close()


def test_kill_leaves_no_slot_behind_and_exceeds_no_limit(fleet: Fleet) -> None:
    """Two processes, one of them killed with what it holds: all messages run, never more than the limit at a time."""
    sent = {result.id for result in app.send_many(call.s(0.1) for _ in range(20))}
    group = fleet.start_ready(app="support.limited_tasks:app", processes=2, concurrency=4, lease=3.0)
    fleet.reached("begin", MOST + 1)
    pid = fleet.ledger.lines("begin")[-1].pid

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in group.workers())
    killed = {pid: max(line.at for line in fleet.ledger.lines() if line.pid == pid)}
    fleet.drained()

    assert set(fleet.ledger.counts("end")) == sent
    assert most_at_a_time(fleet.ledger.lines(), killed) <= MOST
