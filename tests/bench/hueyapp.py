"""The same no-op task on Huey with SqliteHuey, which deletes a task before it runs it."""

from __future__ import annotations

import os
import time

from huey import SqliteHuey

huey = SqliteHuey("bench", filename=os.environ["BENCH_HUEY_FILE"], results=True, store_none=True)


@huey.task()  # type: ignore[untyped-decorator]
def noop(number: int) -> None:
    """Do nothing, with the result stored."""


@huey.task()  # type: ignore[untyped-decorator]
def clock() -> float:
    """Return the moment at which the body was entered, in monotonic seconds."""
    return time.monotonic()
