"""The file of ``sqlite:///``: which it is, whose it may be, and what is said when it cannot be used."""

import contextlib
import gc
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from queuekit.backend import Record
from queuekit.broker import Ack, Place, Release
from queuekit.clock import SystemClock
from queuekit.engines.sqlite import SqliteBackend, SqliteBroker, SqliteOptions, connection
from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.layout import prepare
from queuekit.engines.sqlite.options import check_version, database_path
from queuekit.envelope import Envelope
from queuekit.errors import ConfigError, PluginError, UnavailableError
from queuekit.testing import eventually
from queuekit.urls import EngineURL
from queuekit_testing.processes import run_in_fork
from support.waiting import PATIENCE


@pytest.fixture
def broker(path: Path) -> Iterator[SqliteBroker]:
    """Return a broker that gives up quickly."""
    broker = broker_of(path, busy_timeout=0.2)
    yield broker
    broker.close()


def broker_of(path: Path, **options: Any) -> SqliteBroker:
    """Return a broker on the file at *path*."""
    return SqliteBroker(EngineURL.parse(f"sqlite:///{path}"), options=SqliteOptions(**options))


def message(id: str = "a") -> Envelope:
    """Return a message."""
    return Envelope(id=id, queue="q", body=b"body")


def send_until_refused(broker: SqliteBroker) -> UnavailableError:
    """Send until the broker notices that its file is gone, and return what it raises."""
    refusals: list[UnavailableError] = []

    def refused() -> bool:
        try:
            broker.send([message()])
        except UnavailableError as error:
            refusals.append(error)
        return bool(refusals)

    eventually(refused, what="a send is refused")
    return refusals[0]


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_path_without_a_fourth_slash_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sqlite:///a.db`` lies in the working directory."""
    monkeypatch.chdir(tmp_path)

    path = database_path(EngineURL.parse("sqlite:///a.db"))

    assert path == str(tmp_path.resolve() / "a.db")


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``sqlite:///~/a.db`` lies in the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))

    path = database_path(EngineURL.parse("sqlite:///~/a.db"))

    assert path == str(tmp_path.resolve() / "a.db")


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///", "sqlite://jobs.db", "sqlite:///:memory:", "sqlite:///a%00b"],
    ids=["nothing", "no file", "two slashes", "memory", "NUL"],
)
def test_refuses_a_url_that_names_no_file(url: str) -> None:
    """What cannot be a shared file is refused with the way to write it."""
    with pytest.raises(ConfigError, match="sqlite:///jobs"):
        SqliteBroker(EngineURL.parse(url))


def test_one_file_is_one_engine_whatever_its_name(tmp_path: Path) -> None:
    """A broker and a backend that reach one file by different paths can commit together."""
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")

    broker = SqliteBroker(EngineURL.parse(f"sqlite:///{tmp_path}/link.db"))
    backend = SqliteBackend(EngineURL.parse(f"sqlite:///{tmp_path}/../{tmp_path.name}/real.db"))

    assert broker.engine_id == backend.engine_id == f"sqlite:{tmp_path.resolve() / 'real.db'}"


def test_making_a_broker_opens_nothing(path: Path) -> None:
    """The file is made by the first call, not by the constructor."""
    SqliteBroker(EngineURL.parse(f"sqlite:///{path}"))

    assert not path.exists()


@pytest.mark.parametrize("options", [{"sync": "off"}, {"busy_timeout": -1.0}], ids=["sync", "busy_timeout"])
def test_refuses_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """Options are checked when they are read."""
    with pytest.raises(ValueError, match=next(iter(options))):
        SqliteOptions(**options)


def test_refuses_an_old_sqlite() -> None:
    """A library without RETURNING and UPDATE FROM is named, with what is needed."""
    with pytest.raises(PluginError, match=r"SQLite 3\.34\.1 .* 3\.35"):
        check_version((3, 34, 1))


# -- how it is opened ------------------------------------------------------------------------------------------------


def test_the_file_is_for_its_user_alone(broker: SqliteBroker, path: Path) -> None:
    """Database, log and pipes cannot be read by others, whatever the umask."""
    old = os.umask(0)
    try:
        broker.send([message()])
    finally:
        os.umask(old)

    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600, "jobs.db-wake": 0o700}


@pytest.mark.parametrize(("sync", "level"), [("normal", 1), ("full", 2)])
def test_sync_decides_what_a_power_cut_may_cost(path: Path, sync: Any, level: int) -> None:
    """``sync`` becomes SQLite's ``synchronous``; the journal is a write-ahead log in both."""
    database = Database(str(path), options=SqliteOptions(sync), clock=SystemClock(), random=Random())

    database.know({"default"})

    assert database.read("PRAGMA synchronous") == [(level,)]
    assert database.read("PRAGMA journal_mode") == [("wal",)]
    database.close()


