"""Trouble around a worker: said once and clearly, without spinning, and over when its cause is."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from support.fault_tasks import app, child_of, fail_and_tell, hold, nap
from support.fleet import Fleet
from support.waiting import PATIENCE, wait_until

on_sqlite = pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)


def cpu_seconds(pids: list[int]) -> float:
    """Return the processor time that processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def test_process_that_cannot_start_is_given_up(fleet: Fleet) -> None:
    """A worker process that ends right after its start is tried a few times; then the supervisor ends with code 1."""
    source = "from support.fault_tasks import app\nimport multiprocessing, sys\n"
    source += "if 'queuekit.worker.child' in ' '.join(sys.orig_argv): raise RuntimeError('not here')\n"
    (fleet.folder / "only_above.py").write_text(source)

    group = fleet.start(app="only_above:app", folder=fleet.folder, fresh=True)

    assert group.wait() == 1
    log = group.read_log()
    assert "giving up on process" in log
    assert "module 'only_above' raises when imported: RuntimeError: not here" in log
    assert log.count("Traceback") == 0
    wait_until(lambda: not group.members(), lambda: f"still there: {group.members()}")


@on_sqlite
def test_second_process_looks_like_the_first(fleet: Fleet) -> None:
    """The first is a fork of the supervisor, the one after it a new interpreter; an app sees no difference."""
    source = "from support.fault_tasks import app\nimport sys\nmain = sys.modules['__main__'].__spec__\n"
    source += "look = sys.argv[0], sys.orig_argv[:3], main and main.name, sys.stdin.read(), sys.stdout.errors\n"
    source += "sys.stderr.write(f'looks {look}\\n')\n"
    (fleet.folder / "looking.py").write_text(source)
    group = fleet.start(app="looking:app", folder=fleet.folder, fresh=True)

    for count in (1, 2):
        wait_until(lambda count=count: group.read_log().count(" ready") == count, what=f"process {count}")
        (pid,) = group.workers()
        os.kill(pid, signal.SIGKILL)

    looks = [line.partition("looks")[2] for line in group.read_log().splitlines() if "looks (" in line]
    first, second = [look for look in looks if "worker.child" in look][:2]  # others import the app, too
    assert first == second


@on_sqlite
def test_deleted_database_is_made_again(fleet: Fleet, tmp_path: Path) -> None:
    """With the file its messages are gone; worker and producer go on with a new one."""
    group = fleet.start_ready()
    nap.send(0).get(timeout=PATIENCE)
    for path in tmp_path.glob("queue.db*"):
        if path.is_file():
            path.unlink()
    wait_until(lambda: fleet.left() == 0 and (tmp_path / "queue.db").exists(), what="a new file")

    again = nap.send(0)

    assert again.get(timeout=PATIENCE) == again.id
    assert group.alive()
    assert "Traceback" not in group.read_log()


def test_unusable_database_is_reported_without_spinning(tmp_path: Path) -> None:
    """While it cannot be opened there is a line now and then and no load; when it can, work goes on."""
    folder, aside = tmp_path / "there", tmp_path / "gone"
    folder.mkdir()
    with closing(Fleet(tmp_path, app, broker=f"sqlite:///{folder}/queue.db")) as fleet:
        group = fleet.start_ready()
        waiting = nap.options(delay=0.5).send(0)
        folder.rename(aside)
        wait_until(lambda: "cannot fetch" in group.read_log(), what="a complaint")
        before, since = cpu_seconds(group.workers()), time.monotonic()
        wait_until(lambda: group.read_log().count("cannot fetch") >= 5, what="more complaints")
        used, took = cpu_seconds(group.workers()) - before, time.monotonic() - since

        aside.rename(folder)

        assert waiting.get(timeout=PATIENCE) == waiting.id
        assert used < 0.2 + took / 2
        assert f"the directory {folder} does not exist" in group.read_log()
        assert "Traceback" not in group.read_log()


