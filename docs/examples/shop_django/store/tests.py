"""What the shop promises: ``python manage.py test``. No broker, no worker, no waiting."""

import time
from contextlib import suppress
from datetime import timedelta
from unittest.mock import patch
from zoneinfo import ZoneInfo

from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core import mail
from django.db import transaction
from django.test import TestCase

from queuekit import Cancelled, State
from queuekit.testing import QueueMixin
from store.models import Good, Line, Order, SoldOutError
from store.tasks import (
    app,
    complete,
    handling,
    nightly,
    read_catalogue,
    remind,
    send_letter,
    shrink,
    take,
    write_invoice,
)


class ShopCase(QueueMixin, TestCase):
    """A test with goods and a queue."""

    queue_app = app

    def setUp(self) -> None:
        """Put goods in the shop."""
        super().setUp()
        Good.objects.create(name="tea", pieces=10)
        Good.objects.create(name="cup", pieces=2)

    def order(self, number: str = "o1", **counts: int) -> Order:
        """Return an order that is stored; each piece is 3.50 EUR."""
        order = Order.objects.create(number=number, to="a@example.org")
        for good, count in counts.items():
            Line.objects.create(order=order, good_id=good, count=count, price=350)
        return order

    def line(self, **counts: int) -> Line:
        """Return the line of an order that has one."""
        return self.order(**counts).lines.get()

    def letters(self) -> list[str]:
        """Return the texts of the letters, which Django's tests keep."""
        return [str(letter.body) for letter in mail.outbox]

    def pieces(self, good: str) -> int:
        """Return how many pieces there are."""
        return Good.objects.get(pk=good).pieces


class TestOrders(ShopCase):
    """A chord: lines are taken, then the order is complete or refused."""

    def test_an_order_costs_what_its_lines_cost(self) -> None:
        """The chord adds up what its members return."""
        result = app.send(handling(self.order(tea=2, cup=1)))

        self.queue.run()

        self.assertEqual(result.get(), 1050)
        self.assertEqual(Order.objects.get().state, "complete")
        self.assertEqual(self.letters(), ["order o1: 10.50 EUR"])

    def test_an_order_is_refused_if_one_good_is_sold_out(self) -> None:
        """And what was taken for it is given back."""
        result = app.send(handling(self.order(tea=2, cup=3)))

        self.queue.run(raises=False)

        self.assertEqual(result.state, State.FAILURE)
        self.assertEqual(Order.objects.get().state, "refused")
        self.assertEqual((self.pieces("tea"), self.pieces("cup")), (10, 2))
        self.assertEqual(self.letters(), ["order o1 is refused: cup: 3 wanted, 2 left"])

    def test_the_error_of_a_task_comes_through(self) -> None:
        """So a test sees it as it was raised."""
        take.enqueue(self.line(cup=3).pk)

        with self.assertRaisesMessage(SoldOutError, "3 wanted, 2 left"):
            self.queue.run()

    def test_sold_out_is_not_retried(self) -> None:
        """Waiting brings no pieces."""
        take.enqueue(self.line(cup=3).pk)

        tally = self.queue.run(raises=False)

        self.assertEqual((tally.failed, tally.retried), (1, 0))
        self.assertEqual(self.queue.dead[0].error, "SoldOutError: cup: 3 wanted, 2 left")

    def test_taking_twice_takes_once(self) -> None:
        """A message may come twice."""
        line = self.line(tea=2)
        for _ in range(3):
            take.enqueue(line.pk)

        self.queue.run()

        self.assertEqual(self.pieces("tea"), 8)

    def test_a_crash_takes_nothing_twice(self) -> None:
        """The worker dies after the body, and the message comes again."""
        result = take.enqueue(self.line(tea=2).pk)

        with self.queue.crash():
            self.assertEqual(self.queue.run().crashed, 1)
        self.queue.run(until="10m")

        result.refresh()
        self.assertEqual((result.return_value, self.pieces("tea")), (700, 8))

    def test_the_web_server_takes_an_order(self) -> None:
        """From the browser to the letter."""
        rows = [{"good": "tea", "count": 2, "price": 350}]

        answer = self.client.post(
            "/orders", {"number": "o1", "to": "a@example.org", "lines": rows}, content_type="application/json"
        )
        self.queue.run()

        self.assertEqual(app.result(answer.json()["id"]).get(), 700)
        self.assertEqual(self.client.get("/goods/tea").json(), {"pieces": 8})
        self.queue.assert_sent(complete.registered, Order.objects.get().pk)

    def test_a_wrong_order_is_refused_before_anything_is_sent(self) -> None:
        """By the models, and nothing of it is stored."""
        for row in (
            {"good": "tea", "count": -1, "price": 1},
            {"good": "milk", "count": 1, "price": 1},
            {"good": "tea"},
        ):
            with self.subTest(row=row):
                answer = self.client.post(
                    "/orders", {"number": "o1", "to": "a@example.org", "lines": [row]}, content_type="application/json"
                )
                self.assertEqual((answer.status_code, Order.objects.count()), (422, 0))
        self.assertEqual(self.queue.sent, [])

    def test_the_web_server_says_that_the_broker_is_down(self) -> None:
        """And when to come back."""
        with self.queue.broker_down():
            answer = self.client.post(
                "/orders", {"number": "o1", "to": "a@example.org", "lines": []}, content_type="application/json"
            )

        self.assertEqual((answer.status_code, answer.headers["retry-after"]), (503, "5"))
        self.assertEqual(Order.objects.count(), 0)