def test_check_warns_of_a_file_that_others_can_read(broker: SqliteBroker, path: Path) -> None:
    """An existing file keeps its mode, but an operator is told."""
    broker.send([message()])
    path.chmod(0o644)

    assert "chmod 600" in broker.check()[0]


def test_check_is_silent_about_a_good_file(broker: SqliteBroker) -> None:
    """There is nothing to say about a fresh file."""
    assert broker.check() == []


# -- whose it is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 7], ids=["older", "newer"])
def test_refuses_the_file_of_another_version(broker: SqliteBroker, path: Path, version: int) -> None:
    """A schema from the past or the future is not touched."""
    broker.send([message()])
    broker.close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {version}")

    with pytest.raises(
        UnavailableError, match=rf"jobs\.db holds data of another .*: layout {version}, this version reads 2"
    ) as caught:
        broker.send([message()])
    assert not caught.value.passing
    assert "name another file" in caught.value.fix


def test_refuses_the_database_of_another_program(broker: SqliteBroker, path: Path) -> None:
    """A file with somebody else's tables stays as it is."""
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE users(name)")

    with pytest.raises(UnavailableError, match="another program's database") as caught:
        broker.send([message()])
    assert not caught.value.passing


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4_080])
def test_says_that_a_file_is_no_database(broker: SqliteBroker, path: Path, content: bytes) -> None:
    """A file that SQLite cannot read gives one error that names it and says what to do."""
    path.write_bytes(content)

    with pytest.raises(UnavailableError, match=r"jobs\.db cannot be used") as caught:
        broker.receive(["q"], limit=1, wait=0, lease=30)

    assert (caught.value.passing, bool(caught.value.fix)) == (False, True)


@pytest.mark.parametrize("name", ["none/jobs.db", "jobs.db/jobs.db", ""], ids=["no-folder", "in-a-file", "a-folder"])
def test_a_path_that_cannot_hold_a_file_is_not_waited_for(path: Path, name: str) -> None:
    """Only a person can make the folder, or name another file."""
    path.touch()
    broker = broker_of(path.parent / name)

    with pytest.raises(UnavailableError, match="cannot be") as caught:
        broker.send([message()])

    assert (caught.value.passing, bool(caught.value.fix)) == (False, True)


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("SQLITE_READONLY", "no"),
        ("SQLITE_PERM", "no"),
        ("SQLITE_CORRUPT", "no"),
        ("SQLITE_READONLY_DBMOVED", "yes"),
        ("SQLITE_FULL", "yes"),
        ("SQLITE_IOERR", "yes"),
        ("SQLITE_CANTOPEN", "yes"),
    ],
)
def test_says_whether_waiting_may_mend_it(path: Path, name: str, passes: str) -> None:
    """A disk may get room again, and a process may close files; rights and damage stay as they are."""
    path.touch()
    error = sqlite3.OperationalError("of a test")
    error.sqlite_errorcode = getattr(sqlite3, name)

    assert connection.fault(error, str(path), patience=1.0).passing is (passes == "yes")


# -- when it is in the way -------------------------------------------------------------------------------------------


def test_gives_up_on_a_locked_file(broker: SqliteBroker, path: Path) -> None:
    """A lock that outlasts ``busy_timeout`` is reported with the file's name; nothing was sent."""
    broker.send([message("first")])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")

        with pytest.raises(UnavailableError, match=r"jobs\.db was locked by others for 0\.2 s"):
            broker.send([message("second")])

    assert [stored.envelope.id for stored in broker.peek("q", place=Place.READY).items] == ["first"]


def test_gives_up_on_a_lock_before_a_transaction(broker: SqliteBroker, path: Path) -> None:
    """A call that needs several statements fails like any other, and works once the lock is gone."""
    broker.send([message()])
    (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=30)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="was locked by others"):
            broker.settle([Release(delivery)])

    assert broker.settle([Release(delivery)]) == []


def test_gives_up_on_a_thread_that_never_ends(path: Path) -> None:
    """A writer of the same process is waited for as long as one of another, and a second more."""
    broker = broker_of(path, busy_timeout=0.0)

    with broker._database.transaction(), pytest.raises(UnavailableError, match="other threads of this process"):
        broker.send([message()])

    assert broker.send([message()]) == ["a"]
    broker.close()


