"""An app whose members take a moment, and whose callbacks are written down; a worker runs it."""

import time

from queuekit import Context, Queuekit
from support.ledger import write_down

app = Queuekit()


@app.task
def member(value: int) -> int:
    """Return *value* after a moment."""
    time.sleep(0.04)
    return value


@app.task
def total(ctx: Context, values: list[int]) -> int:
    """Return the sum of *values*."""
    write_down("end", ctx.id)
    return sum(values)
