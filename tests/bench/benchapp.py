"""The app that the benchmark's workers run; which engines it uses comes from ``QUEUEKIT_*`` variables."""

from __future__ import annotations

import time

from queuekit import Queuekit

app = Queuekit()


@app.task
def noop(number: int) -> None:
    """Do nothing, with the result stored."""


@app.task(ignore_result=True)
def silent(number: int) -> None:
    """Do nothing, with no result stored."""


@app.task
def clock() -> float:
    """Return the moment at which the body was entered, in monotonic seconds: one clock for all processes here."""
    return time.monotonic()


@app.task(ignore_result=True)
def pause(seconds: float) -> None:
    """Take a while."""
    time.sleep(seconds)


@app.task
async def anoop(number: int) -> None:
    """Do nothing on an event loop, with the result stored."""


@app.task(ignore_result=True)
async def asilent(number: int) -> None:
    """Do nothing on an event loop, with no result stored."""
