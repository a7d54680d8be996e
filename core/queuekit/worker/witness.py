"""Whether the descriptors of a worker process are still its own: a body may have closed them all."""

from __future__ import annotations

import os

__all__ = ["Witness"]


class Witness:
    """A descriptor that nobody uses; once it is closed, or another file has its number, others are gone as well.

    Whatever uses a connection or a file of the worker's then meets EBADF, or, worse, writes into a stranger's file.
    """

    def __init__(self) -> None:
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        """Of the file; ``None`` while it is not open."""

    def open(self) -> None:
        """Begin to be one."""
        self._descriptor, other = os.pipe()
        os.close(other)
        self._identity = self._look()

    def check(self) -> str:
        """Return why the worker cannot go on, if its descriptors are gone."""
        if self._identity is None or self._look() == self._identity:
            return ""
        return "a task has closed the descriptors of its worker"

    def close(self) -> None:
        """Give it back; what others have under its number is left alone."""
        identity, self._identity = self._identity, None
        if identity is not None and self._look() == identity:
            os.close(self._descriptor)

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.fstat(self._descriptor)
        except OSError:
            return None
        return found.st_dev, found.st_ino
