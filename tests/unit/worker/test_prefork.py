"""Processes that are forked before the app is imported: ready for a supervisor, and gone without one."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from queuekit.worker.prefork import ForkedProcess, Prefork, preforked

_PROGRAM = """
import os, sys, threading
from queuekit.worker import child
from queuekit.worker.prefork import preforked

def adopted(pipe, supervisor):
    files = child.received(pipe)
    if files:
        os.write(files[0], f"{len(files)} {sys.stdin.read()!r} {sys.argv == [child.__file__]} "
            f"{sys.modules['__main__'] is child} {os.environ.get('SINCE')} {os.getppid()}".encode())
        {after}
    return 7

child.adopted = adopted
with preforked(2) as prefork:
    read, write = os.pipe()
    os.environ["SINCE"] = "fork"
    process, here = prefork.start([write])
    os.close(write)
    told = os.read(read, 1000).decode()
    code = process.wait()
    rest = [each.pid for each, _ in prefork._waiting]
print(told.endswith(str(os.getpid())), told.rpartition(" ")[0], code, len(rest))
for pid in rest:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        print("gone")
"""
"""Adopts one of two processes that it forks. It needs a process of its own, since pytest has threads."""


def run(after: str = "pass") -> "subprocess.CompletedProcess[str]":
    """Run a program that forks, in which a worker process does *after*."""
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM.replace("{after}", after)],
        input="not for a worker",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_process_takes_its_files_and_looks_like_one_that_was_started() -> None:
    """It has the supervisor's environment, no input and no arguments; its exit code is known; the other is ended."""
    done = run()

    assert (done.stdout.splitlines(), done.stderr) == (["True 1 '' True True fork 7 1", "gone"], "")


def test_error_in_a_process_does_not_lead_back_into_the_program() -> None:
    """Even one that the program would ignore."""
    done = run("raise OSError('no way')")

    assert done.stdout.splitlines() == ["True 1 '' True True fork 1 1", "gone"]
    assert done.stderr.strip().endswith("OSError: no way")


def test_nothing_is_forked_beside_another_thread() -> None:
    """A fork would copy the locks that the thread holds."""
    program = (
        "import threading\nfrom queuekit.worker.prefork import preforked\nend = threading.Event()\n"
        "threading.Thread(target=end.wait).start()\nwith preforked(2) as prefork:\n"
        "    print(prefork.start([0]))\nend.set()"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)

    assert (done.stdout, done.stderr) == ("None\n", "")


_LATE = """
def late(child):
    while os.getppid() == supervisor:
        time.sleep(0.01)
prefork._be_program = late
"""


@pytest.mark.parametrize("late", ["", _LATE], ids=["waiting", "not-yet-waiting"])
def test_ends_with_its_supervisor_whatever_the_app_has_forked_there(late: str) -> None:
    """A manager of multiprocessing, for example, keeps a copy of the supervisor's end of each pipe, and lives on.

    A process that asks for its parent only after the supervisor is gone would take another one for it.
    """
    program = (
        f"import os, signal, time\nfrom queuekit.worker import prefork\nsupervisor = os.getpid()\n{late}\n"
        "with prefork.preforked(1):\n    pid = os.fork()\n    if pid == 0:\n        os.closerange(0, 3)\n"
        "        signal.alarm(150)\n        signal.pause()\n    print(pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )

    # Returns when nobody has the output open: when the worker process has ended.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)

    os.kill(int(done.stdout), signal.SIGKILL)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


@pytest.mark.parametrize("module", ["child", "forkserver"])
def test_started_process_ends_without_its_parent(module: str) -> None:
    """Its pipe stays open, and its parent was gone before its first line ran."""
    here, there = socket.socketpair()
    gone = subprocess.Popen(["true"])
    gone.wait()
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(3 if module == "child" else 0)]
    numbers = (there.fileno(), *files)
    command = [sys.executable, "-m", f"queuekit.worker.{module}", *map(str, (*numbers, gone.pid))]

    with here, there:
        done = subprocess.run(command, pass_fds=numbers, capture_output=True, text=True, check=False, timeout=120)

    for file in files:
        os.close(file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_processes_there_is_nothing_to_adopt() -> None:
    """The supervisor then starts its own."""
    with preforked(0) as prefork:
        assert prefork.start([0]) is None
    assert Prefork().start([0]) is None


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """Return a process that runs until it is killed."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.returncode = 0  # somebody else has waited for it


def test_a_killed_process_has_an_exit_code(sleeper: "subprocess.Popen[bytes]") -> None:
    """As ``Popen`` has one; a second kill does nothing."""
    process = ForkedProcess(sleeper.pid)
    before = process.poll()

    process.kill()
    code = process.wait()
    process.kill()

    assert (before, code, process.poll()) == (None, -signal.SIGKILL, -signal.SIGKILL)


def test_a_process_that_somebody_else_has_waited_for_has_ended(sleeper: "subprocess.Popen[bytes]") -> None:
    """Its exit code is lost."""
    process = ForkedProcess(sleeper.pid)
    sleeper.kill()
    os.waitpid(sleeper.pid, 0)

    assert (process.poll(), process.wait()) == (0, 0)
