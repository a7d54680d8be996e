"""The tasks of ``fault_tasks``, and one whose calls merge, for workers that have a result backend."""

from queuekit import UniqueKey
from support.fault_tasks import app, wait_for
from support.ledger import write_down

__all__ = ["app", "newest"]


@app.task(unique=UniqueKey(key="newest", on_conflict="latest"))
def newest(gate: str, n: int) -> int:
    """Run until the file *gate* is there; calls during that run become one more."""
    write_down("begin", f"run-{n}")
    wait_for(gate)
    return n
