"""The demo: real files, real worker processes, one of them killed; and the same totals as without any of that."""

import io
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

from queuekit import Queuekit
from queuekit.admin import Admin, Letter
from queuekit.broker import Place as QueuePlace
from queuekit.broker import Stored
from queuekit.demo import run
from queuekit.demo.counting import FileCount, Function, Totals, add_up, count_file, find_sources
from queuekit.demo.crew import WorkerLog
from queuekit.demo.place import Place
from queuekit.demo.screen import Screen
from queuekit.demo.summary import Report, print_report
from queuekit.envelope import Envelope
from queuekit.errors import CapabilityError, NoBackendError, QueuekitError, UnavailableError
from queuekit.records import Info
from queuekit.states import State
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


@attrs.frozen
class Ended:
    """A demo that has run."""

    code: int
    text: str

    def command(self) -> str:
        """Return the command that it printed, which shows the dead letters."""
        (line,) = (line for line in self.text.splitlines() if " dlq ls" in line)
        return line.strip()


def write_sources(directory: Path, *, copies: int = COPIES) -> Path:
    """Fill *directory* with files that can be read, and with others."""
    for number in range(copies):
        path = directory / f"package{number % 4}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GOOD, encoding="utf-8")
    for name, data in UNREADABLE.items():
        (directory / name).write_bytes(data)
    return directory


def demo(directory: Path, folder: Path, **options: Any) -> Ended:
    """Run the demo on *directory* with its temporary folder in *folder*."""
    folder.mkdir(exist_ok=True)
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        code = run(directory, out=out, **options)
    return Ended(code, out.getvalue())


def shell(command: str) -> str:
    """Return what *command* prints, as when it is pasted into a shell."""
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout  # noqa: S602


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Return one demo on a few files."""
    folder = tmp_path_factory.mktemp("demo")
    return demo(write_sources(folder / "sources"), folder / "tmp")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder for temporary files; at the end of the test it must be empty."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def test_totals_are_right(ended: Ended) -> None:
    """The totals are those of the files, and the demo says that a plain count finds the same."""
    counted, _, _ = ended.text.partition("The longest functions")
    numbers = {name: int(number) for number, name in re.findall(r"^ +(\d+) (\w+)", counted, re.MULTILINE)}

    good = {"lines": 10, "functions": 3, "classes": 1, "imports": 2}
    expected = {"files": COPIES + len(UNREADABLE)} | {name: number * COPIES for name, number in good.items()}
    assert {name: numbers[name] for name in expected} == expected
    assert "The totals are exactly right" in ended.text
    assert ended.code == 0


def test_unreadable_files_are_counted(ended: Ended) -> None:
    """A file that is not Python is no error."""
    assert f"{len(UNREADABLE)} of them unreadable" in ended.text


def test_longest_functions_are_listed(ended: Ended) -> None:
    """Ten functions are shown with name and place, the longest ones."""
    assert len(re.findall(r"^ +4 lines  Shelf\.books +package\d/module\d+\.py:5$", ended.text, re.MULTILINE)) == 10


def test_worker_is_killed_halfway(ended: Ended) -> None:
    """One worker process is killed while it runs a task, and what it had begun runs again."""
    line = next(line for line in ended.text.splitlines() if "got SIGKILL" in line)

    found = re.search(r"✓ half-way, worker process (\d+) got SIGKILL in \S+\.py: (\d+) runs? .* repeated$", line)
    assert found
    assert int(found[2]) >= 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(r"✓ 2 retries: demo\.stumble succeeded on attempt 3", id="retry"),
        pytest.param(r"✓ demo\.later was sent with a delay of 1\.5 s and started after (1\.[5-9]|[2-9])", id="delay"),
        pytest.param(r"✓ 1 message in the dead-letter queue", id="dead"),
        pytest.param(r"✓ 46 tasks sent in .* tasks per second", id="rate"),
    ],
)
def test_tells_what_happened(ended: Ended, line: str) -> None:
    """Each thing that the demo shows is told, with a mark that it went well."""
    assert re.search(line, ended.text)


def test_printed_command_shows_the_dead_letter(ended: Ended) -> None:
    """The command in the summary works when it is pasted, and lists the one dead letter."""
    rows = shell(ended.command()).splitlines()[1:]

    assert len(rows) == 1
    assert "demo.fail" in rows[0]
    assert "this task fails on purpose" in rows[0]


def test_printed_command_is_not_misled_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that would lead demo, workers or the printed command to another queue change nothing."""
    monkeypatch.setenv("QUEUEKIT_BROKER", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("QUEUEKIT_BACKEND", "none")
    monkeypatch.setenv("QUEUEKIT_WORKER__QUEUES", "elsewhere")

    ended = demo(write_sources(tmp_path / "sources", copies=1), tmp_path / "tmp", processes=1)

    assert ended.code == 0
    assert "demo.fail" in shell(ended.command())
    assert not (tmp_path / "other.db").exists()


def test_leaves_only_the_dead_letter_on_a_given_broker(tmp_path: Path) -> None:
    """On the user's own engine nothing stays but the dead letter and its outcome."""
    url = f"sqlite:///{tmp_path}/own.db"

    ended = demo(write_sources(tmp_path / "sources", copies=3), tmp_path / "tmp", broker=url)

    assert ended.code == 0
    app = Queuekit(broker=url)
    (letter,) = Admin(app).dead()
    counts = app.runtime.broker.counts([letter.stored.envelope.queue])[letter.stored.envelope.queue]
    assert (letter.task, counts.ready, counts.delayed, counts.leased) == ("demo.fail", 0, 0, 0)
    backend = app.runtime.need_backend("this test")
    assert [record.key for record in backend.scan("result:").items] == [f"result:{letter.id}"]
    assert backend.scan("entered:").items == ()
    app.close()


def test_results_may_be_elsewhere(tmp_path: Path) -> None:
    """With a backend of its own the demo comes out the same, though nothing is committed in one step."""
    urls = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("broker", "backend")}

    ended = demo(write_sources(tmp_path / "sources", copies=3), tmp_path / "tmp", **urls)

    assert ended.code == 0


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
    """Engines that other processes cannot reach, or that do not answer, are refused before anything is started."""
    sources = write_sources(tmp_path / "sources", copies=1)

    with pytest.raises(error):
        run(sources, out=io.StringIO(), **urls)


