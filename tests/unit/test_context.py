"""What a task knows of its own run."""

import logging

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


def test_log_records_carry_the_task() -> None:
    """The filter marks every record with the id and the name of the task that wrote it, and drops none."""
    inside, outside = logging.makeLogRecord({}), logging.makeLogRecord({})

    token = enter(make())
    kept = TaskLogFilter().filter(inside)
    leave(token)
    kept_too = TaskLogFilter().filter(outside)

    assert (kept, inside.__dict__["task_id"], inside.__dict__["task_name"]) == (True, "id-1", "shop.mail")
    assert (kept_too, outside.__dict__["task_id"], outside.__dict__["task_name"]) == (True, "", "")
