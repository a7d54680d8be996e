"""Tasks that take turns by tenant, for real workers: each writes down in the ledger which tenant has begun."""

import os

from queuekit import Queuekit
from queuekit.context import Context
from queuekit.fair import Fair
from queuekit.limits import arg
from support.fault_tasks import wait_for
from support.ledger import write_down

__all__ = ["GATE", "WEIGHT", "app", "visit"]

WEIGHT = 9
"""Starts of the tenant ``premium`` for each one of another."""
GATE = "TEST_GATE"
"""Variable that names a file without which no body ends."""
app = Queuekit(broker="memory://")


@app.task(name="visit", fair_by=Fair(arg("tenant"), weights={"premium": WEIGHT}), ignore_result=True)
def visit(context: Context, tenant: str) -> None:
    """Wait for the gate, if there is one."""
    write_down(tenant, context.id)
    if gate := os.environ.get(GATE):
        wait_for(gate)
