"""The demo's app and its tasks."""

from __future__ import annotations

import os
import time
from pathlib import Path

from queuekit.app import Queuekit
from queuekit.context import Context
from queuekit.demo.counting import FileCount, Function, count_file
from queuekit.retry import Fixed

__all__ = ["ATTEMPTS", "app", "count", "count_and_wait", "fail", "later", "stumble"]

ATTEMPTS = 3
"""Attempts that :func:`stumble` needs."""
LONGEST_WAIT = 10.0
"""Seconds after which :func:`count_and_wait` goes on, killed or not."""

app = Queuekit()
app.register_type(Function)


@app.task(name="demo.count")
def count(directory: str, file: str) -> FileCount:
    """Take one file apart."""
    return count_file(Path(directory), file)


@app.task(name="demo.count_and_wait")
def count_and_wait(ctx: Context, directory: str, file: str, note: str) -> FileCount:
    """Like :func:`count`, but leave this process's pid in the file *note* and wait to be killed: the first time only.

    So the kill comes while a task is running, also where the files are few.
    """
    if _leave_pid(Path(note)):
        end = time.monotonic() + LONGEST_WAIT
        while time.monotonic() < end and not ctx.cancelled:
            time.sleep(0.05)
    return count_file(Path(directory), file)


def _leave_pid(note: Path) -> bool:
    """Write the pid of this process to *note*; false if there is one already."""
    try:
        with note.open("x", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except FileExistsError:
        return False
    return True


@app.task(name="demo.stumble", retries=ATTEMPTS - 1, retry=Fixed(0.3), retry_on=ConnectionError)
def stumble(ctx: Context) -> int:
    """Fail twice, then return the number of this attempt."""
    attempt = ctx.attempt + 1
    if attempt < ATTEMPTS:
        raise ConnectionError(f"attempt {attempt} fails on purpose")
    return attempt


@app.task(name="demo.later")
def later() -> str:
    """Do nothing much: it is sent with a delay."""
    return "done"


@app.task(name="demo.fail")
def fail() -> None:
    """Fail for good, so that there is a dead letter to look at."""
    raise RuntimeError("this task fails on purpose, to leave a dead letter")
