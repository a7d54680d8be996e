"""What an error follow-up gets to know of the task that failed."""

from __future__ import annotations

import attrs

__all__ = ["Failure", "describe"]


@attrs.frozen(kw_only=True)
class Failure:
    """A task's last failure, as text: nothing of it is rebuilt by import."""

    id: str
    task: str
    error_type: str
    """Name of the exception's class."""
    error: str
    """Text of the exception."""
    traceback: str = attrs.field(default="", repr=False)
    """The worker's traceback, beginning with the user's own code."""
    attempt: int = 0
    """Attempts that ended in a retry before the last one."""


_LONGEST_TEXT = 2_000
_LONGEST_TRACEBACK = 20_000


def describe(error: BaseException) -> dict[str, str]:
    """Return ``type``, ``text`` and ``traceback`` of *error*, bounded; queuekit's own frames are left out."""
    import traceback

    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("queuekit."):
        frames = frames.tb_next
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's own __str__ may raise anything
        text = "<its text cannot be read>"
    lines = traceback.format_exception(type(error), error, frames)
    return {
        "type": type(error).__name__,
        "text": text[:_LONGEST_TEXT],
        "traceback": "".join(lines)[-_LONGEST_TRACEBACK:],
    }
