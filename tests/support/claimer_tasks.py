"""An app on a broker whose leases only the process that claimed can renew; its tasks write into the ledger."""

import ctypes
import os
import time
from pathlib import Path

from queuekit import Context, Queuekit
from support.ledger import LEDGER, Ledger, write_down

app = Queuekit(plugins={"load": ["support.of_the_claimer"]})


@app.task
def nap(ctx: Context, seconds: float) -> None:
    """Take *seconds*, without keeping anybody from computing meanwhile."""
    write_down("begin", ctx.id)
    time.sleep(seconds)
    write_down("end", ctx.id)


@app.task
def hog_once(ctx: Context, seconds: float) -> None:
    """Hold the interpreter for *seconds*, unless the message has been here before."""
    write_down("begin", ctx.id)
    if Ledger(Path(os.environ[LEDGER])).counts("begin")[ctx.id] == 1:
        ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    write_down("end", ctx.id)