def test_refuses_a_directory_without_python(bare: Path, tmp_path: Path) -> None:
    """Where there is nothing to count, that is said."""
    with pytest.raises(QueuekitError, match="no Python files in"):
        run(tmp_path, out=io.StringIO())


def test_shows_why_workers_do_not_start(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the workers end at once, the demo shows what they said and returns 1."""
    sources = write_sources(tmp_path / "sources", copies=1)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho the disk is on fire\nexit 7\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    out = io.StringIO()

    code = run(sources, out=out)

    assert code == 1
    assert "The workers ended with exit code 7" in out.getvalue()
    assert "the disk is on fire" in out.getvalue()


def test_interrupt_cleans_up(bare: Path, tmp_path: Path) -> None:
    """Ctrl-C ends the workers, removes the temporary folder and leads to exit code 130."""
    sources = write_sources(tmp_path / "sources")
    command = [sys.executable, "-m", "queuekit.cli", "demo", str(sources)]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(bare)}, stdout=subprocess.PIPE, text=True)
    workers = workers_of(wait_for_log(bare))

    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130
    assert "Interrupted" in text
    assert [pid for pid in workers if is_alive(pid)] == []


def wait_for_log(folder: Path) -> WorkerLog:
    """Return the log of the demo below *folder*, once both worker processes are ready."""

    def ready() -> WorkerLog | None:
        logs = [WorkerLog(path) for path in folder.glob("*/workers.log")]
        for log in logs:
            log.read()
        return next((log for log in logs if len(log.ready) == 2), None)

    log: WorkerLog = wait_until(ready, "both worker processes are ready")
    return log


def workers_of(log: WorkerLog) -> list[int]:
    """Return the pids of worker processes."""
    return [int(name.rpartition("-")[2]) for name in log.ready]


def is_alive(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_log_survives_broken_lines(tmp_path: Path) -> None:
    """Lines that are not JSON, as a kill may leave them, and a line that is not finished do no harm."""
    path = tmp_path / "log"
    ready = '{"level": "INFO", "message": "%s ready", "event": "WorkerReady", "worker": "%s"}'
    path.write_text("Warning!\n" + '{"event": "Wor\n' + "[]\n" + ready % ("a-1", "a-1") + "\n" + ready % ("b", "b"))
    log = WorkerLog(path)

    log.read()

    assert log.ready == {"a-1"}
    assert log.tail() == ["Warning!", '{"event": "Wor', "[]", "INFO    a-1 ready", "INFO    b ready"]


def test_sources_leave_installed_packages_out(tmp_path: Path) -> None:
    """Hidden directories, caches and installed packages below a directory are not its own sources."""
    for name in ("a.py", "b/c.py", "site-packages/d.py", ".git/e.py", "__pycache__/f.py", "g.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    found = find_sources(tmp_path)

    assert found == ["a.py", "b/c.py"]


def test_counts_what_is_nested(tmp_path: Path) -> None:
    """Functions, classes and imports count wherever statements can stand; lambdas do not."""
    (tmp_path / "a.py").write_text(
        "try:\n    import a\nexcept ImportError:\n    def f(): pass\nelse:\n    class A: pass\nfinally:\n    import b\n"
        "match 1:\n    case 1:\n        def g():\n            with x:\n                import c\n"
        "h = lambda: 1\n"
    )

    count = count_file(tmp_path, "a.py")

    longest = (Function("g", "a.py", 11, 3), Function("f", "a.py", 4, 1))
    assert count == FileCount("a.py", lines=14, functions=2, classes=1, imports=3, longest=longest)


def test_totals_do_not_depend_on_order() -> None:
    """Files may be added up in any order, equally long functions included."""
    files = [f"{letter}.py" for letter in "abcdefgh"]
    counts = [FileCount(file, lines=5, longest=tuple(Function("f", file, n, 2) for n in (1, 3))) for file in files]

    totals = add_up(counts)

    assert totals == add_up(reversed(counts))
    assert isinstance(totals, Totals)
    assert len(totals.longest) == 10


def make_report() -> Report:
    """Return the report of a demo in which all went well."""
    totals = Totals(files=1, unreadable=0, lines=10, functions=0, classes=0, imports=0, longest=())
    envelope = Envelope(id="fail", queue="demo-1", body=b"")
    return Report(
        place=Place(folder=Path("/nowhere"), queue="demo-1", broker=None, backend=None, processes=2),
        totals=totals,
        plain=totals,
        plain_seconds=0.5,
        send_seconds=0.1,
        sent=4,
        outcomes=[Info(id="count", state=State.SUCCESS, started=1.0, finished=2.0)],
        stumbled=Info(id="stumble", state=State.SUCCESS, attempt=2),
        delayed=Info(id="later", state=State.SUCCESS, sent=1.0, started=2.5),
        delay=1.5,
        dead=[Letter(stored=Stored(envelope=envelope, place=QueuePlace.DEAD), task="demo.fail")],
        doomed="fail",
        victim=4711,
        victim_file="a.py",
        repeated=1,
        crashes=("killed by SIGKILL",),
    )


def printed(report: Report) -> str:
    """Return what is printed of *report*."""
    out = io.StringIO()
    print_report(report, Screen(out))
    return out.getvalue()


def test_says_when_all_is_well() -> None:
    """A demo in which everything came out has no cross in its summary."""
    report = make_report()

    assert report.good
    assert "✗" not in printed(report)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(
            {"plain": attrs.evolve(make_report().plain, lines=11)}, "lines: 10 by tasks, 11 in a", id="totals"
        ),
        pytest.param({"victim": 0, "repeated": 0, "crashes": ()}, "no worker process could be killed", id="no-kill"),
        pytest.param({"crashes": ()}, "but the supervisor saw no crash", id="unseen-kill"),
        pytest.param({"stumbled": Info(id="stumble", attempt=1)}, "did not succeed on attempt 2", id="retry"),
        pytest.param({"delayed": Info(id="later", sent=1.0, started=1.2)}, "started after 0.20 s", id="too-early"),
        pytest.param({"dead": []}, "0 messages in the dead-letter queue", id="not-dead"),
    ],
)
def test_says_what_went_wrong(change: dict[str, Any], text: str) -> None:
    """Whatever did not come out as it should gets a cross, and the demo is no success."""
    report = attrs.evolve(make_report(), **change)

    (line, *_) = (line for line in printed(report).splitlines() if "✗" in line)

    assert not report.good
    assert text in printed(report)
    assert text in line or "THE TOTALS ARE WRONG" in line


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal one line is drawn again and again, and goes before the next line of text."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    screen = Screen(out)

    screen.progress("tasks", 5, 5, "9/s")
    screen.line("over")

    assert re.fullmatch(r"\r  tasks  \x1b\[32m█{24}.*  5 of 5  9/s\x1b\[K\r\x1b\[Kover\n", out.getvalue())


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """``NO_COLOR`` and a terminal that knows none lead to plain text."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    screen = Screen(Terminal())

    assert screen.paint("text", "bold") == "text"


def test_file_gets_lines() -> None:
    """Where there is no terminal, each quarter is one line."""
    out = io.StringIO()
    screen = Screen(out)

    screen.begin()
    for done in range(9):
        screen.progress("tasks", done, 8)

    assert out.getvalue().splitlines() == [f"  tasks  {done} of 8" for done in (2, 4, 6, 8)]


def test_prints_ascii_where_there_is_nothing_else() -> None:
    """A stream that cannot encode the signs gets words."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    screen = Screen(out)

    screen.line(screen.mark(good=False))

    assert screen.mark(good=True) == "ok"
