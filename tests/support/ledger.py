"""What tasks write down while they run: lines appended to a file, which not even SIGKILL takes back."""

import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import attrs

LEDGER = "QUEUEKIT_TEST_LEDGER"
"""Variable that tells a worker where the ledger is."""


@attrs.frozen
class Line:
    """One thing that happened."""

    status: str
    """What: ``begin``, ``end``, ``told``, ``child``."""
    id: str
    """To which message."""
    pid: int
    at: float
    """Monotonic seconds, of the machine's one clock."""


def write_down(word: str, id: str) -> None:
    """Append a line, in one write: lines of several processes do not mix."""
    line = f"{word} {id} {os.getpid()} {time.monotonic()!r}\n"
    file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


class Ledger:
    """The file, as a test reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self, word: str | None = None, id: str | None = None) -> list[Line]:
        """Return what was written down, in order; only what has this *word* or *id*."""
        text = self.path.read_text()
        whole = text[: text.rfind("\n") + 1]  # a write that crosses a page of the file may be seen half-way
        rows = (row.split(" ") for row in whole.splitlines())
        lines = (Line(word, id, int(pid), float(at)) for word, id, pid, at in rows)
        return [line for line in lines if word in (None, line.status) and id in (None, line.id)]

    def counts(self, word: str) -> Counter[str]:
        """Return how often each message has *word*."""
        return Counter(line.id for line in self.lines(word))

    def has(self, word: str, ids: Iterable[str]) -> bool:
        """Return whether all of *ids* have *word*."""
        return self.counts(word).keys() >= set(ids)

    def pid_of(self, id: str) -> int:
        """Return the process in which *id* began last."""
        return self.lines("begin", id)[-1].pid
