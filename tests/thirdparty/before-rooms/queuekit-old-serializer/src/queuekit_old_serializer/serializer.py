"""Values as old-serializer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["OldSerializerSerializer"]


class OldSerializerSerializer:
    """Values as old-serializer.

    Args:
        types: Finds a class by the name under which it travels, where an app has registered it. A name in a message
            is looked up there, never imported.
    """

    content_type = "old-serializer"
    safe = True
    """Whether reading hostile bytes cannot execute code."""

    def __init__(self, types: Callable[[str], type | None]) -> None:
        self._types = types

    def dumps(self, value: Any) -> bytes:
        """Return *value* as bytes.

        Raises:
            EncodeError: It cannot be written; names the path inside it.
        """
        raise _left("dumps")

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*, which may hold anything.

        Raises:
            DecodeError: It is malformed, too deep, or not what this serializer writes.
        """
        raise _left("loads")


def _left(method: str) -> NotImplementedError:
    """Return the error of a method that is left to write; delete this when there is none."""
    where = "in src/queuekit_old_serializer/serializer.py; its docstring says what it promises"
    return NotImplementedError(f"OldSerializerSerializer.{method} is yours to write, {where}")
