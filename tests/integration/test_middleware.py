"""Middleware in real workers: each stage runs where the page on middleware says, also with processes for tasks."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.commands import queuekit, write

APP = """
import json, os, threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar

from queuekit import Fixed, Middleware, Queuekit

mine = ContextVar("mine", default="none")


class Where(Middleware):
    def note(self, stage, **facts):
        thread = threading.current_thread().name.rstrip("0123456789")
        line = json.dumps({"stage": stage, "pid": os.getpid(), "thread": thread, "mine": mine.get(), **facts})
        with open("seen", "a") as file:
            file.write(line + "\\n")

    def before_send(self, signature):
        self.note("before_send")
        return signature

    def after_send(self, sent):
        self.note("after_send", ids=[message.id for message in sent])

    def before_run(self, context):
        self.note("before_run")

    def around_run(self, context):
        mine.set("run")
        self.note("begin")
        try:
            yield
        finally:
            self.note("end")

    def after_run(self, context, state, error):
        self.note("after_run", state=state)

    def on_retry(self, context, error, delay):
        self.note("on_retry")

    def on_skip(self, context, reason):
        self.note("on_skip")

    def on_dead(self, context, reason, error):
        self.note("on_dead", reason=reason)


app = Queuekit(broker="sqlite:///jobs.db", middlewares=[Where()])


@app.task(retries=1, retry=Fixed(0))
def fail():
    raise ValueError("no")


@app.task(retries=1, retry=Fixed(0))
async def afail():
    raise ValueError("no")


@app.task
def crash():
    os._exit(1)
"""


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Return what the middleware noted."""
    return [json.loads(line) for line in (folder / "seen").read_text().splitlines()]


@pytest.mark.parametrize(
    ("pool", "task"),
    [
        ("thread", "afail"),
        ("process", "fail"),
        pytest.param("thread", "fail", marks=pytest.mark.full),
        pytest.param("process", "afail", marks=pytest.mark.full),
    ],
)
def test_stages_stand_where_the_page_says(tmp_path: Path, pool: str, task: str) -> None:
    """Those of a run beside the body, in its process, with its variables; those of an outcome in the worker."""
    write(tmp_path, {"tasks.py": APP})
    assert queuekit("--app", "tasks:app", "send", task, folder=tmp_path).returncode == 0

    done = queuekit("worker", "tasks:app", "--burst", "--pool", pool, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    sent, seen = lines_of(tmp_path)[:2], lines_of(tmp_path)[2:]
    assert [line["stage"] for line in sent] == ["before_send", "after_send"]
    told = [line["stage"] for line in seen]
    assert [stage for stage in told if not stage.startswith("on_")] == ["begin", "before_run", "end", "after_run"] * 2
    assert [stage for stage in told if stage.startswith("on_")] == ["on_retry", "on_dead"]
    beside = [line for line in seen if not line["stage"].startswith("on_")]
    stored = [line for line in seen if line["stage"].startswith("on_")]
    assert {line["mine"] for line in beside} == {"run"}
    assert {(line["thread"], line["mine"]) for line in stored} == {("queuekit-settler", "none")}
    apart = {line["pid"] for line in beside}.isdisjoint({line["pid"] for line in stored})
    assert apart is (pool == "process")
    assert os.getpid() not in {line["pid"] for line in lines_of(tmp_path)}


def test_a_crash_is_told_by_the_worker_that_survives(tmp_path: Path) -> None:
    """The process of the body says nothing more; ``on_dead`` comes once, after the third crash."""
    write(tmp_path, {"tasks.py": APP})
    assert queuekit("--app", "tasks:app", "send", "crash", folder=tmp_path).returncode == 0

    done = queuekit(
        "--set", "worker.max_deliveries=1", "worker", "tasks:app", "--burst", "--pool", "process", folder=tmp_path
    )

    assert done.returncode == 0, done.stderr
    seen = lines_of(tmp_path)[2:]
    assert [line["stage"] for line in seen] == ["begin", "before_run", "on_dead"]
    assert (seen[-1]["reason"], seen[-1]["thread"]) == ("crashed", "queuekit-settler")
