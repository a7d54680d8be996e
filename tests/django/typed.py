"""What type checkers must say about tasks of Django: right where it is right, and red where it is not.

Nothing here runs. ``tox -e django`` checks it with mypy --strict and the stubs of Django. Each planted error is marked,
and a mark that hides no error is an error itself.
"""

from typing import Any, assert_type

from django.tasks import Task, TaskContext

from queuekit import Result
from queuekit.limits import Rate
from queuekit_django import task


@task
def add(a: int, b: int) -> int:
    """Be a plain task."""
    return a + b


@task(queue_name="mail", retries=3, timeout="30s", limits=[Rate("100/m")], unique=True)
def send_receipt(order: int, *, to: str = "") -> str:
    """Have options of Django and of queuekit."""
    return f"{order} {to}"


@task(takes_context=True, retries=1)
def numbered(context: TaskContext[Any, Any], step: int) -> int:
    """Take a context, which callers do not give."""
    return context.attempt + step


@task(priority=10, pool="thread")
async def fetch(url: str) -> bytes:
    """Be a coroutine function."""
    return url.encode()


assert_type(add.enqueue(1, b=2).return_value, int)
assert_type(send_receipt.enqueue(1, to="a@example.org").return_value, str)
assert_type(numbered.enqueue(1).return_value, int)
assert_type(fetch.enqueue("/").return_value, bytes)
assert_type(add.registered.send(1, 2), Result[int])
assert_type(add.using(priority=5, retries=0, timeout="1m").enqueue(1, 2).return_value, int)
some_task: Task[..., Any] = add

add.enqueue("1", 2)  # type: ignore[arg-type]
add.enqueue(1)  # type: ignore[call-arg]
send_receipt.enqueue(1, too="x")  # type: ignore[call-arg]
numbered.enqueue()  # type: ignore[call-arg]
add.using(retries="3")  # type: ignore[arg-type]
add.using(limits=[])  # type: ignore[call-arg]


@task(retires=3)  # type: ignore[call-overload, untyped-decorator]
def misspelled() -> None:
    """Have an option that does not exist."""


@task(timeout=object())  # type: ignore[call-overload, untyped-decorator]
def mistyped() -> None:
    """Have a value that is not valid."""


@task(takes_context=True)  # type: ignore[arg-type]
def without() -> None:
    """Take no context."""
