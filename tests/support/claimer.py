"""Claims and acknowledges messages as fast as it can, without a worker around it: ``python -m support.claimer ...``."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from queuekit import Queuekit
from queuekit.broker import Ack

__all__ = ["claim_in_processes"]

_LOOK = 0.002
_TESTS = Path(__file__).parents[1]


def claim_in_processes(url: str, folder: Path, *, processes: int, batch: int) -> list[tuple[list[str], int]]:
    """Return what each of *processes* processes has claimed, *batch* messages at a time, until it got nothing more.

    With that comes how many messages were ready then: who was told that there are none must have gone short of none.
    """
    from support.waiting import wait_until  # the processes need no pytest

    gate = folder / "go"
    path = os.pathsep.join([str(_TESTS), *(str(Path(each).absolute()) for each in sys.path if each)])
    command = [sys.executable, "-m", "support.claimer", url, str(gate), str(batch)]
    running = [
        subprocess.Popen([*command, str(folder / f"claimer-{number}")], env={**os.environ, "PYTHONPATH": path})
        for number in range(processes)
    ]
    try:
        outputs = [folder / f"claimer-{number}" for number in range(processes)]
        wait_until(lambda: all(output.exists() for output in outputs), what="all claimers ready")
        gate.touch()
        wait_until(lambda: all(each.poll() is not None for each in running), what="an empty queue", timeout=400)
    finally:
        for each in running:
            each.kill()
            each.wait()
    return [tuple(json.loads(output.read_text())) for output in outputs]


def main(arguments: Sequence[str]) -> None:
    """Connect, say so by making the output, wait for the gate, claim until the queue is empty, write ids down."""
    url, gate, batch, output = arguments
    parent = os.getppid()
    app = Queuekit(broker=url)
    broker = app.runtime.broker
    broker.counts(["default"])
    Path(output).touch()
    while not Path(gate).exists():
        if os.getppid() != parent:
            sys.exit("who would open the gate is gone")
        time.sleep(_LOOK)
    ids: list[str] = []
    while deliveries := broker.receive(["default"], limit=int(batch), wait=0, lease=3600):
        ids += [delivery.id for delivery in deliveries]
        broker.settle([Ack(delivery) for delivery in deliveries])
    left = broker.counts(["default"])["default"].ready
    Path(output).write_text(json.dumps([ids, left]))
    app.close()


if __name__ == "__main__":
    main(sys.argv[1:])
