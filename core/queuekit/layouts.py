"""The error for data that another version of queuekit stored in another layout; its meaning is never guessed."""

from __future__ import annotations

from queuekit.errors import UnavailableError

__all__ = ["other_layout"]


def other_layout(where: str, *, found: object, known: int, elsewhere: str) -> UnavailableError:
    """Return the error to raise when an engine holds data in an unknown layout.

    Args:
        where: The place, without a password.
        found: Version of the stored layout.
        known: Version that this queuekit reads and writes.
        elsewhere: How to choose another place, e.g. ``"set another key_prefix"``.
    """
    return UnavailableError(
        f"{where} holds data of another version of queuekit: layout {found}, this version reads {known}",
        fix=f"Use the version that created it, or let that version empty its queues and then {elsewhere}",
        passing=False,
    )
