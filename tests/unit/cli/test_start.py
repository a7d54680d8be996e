"""The program before it has a command: which one was asked for, and signals that come early."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

import queuekit_start
from queuekit.cli import main, worker
from queuekit.cli.session import Session
from queuekit.plugins.manager import Plugins

RUN = "from queuekit_start import main; main()"
ENDS_ITSELF = "import os\nos.kill(os.getpid(), {number})\nwhile True:\n    pass\n"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``queuekit`` in *folder*."""
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "number"),
    [(["worker"], signal.SIGTERM), (["worker"], signal.SIGHUP), (["--app", "tasks", "scheduler"], signal.SIGTERM)],
    ids=["worker", "worker-hangup", "scheduler"],
)
def test_a_service_that_is_stopped_early_has_ended_in_peace(
    tmp_path: Path, arguments: Sequence[str], number: int
) -> None:
    """While the app is imported, before anything has begun: exit code 0, and nothing on standard error."""
    (tmp_path / "tasks.py").write_text(ENDS_ITSELF.format(number=int(number)), encoding="utf-8")

    done = run(tmp_path, *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_runs_services_for_a_developer_ends_in_peace_as_well(tmp_path: Path) -> None:
    """SIGTERM while queuekit itself is imported, before ``queuekit dev`` has started a program."""
    (tmp_path / "click.py").write_text(ENDS_ITSELF.format(number=int(signal.SIGTERM)), encoding="utf-8")

    done = run(tmp_path, "dev")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_command_that_sends_does_not_pretend(tmp_path: Path) -> None:
    """Only services end in peace: a send that SIGTERM ends has not sent."""
    (tmp_path / "tasks.py").write_text(ENDS_ITSELF.format(number=int(signal.SIGTERM)), encoding="utf-8")

    assert run(tmp_path, "send", "worker").returncode == -signal.SIGTERM


def test_an_early_interrupt_is_no_traceback(tmp_path: Path) -> None:
    """Ctrl-C while queuekit itself is imported, here at the import of a module that it needs."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt", encoding="utf-8")

    done = run(tmp_path, "queues")

    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["worker", "-q", "scheduler"], "worker"),
        (["-v", "--set", "worker.drain=3", "-A", "worker", "queues"], "queues"),
        (["--app=tasks", "scheduler"], "scheduler"),
        (["--help"], None),
        (["--app"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_finds_the_command(arguments: list[str], name: str | None) -> None:
    """The first argument that is neither an option nor the value of one."""
    assert queuekit_start._command(arguments) == name


def test_knows_which_options_take_a_value() -> None:
    """The start reads them without click; they are those that click knows."""
    options = [one for one in main.params if isinstance(one, click.Option) and not one.is_flag]

    assert {word for one in options for word in one.opts} == queuekit_start._WITH_VALUE


def test_imports_the_engine_that_an_app_may_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the config names none, that of each URL in the environment; before the fork, so that all share it."""
    asked = list[str]()
    monkeypatch.setattr(Plugins, "import_engine", lambda _, scheme: asked.append(scheme))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUEUEKIT_BROKER", raising=False)
    monkeypatch.setenv("JOBS_URL", "redis://queue.example:6379/0")
    guessing, named = Session(), Session()
    named.overrides = {"broker": "memory://jobs"}

    for session in (guessing, named):
        session.forks = True
        session.prepare_fork()
        asked.append("-")

    assert "redis" in asked[: asked.index("-")]
    assert asked[asked.index("-") :] == ["-", "memory", "-"]


def test_option_of_queues_may_be_repeated() -> None:
    """Only the last one counted, and the other queues were not served."""
    session = Session()

    worker.command.make_context("worker", ["-q", "high:8", "-q", "default"], obj=session)

    assert session.overrides["worker.queues"] == "high:8,default"
