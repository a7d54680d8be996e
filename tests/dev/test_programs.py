"""Programs of a developer start together, start again when files change, and end at one signal."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("queuekit_dev", reason="pip install -e plugins/queuekit-dev watchfiles")

from queuekit_dev import programs as development
from queuekit_dev.changes import changes_of
from queuekit_dev.programs import DevProgram, Programs
from support.waiting import wait_until

STEADY = """
import pathlib, signal, sys, threading
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
with pathlib.Path(sys.argv[1]).open("a") as file: file.write("begun ")
print("hello", flush=True)
while not told.wait(0.01): pass
print("bye", flush=True)
sys.exit(7)
"""
DEAF = STEADY.replace("told.set()", "print('no', flush=True)")
BROKEN = "import sys; print('cannot start', flush=True); sys.exit(3)"


def program(code: str, *words: str, name: str = "worker", reloads: bool = True) -> DevProgram:
    """Return a program that starts quickly."""
    return DevProgram(name=name, command=[sys.executable, "-S", "-c", code, *words], reloads=reloads)


Script = Sequence[Sequence[str] | Callable[[], object]]


class Run:
    """What programs did while a script was played: a list of changes and of functions to wait with."""

    def __init__(self, *programs: DevProgram) -> None:
        self.said: list[str] = []
        self.lines: list[str] = []
        self.script: Script = []
        self.programs = Programs(
            programs,
            self._changes,
            say=self.said.append,
            copy=lambda name, line: self.lines.append(f"{name}: {line.decode().strip()}"),
        )

    def has(self, *lines: str) -> Callable[[], object]:
        """Return what waits until the programs have printed *lines*."""
        return lambda: wait_until(
            lambda: all(self.lines.count(line) >= lines.count(line) for line in lines), str(lines)
        )

    def _changes(self, _stop: threading.Event) -> Iterator[Sequence[str]]:
        yield []
        for step in self.script:
            if callable(step):
                step()
            yield [] if callable(step) else step
        signal.raise_signal(signal.SIGINT)
        yield []


def test_a_signal_ends_a_program_which_gives_the_exit_code(tmp_path: Path) -> None:
    """And it receives one signal only."""
    run = Run(program(STEADY, str(tmp_path / "starts")))
    run.script = [run.has("worker: hello")]

    code = run.programs.run()

    assert (code, run.lines, run.said) == (7, ["worker: hello", "worker: bye"], [])


def test_a_change_starts_again_what_it_concerns(tmp_path: Path) -> None:
    """A program that does not load the sources goes on."""
    steady, other = tmp_path / "steady", tmp_path / "other"
    run = Run(program(STEADY, str(steady)), program(STEADY, str(other), name="dashboard", reloads=False))
    run.script = [run.has("worker: hello", "dashboard: hello"), ["a.py"], run.has("worker: hello", "worker: hello")]

    code = run.programs.run()

    assert (code, steady.read_text(), other.read_text()) == (0, "begun begun ", "begun ")
    assert run.said == ["a.py changed: starting again"]


def test_a_program_that_cannot_start_waits_for_a_change() -> None:
    """Such as for a syntax error; the next change is another try."""
    broken = program(BROKEN)
    run = Run(broken)
    ended = "worker ended with exit code 3; it starts again when a file changes"
    run.script = [
        run.has("worker: cannot start"),
        lambda: wait_until(lambda: broken.process is None or broken.process.poll() is not None),
        ["a.py", "b.py", "c.py", "d.py"],
        run.has("worker: cannot start", "worker: cannot start"),
    ]

    run.programs.run()

    assert run.said[:2] == [ended, "a.py, b.py, c.py and 1 more changed: starting again"]


def test_output_that_nobody_reads_ends_the_programs(tmp_path: Path) -> None:
    """As a signal does, and what they still print is read, so that no task fails for it."""
    lines: list[bytes] = []

    def copy(_: str, line: bytes) -> None:
        lines.append(line)
        raise BrokenPipeError

    def changes(stop: threading.Event) -> Iterator[Sequence[str]]:
        while not stop.wait(0.01):
            yield []

    code = Programs([program(STEADY, str(tmp_path / "starts"))], changes, say=print, copy=copy).run()

    assert (code, lines) == (7, [b"hello\n", b"bye\n"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_other_signals_end_the_programs_too(number: signal.Signals) -> None:
    """Such as that of a terminal which is closed; the handler of before is back then."""
    before = signal.getsignal(number)

    def changes(stop: threading.Event) -> Iterator[Sequence[str]]:
        yield []
        signal.raise_signal(number)
        while not stop.is_set():
            yield []

    Programs([program(BROKEN)], changes, say=print, copy=print).run()

    assert signal.getsignal(number) == before


def test_a_program_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is over, so that the terminal comes back."""
    monkeypatch.setattr(development, "_LATE", -development.DRAIN)
    run = Run(program(DEAF, str(tmp_path / "starts")))
    run.script = [run.has("worker: hello")]

    run.programs.run()

    assert run.said == ["worker did not end in time and was killed"]


def test_changes_are_those_of_sources_and_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of databases and compiled files, which tasks themselves write."""
    monkeypatch.chdir(tmp_path)
    stop = threading.Event()
    changes = changes_of([tmp_path])(stop)
    next(changes)

    for name in ("jobs.db", "tasks.pyc", "tasks.py", "queuekit.toml"):
        (tmp_path / name).touch()
    seen: set[str] = set()
    while len(seen) < 2:  # each step ends, with or without a change
        seen.update(next(changes))
    stop.set()

    assert seen == {"tasks.py", "queuekit.toml"}
