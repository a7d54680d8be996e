"""Fetch pages side by side in coroutines, from a program that is async itself, and cancel one that hangs.

Run ``python crawler.py``. It prints::

    /index has 6 letters
    /about has 6 letters
    /slow is CANCELLED
"""

import asyncio
import threading

from queuekit import Queuekit, TaskCancelled

app = Queuekit()


@app.task(track=True)
async def fetch(path: str) -> int:
    """Return the length of a page; the web of this example has a page that never ends."""
    await asyncio.sleep(3600 if path == "/slow" else 0.01)
    return len(path)


async def crawl() -> None:
    """Send without blocking the loop, and wait for all of it at once."""
    results = {path: await fetch.asend(path) for path in ("/index", "/about", "/slow")}
    for path in ("/index", "/about"):
        print(path, "has", await results[path].aget(timeout=60), "letters")
    results["/slow"].cancel()
    try:
        await results["/slow"].aget(timeout=60)
    except TaskCancelled:
        print("/slow is", results["/slow"].state)


def main() -> None:
    """Work in one thread, crawl in another."""
    worker = app.worker()
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        asyncio.run(crawl())
    finally:
        worker.stop()
        thread.join()


if __name__ == "__main__":
    main()
