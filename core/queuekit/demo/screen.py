"""How the demo prints: a progress bar on a terminal, plain lines elsewhere, colours only where they are wanted."""

from __future__ import annotations

import os
import shutil
import time
from typing import TextIO

__all__ = ["Screen"]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
_BAR = 24
_PAUSE = 0.1
"""Least seconds between two drawings of the bar."""
_STEPS = 4
"""Lines that stand for the bar where there is no terminal: one each quarter."""


class Screen:
    """Prints to a text stream.

    Args:
        out: Where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = self._live and not os.environ.get("NO_COLOR")
        self._fancy = _can_encode(out, "█░✓✗")
        self._drawn = 0.0
        self._quarter = 0
        self._bar_shown = False

    def line(self, text: str = "") -> None:
        """Print a line, in place of the bar if there is one."""
        self._erase()
        self._out.write(f"{text}\n")
        self._out.flush()

    def paint(self, text: str, style: str) -> str:
        """Return *text* bold, dim, red or green, if colours are wanted."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self._coloured else text

    def mark(self, *, good: bool) -> str:
        """Return a check mark or a cross."""
        if good:
            return self.paint("✓" if self._fancy else "ok", "green")
        return self.paint("✗" if self._fancy else "NOT OK", "red")

    def begin(self) -> None:
        """Begin a new bar."""
        self._quarter, self._drawn = 0, 0.0

    def progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that *done* of *total* are through: as a bar, or as a line each quarter."""
        if self._live:
            self._draw(what, done, total, note)
            return
        quarter = done * _STEPS // max(1, total)
        if quarter > self._quarter:
            self._quarter = quarter
            self.line(f"  {what}  {done:,} of {total:,}  {note}".rstrip())

    def end(self) -> None:
        """Take the bar away."""
        self._erase()
        self._out.flush()

    def _draw(self, what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if now - self._drawn < _PAUSE and done < total:
            return
        self._drawn = now
        full = _BAR * done // max(1, total)
        ink, blank = ("█", "░") if self._fancy else ("#", ".")
        bar = self.paint(ink * full, "green") + self.paint(blank * (_BAR - full), "dim")
        text = f"  {what}  "
        rest = f"  {done:,} of {total:,}  {note}".rstrip()
        room = shutil.get_terminal_size().columns - len(text) - _BAR - 1
        self._out.write(f"\r{text}{bar}{rest[: max(0, room)]}\x1b[K")
        self._out.flush()
        self._bar_shown = True

    def _erase(self) -> None:
        if self._bar_shown:
            self._out.write("\r\x1b[K")
            self._bar_shown = False


def _can_encode(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