class TestMail(ShopCase):
    """Letters are sent again and again while the mail server is down."""

    def test_mail_is_sent_when_the_server_is_up_again(self) -> None:
        """Each pause is longer than the one before."""
        send_letter.enqueue("a@example.org", "hello")

        with patch.object(mail, "send_mail", side_effect=[ConnectionError, ConnectionError, 1]) as send:
            tally = self.queue.run(until="6h")

        self.assertEqual((tally.done, tally.retried, send.call_count), (1, 2, 3))

    def test_mail_is_given_up_after_five_hours(self) -> None:
        """Then it is a dead letter, which the admin shows and retries."""
        begun = self.queue.now
        send_letter.enqueue("a@example.org", "hello")

        with (
            patch.object(mail, "send_mail", side_effect=ConnectionError("no server")),
            self.assertRaises(ConnectionError),
        ):
            self.queue.run(until="6h")

        self.assertEqual(self.queue.now - begun, timedelta(seconds=60 + 600 + 3600 + 14400))
        self.assertEqual(self.queue.dead[0].reason, "failed")

    def test_reminders_keep_to_their_rate(self) -> None:
        """60 a minute, of which ten may go at once."""
        for number in range(70):
            remind.enqueue(str(number))

        done = [self.queue.run(until=seconds).done for seconds in (0, 30, 30)]

        self.assertEqual(done, [10, 30, 30])
        self.assertEqual([letter.to for letter in mail.outbox], [[str(number)] for number in range(70)])


class TestInvoices(ShopCase):
    """An invoice is written once, however often the button is pressed."""

    def test_an_invoice_is_written_once(self) -> None:
        """The call that waits stands for all."""
        ids = {self.client.post("/invoices/o1").json()["id"] for _ in range(3)}

        self.assertEqual((self.queue.run().done, len(ids)), (1, 1))
        self.assertEqual(write_invoice.get_result(ids.pop()).return_value, "invoice for o1")

    def test_another_invoice_is_another_call(self) -> None:
        """The number is the key."""
        write_invoice.enqueue("o1")
        write_invoice.enqueue("o2")

        self.assertEqual(self.queue.run().done, 2)

    def test_ids_before_the_commit_stay_good(self) -> None:
        """In a transaction nobody knows yet whether another message holds the key."""
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            ids = [write_invoice.enqueue("o1").id for _ in range(2)]

        self.assertEqual((self.queue.run().done, len(set(ids))), (1, 2))
        self.assertEqual({write_invoice.get_result(id).return_value for id in ids}, {"invoice for o1"})

    def test_a_rollback_sends_nothing(self) -> None:
        """With the option ``on_commit``, as with a row."""
        with suppress(SoldOutError), transaction.atomic():
            write_invoice.enqueue("o1")
            raise SoldOutError

        self.queue.assert_not_sent(write_invoice.registered)


