"""The interface for executing statements, each by itself or all in one transaction."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Parameters", "Row", "Statements"]

Row = tuple[Any, ...]
Parameters = tuple[Any, ...] | list[Any]


class Statements(Protocol):
    """A database, where each statement is a step of its own; or a transaction, where all are one step."""

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return all rows of a SELECT."""
        raise NotImplementedError

    def write(self, sql: str, parameters: Parameters = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        raise NotImplementedError
