"""Raw ``sqlite3`` doing the least work that a queue on it can do, and the same writes that queuekit does."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from pathlib import Path

__all__ = ["RawQueue", "SameWrites"]

_BODY = b'{"v":1,"id":"%s","task":"benchapp.noop","ct":"json"}\n{"args":[%d]}'


class RawQueue:
    """One table, one index: insert, claim by UPDATE ... RETURNING, delete."""

    def __init__(self, file: Path) -> None:
        self.db = sqlite3.connect(file, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS jobs (seq INTEGER PRIMARY KEY, body BLOB, state INT DEFAULT 0)")
        self.db.execute("CREATE INDEX IF NOT EXISTS ready ON jobs (seq) WHERE state = 0")

    def single(self, count: int) -> float:
        """Return inserts a second, one commit each."""
        since = time.perf_counter()
        for number in range(count):
            self.db.execute("INSERT INTO jobs (body) VALUES (?)", (_body(number),))
        return count / (time.perf_counter() - since)

    def bulk(self, count: int, size: int = 500) -> float:
        """Return inserts a second, *size* a commit."""
        since = time.perf_counter()
        for first in range(0, count, size):
            self.db.execute("BEGIN IMMEDIATE")
            rows = ((_body(number),) for number in range(first, min(count, first + size)))
            self.db.executemany("INSERT INTO jobs (body) VALUES (?)", rows)
            self.db.execute("COMMIT")
        return count / (time.perf_counter() - since)

    def drain(self, count: int, size: int = 100) -> float:
        """Return jobs a second claimed and deleted, *size* at a time."""
        claim = (
            "UPDATE jobs SET state = 1 WHERE seq IN (SELECT seq FROM jobs WHERE state = 0 ORDER BY seq LIMIT ?)"
            " RETURNING seq, body"
        )
        since = time.perf_counter()
        done = 0
        while done < count:
            rows = self.db.execute(claim, (size,)).fetchall()
            for _, body in rows:
                json.loads(body.partition(b"\n")[2])
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany("DELETE FROM jobs WHERE seq = ?", [(seq,) for seq, _ in rows])
            self.db.execute("COMMIT")
            done += len(rows)
        return count / (time.perf_counter() - since)

    def close(self) -> None:
        """Close the file."""
        self.db.close()


class SameWrites:
    """A script that writes what a send of queuekit writes: id, JSON, a message with its indexes, a PENDING record."""

    def __init__(self, file: Path) -> None:
        self.db = sqlite3.connect(file, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY, id TEXT, queue TEXT, state INT,"
            " priority INT, due REAL,"
            " body BLOB, generation INT, attempt INT, hop INT, sent_at REAL, number INT,"
            " UNIQUE (id, generation, attempt, hop))"
        )
        self.db.execute("CREATE INDEX IF NOT EXISTS ready ON messages (queue, priority DESC, due, seq) WHERE state = 0")
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, body BLOB, expires_at REAL, rank INT, final INT,"
            " version INT,"
            " task TEXT, state TEXT, error TEXT, at REAL)"
        )
        self.db.execute("CREATE INDEX IF NOT EXISTS ending ON records (expires_at)")

    def single(self, count: int) -> float:
        """Return sends a second, one commit each."""
        since = time.perf_counter()
        for number in range(count):
            self._send(number, 1)
        return count / (time.perf_counter() - since)

    def bulk(self, count: int, size: int = 500) -> float:
        """Return sends a second, *size* a commit."""
        since = time.perf_counter()
        for first in range(0, count, size):
            self._send(first, min(size, count - first))
        return count / (time.perf_counter() - since)

    def drain(self, count: int, size: int = 100) -> float:
        """Return messages a second claimed under a lease, recorded as SUCCESS and left as tombstones."""
        claim = (
            "UPDATE messages SET state = 2, number = number + 1, due = ? WHERE seq IN (SELECT seq FROM messages"
            " WHERE state = 0 AND queue = 'default' ORDER BY priority DESC, due, seq LIMIT ?) RETURNING seq, id, body"
        )
        since = time.perf_counter()
        done = 0
        while done < count:
            rows = self.db.execute(claim, (time.time(), size)).fetchall()
            now = time.time()
            results = []
            for _, id, body in rows:
                json.loads(body.partition(b"\n")[2])
                success = json.dumps({"v": 1, "state": "SUCCESS", "queue": "default", "finished": now})
                results.append((success.encode(), now + 3600, "SUCCESS", now, "result:" + id))
            self.db.execute("BEGIN IMMEDIATE")
            update = "UPDATE records SET body = ?, expires_at = ?, final = 1, version = version + 1, state = ?, at = ?"
            self.db.executemany(update + " WHERE key = ?", results)
            done_with = [(seq,) for seq, _, _ in rows]
            self.db.executemany("UPDATE messages SET state = 4, body = x'' WHERE seq = ?", done_with)
            self.db.execute("COMMIT")
            done += len(rows)
        return count / (time.perf_counter() - since)

    def _send(self, first: int, count: int) -> None:
        now = time.time()
        messages, records = [], []
        for number in range(first, first + count):
            id = str(uuid.uuid4())
            body = json.dumps({"v": 1, "id": id, "task": "benchapp.noop"}) + "\n" + json.dumps({"args": [number]})
            pending = json.dumps({"v": 1, "state": "PENDING", "queue": "default", "sent": now})
            messages.append((id, "default", 0, 4, now, body.encode(), 0, 0, 0, now, 0))
            record = ("result:" + id, pending.encode(), now + 3600, 100, 0, 1, "benchapp.noop", "PENDING", None, now)
            records.append(record)
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(
            "INSERT INTO messages (id, queue, state, priority, due, body, generation, attempt, hop, sent_at, number)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            messages,
        )
        self.db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", records)
        self.db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self.db.close()


def _body(number: int) -> bytes:
    return _BODY % (str(uuid.uuid4()).encode(), number)