def test_giving_room_back_waits_for_nobody(broker: SqliteBroker, path: Path) -> None:
    """Shrinking the file is left for later when others write."""
    broker.send([message()])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")

        broker._database.give_back(10)

    broker._database.give_back(10)
    assert broker.counts(["q"])["q"].ready == 1


def test_says_when_no_file_system_for_it(broker: SqliteBroker) -> None:
    """Where there is no write-ahead log, several processes cannot share the file, and that is said."""
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as other,
        pytest.raises(UnavailableError, match="only mode 'memory'; Put it on a local disk"),
    ):
        broker._database._check_shared(other)


def test_returns_to_the_write_ahead_log(broker: SqliteBroker, path: Path) -> None:
    """A tool that has changed the journal of the file is overruled."""
    broker.send([message()])
    broker.close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = delete")

    broker.send([message("b")])

    assert broker._database.read("PRAGMA journal_mode") == [("wal",)]


def test_a_look_at_a_missing_file_leaves_no_connection(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is opened for it is closed: Python 3.13 warns of a connection that is left to the collector."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*args: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*args, **options))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)
    broker = broker_of(path)

    found = broker.queues()

    assert (found, len(made), path.exists()) == ([], 1, False)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")
    broker.close()


def test_waits_for_a_lock_to_go(path: Path) -> None:
    """A call that meets another writer goes through as soon as that one is done."""
    broker = broker_of(path, busy_timeout=10.0)
    broker.send([message("first")])
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.05, holder.commit)
    timer.start()

    ids = broker.send([message("second")])

    assert ids == ["second"]
    timer.join()
    holder.close()
    broker.close()


def test_says_which_directory_is_missing(tmp_path: Path) -> None:
    """A path into nowhere is told with the directory to create."""
    broker = broker_of(tmp_path / "nowhere" / "jobs.db")

    with pytest.raises(UnavailableError, match=r"the directory .*/nowhere does not exist; Create"):
        broker.send([message()])


def test_notices_that_its_directory_was_deleted(tmp_path: Path) -> None:
    """Nothing is written into a deleted file, which nobody else would ever see."""
    directory = tmp_path / "data"
    directory.mkdir()
    broker = broker_of(directory / "jobs.db")
    broker.send([message()])

    shutil.rmtree(directory)

    assert "does not exist" in str(send_until_refused(broker))


def test_begins_anew_when_the_file_was_deleted(broker: SqliteBroker, path: Path) -> None:
    """A deleted file is an empty queue, made again by the next call."""
    broker.send([message()])
    for entry in path.parent.glob("jobs.db*"):
        if entry.is_file():
            entry.unlink()

    eventually(lambda: broker.counts(["q"])["q"].ready == 0, what="the new file is empty")
    broker.send([message()])
    assert path.exists()
    assert broker.queues() == ["q"]


def test_a_full_disk_is_told_and_overcome(broker: SqliteBroker) -> None:
    """When the disk is full a send fails with the file's name, and the next one works once there is room."""
    broker.send([message("first")])
    opened = broker._database.handle().connection
    assert opened is not None
    opened.execute("PRAGMA max_page_count = 1")

    with pytest.raises(UnavailableError, match=r"jobs\.db cannot be used: .*full; Free some space"):
        broker.send([Envelope(id="large", queue="q", body=b"x" * 1_000_000)])

    assert broker.send([message("second")]) == ["second"]
    assert broker.counts(["q"])["q"].ready == 2


def test_an_error_within_a_transaction_undoes_it(broker: SqliteBroker) -> None:
    """Several statements happen together or not at all, and the error is one of ours."""
    broker.send([message("first")])

    def fail() -> None:
        with broker._database.transaction() as transaction:
            transaction.write("DELETE FROM messages")
            transaction.write("DELETE FROM absent")

    with pytest.raises(UnavailableError, match="no such table"):
        fail()

    assert broker.counts(["q"])["q"].ready == 1


def test_other_errors_pass_through_a_transaction(broker: SqliteBroker) -> None:
    """What the caller raises inside comes out as it was, with everything undone."""
    broker.send([message("first")])

    def fail() -> None:
        with broker._database.transaction() as transaction:
            transaction.write("DELETE FROM messages")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert broker.counts(["q"])["q"].ready == 1


def test_a_commit_that_fails_is_told(broker: SqliteBroker) -> None:
    """When the last step of a transaction fails nothing has happened, and the error is one of ours."""
    broker.send([message("first")])
    opened = broker._database.handle().connection
    assert opened is not None

    def fail() -> None:
        with broker._database.transaction() as transaction:
            transaction.write("DELETE FROM messages")
            opened.close()

    with pytest.raises(UnavailableError, match=r"jobs\.db cannot be used"):
        fail()
    assert broker.counts(["q"])["q"].ready == 1


