"""A batch in rounds, none of which names the same thing twice.

One statement, script or transaction sees what was there before it, not what its own first half has done. So where a
batch may name one message, record or lease twice, and the second is to find what the first has left, an engine carries
it out in rounds, one after the other. Mostly there is one.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["in_rounds"]


def in_rounds(ids: Sequence[str | None]) -> list[Sequence[int]]:
    """Part the places of *ids* so that no id occurs twice in one round, and each as early as can be.

    Places stand in their order within a round, and the nth occurrence of an id is in the nth round. ``None`` is no id:
    it may occur many times, and is always in the first. Without *ids* there is no round.
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
