"""Retry policies: pure functions of attempt and chance that travel as plain data."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.errors import DecodeError
from queuekit.retry import Backoff, Delays, Exponential, Fibonacci, Fixed, backoff, policy_from_dict


def always(value: float) -> Any:
    """Return a source of chance that says *value* each time."""
    return lambda: value


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        pytest.param(Exponential(base=2, cap=15), [2, 4, 8, 15, 15], id="exponential"),
        pytest.param(Fixed(7), [7, 7, 7, 7, 7], id="fixed"),
        pytest.param(Fibonacci(unit=2, cap=9), [2, 2, 4, 6, 9], id="fibonacci"),
        pytest.param(Delays([1, 5, 10]), [1, 5, 10, 10, 10], id="list"),
    ],
)
def test_waits_grow_as_the_policy_says(policy: Backoff, waits: list[float]) -> None:
    """Attempt by attempt, at the upper end of chance."""
    assert [policy.delay(attempt, always(1.0)) for attempt in range(1, 6)] == waits


@given(attempt=st.integers(1, 10**6), chance=st.floats(0, 1, exclude_max=True), cap=st.floats(0, 1e6))
def test_jitter_stays_between_nothing_and_the_cap(attempt: int, chance: float, cap: float) -> None:
    """Full jitter: anywhere from 0 up to the bound, for any attempt, without an overflow."""
    assert 0 <= backoff(attempt, base=1.0, cap=cap, chance=always(chance)) <= cap


def test_chance_decides_within_the_bound() -> None:
    """Half the chance is half the wait."""
    assert Exponential().delay(4, always(0.5)) == 4.0


@pytest.mark.parametrize("policy", [Exponential(base=3), Fixed(1.5), Fibonacci(cap=5), Delays([1, 2])], ids=repr)
def test_travels_as_plain_json(policy: Backoff) -> None:
    """A policy written as JSON is read back as an equal one."""
    data = json.loads(json.dumps(policy.to_dict()))

    assert policy_from_dict(data) == policy


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({}, id="empty"),
        pytest.param({"kind": "os.system"}, id="unknown-kind"),
        pytest.param({"kind": "fixed"}, id="missing-field"),
        pytest.param({"kind": "fixed", "seconds": 1, "more": 2}, id="unknown-field"),
        pytest.param({"kind": "fixed", "seconds": "soon"}, id="wrong-type"),
        pytest.param({"kind": "delays", "seconds": []}, id="no-delays"),
        pytest.param({"kind": "delays", "seconds": 5}, id="not-a-list"),
        pytest.param({"kind": "exponential", "cap": float("nan")}, id="not-a-number"),
        pytest.param({"kind": "exponential", "base": -1}, id="negative"),
        pytest.param({"kind": ["fixed"], "seconds": 1}, id="kind-not-text"),
    ],
)
def test_refuses_data_that_is_no_policy(data: dict[str, Any]) -> None:
    """Data out of a message is read or refused with the one error."""
    with pytest.raises(DecodeError, match="retry policy"):
        policy_from_dict(data)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "soon", 1e11], ids=repr)
def test_refuses_impossible_waits_where_they_are_written(seconds: Any) -> None:
    """A mistake in a policy is found when the policy is made, and names the field."""
    with pytest.raises(ValueError, match=r"^Fixed: seconds: expected a duration|^Fixed: seconds: .* is longer"):
        Fixed(seconds)


def test_a_wait_may_be_written_as_text() -> None:
    """As every other duration; what travels is seconds."""
    assert (Fixed("1m"), Delays([1, "5m"]).seconds) == (Fixed(60.0), (1, 300.0))


def test_a_policy_of_ones_own_must_say_how_long() -> None:
    """The base class answers nothing by itself."""
    with pytest.raises(NotImplementedError):
        Backoff().delay(1, always(0))