def test_a_transaction_on_a_missing_file_is_refused(tmp_path: Path) -> None:
    """What cannot be opened is told before any statement, and the next call is not held up by it."""
    broker = broker_of(tmp_path / "nowhere" / "jobs.db")

    for _ in range(2):
        with pytest.raises(UnavailableError, match="does not exist"):
            broker.requeue("q")


def test_tables_are_made_all_or_none(path: Path) -> None:
    """A disk that is full while the tables are made leaves an empty file, which the next call completes."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:

        def run(sql: str) -> sqlite3.Cursor:
            if "CREATE TABLE records" in sql:
                raise sqlite3.OperationalError("disk full")
            return other.execute(sql)

        with pytest.raises(sqlite3.OperationalError):
            prepare(run, str(path))
        tables = other.execute("SELECT count(*) FROM sqlite_master").fetchall()

    broker = broker_of(path)
    assert tables == [(0,)]
    assert broker.send([message()]) == ["a"]
    broker.close()


def test_refuses_a_file_that_is_a_directory(tmp_path: Path) -> None:
    """Whatever stands in the way, the caller sees one of our errors."""
    (tmp_path / "jobs.db").mkdir()

    with pytest.raises(UnavailableError, match=r"jobs\.db cannot be used"):
        broker_of(tmp_path / "jobs.db").send([message()])


# -- threads, forks, closing -----------------------------------------------------------------------------------------


def open_files(path: Path) -> int:
    """Return how often this process has the database itself open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += entry.readlink() == path
    return count


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
def test_a_thread_that_ends_leaves_no_connection(broker: SqliteBroker, path: Path) -> None:
    """Each thread has a connection of its own, which is closed when the thread is gone."""
    broker.send([message()])

    for number in range(5):
        thread = threading.Thread(target=broker.send, args=([message(f"thread {number}")],))
        thread.start()
        thread.join()
    gc.collect()

    assert broker.counts(["q"])["q"].ready == 6
    # SQLite keeps a closed descriptor for the next connection: closing it would drop the locks of the others.
    assert open_files(path) <= 2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count open files")
def test_closing_closes_the_connections_of_all_threads(broker: SqliteBroker, path: Path) -> None:
    """After ``close`` nothing is open, also of threads that still live; closing again is fine."""
    done, leave = threading.Event(), threading.Event()

    def work() -> None:
        broker.send([message("other")])
        done.set()
        leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    done.wait()
    broker.send([message()])

    broker.close()
    broker.close()

    assert open_files(path) == 0
    leave.set()
    thread.join()


def test_works_again_after_closing(broker: SqliteBroker) -> None:
    """A closed broker opens a new connection when it is needed."""
    broker.send([message("first")])
    broker.close()

    broker.send([message("second")])

    assert broker.counts(["q"])["q"].ready == 2


def test_closing_does_not_stop_what_is_at_work(path: Path) -> None:
    """A thread in a transaction, which needs the time, does not wait for itself, and neither do all others after it."""
    database = Database(str(path), options=SqliteOptions(), clock=SystemClock(), random=Random(7))
    times = [database.time.now()]
    closes = threading.Thread(target=database.close, daemon=True)

    def work() -> None:
        with database.transaction():
            times.append(database.time.now())
            closes.start()
            eventually(lambda: database.time._offset is None, timeout=PATIENCE)
            times.append(database.time.now())

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(PATIENCE)
    closes.join(PATIENCE)

    assert not worker.is_alive()
    assert len(times) == 3
    assert times == sorted(times)


def test_a_fork_inherits_no_connection(broker: SqliteBroker, path: Path) -> None:
    """The child opens connections of its own, and the parent's go on working."""
    broker.send([message("before")])

    def child() -> None:
        assert open_files(path) == 0 or not Path("/proc/self/fd").exists()
        broker.send([message("child")])

    code = run_in_fork(child)
    broker.send([message("after")])

    assert code == 0
    ready = {delivery.id for delivery in broker.receive(["q"], limit=10, wait=0, lease=30)}
    assert ready == {"before", "child", "after"}


