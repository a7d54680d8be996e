"""Batches in rounds: none names the same thing twice, and nothing is left out."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.rounds import in_rounds


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["a", "b"], [[0, 1]], id="all-differ"),
        pytest.param(["a", "b", "a", "c", "a"], [[0, 1, 3], [2], [4]], id="one-thrice"),
        pytest.param([None, "a", None, "a", None], [[0, 1, 2, 4], [3]], id="none-is-no-id"),
        pytest.param([None, None], [[0, 1]], id="only-none"),
    ],
)
def test_parts_places_by_occurrence(ids: Sequence[str | None], expected: list[list[int]]) -> None:
    """The nth occurrence of an id is in the nth round, in the order of the batch; what is no id is in the first."""
    assert [list(places) for places in in_rounds(ids)] == expected


@given(st.lists(st.sampled_from([None, "a", "b", "c"])))
def test_keeps_every_place_and_no_id_twice(ids: list[str | None]) -> None:
    """Whatever a batch names, each place is in one round, and no round names an id twice."""
    rounds = in_rounds(ids)

    named = [[ids[place] for place in places if ids[place] is not None] for places in rounds]
    assert sorted(place for places in rounds for place in places) == list(range(len(ids)))
    assert all(len(set(some)) == len(some) for some in named)
