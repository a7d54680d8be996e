"""States and ranks: a record never moves back, and the first outcome of a generation stays."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.states import FINAL, MAX_ATTEMPT, State, is_legal, rank

ON_THE_WAY = [State.PENDING, State.RECEIVED, State.STARTED, State.RETRY]


@pytest.mark.parametrize(("old", "new"), list(itertools.pairwise(ON_THE_WAY)), ids=str)
def test_moves_forward_within_an_attempt(old: State, new: State) -> None:
    """PENDING, RECEIVED, STARTED, RETRY: each may follow those before it, and not the other way round."""
    assert is_legal(old, new)
    assert not is_legal(new, old)


@pytest.mark.parametrize("new", [State.RECEIVED, State.STARTED, State.RETRY], ids=str)
def test_a_new_attempt_begins_again(new: State) -> None:
    """After RETRY the next attempt goes through the same states."""
    assert is_legal(State.RETRY, new, next_attempt=True)


@pytest.mark.parametrize("final", sorted(FINAL), ids=str)
@pytest.mark.parametrize("state", list(State), ids=str)
def test_nothing_follows_a_final_state(final: State, state: State) -> None:
    """An outcome is written once: no other state replaces it, not even another final one."""
    assert not is_legal(final, state, next_attempt=True)


@pytest.mark.parametrize("state", list(State), ids=str)
def test_unknown_is_never_written(state: State) -> None:
    """UNKNOWN means that there is no record, so no record becomes it."""
    assert not is_legal(state, State.UNKNOWN)


@given(
    attempt=st.integers(0, MAX_ATTEMPT * 2), generation=st.integers(0, 100), state=st.sampled_from(sorted(set(State)))
)
def test_a_replay_outranks_all_before_it(attempt: int, generation: int, state: State) -> None:
    """The first record of a new generation is newer than any of the one before."""
    before = rank(state, attempt=attempt, generation=generation)

    assert rank(State.PENDING, generation=generation + 1) > before


@given(attempt=st.integers(0, MAX_ATTEMPT), state=st.sampled_from(ON_THE_WAY), final=st.sampled_from(sorted(FINAL)))
def test_an_outcome_outranks_every_attempt(attempt: int, state: State, final: State) -> None:
    """Whatever the attempt, its outcome is newer; all outcomes are equally new."""
    assert rank(final) > rank(state, attempt=attempt)
    assert rank(final, attempt=attempt) == rank(State.SUCCESS)


def test_a_rank_is_exact_as_a_double() -> None:
    """Lua and JSON hold every rank of a million replays exactly."""
    assert rank(State.SUCCESS, attempt=MAX_ATTEMPT, generation=900_000_000) < 2**53
