"""Workers on one SQLite file whose clocks differ: nobody's tasks run twice, early or late."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.fault_tasks import app, hold, nap
from support.fleet import ROOT, Fleet
from support.waiting import wait_until

LEASE = 3.0
AHEAD = """
import time
_real, _real_ns = time.time, time.time_ns
time.time = lambda: _real() + {seconds}
time.time_ns = lambda: _real_ns() + int({seconds} * 1e9)
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Workers on one file."""
    made = Fleet(tmp_path, app, broker=f"sqlite:///{tmp_path}/jobs.db")
    yield made
    made.close()
    print(made.logs())  # noqa: T201 - pytest shows it where a test has failed


def set_ahead(folder: Path, seconds: float) -> Path:
    """Return a folder that sets the time of day of each process that has it on its path *seconds* ahead."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(AHEAD.format(seconds=seconds))
    return folder


@pytest.mark.parametrize(
    "first", [pytest.param(False, id="last", marks=pytest.mark.full), pytest.param(True, id="first")]
)
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(120.0, id="two-minutes", marks=pytest.mark.full),
        pytest.param(3_600.0, id="an-hour", marks=pytest.mark.full),
        pytest.param(-3_600.0, id="an-hour-behind", marks=pytest.mark.full),
    ],
)
def test_a_worker_with_a_wrong_clock_takes_nothing_of_others(fleet: Fleet, seconds: float, *, first: bool) -> None:
    """Its sends, claims and settlements move nobody's time, whether it is the first to use the file or not."""
    wrong = set_ahead(fleet.folder / "wrong", seconds)
    gate = fleet.gate()
    order = [wrong, None] if first else [None, wrong]
    for folder in order:
        fleet.start_ready(folder=folder, fresh=folder is wrong, lease=LEASE, concurrency=1)
    held = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(2))]
    later = nap.options(eta=datetime.now(UTC) + timedelta(minutes=30)).send(0.0)
    wait_until(lambda: fleet.ledger.has("begin", held), what="both workers busy")
    fleet.start_ready(folder=wrong, fresh=True, lease=LEASE, concurrency=1)

    done = [nap.send(LEASE / 2).id for _ in range(4)]
    wait_until(lambda: fleet.ledger.has("end", done), what="two leases later")

    assert {fleet.ledger.counts("begin")[id] for id in held} == {1}
    assert not fleet.ledger.counts("begin")[later.id]
    gate.touch()
    wait_until(lambda: fleet.ledger.has("end", held), what="the end of both")


def test_one_send_from_a_wrong_clock_changes_nothing(fleet: Fleet) -> None:
    """A process whose clock is an hour ahead sends once; what others hold and delay is as before."""
    gate = fleet.gate()
    fleet.start_ready(lease=LEASE, concurrency=2)
    held, delayed = hold.send(str(gate)).id, nap.options(delay="10m").send(0.0).id
    wait_until(lambda: fleet.ledger.has("begin", [held]), what="it runs")
    wrong = set_ahead(fleet.folder / "wrong", 3_600.0)
    code = "from support.fault_tasks import app, nap; app.configure({}); print(nap.send(0.0).id); app.close()"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(wrong), str(ROOT / "tests")])}
    command = [sys.executable, "-c", code.format(fleet.urls)]
    sent = subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout.strip()

    wait_until(lambda: fleet.ledger.has("end", [sent]), what="the message of the wrong clock")
    fleet.start_ready(lease=LEASE, concurrency=1)
    done = [nap.send(2 * LEASE).id for _ in range(2)]
    wait_until(lambda: fleet.ledger.has("end", done), what="two leases later")
    assert fleet.ledger.counts("begin")[held] == 1
    assert not fleet.ledger.counts("begin")[delayed]
    gate.touch()
    wait_until(lambda: fleet.ledger.has("end", [held]), what="its end")
