"""A program that has used its app, forks, and whose children use the app as well; run by a test.

It takes URLs from the environment, and exits with 0 if each child has sent and got a result, in its own event loop or
without one.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable

from queuekit import Queuekit
from queuekit.worker import Worker

PATIENCE = 300
app = Queuekit(send_timeout=PATIENCE)


@app.task(name="same")
def same(x: int) -> int:
    """Return *x*."""
    return x


@app.task(name="never", queue="nobody")
def never() -> None:
    """Wait on a queue without a worker."""


async def call(x: int) -> int:
    """Send and wait, as a handler of a web app does."""
    return await (await same.asend(x)).aget(timeout=PATIENCE)


def ends_well(work: Callable[[], object]) -> bool:
    """Return whether *work* ends without an error in a fork."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def both() -> None:
    """Use the app with and without an event loop."""
    assert asyncio.run(call(3)) == 3
    assert same.send(4).get(timeout=PATIENCE) == 4


def after_sync() -> bool:
    """Fork after calls without an event loop."""
    assert same.send(1).get(timeout=PATIENCE) == 1
    return ends_well(both)


def after_async() -> bool:
    """Fork after calls of an event loop that has ended."""
    assert asyncio.run(call(1)) == 1
    return ends_well(both)


async def while_waiting() -> bool:
    """Fork under a running event loop, in which 30 calls wait for what is not there yet."""
    pending = [asyncio.ensure_future((await never.asend()).aget(timeout=PATIENCE)) for _ in range(30)]
    assert await call(1) == 1
    good = ends_well(both) and ends_well(both)
    for one in pending:
        one.cancel()
    return good and await call(5) == 5


def main() -> int:
    """Fork in each way, beside a worker."""
    worker = Worker(app)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    good = after_sync() and after_async() and asyncio.run(while_waiting())
    worker.stop("the test is over")
    thread.join(PATIENCE)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
