"""The tasks of the shop. A worker finds this module, as it finds the ``tasks`` of each application."""

import time
from collections import Counter

from django.core import mail
from django.db import transaction
from django.db.models import F, Sum

from queuekit import Cancelled, Delays, Failure, chord, cron, current, group
from queuekit.limits import Rate
from queuekit.workflows.workflow import Chord
from queuekit_django import app_of, task
from store.models import Good, Line, Order, SoldOutError

app = app_of()

# -- an order: a chord


@task(dont_retry=SoldOutError)
def take(line_id: int) -> int:
    """Take the pieces of one line, and return what they cost."""
    with transaction.atomic():
        line = Line.objects.get(pk=line_id)
        line.take()
    return line.count * line.price


@task
def complete(order_id: int, costs: list[int]) -> int:
    """Complete an order when all its lines were taken, and return what it costs."""
    with transaction.atomic():
        order = Order.objects.get(pk=order_id)
        order.state = "complete"
        order.save(update_fields=["state"])
        send_letter.enqueue(order.to, f"order {order.number}: {sum(costs) / 100:.2f} EUR")
    return sum(costs)


@task
def refuse(order_id: int, failure: Failure) -> None:
    """Give everything back if one line could not be taken."""
    with transaction.atomic():
        order = Order.objects.get(pk=order_id)
        for line in order.lines.all():
            line.give_back()
        order.state = "refused"
        order.save(update_fields=["state"])
        send_letter.enqueue(order.to, f"order {order.number} is refused: {failure.error}")


def handling(order: Order) -> Chord[int]:
    """Return the calls that handle an order."""
    refused = refuse.registered.s(order.pk)
    done = complete.registered.s(order.pk).options(on_error=[refused])
    return chord(group(take.registered.s(pk) for pk in order.lines.values_list("pk", flat=True)), done)


# -- mail: retries while the mail server is down


@task(queue_name="mail", retries=4, retry=Delays(["1m", "10m", "1h", "4h"]), retry_on=OSError)
def send_letter(to: str, text: str) -> None:
    """Send a letter, again and again while the mail server is down."""
    mail.send_mail("Your order", text, "shop@example.org", [to])


@task(queue_name="mail", limits=[Rate("60/m", burst=10)])
def remind(to: str) -> None:
    """Remind a customer; the mail server takes one such letter a second."""
    mail.send_mail("Your basket waits", "Come back!", "shop@example.org", [to])


# -- an invoice: once, however often somebody presses the button


@task(unique=True)
def write_invoice(number: str) -> str:
    """Write an invoice; a call with the same number that still waits or runs is the same call."""
    return f"invoice for {number}"


# -- every night


@task
def nightly() -> int:
    """Report what was sold since the last report."""
    with transaction.atomic():
        orders = Order.objects.filter(state="complete", reported=False)
        sold: int = Line.objects.filter(order__in=orders).aggregate(sold=Sum("count"))["sold"] or 0
        orders.update(reported=True)
        send_letter.enqueue("boss@example.org", f"{sold} sold")
    return sold


app.periodic(cron("0 3 * * *", tz="Europe/Berlin"), nightly.registered.si(), name="nightly")

# -- a catalogue: progress in the browser, and a button that cancels


@task
def read_catalogue(rows: list[str], pause: float = 0.0) -> int:
    """Read a catalogue of lines such as ``tea 7``. A cancel changes nothing."""
    read: Counter[str] = Counter()
    run = current()
    try:
        for number, row in enumerate(rows, 1):
            good, pieces = row.split()
            read[good] += int(pieces)
            if run is not None:
                run.progress(number, len(rows), good)
            time.sleep(pause)
    except Cancelled:
        read.clear()
        raise
    with transaction.atomic():
        for good, count in read.items():
            Good.objects.get_or_create(name=good)
            Good.objects.filter(pk=good).update(pieces=F("pieces") + count)
    return len(rows)


# -- a picture: foreign code that may never end


@task(timeout="10s", time_limit="15s", pool="process")
def shrink(pixels: list[int], factor: int) -> list[int]:
    """Shrink a picture in a process of its own, which is killed at its time limit."""
    return pixels[::factor]
