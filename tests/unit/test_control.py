"""What a task raises to steer its own message."""

import pytest

from queuekit.control import Cancel, Control, Reject, Retry, Snooze, TaskTimeout


@pytest.mark.parametrize("error", [Retry(), Snooze(5), Cancel(), Reject("bad")], ids=repr)
def test_steering_is_apart_from_failing(error: Exception) -> None:
    """One base tells control flow from errors; a timeout is an error."""
    assert isinstance(error, Control)
    assert not issubclass(TaskTimeout, Control)


def test_retry_keeps_when_and_why() -> None:
    """The wait is the task's, or left to the policy."""
    asked = Retry("rate limited", after=2.5)

    assert (str(asked), asked.after, Retry().after) == ("rate limited", 2.5, None)


def test_snooze_keeps_its_seconds() -> None:
    """Its text is for the log."""
    snooze = Snooze(90)

    assert (snooze.seconds, str(snooze)) == (90, "snoozed for 90 s")
