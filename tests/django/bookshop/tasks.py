"""Its tasks. What they see goes to lists, which tests empty."""

import threading
from typing import Any

from django.db import connection, transaction
from django.tasks import TaskContext
from django.tasks import task as task_of_django

from queuekit import Failure
from queuekit.limits import Rate
from queuekit_django import task

ATTEMPTS: list[int] = []
SEEN: list[Any] = []


@task_of_django
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@task(queue_name="mail", retries=2, timeout="30s")
def send_mail(to: str) -> str:
    """Fail at the first attempt."""
    ATTEMPTS.append(1)
    if len(ATTEMPTS) == 1:
        raise ConnectionError(f"no server for {to}")
    return f"sent to {to}"


@task(takes_context=True)
def whoami(context: TaskContext, *, more: str = "") -> list[Any]:
    """Return what the context says."""
    return [context.task_result.id, context.attempt, list(context.task_result.worker_ids), more]


@task
def fail() -> None:
    """Raise."""
    raise LookupError("nothing there")


@task
def note(shelf: int, failure: Failure) -> str:
    """Return what has failed."""
    return f"{shelf}: {failure.error}"


@task
async def double(x: int) -> int:
    """Return twice the number."""
    return 2 * x


@task(unique=True)
def rebuild(shelf: int) -> int:
    """Return the shelf."""
    return shelf


@task(ignore_result=True)
def forgotten() -> None:
    """Return nothing that is kept."""


@task(limits=[Rate("5/s")], priority=40)
def limited() -> None:
    """Do nothing, with a limit."""


@task
def sends_on_commit() -> None:
    """Send a call in a transaction."""
    with transaction.atomic():
        add.enqueue(1, 2)
        transaction.on_commit(lambda: SEEN.append("committed"))
        assert not SEEN


@task
def fails_on_commit(*, robust: bool) -> None:
    """Set an error off by a commit."""
    with transaction.atomic():
        transaction.on_commit(lambda: 1 / 0, robust=robust)


@task
def query() -> int:
    """Ask the database, and note the connection and the thread."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        (found,) = cursor.fetchone()
    SEEN.append((threading.get_ident(), id(connection.connection)))
    return int(found)


@task
async def aquery() -> int:
    """Ask the database from a coroutine."""
    from asgiref.sync import sync_to_async

    found: int = await sync_to_async(query.func)()
    return found
