"""What an error follow-up gets to know of the task that failed."""

from __future__ import annotations

from collections.abc import Callable

import attrs

__all__ = ["Failure", "describe", "in_words"]


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
_LONGEST_TRACEBACK = 16_384
_HEAD = 4_096
"""Bytes of a traceback that is cut which are its beginning; the rest is its end."""
_CUT = "\n... cut here ...\n"


def describe(error: BaseException) -> dict[str, str]:
    """Return ``type``, ``text`` and ``traceback`` of *error*, bounded; queuekit's own frames are left out."""
    return {
        "type": _text_of(lambda: type(error).__name__, "<its type cannot be read>"),
        "text": _text_of(lambda: str(error), "<its text cannot be read>")[:_LONGEST_TEXT],
        "traceback": shortened(_text_of(lambda: _traceback(error), "<its traceback cannot be read>")),
    }


def in_words(error: BaseException) -> str:
    """Return type and text of *error*; never raises."""
    what = describe(error)
    return f"{what['type']}: {what['text']}"


def _text_of(read: Callable[[], str], instead: str) -> str:
    """Return what *read* returns; *instead* if it raises: the user's own ``__str__`` may raise anything."""
    try:
        return str.join("", (read(),))  # a plain text, whatever class of text it was
    except BaseException:  # noqa: BLE001 - also SystemExit: an error's text must not end the thread that reads it
        return instead


def _traceback(error: BaseException) -> str:
    import traceback

    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("queuekit."):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def shortened(text: str) -> str:
    """Return a traceback of at most 16 KiB of UTF-8: where it began, and what came of it."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= _LONGEST_TRACEBACK:
        return text
    tail = _LONGEST_TRACEBACK - _HEAD - len(_CUT)
    return data[:_HEAD].decode(errors="ignore") + _CUT + data[-tail:].decode(errors="ignore")
