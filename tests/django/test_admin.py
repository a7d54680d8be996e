"""Pages of the admin: who may see and retry what, and that hostile text stays text."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("django.tasks", reason="Django 6 needs Python 3.12 or later; `tox -e django` runs these tests")

from bookshop import tasks
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import setup_test_environment, teardown_test_environment

from queuekit.broker import Place
from queuekit.operations.admin import Admin
from queuekit_django import app_of

DEAD = "/admin/queuekit_django/failedmessage/"
RESULTS = "/admin/queuekit_django/taskoutcome/"


@pytest.fixture(scope="module", autouse=True)
def _database() -> Iterator[None]:
    """Make the tables of users and sessions."""
    setup_test_environment()
    call_command("migrate", verbosity=0)
    yield
    connection.close()
    teardown_test_environment()


@pytest.fixture
def user(use: Callable[..., None]) -> Iterator[Callable[..., Client]]:
    """Return a function that logs a member of the staff in, who has these permissions only."""
    made: list[User] = []

    def user(*permissions: str) -> Client:
        who = User.objects.create_user(f"ann{len(made)}", password="secret", is_staff=True)  # noqa: S106 - a test's
        who.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        made.append(who)
        client = Client(enforce_csrf_checks=False)
        client.force_login(who)
        return client

    yield user
    for one in made:
        one.delete()


def letters() -> list[Any]:
    """Return the dead letters."""
    return list(app_of().runtime.broker.walk("default", Place.DEAD))


def test_a_dead_letter_is_retried_by_who_may(user: Callable[..., Client], work: Callable[..., None]) -> None:
    """One permission shows dead letters, another retries them, and the record of the action has the user's name."""
    sent = tasks.fail.enqueue()
    work()
    looking, acting = user("view_failedmessage"), user("view_failedmessage", "retry_failedmessage")
    chosen = {"letter": [f"default {sent.id}"]}

    shown, refused = looking.get(DEAD), looking.post(DEAD, chosen)

    assert sent.id in shown.text
    assert "Retry" not in shown.text
    assert (refused.status_code, len(letters())) == (403, 1)
    assert acting.post(DEAD, chosen).status_code == 302
    assert not letters()
    (action,) = Admin(app_of()).actions()
    assert (action.what, action.by, action.ids) == ("dlq retry", "ann1", (sent.id,))


def test_results_are_shown_to_who_may_view_them(user: Callable[..., Client], work: Callable[..., None]) -> None:
    """The list leads to what is known of an id, and text from messages is escaped."""
    sent = tasks.send_mail.using(retries=0).enqueue("<script>alert(1)</script>")
    work()
    client = user("view_taskoutcome")

    listed, shown = client.get(RESULTS), client.get(RESULTS, {"id": sent.id})

    assert sent.id in listed.text
    assert "bookshop.tasks.send_mail" in shown.text
    assert "ConnectionError" in shown.text
    assert "<script>alert" not in shown.text
    assert client.get(DEAD).status_code == 403
    assert "Unknown id" in client.get(RESULTS, {"id": "nothing"}).text


def test_an_engine_that_fails_is_a_message(user: Callable[..., Client], use: Callable[..., None]) -> None:
    """The page says what is wrong, instead of an error of the server."""
    client = user("view_taskoutcome")
    use(backend="none")

    shown = client.get(RESULTS)

    assert shown.status_code == 200
    assert "needs a result backend" in shown.text
