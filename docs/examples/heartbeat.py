"""Run a task every second: a schedule in code, and one that is added while everything runs.

Run ``python heartbeat.py``. It prints::

    beat
    beat
    hello from a schedule that was added
"""

import threading
from pathlib import Path

from queuekit import Queuekit, every

app = Queuekit()
BEATS = Path("beats")


@app.periodic(every("1s"))
@app.task(ignore_result=True)
def beat() -> None:
    """Leave a line in a file that the program reads."""
    with BEATS.open("a", encoding="utf-8") as file:
        file.write("beat\n")


@app.task
def greet(whom: str) -> str:
    """Return a greeting."""
    return f"hello from {whom}"


def main() -> None:
    """Work until there were two beats, and the added schedule has been run."""
    BEATS.touch()
    worker = app.worker()
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        app.schedules.add("greeting", every("1d"), greet.s("a schedule that was added"))
        greeting = app.schedules.run("greeting").get(timeout=60)
        while len(beats := BEATS.read_text(encoding="utf-8").split()) < 2:
            thread.join(0.1)
    finally:
        worker.stop()
        thread.join()
    print(*beats[:2], greeting, sep="\n")


if __name__ == "__main__":
    main()
