"""``queuekit dev`` and ``queuekit worker --reload``, as a developer uses them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.commands import MAIN, environment, queuekit
from support.waiting import PATIENCE, wait_until

TASKS = """\
from queuekit import Queuekit, every

app = Queuekit(broker="sqlite:///jobs.db")


@app.periodic(every("1h"), args=[5, 6])
@app.task
def add(x: int, y: int) -> None:
    print("the sum is", x + y, flush=True)
"""


@contextmanager
def running(folder: Path, *args: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command in a terminal of its own, and give it and the file that it prints to."""
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*MAIN, *args],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ends_at_one_signal(process: subprocess.Popen[bytes]) -> int:
    """Press Ctrl-C, and return the exit code once nothing of the terminal is left."""
    os.killpg(process.pid, signal.SIGINT)
    code = process.wait(PATIENCE)
    wait_until(lambda: nothing_of(process.pid), "the end of all that ran in the terminal")
    return code


def test_dev_shows_a_mistake_and_goes_on_when_it_is_mended(tmp_path: Path) -> None:
    """Worker and scheduler start again, the task runs, lines say whose they are, and Ctrl-C ends all."""
    tasks = tmp_path / "tasks.py"
    tasks.write_text(f"{TASKS}def (\n", encoding="utf-8")

    with running(tmp_path, "dev") as (process, log):
        wait_until(lambda: log.read_text().count("raises when imported: SyntaxError") > 1, log.read_text)
        tasks.write_text(TASKS, encoding="utf-8")
        wait_until(lambda: "is now the scheduler leader" in log.read_text(), log.read_text)
        queuekit("-A", "tasks:app", "send", "add", "1", "2", folder=tmp_path)
        wait_until(lambda: "worker    | the sum is 3" in log.read_text(), log.read_text)
        code = ends_at_one_signal(process)

    assert code == 0
    assert "scheduler | Error QK102: module 'tasks' raises when imported" in log.read_text()


@pytest.mark.full
@pytest.mark.parametrize("pool", ["thread", "process"])
def test_worker_starts_again_with_the_new_source(tmp_path: Path, pool: str) -> None:
    """In each pool."""
    tasks = tmp_path / "tasks.py"
    tasks.write_text(TASKS, encoding="utf-8")
    queuekit("-A", "tasks:app", "send", "add", "1", "2", folder=tmp_path)

    with running(tmp_path, "worker", "tasks:app", "--reload", "--pool", pool) as (process, log):
        wait_until(lambda: "the sum is 3" in log.read_text(), log.read_text)
        tasks.write_text(TASKS.replace("sum", "total"), encoding="utf-8")
        queuekit("-A", "tasks:app", "send", "add", "3", "4", folder=tmp_path)
        wait_until(lambda: "is 7" in log.read_text(), log.read_text)
        code = ends_at_one_signal(process)

    assert code == 0
    assert "worker: for development, not for production." in log.read_text()


def test_a_program_ends_with_its_parent(tmp_path: Path) -> None:
    """As at SIGTERM, once the pipe that is its standard input has ended."""
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")

    with subprocess.Popen(
        [sys.executable, "-m", "queuekit_dev.attended", "scheduler", "tasks:app"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said = process.stderr
        assert said is not None
        wait_until(lambda: "is now the scheduler leader" in said.readline())
        _, rest = process.communicate(timeout=PATIENCE)  # closes the pipe

    assert process.returncode == 0, rest


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["SIGKILL", "SIGHUP"])
@pytest.mark.parametrize("command", [["dev"], ["worker", "--reload"]], ids=" ".join)
def test_nothing_is_left_where_the_watcher_dies(tmp_path: Path, command: list[str], number: int) -> None:
    """However it dies."""
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")

    with running(tmp_path, *command) as (process, log):
        wait_until(lambda: " ready" in log.read_text(), log.read_text)
        process.send_signal(number)
        process.wait(PATIENCE)
        wait_until(lambda: nothing_of(process.pid), log.read_text)


def nothing_of(group: int) -> bool:
    """Return whether no process of a terminal is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_reload_and_burst_exclude_each_other(tmp_path: Path) -> None:
    """One waits, the other ends."""
    done = queuekit("worker", "--reload", "--burst", folder=tmp_path)

    assert (done.returncode, "--reload waits for changes" in done.stderr) == (2, True)
