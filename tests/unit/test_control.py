"""What a task raises to steer its own message."""

import pytest

from queuekit.control import Cancel, Control, Interruption, Reject, Retry, Snooze, TaskTimeout, matches


@pytest.mark.parametrize("error", [Retry(), Snooze(5), Cancel(), Reject("bad")], ids=repr)
def test_steering_is_apart_from_failing(error: Exception) -> None:
    """One base tells control flow from errors; a timeout is an error."""
    assert isinstance(error, Control)
    assert not issubclass(TaskTimeout, Control)


def test_what_is_raised_from_outside_passes_broad_handlers() -> None:
    """A body's ``except Exception`` is not meant for it, and does not get it."""
    assert issubclass(TaskTimeout, Interruption)
    assert not issubclass(Interruption, Exception)


@pytest.mark.parametrize(
    ("error", "kinds", "answer"),
    [
        pytest.param(TaskTimeout(), (Exception,), True, id="timeout-by-default"),
        pytest.param(TaskTimeout(), (TaskTimeout,), True, id="timeout-by-name"),
        pytest.param(TaskTimeout(), (OSError, ValueError), False, id="timeout-not-meant"),
        pytest.param(ValueError(), (Exception,), True, id="error"),
        pytest.param(SystemExit(), (Exception,), False, id="exit"),
    ],
)
def test_retries_mean_timeouts_as_they_mean_errors(
    error: BaseException, kinds: tuple[type, ...], *, answer: bool
) -> None:
    """``retry_on`` and ``dont_retry`` count a timeout among what ``Exception`` stands for."""
    assert matches(error, kinds) is answer


def test_retry_keeps_when_and_why() -> None:
    """The wait is the task's, or left to the policy."""
    asked = Retry("rate limited", after=2.5)

    assert (str(asked), asked.after, Retry().after) == ("rate limited", 2.5, None)


def test_snooze_keeps_its_seconds() -> None:
    """Its text is for the log."""
    snooze = Snooze(90)

    assert (snooze.seconds, str(snooze)) == (90, "snoozed for 90 s")
