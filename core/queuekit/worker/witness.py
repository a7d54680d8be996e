"""Detect that a body has closed the file descriptors of its worker process."""

from __future__ import annotations

import os

__all__ = ["Witness"]


class Witness:
    """An unused descriptor. If it is closed, or its number belongs to another file, other descriptors are gone as well.

    A use of the worker's connections or files then fails with EBADF or, worse, writes into another file.
    """

    def __init__(self) -> None:
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        """Device and inode of the file; ``None`` while it is not open."""

    def open(self) -> None:
        """Open the descriptor."""
        self._descriptor, other = os.pipe()
        os.close(other)
        self._identity = self._look()

    def check(self) -> str:
        """Return why the worker cannot go on if its descriptors are gone, or an empty text."""
        if self._identity is None or self._look() == self._identity:
            return ""
        return "a task has closed the file descriptors of its worker"

    def close(self) -> None:
        """Close the descriptor, unless its number now belongs to another file."""
        identity, self._identity = self._identity, None
        if identity is not None and self._look() == identity:
            os.close(self._descriptor)

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.fstat(self._descriptor)
        except OSError:
            return None
        return found.st_dev, found.st_ino
