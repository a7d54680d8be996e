"""Lanes in a file: what an earlier version wrote, what they leave behind, and foreign values."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit.broker import Broker, Place
from queuekit.engines.sqlite import SqliteBroker, layout
from queuekit.envelope import Lane
from queuekit.urls import EngineURL
from support.lanes import LaneCases, message

_NEWER = ("lane TEXT,", "weight TEXT,", "tag INTEGER", "CREATE INDEX messages_in_turn", "CREATE INDEX messages_lanes")
_EARLIER_INDEX = "CREATE INDEX messages_ready ON messages(queue, priority DESC, due, seq) WHERE state = 0;"
_EARLIER_SEND = """
INSERT INTO messages(id, queue, state, priority, due, body, generation, attempt, hop, sent_at)
VALUES (?, 'q', 0, 4, 1.0, x'62', 0, 0, 0, 1.0)"""
_EARLIER_CLAIM = """
UPDATE messages SET state = 2, number = number + 1, token = 't', lease_until = 9e9 WHERE seq IN (
    SELECT seq FROM messages WHERE state = 0 AND queue = 'q' ORDER BY priority DESC, due, seq LIMIT 1)"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "jobs.db"


@pytest.fixture
def broker(path: Path) -> Iterator[SqliteBroker]:
    """Return a client."""
    client = SqliteBroker(EngineURL.parse(f"sqlite:///{path}"))
    yield client
    client.close()


def test_file_of_an_earlier_version_goes_on(broker: SqliteBroker, path: Path) -> None:
    """Its messages are delivered, new ones take turns, and a process of that version can still send and claim."""
    tables = "\n".join(line for line in layout.TABLES.splitlines() if not line.strip().startswith(_NEWER))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as earlier:
        earlier.executescript(f"PRAGMA journal_mode = WAL; {tables} {_EARLIER_INDEX}")
        earlier.execute(f"PRAGMA application_id = {layout.APPLICATION}")
        earlier.execute(f"PRAGMA user_version = {layout.VERSION}")
        earlier.execute(_EARLIER_SEND, ("old",))

        broker.send([message("new", "a")])
        earlier.execute(_EARLIER_SEND, ("other",))
        earlier.execute(_EARLIER_CLAIM)
        found = broker.receive(["q"], limit=9, wait=0, lease=30)

    assert [delivery.id for delivery in found] == ["other", "new"]
    assert found[1].envelope.lane == Lane("a")


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
