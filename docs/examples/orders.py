"""Handle each order once: a unique key for calls that wait, an id for calls that may be sent again.

Run ``python orders.py``. It prints::

    second send is a duplicate: True
    packed 1 parcel(s) for order 7
    invoice 7, made at attempt 0
    invoice 7, made at attempt 0
"""

from queuekit import Context, Queuekit

app = Queuekit()


@app.task(unique=True)
def pack(order: int) -> str:
    """Pack a parcel: while one call waits or runs, another one with the same order adds nothing."""
    return f"packed 1 parcel(s) for order {order}"


@app.task
def invoice(ctx: Context, order: int) -> str:
    """Write an invoice."""
    return f"invoice {order}, made at attempt {ctx.attempt}"


def main() -> None:
    """Send everything twice, as a web server does whose client retries."""
    first, second = pack.send(7), pack.send(7)
    again = [invoice.options(id="invoice-7").send(7) for _ in range(2)]
    app.worker(burst=True).run()
    print("second send is a duplicate:", second.duplicate and second.id == first.id)
    print(first.get(timeout=60))
    for result in again:
        print(result.get(timeout=60))


if __name__ == "__main__":
    main()
