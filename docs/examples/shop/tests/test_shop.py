"""What the shop promises."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from shop import tasks
from shop.store import Post, SoldOutError, Store
from shop.tasks import (
    Line,
    Order,
    app,
    complete,
    handling,
    nightly,
    read_catalogue,
    remind,
    send_mail,
    shrink,
    take,
    write_invoice,
)

from queuekit import Cancelled, State
from queuekit.errors import ArgumentsError, QueuekitError, UnavailableError
from queuekit.testing import AppQueue

NOON = datetime(2026, 3, 27, 12, tzinfo=UTC)
"""Far from the nightly report."""
pytestmark = pytest.mark.queuekit(start=NOON)
Letters = list[tuple[str, str]]
TEA, CUP = Line(good="tea", count=2, price=350), Line(good="cup", count=1, price=900)


def order(*lines: Line, number: str = "o1") -> Order:
    """Return an order."""
    return Order(number=number, to="a@example.org", lines=list(lines) or [TEA, CUP])


# -- orders


@pytest.mark.parametrize(
    ("lines", "cost"),
    [
        pytest.param([TEA], 700, id="one"),
        pytest.param([CUP], 900, id="other"),
        pytest.param([TEA, CUP], 1600, id="two"),
        pytest.param([Line(good="tea", count=10, price=1)], 10, id="all-that-there-is"),
        pytest.param([Line(good="tea", count=1, price=0)], 0, id="free"),
    ],
)
def test_an_order_costs_what_its_lines_cost(
    queue: AppQueue, stock: Store, letters: Letters, lines: Any, cost: int
) -> None:
    """The chord adds up what its members return."""
    result = app.send(handling(order(*lines)))

    queue.run()

    assert result.get() == cost
    assert stock.orders == {"o1": "complete"}
    assert letters == [("a@example.org", f"order o1: {cost / 100:.2f} EUR")]


@pytest.mark.parametrize("count", [3, 4, 100])
def test_an_order_is_refused_if_one_good_is_sold_out(
    queue: AppQueue, stock: Store, letters: Letters, count: int
) -> None:
    """And what was taken for it is given back."""
    result = app.send(handling(order(TEA, Line(good="cup", count=count, price=1))))

    queue.run(raises=False)

    assert result.state is State.FAILURE
    assert stock.orders == {"o1": "refused"}
    assert (stock.pieces["tea"], stock.pieces["cup"]) == (10, 2)
    assert letters == [("a@example.org", f"order o1 is refused: cup: {count} wanted, 2 left")]


def test_the_error_of_a_task_comes_through(queue: AppQueue, stock: Store) -> None:
    """So a test sees it as it was raised."""
    take.send("o1", Line(good="cup", count=3, price=1))

    with pytest.raises(SoldOutError, match="3 wanted, 2 left"):
        queue.run()


def test_sold_out_is_not_retried(queue: AppQueue, stock: Store) -> None:
    """Waiting brings no pieces."""
    take.send("o1", Line(good="cup", count=3, price=1))

    tally = queue.run(raises=False)

    assert (tally.failed, tally.retried) == (1, 0)
    assert queue.dead[0].error == "SoldOutError: cup: 3 wanted, 2 left"


@pytest.mark.parametrize("times", [1, 2, 3])
def test_taking_twice_takes_once(queue: AppQueue, stock: Store, times: int) -> None:
    """A message may come twice."""
    for _ in range(times):
        take.send("o1", TEA)

    queue.run()

    assert stock.pieces["tea"] == 8


def test_a_crash_takes_nothing_twice(queue: AppQueue, stock: Store) -> None:
    """The worker dies after the body, and the message comes again."""
    result = take.send("o1", TEA)

    with queue.crash():
        assert queue.run().crashed == 1
    queue.run(until="10m")

    assert (result.get(), stock.pieces["tea"]) == (700, 8)


def test_two_orders_share_the_stock(queue: AppQueue, stock: Store, letters: Letters) -> None:
    """Who comes first gets it."""
    app.send(handling(order(Line(good="cup", count=2, price=1))))
    app.send(handling(order(CUP, number="o2")))

    queue.run(raises=False)

    assert stock.orders == {"o1": "complete", "o2": "refused"}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param({"good": "tea", "count": 0, "price": 1}, id="no-piece"),
        pytest.param({"good": "tea", "count": 1, "price": -1}, id="negative-price"),
        pytest.param({"good": "tea", "price": 1}, id="no-count"),
        pytest.param({"good": None, "count": 1, "price": 1}, id="no-good"),
    ],
)
def test_wrong_lines_are_refused_before_anything_is_sent(queue: AppQueue, client: TestClient, line: Any) -> None:
    """By the web server, as by the model itself."""
    answer = client.post("/orders", json={"number": "o1", "to": "a", "lines": [line]})

    assert answer.status_code == 422
    assert queue.sent == []
    with pytest.raises(ValidationError):
        Line(**line)


@pytest.mark.parametrize("wrong", ["tea", {"good": "tea"}, 7, None])
def test_wrong_arguments_fail_in_the_test(queue: AppQueue, wrong: Any) -> None:
    """As they would in production, but at the line that sends."""
    with pytest.raises((ArgumentsError, QueuekitError)):
        take.send("o1", wrong)

    queue.assert_not_sent(take)


def test_the_web_server_takes_an_order(queue: AppQueue, client: TestClient, stock: Store, letters: Letters) -> None:
    """From the browser to the letter."""
    id = client.post("/orders", json=order().model_dump()).json()["id"]

    assert queue.run().done == 4
    assert app.result(id).get() == 1600
    assert client.get("/goods/tea").json() == 8
    queue.assert_sent(complete, order())


def test_the_web_server_says_that_the_broker_is_down(queue: AppQueue, client: TestClient) -> None:
    """And when to come back."""
    with queue.broker_down():
        answer = client.post("/orders", json=order().model_dump())

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


# -- mail


class Down(Post):
    """A mail server that is down for the first attempts."""

    def __init__(self, attempts: int) -> None:
        super().__init__()
        self.attempts = attempts

    def send(self, to: str, text: str) -> None:
        """Send one letter, or fail."""
        if self.attempts > 0:
            self.attempts -= 1
            raise ConnectionError("no mail server")
        super().send(to, text)


PAUSES = [60, 600, 3600, 14400]


@pytest.mark.parametrize("attempts", range(5))
def test_mail_is_sent_when_the_server_is_up_again(queue: AppQueue, attempts: int) -> None:
    """Each pause is longer than the one before."""
    down, begun = Down(attempts), queue.now
    queue.override(tasks.post, down)
    send_mail.send("a@example.org", "hello")

    tally = queue.run(until="6h")

    assert (tally.done, tally.retried) == (1, attempts)
    assert down.letters == [("a@example.org", "hello")]
    due = [call.due for call in queue.sent]
    assert due == [begun]


def test_mail_is_given_up_after_five_hours(queue: AppQueue) -> None:
    """Then it is a dead letter, which an operator can replay."""
    begun = queue.now
    queue.override(tasks.post, Down(99))
    send_mail.send("a@example.org", "hello")

    with pytest.raises(ConnectionError):
        queue.run(until="6h")

    assert queue.now - begun == timedelta(seconds=sum(PAUSES))
    assert queue.dead[0].reason == "failed"


@pytest.mark.queuekit(leftovers=True, start=NOON)
def test_mail_waits_for_its_retry(queue: AppQueue) -> None:
    """Nothing else happens until then."""
    queue.override(tasks.post, Down(1))
    send_mail.send("a@example.org", "hello")

    tally = queue.run()

    assert (tally.retried, tally.waiting) == (1, 1)


@pytest.mark.parametrize("to", ["a@example.org", "ä@example.org", "", "x" * 1000])
def test_mail_reaches_its_reader(queue: AppQueue, letters: Letters, to: str) -> None:
    """Whatever the address is."""
    send_mail.send(to, "hello")

    queue.run()

    assert letters == [(to, "hello")]


def test_reminders_keep_to_their_rate(queue: AppQueue, letters: Letters) -> None:
    """60 a minute, of which ten may go at once."""
    for number in range(70):
        remind.send(str(number))

    assert [queue.run(until=seconds).done for seconds in (0, 30, 30)] == [10, 30, 30]
    assert [to for to, _ in letters] == [str(number) for number in range(70)]


# -- invoices


@pytest.mark.parametrize("presses", [2, 3, 10])
def test_an_invoice_is_written_once(queue: AppQueue, client: TestClient, presses: int) -> None:
    """However often the button is pressed."""
    answers = [client.post("/invoices/o1").json() for _ in range(presses)]

    assert queue.run().done == 1
    assert {answer["id"] for answer in answers} == {answers[0]["id"]}
    assert [answer["duplicate"] for answer in answers] == [False, *[True] * (presses - 1)]
    assert app.result(answers[0]["id"], write_invoice).get() == "invoice for o1"


def test_another_invoice_is_another_call(queue: AppQueue) -> None:
    """The number is the key."""
    write_invoice.send("o1")
    write_invoice.send("o2")

    assert queue.run().done == 2


def test_an_invoice_can_be_written_again(queue: AppQueue) -> None:
    """Once the first call has ended."""
    for _ in range(2):
        assert not write_invoice.send("o1").duplicate
        queue.run()


# -- every night


def test_the_report_keeps_its_time_of_day(queue: AppQueue, stock: Store, letters: Letters) -> None:
    """Also when the clocks change in Berlin."""
    queue.run(until="3d")

    assert [call.due.hour for call in queue.sent if call.task == nightly.name] == [2, 1, 1]


@pytest.mark.parametrize("sold", [0, 1, 7])
def test_the_report_counts_what_was_sold(queue: AppQueue, stock: Store, letters: Letters, sold: int) -> None:
    """And begins anew."""
    stock.sales["tea"] = sold
    result = nightly.send()

    queue.run()

    assert (result.get(), letters) == (sold, [("boss@example.org", f"{sold} sold")])
    assert not stock.sales


# -- catalogues


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_a_catalogue_is_read(queue: AppQueue, client: TestClient, stock: Store, rows: int) -> None:
    """And its progress ends at its length."""
    id = client.post("/catalogues", json=["tea 1"] * rows).json()["id"]

    queue.run()

    result = app.result(id, read_catalogue)
    assert (result.get(), stock.pieces["tea"], result.progress) == (rows, 10 + rows, (rows, rows, "tea"))


def test_the_browser_sees_the_end(queue: AppQueue, client: TestClient, stock: Store) -> None:
    """As an event."""
    id = client.post("/catalogues", json=["tea 1"]).json()["id"]
    queue.run()

    assert '"state": "SUCCESS"' in client.get(f"/catalogues/{id}/events").text


def test_the_browser_sees_an_error(queue: AppQueue, client: TestClient, stock: Store) -> None:
    """With its text."""
    id = client.post("/catalogues", json=["tea many"]).json()["id"]
    queue.run(raises=False)

    assert "invalid literal for int()" in client.get(f"/catalogues/{id}/events").text


def test_a_catalogue_that_waits_is_cancelled(queue: AppQueue, client: TestClient, stock: Store) -> None:
    """It is never read."""
    id = client.post("/catalogues", json=["tea 1"]).json()["id"]

    assert client.delete(f"/catalogues/{id}").json() == {"cancelled": True}
    queue.run()

    assert (app.result(id).state, stock.pieces["tea"]) == (State.CANCELLED, 10)


def test_a_catalogue_that_was_read_is_not_cancelled(queue: AppQueue, client: TestClient, stock: Store) -> None:
    """It is too late."""
    id = client.post("/catalogues", json=["tea 1"]).json()["id"]
    queue.run()

    assert client.delete(f"/catalogues/{id}").json() == {"cancelled": False}


def test_a_cancel_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task can be called as the function that it is."""

    def cancel(_seconds: float) -> None:
        raise Cancelled

    monkeypatch.setattr(time, "sleep", cancel)
    stock = Store()

    with pytest.raises(Cancelled):
        read_catalogue(["tea 1", "tea 1"], store=stock)

    assert not stock.pieces


@pytest.mark.parametrize("id", ["00000000-0000-7000-8000-000000000000", "no id!", "x" * 200])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_no_catalogue_is_not_found(client: TestClient, id: str, method: str) -> None:
    """Nor is the message of another task."""
    path = f"/catalogues/{id}/events" if method == "GET" else f"/catalogues/{id}"

    assert client.request(method, path).status_code == 404


# -- pictures


@pytest.mark.parametrize(("factor", "left"), [(1, [1, 2, 3, 4]), (2, [1, 3]), (5, [1])])
def test_a_picture_shrinks(queue: AppQueue, factor: int, left: list[int]) -> None:
    """In a test it runs here."""
    result = shrink.send([1, 2, 3, 4], factor)

    queue.run()

    assert result.get() == left


def test_a_picture_has_a_process_and_a_hard_limit() -> None:
    """A body that never ends is killed alone."""
    assert (shrink.defaults.pool, shrink.defaults.timeout, shrink.defaults.time_limit) == ("process", 10.0, 15.0)


def test_sends_fail_while_the_broker_is_down(queue: AppQueue) -> None:
    """With an error to catch."""
    with queue.broker_down(), pytest.raises(UnavailableError):
        shrink.send([1], 1)
