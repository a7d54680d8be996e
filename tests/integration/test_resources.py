"""Resources in the processes of a real worker: opened after the fork, once in each, and closed at its end."""

import json
from collections import Counter
from pathlib import Path

import pytest

from support.commands import queuekit, write

APP = """
import asyncio, json, os, time
from typing import Annotated

from queuekit import Queuekit
from queuekit.resources import Use

app = Queuekit(broker="sqlite:///jobs.db")


def note(what):
    with open("seen", "a") as file:
        file.write(json.dumps([what, os.getpid()]) + "\\n")


@app.resource(scope="worker")
def pool():
    note("open pool")
    yield os.getpid()
    time.sleep(0.7)  # as a pool of connections may take to say goodbye
    note("close pool")


@app.resource(scope="worker")
async def apool(pool: Annotated[int, Use(pool)]):
    note("open apool")
    yield pool
    note("close apool")


@app.resource
def session(apool: Annotated[int, Use(apool)]):
    note("open session")
    try:
        yield apool
    finally:
        note("close session")


@app.task
def work(x: int, pid: Annotated[int, Use(session)] = Use.injected) -> int:
    assert pid == os.getpid()
    return x


@app.task
async def awork(x: int, pid: Annotated[int, Use(session)] = Use.injected) -> int:
    await asyncio.sleep(0)
    assert pid == os.getpid()
    return x


@app.task
def seed() -> None:
    app.send_many([task.s(x) for x in range(2) for task in (work, awork)])
"""


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_open_in_the_process_of_the_body(tmp_path: Path, pool: str) -> None:
    """Plain tasks and coroutines get what their own process opened, once, and it closes when that process ends."""
    write(tmp_path, {"tasks.py": APP})
    assert queuekit("--app", "tasks:app", "send", "seed", folder=tmp_path).returncode == 0

    done = queuekit("worker", "tasks:app", "--burst", "--concurrency", "2", "--pool", pool, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    seen = [tuple(json.loads(line)) for line in (tmp_path / "seen").read_text().splitlines()]
    counted = Counter(what for what, _ in seen)
    processes = len({pid for _, pid in seen})
    assert counted["open session"] == counted["close session"] == 4
    assert processes == (1 if pool == "thread" else processes)
    assert counted["open pool"] == counted["close pool"] == counted["open apool"] == counted["close apool"] == processes