class TestReport(ShopCase):
    """The report of the night."""

    def test_the_report_counts_what_was_sold_since_the_last_one(self) -> None:
        """And begins anew."""
        app.send(handling(self.order(tea=2, cup=1)))
        self.queue.run()
        mail.outbox.clear()

        for _ in range(2):
            nightly.enqueue()
            self.queue.run()

        self.assertEqual(self.letters(), ["3 sold", "0 sold"])

    def test_the_report_comes_every_night(self) -> None:
        """By itself."""
        self.queue.run(until="3d")

        times = [call.due for call in self.queue.sent if call.task == nightly.module_path]
        self.assertEqual(len(times), 3)
        self.assertEqual({at.astimezone(ZoneInfo("Europe/Berlin")).hour for at in times}, {3})


class TestCatalogues(ShopCase):
    """Progress in the browser, and a button that cancels."""

    def read(self, *rows: str) -> str:
        """Have a catalogue read, and return its id."""
        return str(self.client.post("/catalogues", list(rows), content_type="application/json").json()["id"])

    async def events(self, id: str) -> str:
        """Return what the browser is told."""
        answer = await self.async_client.get(f"/catalogues/{id}/events")
        return b"".join([part async for part in answer]).decode()

    def test_a_catalogue_is_read(self) -> None:
        """And its progress ends at its length."""
        id = self.read(*["tea 1"] * 50)

        self.queue.run()

        result = app.result(id, read_catalogue.registered)
        self.assertEqual((result.get(), result.progress, self.pieces("tea")), (50, (50, 50, "tea"), 60))

    def test_the_browser_sees_the_end(self) -> None:
        """As an event."""
        id = self.read("tea 1")
        self.queue.run()

        self.assertIn('"state": "SUCCESS"', async_to_sync(self.events)(id))

    def test_the_browser_sees_an_error(self) -> None:
        """With its text."""
        id = self.read("tea many")
        self.queue.run(raises=False)

        self.assertIn("invalid literal for int()", async_to_sync(self.events)(id))

    def test_a_catalogue_that_waits_is_cancelled(self) -> None:
        """It is never read."""
        id = self.read("tea 1")

        self.assertEqual(self.client.delete(f"/catalogues/{id}").json(), {"cancelled": True})
        self.queue.run()

        self.assertEqual((app.result(id).state, self.pieces("tea")), (State.CANCELLED, 10))

    def test_a_cancel_changes_nothing(self) -> None:
        """A task can be called as the function that it is."""
        with patch.object(time, "sleep", side_effect=Cancelled), self.assertRaises(Cancelled):
            read_catalogue.call(["tea 1", "tea 1"])

        self.assertEqual(self.pieces("tea"), 10)

    def test_what_is_no_catalogue_is_not_found(self) -> None:
        """Nor is the message of another task."""
        for id in ("00000000-0000-7000-8000-000000000000", "no id!", "x" * 200):
            with self.subTest(id=id):
                self.assertEqual(self.client.delete(f"/catalogues/{id}").status_code, 404)


class TestPictures(ShopCase):
    """Foreign code that may never end."""

    def test_a_picture_shrinks(self) -> None:
        """In a test it runs here."""
        id = self.client.post("/pictures", [1, 2, 3, 4], content_type="application/json").json()["id"]

        self.queue.run()

        self.assertEqual(shrink.get_result(id).return_value, [1, 3])

    def test_a_picture_has_a_process_and_a_hard_limit(self) -> None:
        """A body that never ends is killed alone."""
        self.assertEqual((shrink.pool, shrink.timeout, shrink.time_limit), ("process", "10s", "15s"))


class TestAdmin(ShopCase):
    """What operators see."""

    def setUp(self) -> None:
        """Log an operator in."""
        super().setUp()
        self.client.force_login(User.objects.create_superuser("ann"))

    def test_dead_letters_are_retried(self) -> None:
        """The page puts them back on their queues."""
        take.enqueue(self.line(cup=3).pk)
        self.queue.run(raises=False)
        Good.objects.filter(pk="cup").update(pieces=3)
        (dead,) = self.queue.dead

        page = "/admin/queuekit_django/failedmessage/"
        self.assertContains(self.client.get(page), "cup: 3 wanted, 2 left")
        self.client.post(page, {"letter": f"default {dead.id}"})

        self.assertEqual((self.queue.run().done, self.pieces("cup")), (1, 0))

    def test_customers_are_reminded(self) -> None:
        """An action of the admin sends tasks."""
        order = self.order(tea=1)

        self.client.post("/admin/store/order/", {"action": "remind_customers", "_selected_action": [order.pk]})

        self.queue.assert_sent(remind.registered, "a@example.org")
        self.queue.run()