def test_absent_backend_is_waited_for(tmp_path: Path) -> None:
    """With results elsewhere, and that gone, messages are neither dropped nor blamed; all is done when it is back."""
    folder, aside = tmp_path / "there", tmp_path / "gone"
    folder.mkdir()
    urls = {"broker": f"sqlite:///{tmp_path}/queue.db", "backend": f"sqlite:///{folder}/results.db"}
    with closing(Fleet(tmp_path, app, **urls)) as fleet:
        group = fleet.start_ready(concurrency=4, lease=1)
        ids = [result.id for result in fleet.app.send_many(nap.options(delay=0.5).s(0.01) for _ in range(40))]
        folder.rename(aside)
        wait_until(lambda: group.read_log().count("cannot fetch") >= 3, what="complaints")

        aside.rename(folder)
        fleet.drained()

        assert fleet.states(ids) == {"SUCCESS": len(ids)}
        assert fleet.ledger.counts("end") == dict.fromkeys(ids, 1)
        assert not fleet.dead()


@on_sqlite
def test_locked_database_delays_and_loses_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """Another process keeps a transaction open for longer than anybody waits: outcomes are kept until it ends."""
    fleet.urls["broker"] = fleet.urls["broker"].partition("?")[0] + "?busy_timeout=1"
    fleet.start_ready(concurrency=4, lease=60)
    gate = fleet.gate()
    ids = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(4))]
    wait_until(lambda: fleet.ledger.has("begin", ids), what="all running")
    with closing(sqlite3.connect(tmp_path / "queue.db", timeout=PATIENCE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        gate.touch()
        wait_until(lambda: "cannot settle" in fleet.logs(), what="a complaint")
        other.execute("ROLLBACK")

    fleet.drained()

    assert fleet.ledger.counts("end") == dict.fromkeys(ids, 1)


def test_failures_are_followed_once(fleet: Fleet) -> None:
    """``on_error`` follows a task that has failed for good; the message waits for replay."""
    fleet.start_ready()
    failing = fail_and_tell.options(on_error=[child_of.si("sad")]).send()

    fleet.drained()

    assert fleet.ledger.counts("child") == {"sad": 1}
    assert fleet.dead()[failing.id].reason == "failed"


def test_signals_while_starting_end_in_peace(fleet: Fleet) -> None:
    """Whoever stops a worker that has hardly begun, all of its group at once, gets exit code 0 and no traceback."""
    group = fleet.start(processes=2)
    wait_until(lambda: len(group.workers()) == 2, what="processes that are not ready yet")

    group.signal_all(signal.SIGTERM)

    assert group.wait() == 0
    assert "Traceback" not in group.read_log()
    wait_until(lambda: not group.members(), lambda: f"still there: {group.members()}")


@contextmanager
def unusable(folder: Path) -> Iterator[str]:
    """Give the URL of a file that nobody else can use, until the end."""
    other = sqlite3.connect(folder / "later.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield f"sqlite:///{folder}/later.db?busy_timeout=0.1"
    finally:
        other.close()


def test_worker_waits_for_an_engine_that_is_down(fleet: Fleet, tmp_path: Path) -> None:
    """A worker that finds no engine at its start says so, waits, and works when the engine is there."""
    with unusable(tmp_path) as url:
        group = fleet.start("--broker", url, "--wait-for", "100s")
        wait_until(lambda: "cannot start" in group.read_log() and "retry in" in group.read_log(), group.read_log)

    wait_until(lambda: " ready" in group.read_log(), group.read_log)


def test_worker_that_waits_for_an_engine_can_be_stopped(fleet: Fleet, tmp_path: Path) -> None:
    """SIGTERM ends it in peace."""
    with unusable(tmp_path) as url:
        group = fleet.start("--broker", url, "--wait-for", "1h")
        wait_until(lambda: "cannot start" in group.read_log() and "retry in" in group.read_log(), group.read_log)

        group.signal(signal.SIGTERM)

        assert group.wait() == 0
