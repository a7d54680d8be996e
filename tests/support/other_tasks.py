"""Another app, whose tasks the first does not know; both may work on one queue."""

from queuekit import Context, Queuekit
from support.ledger import write_down

app = Queuekit()


@app.task
def elsewhere(ctx: Context) -> str:
    """Run here, and only here."""
    write_down("begin", ctx.id)
    write_down("end", ctx.id)
    return "here"
