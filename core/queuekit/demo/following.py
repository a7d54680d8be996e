"""Follows messages to their ends, a few look-ups at a time."""

from __future__ import annotations

from collections.abc import Sequence

from queuekit.app import Queuekit
from queuekit.records import Info, read_info, result_key

__all__ = ["Following"]

_WINDOW = 200


class Following:
    """What became of messages.

    Args:
        app: Where their records are.
        ids: In the order they were sent.
    """

    def __init__(self, app: Queuekit, ids: Sequence[str]) -> None:
        self._backend = app.runtime.need_backend("the demo")
        self._waiting = list(ids)
        self.ended: dict[str, Info] = {}
        """Outcomes by id."""

    @property
    def done(self) -> bool:
        """Whether all have ended."""
        return not self._waiting

    def look(self) -> int:
        """Look at those that should end next and return how many ended since the last look."""
        before = len(self.ended)
        for first in range(0, len(self._waiting), _WINDOW):
            window = self._waiting[first : first + _WINDOW]
            ended = self._ended(window)
            self.ended.update(ended)
            if len(ended) < len(window) // 2:
                break  # the rest was sent later, and is not likely to be further
        self._waiting = [id for id in self._waiting if id not in self.ended]
        return len(self.ended) - before

    def _ended(self, ids: Sequence[str]) -> dict[str, Info]:
        records = self._backend.get([result_key(id) for id in ids])
        infos = (read_info(id, records.get(result_key(id))) for id in ids)
        return {info.id: info for info in infos if info.done}
