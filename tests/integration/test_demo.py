"""The demo: real files, real worker processes, one of them killed; and the same totals as without any of that."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, demo
from queuekit.demo import Totals, add_up, count_file, find_sources, run
from queuekit.errors import CapabilityError, NoBackendError, QueuekitError, UnavailableError
from queuekit.operations.admin import Admin
from support import preloaded
from support.waiting import PATIENCE, wait_until

GOOD = """import os
from sys import path

class Shelf:
    def books(self):
        def inner():
            return "\\d"
        return inner

async def read(): ...
"""
"""10 lines with 3 functions, 1 class and 2 imports; its escape makes Python warn."""
UNREADABLE = {"broken.py": b"def (:\n", "null.py": b"x = 1\0\n", "latin.py": b"name = '\xe9'\n"}
COPIES = 40
RECORDS = ("result:", "progress:", "graph:", "entered:", "worker:")


def write_sources(directory: Path, *, copies: int = COPIES) -> Path:
    """Fill *directory* with files that can be read, and with others."""
    for number in range(copies):
        path = directory / f"package{number % 4}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GOOD, encoding="utf-8")
    for name, data in UNREADABLE.items():
        (directory / name).write_bytes(data)
    return directory


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder for temporary files, which must be empty in the end. The demo bears with a busy machine."""
    monkeypatch.setattr(demo, "_STALLED", PATIENCE)
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the processes of the demo be forks of one that has imported queuekit."""
    preloaded._shared()  # starts one, by what is replaced here
    monkeypatch.setattr(subprocess, "Popen", preloaded.Preloaded)


def left_in(app: Queuekit) -> tuple[set[str], int]:
    """Return the keys of records that the demo has left in *app*'s backend, and how many messages in its broker."""
    backend = app.runtime.need_backend("this test")
    records = {record.key for kind in RECORDS for record in backend.scan(kind).items}
    counts = app.runtime.broker.counts(app.runtime.broker.queues())
    return records, sum(count.ready + count.delayed + count.leased + count.dead for count in counts.values())


