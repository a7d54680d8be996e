"""Lanes in a file: what they leave behind, and foreign values."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from queuekit.broker import Broker, Place
from queuekit.engines.sqlite import SqliteBroker
from support.lanes import LaneCases, message


class TestLanes(LaneCases):
    """The cases of all engines."""

    @pytest.fixture(autouse=True)
    def look(self, path: Path) -> None:
        """Let the cases look into the file."""
        self.path = path

    def left(self, broker: Broker) -> int:
        """Return how many lanes there are that no ready message is in."""
        with contextlib.closing(sqlite3.connect(self.path)) as file:
            tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            ready = file.execute("SELECT count(DISTINCT lane) FROM messages WHERE state < 2").fetchone()[0]
        return int(ready) + sum("lane" in name for name in tables)


@pytest.mark.parametrize(
    ("column", "value"),
    [("lane", b"\xff"), ("weight", "none"), ("weight", b"\x00"), ("weight", "1e400"), ("tag", 2.5)],
    ids=["lane", "weight", "weight-bytes", "endless-weight", "tag"],
)
def test_foreign_values_stop_nobody(broker: SqliteBroker, path: Path, column: str, value: object) -> None:
    """A row that somebody else has changed hides no other message, whether it is ready or delayed (QK8)."""
    broker.send([message("bad", "a"), message("later", "a", delay=0.001), message("good", "a")])
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"UPDATE messages SET {column} = ? WHERE id <> 'good'", (value,))  # noqa: S608 - a test's own
        other.commit()

    broker.send([message("next", "b")])
    found = {each.id for _ in range(3) for each in broker.receive(["q"], limit=9, wait=0.05, lease=30)}

    assert {"good", "next"} <= found
    assert broker.peek("q", place=Place.READY).items == ()
