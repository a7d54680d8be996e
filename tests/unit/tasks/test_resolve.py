"""The options of one call: what the call says, else what its task says, else the default."""

from datetime import UTC, datetime
from typing import Any

import pytest

from queuekit.client.codec import Message
from queuekit.retry import Fixed
from queuekit.signature import Signature
from queuekit.tasks.resolve import DEFAULTS, resolve
from queuekit.tasks.task import TaskOptions
from support.working import make_app

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)
SAID: dict[str, Any] = {
    "retries": 0,
    "retry": Fixed(3),
    "timeout": 0.5,
    "ignore_result": False,
    "queue": "mine",
    "priority": 0,
    "expires": MOMENT,
    "unique": False,
}


def test_a_call_that_says_nothing_has_the_options_of_its_task() -> None:
    """They are not even copied: most calls are like that."""
    task = make_app().task(name="t", retries=3, ignore_result=True)(print)

    assert resolve(Signature("t"), task) is task.defaults


@pytest.mark.parametrize("name", SAID)
def test_what_the_call_says_comes_first(name: str) -> None:
    """Also where that is zero or false; all else stays with the task."""
    usual: dict[str, Any] = {"retries": 3, "ignore_result": True, "queue": "its", "priority": 9, "unique": True}
    task = make_app().task(name="t", expires=60, timeout=9, **usual)(print)

    options = resolve(Signature("t", **{name: SAID[name]}), task)

    assert getattr(options, name) == SAID[name]
    assert all(getattr(options, other) == getattr(task.defaults, other) for other in SAID if other != name)


def test_a_message_says_what_travels_with_it() -> None:
    """Queue, priority, expiry and key are decided by then, and stand in its envelope."""
    task = make_app().task(name="t", retries=3, queue="its")(print)

    options = resolve(Message(id="i", task="t", args=[], kwargs={}, headers={}, timeout=2.0), task)

    assert (options.timeout, options.retries, options.queue) == (2.0, 3, "its")


def test_a_task_that_is_not_known_has_the_defaults() -> None:
    """Or what the caller says stands in for them."""
    assert resolve(Signature("t"), None) is DEFAULTS
    assert resolve(Signature("t"), None, otherwise=TaskOptions(ignore_result=True)).ignore_result
