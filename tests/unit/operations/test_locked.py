"""Administration of a SQLite file that another process keeps locked: each command ends when its own time is over."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from queuekit import Queuekit, Signature, chain, every
from queuekit.broker import Dead, Place
from queuekit.engines.sqlite.connection import fault
from queuekit.errors import UnavailableError
from queuekit.operations.admin import Admin
from queuekit.schedules.manager import Schedules
from queuekit.timelimit import time_limit
from support.working import make_app, take

COMMANDS: dict[str, Callable[[Queuekit], object]] = {
    "cancel": lambda app: Admin(app).cancel("waiting"),
    "cancel-workflow": lambda app: Admin(app).cancel("workflow"),
    "drop": lambda app: Admin(app).drop("default"),
    "forget": lambda app: app.forget("waiting"),
    "purge": lambda app: Admin(app).purge("default"),
    "purge-dead": lambda app: Admin(app).purge("default", Place.DEAD),
    "replay": lambda app: Admin(app).replay("default"),
    "replay-one": lambda app: Admin(app).replay("default", ["dead"]),
    "schedule-add": lambda app: Schedules(app).add("new", every(60), Signature("t")),
    "schedule-change": lambda app: Schedules(app).change("kept", when=every(90)),
    "schedule-pause": lambda app: Schedules(app).pause("kept"),
    "schedule-remove": lambda app: Schedules(app).remove("kept"),
    "schedule-run": lambda app: Schedules(app).run("kept"),
    "send": lambda app: app.send(Signature("t")),
}


def filled(tmp_path: Path, *, send_timeout: str, busy_timeout: int) -> Queuekit:
    """Return an app on a file that holds one of each."""
    path = tmp_path / "jobs.db"
    with contextlib.closing(make_app(broker=f"sqlite:///{path}")) as app:
        app.send(Signature("t", id="dead"))
        app.runtime.broker.settle([Dead(take(app)[0], reason="failed")])
        app.send(Signature("t", id="waiting"))
        app.send(chain(Signature("t"), Signature("t"), id="workflow"))
        Schedules(app).add("kept", every(60), Signature("t"))
    return make_app(broker=f"sqlite:///{path}?busy_timeout={busy_timeout}", send_timeout=send_timeout)


@pytest.mark.parametrize("name", COMMANDS)
def test_locked_file_ends_a_command_in_its_time(name: str, tmp_path: Path) -> None:
    """The patience of the engine is for workers; whoever waits for an answer has ``send_timeout``."""
    app = filled(tmp_path, send_timeout="200ms", busy_timeout=4)
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")

        with pytest.raises(UnavailableError, match="until the timeout"):
            COMMANDS[name](app)

    app.close()


@pytest.mark.parametrize("name", COMMANDS)
def test_command_works_on_a_file_of_its_own(name: str, tmp_path: Path) -> None:
    """A limit for each part is none for all of it."""
    app = filled(tmp_path, send_timeout="60s", busy_timeout=60)

    COMMANDS[name](app)

    app.close()


@pytest.mark.parametrize(("left", "told"), [(0.0, "until the timeout"), (0.005, "until the timeout"), (3.0, "for 4 s")])
def test_error_tells_which_patience_is_over(left: float, told: str) -> None:
    """SQLite may give up some milliseconds before the caller's time is over."""
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY

    with time_limit(left):
        error = fault(busy, "jobs.db", patience=4)

    assert told in error.what
