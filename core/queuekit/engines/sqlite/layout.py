"""The tables of a queuekit database, and their creation in an empty file.

The file belongs to queuekit alone: it is marked with an application id, and the file of another program is rejected.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

from queuekit.errors import UnavailableError
from queuekit.layouts import other_layout

__all__ = ["DEAD", "DELAYED", "DONE", "LEASED", "PAGE", "READY", "VERSION", "prepare"]

VERSION = 1
"""Stored in ``PRAGMA user_version``."""
PAGE = 2048
"""Bytes of a page: a send costs a fifth less than with SQLite's default of 4,096, a large batch a tenth more."""
APPLICATION = 0x514B4954
"""Stored in ``PRAGMA application_id``: "QKIT"."""

READY, DELAYED, LEASED, DEAD, DONE = range(5)
"""Values of ``messages.state``. DONE marks a message that has left; its row is kept for a while to remember the id."""

TABLES = """
CREATE TABLE messages(
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    state INTEGER NOT NULL,        -- 0 ready, 1 delayed, 2 leased, 3 dead, 4 done (remembered until due)
    priority INTEGER NOT NULL,
    due REAL NOT NULL,
    body BLOB NOT NULL,
    generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    hop INTEGER NOT NULL,
    sent_at REAL NOT NULL,
    not_before TEXT,               -- text, since it must come back to the last digit
    expires TEXT,
    unique_key TEXT,
    unique_until TEXT,
    unique_ttl TEXT,
    number INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    token TEXT,
    lease_until REAL,
    reason TEXT,
    error TEXT,
    holder TEXT,
    died_at REAL,
    lane TEXT,
    weight TEXT,
    tag INTEGER NOT NULL DEFAULT 0, -- order of lanes; 0 unless ready for the first time
    UNIQUE(id, queue)
);
CREATE INDEX messages_in_turn ON messages(queue, priority DESC, tag, due, seq) WHERE state = 0;
CREATE INDEX messages_lanes ON messages(queue, priority, lane, tag) WHERE state = 0 AND lane IS NOT NULL;
CREATE INDEX messages_delayed ON messages(due, queue) WHERE state = 1;
CREATE INDEX messages_leased ON messages(lease_until, queue) WHERE state = 2;
CREATE INDEX messages_dead ON messages(queue, died_at, seq) WHERE state = 3;
CREATE INDEX messages_done ON messages(due) WHERE state = 4;

CREATE TABLE queues(name TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE unique_keys(
    key TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    until TEXT NOT NULL,           -- what frees it before its time: start, done, or ttl for nothing
    ends REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX unique_keys_ends ON unique_keys(ends);

CREATE TABLE records(
    key TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    expires_at REAL,
    rank INTEGER NOT NULL,
    final INTEGER NOT NULL,
    version INTEGER NOT NULL,
    task TEXT,
    state TEXT,
    error TEXT,
    at REAL
);
CREATE INDEX records_expires ON records(expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE groups(
    name TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX groups_expires ON groups(expires_at);
CREATE TABLE members(grp TEXT, member INTEGER, PRIMARY KEY(grp, member)) WITHOUT ROWID;

CREATE TABLE meta(name TEXT PRIMARY KEY, value NUMERIC) WITHOUT ROWID;
"""

LANES = """
ALTER TABLE messages ADD COLUMN lane TEXT;
ALTER TABLE messages ADD COLUMN weight TEXT;
ALTER TABLE messages ADD COLUMN tag INTEGER NOT NULL DEFAULT 0;
DROP INDEX messages_ready;
CREATE INDEX messages_in_turn ON messages(queue, priority DESC, tag, due, seq) WHERE state = 0;
CREATE INDEX messages_lanes ON messages(queue, priority, lane, tag) WHERE state = 0 AND lane IS NOT NULL;
"""
"""What a file lacks that was created before messages had lanes. A process of that time can go on using the file."""

# One statement, so that tables that another process is creating are seen completely or not at all.
_MARKS = """
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
    (SELECT count(*) FROM sqlite_master), EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'messages_lanes')"""

Run = Callable[[str], sqlite3.Cursor]


def prepare(run: Run, path: str) -> None:
    """Create the tables that the file at *path* lacks; *run* executes a statement.

    Raises:
        UnavailableError: The file is another program's database, or a later queuekit's.
    """
    if not _missing(run, path):
        return
    # These two only take effect while the file is empty. A send writes seven pages to the log, whatever their size.
    run(f"PRAGMA page_size = {PAGE}")
    run("PRAGMA auto_vacuum = INCREMENTAL")
    run("PRAGMA journal_mode = WAL")
    run("BEGIN IMMEDIATE")
    try:
        for statement in _missing(run, path).split(";\n"):  # nothing, if another process was faster
            run(statement)
        run("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            run("ROLLBACK")
        raise


def _missing(run: Run, path: str) -> str:
    """Return the statements that create what the file lacks; empty if it lacks nothing."""
    ((application, version, tables, has_lanes),) = run(_MARKS).fetchall()
    if application == APPLICATION and version != VERSION:
        raise other_layout(path, found=version, known=VERSION, elsewhere="name another file")
    if application == APPLICATION:
        return "" if has_lanes else LANES
    if tables or application or version:
        raise UnavailableError(
            f"{path} is another program's database",
            fix="Give queuekit a file of its own, e.g. sqlite:///queuekit.db",
            passing=False,
        )
    return f"{TABLES}PRAGMA application_id = {APPLICATION};\nPRAGMA user_version = {VERSION}"
