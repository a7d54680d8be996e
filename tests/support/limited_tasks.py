"""Tasks with a concurrency limit, for workers that are killed: each writes down when its body begins and ends."""

import time
from collections.abc import Mapping, Sequence

from queuekit import Queuekit
from queuekit.context import Context
from queuekit.limits import Concurrency
from support.fault_tasks import wait_for
from support.ledger import Line, write_down

__all__ = ["MOST", "app", "call", "hold", "most_at_a_time"]

MOST = 3
"""Bodies at the same time."""
app = Queuekit(broker="memory://")


@app.task(name="call", limits=[Concurrency(MOST, name="crm")], ignore_result=True)
def call(context: Context, seconds: float) -> None:
    """Take a while."""
    write_down("begin", context.id)
    time.sleep(seconds)
    write_down("end", context.id)


@app.task(name="hold", limits=[Concurrency(MOST, name="crm")], ignore_result=True)
def hold(context: Context, gate: str) -> None:
    """Run until the file *gate* is there."""
    write_down("begin", context.id)
    wait_for(gate)
    write_down("end", context.id)


def most_at_a_time(lines: Sequence[Line], killed: Mapping[int, float]) -> int:
    """Return how many bodies were inside at the same time; those of killed processes until then."""
    ends: dict[tuple[str, int], float] = {(line.id, line.pid): line.at for line in lines if line.status == "end"}
    steps: list[tuple[float, int]] = []
    for line in lines:
        if line.status == "begin":
            end = ends.get((line.id, line.pid), killed.get(line.pid))
            assert end is not None, f"{line} has neither ended nor been killed"
            steps += [(line.at, 1), (end, -1)]
    inside = most = 0
    for _, change in sorted(steps):
        inside += change
        most = max(most, inside)
    return most
