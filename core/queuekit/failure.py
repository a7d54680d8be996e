"""The description of a failed task that an error callback receives."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from queuekit.values import frozen

__all__ = ["Failure", "describe", "in_words"]


@frozen(kw_only=True)
class Failure:
    """A task's last failure, as text; no class is imported to rebuild it.

    Attributes:
        id: Id of the message.
        task: Name of the task.
        error_type: Name of the exception's class.
        error: Text of the exception.
        traceback: The worker's traceback, beginning with the user's own code.
        attempt: Attempts that ended in a retry before the last one.
    """

    id: str
    task: str
    error_type: str
    error: str
    traceback: str = attrs.field(default="", repr=False)
    attempt: int = 0


_LONGEST_TEXT = 2_000
_LONGEST_TRACEBACK = 16_384
_HEAD = 4_096
"""Bytes kept from the beginning of a long traceback; the rest comes from its end."""
_CUT = "\n... cut here ...\n"


def describe(error: BaseException) -> dict[str, str]:
    """Return ``type``, ``text`` and ``traceback`` of *error*, shortened and without queuekit's own frames."""
    return {
        "type": _text_of(lambda: type(error).__name__, "<its type cannot be read>"),
        "text": _text_of(lambda: str(error), "<its text cannot be read>")[:_LONGEST_TEXT],
        "traceback": shortened(_text_of(lambda: _traceback(error), "<its traceback cannot be read>")),
    }


def in_words(error: BaseException) -> str:
    """Return the type and text of *error*; never raises."""
    what = describe(error)
    return f"{what['type']}: {what['text']}"


def _text_of(read: Callable[[], str], instead: str) -> str:
    """Return ``read()``, or *instead* if it raises: the user's ``__str__`` may raise anything."""
    try:
        return str.join("", (read(),))  # a plain str, even if read() returns an instance of a subclass
    except BaseException:  # noqa: BLE001 - also SystemExit: an error's text must not end the thread that reads it
        return instead


def _traceback(error: BaseException) -> str:
    import traceback

    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("queuekit."):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def shortened(text: str) -> str:
    """Return a traceback cut to 16 KiB of UTF-8: its beginning and its end."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= _LONGEST_TRACEBACK:
        return text
    tail = _LONGEST_TRACEBACK - _HEAD - len(_CUT)
    return data[:_HEAD].decode(errors="ignore") + _CUT + data[-tail:].decode(errors="ignore")
