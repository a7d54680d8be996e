"""Cancelling what runs: what is said is what was done, in each pool; what stops because of it is CANCELLED."""

import json
import os
import subprocess
from typing import Any

import pytest

from queuekit import State
from support import commands
from support.fault_tasks import aforever, deaf, forever, hog, hold, wrap_up
from support.fleet import ROOT, Fleet
from support.waiting import PATIENCE, wait_until


def cancel(fleet: Fleet, id: str, wait: str = "60s") -> "subprocess.CompletedProcess[str]":
    """Run ``queuekit cancel``."""
    return command(fleet, "cancel", id, "--wait", wait)


def command(fleet: Fleet, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of ``queuekit`` on the fleet's engines."""
    settings = [text for name, url in fleet.urls.items() for text in ("--set", f"{name}={url}")]
    return commands.queuekit(*words, *settings, folder=ROOT / "tests")


def began(fleet: Fleet, result: Any) -> str:
    """Return the id of a message whose body has begun."""
    wait_until(lambda: fleet.ledger.has("begin", [result.id]), what="a body that runs")
    return str(result.id)


@pytest.mark.parametrize(
    ("pool", "did", "said"),
    [("thread", "raised", "an exception stopped its body"), ("process", "killed", "was killed")],
    ids=["thread", "process"],
)
def test_running_task_is_stopped(fleet: Fleet, pool: str, did: str, said: str) -> None:
    """In threads and on the loop an exception is raised in the body, in a process it is killed; it is CANCELLED."""
    fleet.start_ready(pool=pool, concurrency=1)
    for task in (forever, wrap_up, aforever):
        is_stopped(fleet, began(fleet, task.send()), did, said)


def is_stopped(fleet: Fleet, id: str, did: str, said: str) -> None:
    """Cancel a body that runs, and see that all say what was done."""
    done = cancel(fleet, id)

    assert (done.returncode, said in done.stderr) == (0, True), done.stderr
    assert fleet.app.result(id).state is State.CANCELLED
    told = json.loads(command(fleet, "show", id, "--json").stdout)["cancellation"]
    assert told["did"] == did
    assert "@" in told["by"]
    assert told["at"]
    assert not fleet.ledger.lines("end", id)


def test_killed_body_leaves_its_slot(fleet: Fleet) -> None:
    """Even a body that holds the interpreter is killed in the process pool, is blamed for nothing, and makes room."""
    fleet.start_ready(pool="process", concurrency=1)
    id = began(fleet, hog.send(3600))

    done = cancel(fleet, id)

    assert done.returncode == 0
    assert "killed" in done.stderr
    assert hold.send(str(fleet.folder)).get(timeout=PATIENCE)
    assert not fleet.dead()


def test_says_when_a_task_goes_on(fleet: Fleet) -> None:
    """A body that does not stop is not called cancelled."""
    pipe = fleet.folder / "pipe"
    os.mkfifo(pipe)
    fleet.start_ready(concurrency=1)
    id = began(fleet, deaf.send(str(pipe)))

    done = cancel(fleet, id, wait="0s")
    pipe.write_bytes(b"")

    assert done.returncode == 6
    assert done.stderr.startswith("asked to cancel")
    assert "cancelled" not in done.stderr


def test_waiting_task_never_runs(fleet: Fleet) -> None:
    """What waits is removed, and ``show`` tells who asked."""
    id = forever.send().id

    done = cancel(fleet, id)
    shown = command(fleet, "show", id).stdout

    assert (done.returncode, "will never run" in done.stderr) == (0, True)
    assert "asked for by" in shown
    assert cancel(fleet, id).returncode == 1
