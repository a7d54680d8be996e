"""What ``queuekit ls`` and ``why`` say of leases."""

import pytest

from queuekit.broker import Place
from queuekit.cli import ls, why
from queuekit.operations.listing import ListedMessage
from queuekit.operations.why import Facts, Reason

NOW = 1_000.0


@pytest.mark.parametrize(
    ("due", "text"), [(NOW + 20, "held, lease ends in 20s"), (NOW - 20, "held, lease ended 20s ago"), (None, "held")]
)
def test_a_lease_that_has_ended_ends_no_more(due: float | None, text: str) -> None:
    """Its worker is frozen or gone, and no other has asked since."""
    listed = ListedMessage(id="id-1", task="pay", queue="default", place=Place.LEASED, due=due)

    assert ls._state(listed, NOW) == text


def test_why_says_that_a_lease_has_ended() -> None:
    """A lease in the past ended, and does not end."""
    facts = Facts(id="id-1", now=NOW)
    reason = Reason(code="leased", text="a worker holds it", until=NOW - 20)

    assert "its lease ended 20s ago" in why._sentence(reason, facts)