def test_forks_while_threads_are_at_work(path: Path) -> None:
    """Forks in the middle of other threads' calls harm neither side, and no message is lost."""
    broker = broker_of(path, busy_timeout=PATIENCE)
    stop = threading.Event()
    sent: list[str] = []

    def work() -> None:
        while not stop.is_set():
            sent.extend(broker.send([message(f"parent {len(sent)}")]))

    def child() -> None:
        broker.send([message(f"child {os.getpid()}")])
        broker.close()

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: len(sent) > 10)
    codes = [run_in_fork(child) for _ in range(10)]
    stop.set()
    thread.join()

    assert codes == [0] * 10
    assert broker.counts(["q"])["q"].ready == len(sent) + 10
    assert broker._database.read("PRAGMA integrity_check") == [("ok",)]
    broker.close()


def test_a_fork_in_the_middle_of_a_statement_abandons_the_connection(
    broker: SqliteBroker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that another thread does not let go of is never touched by the child."""
    monkeypatch.setattr(connection, "FORK_PATIENCE", 0.01)
    broker.send([message("before")])
    handle = broker._database.handle()

    def child() -> None:
        assert handle.connection is None
        broker.send([message("child")])

    with handle.lock:
        code = run_in_fork(child)

    assert code == 0
    assert broker.counts(["q"])["q"].ready == 2


def test_tokens_differ_between_parent_and_child(path: Path) -> None:
    """A fork copies the source of chance, and yet the tokens of parent and child differ (QK4)."""
    broker = SqliteBroker(EngineURL.parse(f"sqlite:///{path}"), random=Random(1))
    broker.send([message("a"), message("b")])
    tokens = path.parent / "token"

    def child() -> None:
        (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=30)
        tokens.write_text(delivery.token)

    run_in_fork(child)
    (delivery,) = broker.receive(["q"], limit=1, wait=0, lease=30)

    assert delivery.token.rpartition(":")[0] != tokens.read_text().rpartition(":")[0]
    broker.close()


def test_broker_and_backend_share_a_file_in_two_threads(path: Path) -> None:
    """Writers of one process take turns instead of running into each other."""
    broker, backend = broker_of(path), SqliteBackend(EngineURL.parse(f"sqlite:///{path}"))
    written: list[bool] = []

    def put() -> None:
        for number in range(200):
            written.extend(backend.put([Record(key=f"k{number}")]))

    thread = threading.Thread(target=put)
    thread.start()
    for number in range(200):
        broker.send([message(str(number))])
    thread.join()

    assert written == [True] * 200
    assert len(broker.receive(["q"], limit=500, wait=0, lease=30)) == 200
    assert len(backend.scan("k", limit=500).items) == 200
    broker.close()
    backend.close()


def test_settles_in_another_thread_than_it_received(broker: SqliteBroker) -> None:
    """A lease belongs to the broker, not to the thread that took it."""
    broker.send([message()])
    deliveries = broker.receive(["q"], limit=1, wait=0, lease=30)
    lost: list[object] = []
    thread = threading.Thread(target=lambda: lost.extend(broker.settle([Ack(deliveries[0])])))

    thread.start()
    thread.join()

    assert lost == []
    assert broker.counts(["q"])["q"].leased == 0


def test_check_warns_of_a_folder_that_all_can_write(path: Path) -> None:
    """Anybody could put a file of their own in the place of ours."""
    path.parent.chmod(0o777)
    database = Database.of(EngineURL.parse(f"sqlite:///{path}"), options=None, clock=None, random=None)

    (line,) = database.check()
    path.parent.chmod(0o700)

    assert f"every user can write to {path.parent}" in line


def test_check_warns_of_a_link(path: Path) -> None:
    """Whoever can change it chooses the file."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    database = Database.of(EngineURL.parse(f"sqlite:///{link}"), options=None, clock=None, random=None)

    (line,) = database.check()

    assert f"{link} is a symbolic link to {path}" in line


@pytest.mark.parametrize("private", [True, False])
def test_refuses_a_file_that_others_could_replace_if_asked_to(path: Path, *, private: bool) -> None:
    """``private`` refuses to use it at all; without it, an operator is told and no more."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    broker = SqliteBroker(EngineURL.parse(f"sqlite:///{link}"), options=SqliteOptions(private=private))

    with pytest.raises(UnavailableError, match="symbolic link") if private else contextlib.nullcontext():
        broker.send([message()])

    assert path.exists() is not private
    broker.close()


def test_check_warns_of_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before sends fail."""
    monkeypatch.setattr("queuekit.engines.sqlite.checks.ROOM", 2**62)
    database = Database.of(EngineURL.parse(f"sqlite:///{path}"), options=None, clock=None, random=None)

    (line,) = database.check()

    assert "are free on the disk" in line
