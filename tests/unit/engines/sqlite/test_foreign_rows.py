"""Rows that another program has written straight into the table."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from queuekit.broker import Place
from queuekit.engines.sqlite import SqliteBroker
from queuekit.envelope import Envelope
from queuekit.urls import EngineURL

INVALID = "CAST(x'ff' AS TEXT)"
"""Text that is not valid UTF-8, as SQL."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SqliteBroker]:
    """Return a broker with a good message before and after a third one."""
    broker = SqliteBroker(EngineURL.parse(f"sqlite:///{tmp_path}/jobs.db"))
    broker.send([Envelope(id=id, queue="q", body=id.encode()) for id in ("before", "odd", "after")])
    yield broker
    broker.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("body = '\N{EURO SIGN}'", "a value of the wrong type in body"),
        ("priority = 'high', due = 'now'", "a value of the wrong type in priority, due"),
        ("crashes = 1.5", "a value of the wrong type in crashes"),
        ("sent_at = x'00'", "a value of the wrong type in sent_at"),
        ("unique_key = x'ff', unique_until = 'done', unique_ttl = '1'", "a value of the wrong type in unique_key"),
        ("expires = 'never'", "could not convert string to float: 'never'"),
        (f"unique_key = {INVALID}, unique_until = 'done', unique_ttl = '1'", "can't decode byte 0xff"),
    ],
)
def test_are_set_aside_by_themselves(broker: SqliteBroker, tmp_path: Path, changes: str, said: str) -> None:
    """The rest of the claim is handed out; the dead letter keeps its id and says what is wrong."""
    change(tmp_path, changes)

    found = broker.receive(["q"], limit=10, wait=0, lease=60)

    assert [delivery.envelope.body for delivery in found] == [b"before", b"after"]
    (dead,) = broker.peek("q", place=Place.DEAD).items
    assert (dead.envelope.id, dead.reason) == ("odd", "malformed")
    assert said in (dead.error or "")


@pytest.mark.parametrize("id", [INVALID, "x'6f6464'", "''"], ids=["invalid", "bytes", "empty"])
def test_get_an_id_if_theirs_is_none(broker: SqliteBroker, tmp_path: Path, id: str) -> None:
    """So that an operator can name the dead letter."""
    told: list[str] = []
    broker.tell_set_aside(lambda _queue, id, _reason: told.append(id))
    change(tmp_path, f"id = {id}, priority = 'high'")

    broker.receive(["q"], limit=10, wait=0, lease=60)

    (dead,) = broker.peek("q", place=Place.DEAD).items
    assert dead.envelope.id.startswith("row-2-")
    assert told == ["row-2"]


def change(folder: Path, changes: str) -> None:
    """Change the row of the second message, as another program could."""
    with closing(sqlite3.connect(folder / "jobs.db", timeout=10, isolation_level=None)) as connection:
        connection.execute(f"UPDATE messages SET {changes} WHERE seq = 2")  # noqa: S608 - from above
