"""Refuses what another version of queuekit has laid out in an engine: nobody guesses what stored bytes mean."""

from __future__ import annotations

from queuekit.errors import UnavailableError

__all__ = ["other_layout"]


def other_layout(where: str, *, found: object, known: int, elsewhere: str) -> UnavailableError:
    """Return what to raise where an engine holds data of another layout than the one that is known here.

    Args:
        where: The place, without a password.
        found: The layout's version there.
        known: The version that this queuekit reads and writes.
        elsewhere: How to name another place, e.g. ``"set another key_prefix"``.
    """
    return UnavailableError(
        f"{where} is laid out by another version of queuekit: {found} there, {known} here",
        fix=f"Use the queuekit that made it, or let that work its queues off and then {elsewhere}",
        passing=False,
    )
