"""The mark of an argument whose value operators must not see."""

from __future__ import annotations

__all__ = ["Secret"]


class Secret:
    """Marks a parameter whose value no command shows: ``def charge(card: Annotated[str, Secret]) -> None``.

    The value is in the message all the same. Whoever can read the broker can read it.
    """
