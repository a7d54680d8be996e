"""What a task knows of its own run."""

import logging

from queuekit import Signature
from queuekit.context import Context, TaskLogFilter, current, enter, leave


def make() -> Context:
    """Return a context."""
    return Context(id="id-1", task="shop.mail", queue="q")


def test_there_is_none_outside_of_tasks() -> None:
    """Code that runs in no task gets ``None``."""
    assert current() is None


def test_is_the_current_one_until_left() -> None:
    """What the worker enters is what code inside the task gets."""
    context = make()

    token = enter(context)
    inside = current()
    leave(token)

    assert (inside, current()) == (context, None)


def test_tells_when_it_is_cancelled() -> None:
    """A task looks at ``cancelled``; telling it twice is telling it once."""
    context = make()
    before = context.cancelled

    context.cancel()
    context.cancel()

    assert (before, context.cancelled) == (False, True)


def test_progress_goes_where_the_worker_says() -> None:
    """Done, total and message come with the id; without a worker they go nowhere."""
    context, told = make(), list[tuple[object, ...]]()
    context.progress(1)

    context.report_to(lambda *values: told.append(values))
    context.progress(3, 10, "a third")

    assert told == [("id-1", 3, 10, "a third")]


def test_a_plain_call_has_no_signature() -> None:
    """Where nothing was sent there is none; otherwise it is made when asked for."""
    context, call = make(), Signature[int]("shop.mail")
    before = context.signature

    context.made_of(lambda *parts: parts[0], call, 1)

    assert (before, context.signature) == (None, call)


def test_log_records_carry_the_task() -> None:
    """The filter marks every record with the id and the name of the task that wrote it, and drops none."""
    inside, outside = logging.makeLogRecord({}), logging.makeLogRecord({})

    token = enter(make())
    kept = TaskLogFilter().filter(inside)
    leave(token)
    kept_too = TaskLogFilter().filter(outside)

    assert (kept, inside.__dict__["task_id"], inside.__dict__["task_name"]) == (True, "id-1", "shop.mail")
    assert (kept_too, outside.__dict__["task_id"], outside.__dict__["task_name"]) == (True, "", "")
