"""Processes that begin as forks: whoever starts one finds no difference to a start of Python."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import measuring, preloaded
from support.commands import environment
from support.preloaded import NAME, Preloaded
from support.waiting import PATIENCE, wait_until

APP = """
import os, sys
from queuekit import Queuekit
with open(os.environ["OUT"], "a") as file:
    parent = open(f"/proc/{os.getppid()}/cmdline").read().split(chr(0))
    print(sys.orig_argv[1:3], sys.path[0], os.getcwd(), os.getsid(0) == os.getpid(), parent[2:4], file=file)
app = Queuekit(broker="sqlite:///queue.db")
@app.task
def nothing(): pass
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there")


def start(kind: Any, folder: Path, *args: str, **settings: str) -> subprocess.Popen[bytes]:
    """Start ``queuekit`` with *args* in *folder*."""
    (folder / "jobs.py").write_text(APP)
    with (folder / "log").open("wb") as log:
        process: subprocess.Popen[bytes] = kind(
            [sys.executable, "-m", "queuekit.cli", *args],
            cwd=folder,
            env=environment(OUT=str(folder / "out"), **settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return process


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("worker", "jobs:app", "--burst"), marks=pytest.mark.full),
        ("queues", "--app", "jobs:app"),
        ("nothing",),
    ],
)
def test_is_what_a_start_of_python_is(tmp_path: Path, args: tuple[str, ...]) -> None:
    """Exit code, command line, folder, session and parent are the same, in the process and in those that it starts."""
    found = []
    for name, kind in (("usual", subprocess.Popen), ("fork", Preloaded)):
        folder = tmp_path / name
        folder.mkdir()
        code = start(kind, folder, *args).wait(PATIENCE)
        out = folder / "out"
        found.append((code, out.read_text().replace(str(folder), "HERE") if out.exists() else ""))

    assert found[0] == found[1]


def test_is_killed_with_its_group_at_once(tmp_path: Path) -> None:
    """The group is there when the start returns, and nothing is left of it after a kill."""
    process = start(Preloaded, tmp_path, "worker", "jobs:app")

    os.killpg(process.pid, signal.SIGKILL)

    assert process.wait(PATIENCE) == -signal.SIGKILL
    wait_until(lambda: not _group(process.pid), what="the end of the group")


def test_what_forks_for_a_process_ends_with_it(tmp_path: Path) -> None:
    """It shows under a name of its own, and is gone when the process is."""
    process = start(Preloaded, tmp_path, "worker", "jobs:app")
    wait_until(lambda: NAME in _group(process.pid), what="what forks")

    process.kill()

    assert process.wait(PATIENCE) == -signal.SIGKILL
    wait_until(lambda: not _group(process.pid), what="the end of all that it has started")


def test_fork_server_of_a_forked_worker_process_is_a_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor forks that process by itself; what it starts in turn is what a start of Python is all the same."""
    monkeypatch.delenv(measuring.CONFIG, raising=False)  # a process that is measured is started
    process = start(Preloaded, tmp_path, "worker", "jobs:app", "--pool", "process")
    out, name = tmp_path / "out", "queuekit.worker.forkserver"
    wait_until(lambda: out.exists() and f"'{name}'] " in out.read_text(), what="the app in the fork server")

    servers = [pid for pid in _members(process.pid) if name in _read(pid, "cmdline")]  # and what they have forked
    environs = [_read(pid, "environ") for pid in servers]
    os.killpg(process.pid, signal.SIGKILL)

    assert process.wait(PATIENCE) == -signal.SIGKILL
    (line,) = [line for line in out.read_text().splitlines() if name in line]
    assert line == f"['-m', '{name}'] {tmp_path} {tmp_path} False ['queuekit.cli', 'worker']"
    assert any(environs)
    assert str(tmp_path) not in "".join(environs), "a start of Python would have been given this environment"


def test_what_forks_is_ended_while_its_forks_go_on(tmp_path: Path) -> None:
    """Nothing is left of it, as Python would say at its own end; the next start brings another."""
    before = start(Preloaded, tmp_path, "worker", "jobs:app")
    ended = preloaded._shared().process

    preloaded.close()
    preloaded.close()

    assert ended is not None
    assert ended.returncode in {0, -signal.SIGKILL}, "it may have seen its socket close before it was killed"
    assert before.poll() is None
    before.kill()
    assert before.wait(PATIENCE) == -signal.SIGKILL
    assert start(Preloaded, tmp_path, "nothing").wait(PATIENCE) == 2
    assert preloaded._shared().process is not ended


def _group(leader: int) -> list[str]:
    """Return the first words of the command lines of the living processes of a group."""
    return [_read(pid, "cmdline").split("\0")[0] for pid in _members(leader)]


def _read(pid: int, name: str) -> str:
    """Return what the system tells of a process under *name*; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def _members(leader: int) -> list[int]:
    """Return the ids of the living processes of a group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, group = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
            if int(group) == leader and state not in "ZX":
                found.append(int(folder.name))
    return found
