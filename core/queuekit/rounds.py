"""Splits a batch into rounds, so that no round names the same thing twice.

One statement, script or transaction sees the state from before it started, not the effects of its own first half. A
batch may name one message, record or lease twice, and the second occurrence must see the effect of the first. So an
engine executes the batch in rounds, one after the other. Usually there is one round.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["in_rounds"]


def in_rounds(ids: Sequence[str | None]) -> list[Sequence[int]]:
    """Return the indexes of *ids* split into rounds, so that no round has the same id twice.

    The nth occurrence of an id is in the nth round, and indexes are in order within a round. ``None`` stands for no id:
    all of them are in the first round. Without *ids* there are no rounds.
    """
    if ids and len(set(ids)) == len(ids):
        return [range(len(ids))]
    rounds: list[list[int]] = []
    turns: dict[str | None, int] = {}
    for place, id in enumerate(ids):
        turn = turns.get(id, 0)
        if id is not None:
            turns[id] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(place)
    return [*rounds]
