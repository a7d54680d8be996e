"""An app with schedules, for workers and schedulers that are killed."""

from queuekit import Context, Queuekit, chain, every
from support.ledger import write_down

app = Queuekit()


@app.periodic(every("500ms"), name="beat")
@app.task
def beat(ctx: Context) -> str:
    """Write down which tick this is."""
    write_down("tick", _which(ctx))
    return ctx.id


@app.task
def note(ctx: Context, word: str) -> str:
    """Write down *word* with the tick."""
    write_down(word, _which(ctx))
    return word


@app.task
def pair(ctx: Context, first: str) -> str:
    """Write down the end of a chain."""
    write_down("pair", _which(ctx))
    return first


def _which(ctx: Context) -> str:
    """Return the tick and the message: one that runs again after a kill is still one."""
    return f"{ctx.headers['cron-time']}/{ctx.id}"


app.periodic(every("2s"), chain(note.s("first"), pair.s()), name="flow")
