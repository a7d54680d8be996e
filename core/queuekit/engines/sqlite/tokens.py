"""Tokens, which combine the claim's text with the row's number; and batches of tokens for one statement."""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from random import Random

from queuekit.rounds import in_rounds

__all__ = ["HELD", "SHOWN", "Round", "new_claim", "rounds", "seqs", "shown", "token_of"]

Round = dict[str, tuple[str, int]]
"""The claim's text and the index of the token, by number of the row (as text)."""

SHOWN = "seq = CAST(fence.key AS INTEGER) AND messages.token = fence.value AND messages.state = 2"
"""Joins ``messages`` with ``json_each(?) AS fence``, given :func:`shown`, to the rows whose lease is still held."""
HELD = f"SELECT json_group_array(seq) FROM json_each(?) AS fence CROSS JOIN messages WHERE {SHOWN}"
"""Selects the numbers of those rows."""


def new_claim(random: Random) -> str:
    """Return a text unique to this claim; it includes the process id, since a fork copies the random generator."""
    return f"{os.getpid():x}-{random.getrandbits(64):016x}"


def token_of(claim: str, seq: int) -> str:
    """Return the token of a delivery."""
    return f"{claim}:{seq}"


def rounds(tokens: Iterable[str]) -> list[Round]:
    """Split *tokens* so that no row occurs twice in a round; skip texts that are not tokens of this engine."""
    parted = [token.rpartition(":") for token in tokens]
    fences = [(seq, (claim, n)) for n, (claim, _, seq) in enumerate(parted) if seq.isascii() and seq.isdecimal()]
    only = dict(fences)
    if len(only) == len(fences):
        return [only]
    return [dict([fences[at] for at in part]) for part in in_rounds([seq for seq, _ in fences])]


def shown(part: Round) -> str:
    """Return *part* as a JSON object for a statement."""
    return json.dumps({seq: claim for seq, (claim, _) in part.items()})


def seqs(rows: Sequence[tuple[str]]) -> set[int]:
    """Return the numbers in the JSON array that a statement has returned."""
    return set(json.loads(rows[0][0]))