def test_totals_are_exact_though_a_process_is_killed(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker process is killed, what it had begun runs again, and the totals are those of the files.

    A pipe gets no control characters, and the last line of progress tells that all tasks have ended.
    """
    code = run(write_sources(tmp_path / "sources"))

    text = capsys.readouterr().out
    numbers = {name: int(number) for number, name in re.findall(r"^ +(\d+) (\w+)$", text, re.MULTILINE)}
    good = {"lines": 10, "functions": 3, "classes": 1, "imports": 2}
    expected = {"files": COPIES + len(UNREADABLE), "unreadable": len(UNREADABLE)}
    assert numbers == expected | {name: number * COPIES for name, number in good.items()}
    killed = re.search(r"Worker process (\d+) got SIGKILL half-way; tasks that ran more than once: (\d+)", text)
    assert killed
    assert int(killed[2]) >= 1
    assert not is_alive(int(killed[1]))
    assert re.search(r"^43 tasks and a callback ran in [\d.]+ s, \d+/s\.$", text, re.MULTILINE)
    assert "The totals are exactly right" in text
    assert set(re.findall(r"[^ -~]", text)) == {"\n"}
    assert re.search(r"^  43 of 43 tasks, \d+/s, killed \d+$", text, re.MULTILINE)
    assert code == 0


def test_is_not_misled_by_the_environment(
    bare: Path, forked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables and a config file that are meant for other work change nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queuekit.toml").write_text('include = ["nowhere"]\n', encoding="utf-8")
    monkeypatch.setenv("QUEUEKIT_BROKER", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("QUEUEKIT_BACKEND", "none")
    monkeypatch.setenv("QUEUEKIT_WORKER__QUEUES", "elsewhere")

    code = run(write_sources(tmp_path / "sources", copies=1), processes=1)

    assert code == 0
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    "backend",
    [pytest.param("own", id="one-engine", marks=pytest.mark.full), pytest.param("backend", id="results-elsewhere")],
)
def test_leaves_nothing_on_a_given_engine(bare: Path, forked: None, tmp_path: Path, backend: str) -> None:
    """On the user's own engines no message and no record stays, though nothing may be committed in one step."""
    broker, results = f"sqlite:///{tmp_path}/own.db", f"sqlite:///{tmp_path}/{backend}.db"

    code = run(write_sources(tmp_path / "sources", copies=3), broker=broker, backend=results)

    app = Queuekit(broker=broker, backend=results)
    left = left_in(app)
    app.close()
    assert code == 0
    assert left == (set(), 0)


@pytest.mark.parametrize(
    ("urls", "error"),
    [
        pytest.param({"broker": "memory://"}, CapabilityError, id="memory-broker"),
        pytest.param({"backend": "memory://"}, CapabilityError, id="memory-backend"),
        pytest.param({"backend": "none"}, NoBackendError, id="no-backend"),
        pytest.param({"broker": "sqlite:////nowhere/at/all.db"}, UnavailableError, id="down"),
    ],
)
def test_refuses_engines_that_cannot_do(
    bare: Path, tmp_path: Path, urls: dict[str, Any], error: type[QueuekitError]
) -> None:
    """Engines that other processes cannot reach, or that do not answer, are refused before anything is sent."""
    sources = write_sources(tmp_path / "sources", copies=1)

    with pytest.raises(error):
        run(sources, **urls)


def test_refuses_a_directory_without_python(bare: Path, tmp_path: Path) -> None:
    """Where there is nothing to count, that is said."""
    with pytest.raises(QueuekitError, match="no Python files in"):
        run(tmp_path)


def test_ends_if_the_workers_do_not_start(
    bare: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the workers end at once, what they said is shown, and the demo says with which code."""
    sources = write_sources(tmp_path / "sources", copies=1)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho the disk is on fire\nexit 7\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    with pytest.raises(QueuekitError, match="the workers ended with exit code 1"):
        run(sources, processes=1)

    assert "the disk is on fire" in capfd.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_interrupt_leaves_nothing_behind(bare: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM in the middle ends the workers, and neither folder, nor messages, nor records stay."""
    sources = write_sources(tmp_path / "sources")
    app = Queuekit(broker=f"sqlite:///{tmp_path}/own.db")
    command = [sys.executable, "-m", "queuekit.cli", "demo", str(sources), "--broker", app.config.broker]
    environ = {**os.environ, "TMPDIR": str(bare)}
    process = preloaded.Preloaded(command, env=environ, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: list(bare.glob("*/journal")), "a task has begun")
    workers = wait_until(lambda: [int(one.name.rpartition("-")[2]) for one in Admin(app).workers() or ()])

    process.send_signal(number)
    process.communicate(timeout=PATIENCE)

    left = left_in(app)
    app.close()
    assert process.returncode == 130
    wait_until(lambda: not any(is_alive(pid) for pid in workers), "the end of the workers")
    assert left == (set(), 0)


def is_alive(pid: int) -> bool:
    """Return whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_says_when_the_totals_are_wrong(
    bare: Path, forked: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the loop finds something else than the tasks, the demo says what, and is no success."""
    sources = write_sources(tmp_path / "sources", copies=1)
    monkeypatch.setattr(demo, "count_file", lambda path: attrs.evolve(count_file(path), lines=7))

    code = run(sources, processes=1)

    text = capsys.readouterr().out
    assert code == 1
    assert "10 lines   WRONG: the loop finds 28" in text
    assert "THE TOTALS ARE WRONG." in text


def test_says_when_no_crash_was_seen(
    bare: Path, forked: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demo in which the supervisor saw no process die is no success, though the totals are right."""
    sources = write_sources(tmp_path / "sources", copies=1)
    monkeypatch.setattr(demo, "WorkerCrashed", str)

    code = run(sources, processes=1)

    assert code == 1
    assert "NO WORKER PROCESS WAS KILLED" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "spent", "said"), [(3.5, 2.0, "1.5 s longer"), (2.0, 3.5, "")])
def test_says_when_the_tasks_took_longer_than_the_loop(seconds: float, spent: float, said: str) -> None:
    """A queue that lost against the loop does not leave that to be worked out."""
    note = demo._slower(seconds, spent, 2)

    assert said in note
    assert bool(note) is bool(said)


def test_sources_leave_installed_packages_out(tmp_path: Path) -> None:
    """Hidden directories, caches and installed packages below a directory are not its own sources."""
    for name in ("a.py", "b/c.py", "site-packages/d.py", ".git/e.py", "__pycache__/f.py", "g.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    found = find_sources(tmp_path)

    assert found == [tmp_path / "a.py", tmp_path / "b" / "c.py"]


def test_counts_what_is_nested(tmp_path: Path) -> None:
    """Functions, classes and imports count wherever statements can stand; lambdas do not."""
    (tmp_path / "a.py").write_text(
        "try:\n    import a\nexcept ImportError:\n    def f(): pass\nelse:\n    class A: pass\nfinally:\n    import b\n"
        "match 1:\n    case 1:\n        def g():\n            with x:\n                import c\n"
        "h = lambda: 1\n"
    )

    count = count_file(tmp_path / "a.py")

    assert count == Totals(files=1, lines=14, functions=2, classes=1, imports=3)


def test_totals_do_not_depend_on_order() -> None:
    """Files may be added up in any order."""
    counts = [Totals(files=1, lines=number, imports=2) for number in range(5)]

    totals = add_up(counts)

    assert totals == add_up(counts[::-1]) == Totals(files=5, lines=10, imports=10)
