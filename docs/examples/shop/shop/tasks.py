"""The tasks of the shop. Workers import this module only."""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated

from pydantic import BaseModel, Field

from queuekit import Cancelled, Context, Delays, Failure, Queuekit, Signature, chord, cron, group
from queuekit.limits import Rate
from queuekit.resources import Use
from queuekit.workflows.workflow import Chord
from shop.store import Post, SoldOutError, Store

app = Queuekit(broker="sqlite:///shop.db")


@app.resource(scope="worker")
def store() -> Store:
    """Return what all tasks of a worker share."""
    return Store(tea=100, cup=10)


@app.resource(scope="worker")
def post() -> Post:
    """Return the way to the mail server."""
    return Post()


Stock = Annotated[Store, Use(store)]
Mail = Annotated[Post, Use(post)]


class Line(BaseModel):
    """A line of an order."""

    good: str
    count: int = Field(gt=0)
    price: int = Field(ge=0)
    """Cents a piece."""


class Order(BaseModel):
    """What a customer orders."""

    number: str
    to: str
    lines: list[Line] = Field(min_length=1)


# -- an order: a chord


@app.task(dont_retry=SoldOutError)
def take(order: str, line: Line, store: Stock = Use.injected) -> int:
    """Take the pieces of one line, and return what they cost."""
    store.take(order, line.good, line.count)
    return line.count * line.price


@app.task
def complete(order: Order, costs: list[int], store: Stock = Use.injected) -> int:
    """Complete an order when all its lines were taken, and return what it costs."""
    store.orders[order.number] = "complete"
    for line in order.lines:
        store.sales[line.good] += line.count
    send_mail.send(order.to, f"order {order.number}: {sum(costs) / 100:.2f} EUR")
    return sum(costs)


@app.task
def refuse(order: str, to: str, failure: Failure, store: Stock = Use.injected) -> None:
    """Give everything back if one line could not be taken."""
    store.give_back(order)
    store.orders[order] = "refused"
    send_mail.send(to, f"order {order} is refused: {failure.error}")


def handling(order: Order) -> Chord[int]:
    """Return the calls that handle an order."""
    refused: Signature[None] = refuse.s(order.number, order.to)
    done = complete.s(order).options(on_error=[refused])
    return chord(group(take.s(order.number, line) for line in order.lines), done)


# -- mail: retries while the mail server is down


@app.task(retries=4, retry=Delays(["1m", "10m", "1h", "4h"]), retry_on=OSError)
def send_mail(to: str, text: str, post: Mail = Use.injected) -> None:
    """Send a letter, again and again while the mail server is down."""
    post.send(to, text)


@app.task(limits=[Rate("60/m", burst=10)])
def remind(to: str, post: Mail = Use.injected) -> None:
    """Remind a customer; the mail server takes one such letter a second."""
    post.send(to, "your basket waits")


# -- an invoice: once, however often somebody presses the button


@app.task(unique=True)
def write_invoice(number: str) -> str:
    """Write an invoice; a call with the same number that still waits or runs is the same call."""
    return f"invoice for {number}"


# -- every night


@app.periodic(cron("0 3 * * *", tz="Europe/Berlin"))
@app.task
def nightly(store: Stock = Use.injected, post: Mail = Use.injected) -> int:
    """Report the sales of the day, and begin to count anew."""
    sold = sum(store.sales.values())
    post.send("boss@example.org", f"{sold} sold")
    store.sales.clear()
    return sold


# -- a catalogue: progress in the browser, and a button that cancels


@app.task
def read_catalogue(ctx: Context, rows: list[str], pause: float = 0.0, store: Stock = Use.injected) -> int:
    """Read a catalogue of lines such as ``tea 7``. A cancel changes nothing."""
    read: Counter[str] = Counter()
    try:
        for number, row in enumerate(rows, 1):
            good, pieces = row.split()
            read[good] += int(pieces)
            ctx.progress(number, len(rows), good)
            time.sleep(pause)
    except Cancelled:
        read.clear()
        raise
    finally:
        store.pieces.update(read)
    return len(rows)


# -- a picture: foreign code that may never end


@app.task(timeout="10s", time_limit="15s", pool="process")
def shrink(pixels: list[int], factor: int) -> list[int]:
    """Shrink a picture in a process of its own, which is killed at its time limit."""
    return pixels[::factor]
