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

VERSION = 2
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
    body BLOB NOT NULL,            -- bytes, or the number of a large body
    UNIQUE(id, queue)
);
CREATE INDEX messages_in_turn ON messages(queue, priority DESC, tag, due, seq) WHERE state = 0;
CREATE INDEX messages_lanes ON messages(queue, priority, lane, tag) WHERE state = 0 AND lane IS NOT NULL;
CREATE INDEX messages_delayed ON messages(due, queue) WHERE state = 1;
CREATE INDEX messages_leased ON messages(lease_until, queue) WHERE state = 2;
CREATE INDEX messages_dead ON messages(queue, died_at, seq) WHERE state = 3;
CREATE INDEX messages_done ON messages(due) WHERE state = 4;

-- SQLite writes a whole row again when a part of it changes, so what is large is not in the row that changes.
CREATE TABLE bodies(number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TRIGGER messages_body AFTER UPDATE OF body ON messages
WHEN typeof(old.body) = 'integer' AND new.body IS NOT old.body
BEGIN DELETE FROM bodies WHERE number = old.body; END;

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
    expires_at REAL,
    rank INTEGER NOT NULL,
    final INTEGER NOT NULL,
    version INTEGER NOT NULL,
    task TEXT,
    state TEXT,
    error TEXT,
    at REAL,
    body BLOB NOT NULL
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
_CREATE = f"{TABLES}PRAGMA application_id = {APPLICATION};\nPRAGMA user_version = {VERSION}".split(";\n")

# One statement, so that tables that another process is creating are seen completely or not at all.
_MARKS = """
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
    (SELECT count(*) FROM sqlite_master)"""

Run = Callable[[str], sqlite3.Cursor]


def prepare(run: Run, path: str) -> None:
    """Create the tables in the file at *path* if it is empty; *run* executes a statement.

    Raises:
        UnavailableError: The file is another program's database, or another queuekit's.
    """
    if not _is_empty(run, path):
        return
    # These two only take effect while the file is empty. A send writes seven pages to the log, whatever their size.
    run(f"PRAGMA page_size = {PAGE}")
    run("PRAGMA auto_vacuum = INCREMENTAL")
    run("PRAGMA journal_mode = WAL")
    run("BEGIN IMMEDIATE")
    try:
        if _is_empty(run, path):  # unless another process was faster
            for statement in _CREATE:
                run(statement)
        run("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            run("ROLLBACK")
        raise


def _is_empty(run: Run, path: str) -> bool:
    """Return whether the file has no tables yet; raise for a file that is not of this layout."""
    ((application, version, tables),) = run(_MARKS).fetchall()
    if application == APPLICATION and version != VERSION:
        raise other_layout(path, found=version, known=VERSION, elsewhere="name another file")
    if application == APPLICATION:
        return False
    if tables or application or version:
        raise UnavailableError(
            f"{path} is another program's database",
            fix="Give queuekit a file of its own, e.g. sqlite:///queuekit.db",
            passing=False,
        )
    return True
