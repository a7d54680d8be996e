"""Locks on every engine that can keep one."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from queuekit import Queuekit
from queuekit_testing.kit import unique_name
from support import calls
from support.waiting import PATIENCE, unhurried, wait_until
from support.working import make_app


def _memcached(_folder: Path) -> Queuekit:
    from support.memcached import shared

    url = f"{unhurried(shared().url, 'timeout', 'connect_timeout')}&prefix={unique_name('l')}"
    return make_app(broker=f"memory://{unique_name('l')}", backend=url)


ENGINES: dict[str, Callable[[Path], Queuekit]] = {
    "memory": calls.memory,
    "sqlite": calls.sqlite,
    "redis": calls.redis,
    "mongo": calls.mongo,
    "dynamodb": calls.aws,
    "memcached": _memcached,
}

HOLDER = """
    import sys
    from queuekit import Queuekit

    app = Queuekit(broker=sys.argv[1])
    with app.lock("report", ttl=1) as lock:
        print(lock.token, flush=True)
        sys.stdin.readline()
    app.close()
"""


SLOW = ("dynamodb",)
"""Engines whose imitation takes seconds; they are in the full run."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.full if name in SLOW else ()) for name in ENGINES])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queuekit]:
    """Return an app on one engine."""
    made = ENGINES[request.param](tmp_path)
    yield made
    made.close()


def test_one_holder_at_a_time(app: Queuekit) -> None:
    """Blocks never overlap, and each has a larger token than all blocks before it."""
    inside: list[int] = []
    tokens: list[int] = []

    def work(number: int) -> int:
        with app.lock("a report for Zoë", wait=PATIENCE) as lock:
            inside.append(number)
            tokens.append(lock.token)
            found = list(inside)
            inside.remove(number)
        return len(found)

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(work, range(6))) == {1}

    assert tokens == sorted(set(tokens))


@pytest.mark.torture
@pytest.mark.skipif(sys.platform == "win32", reason="this system cannot stop a process")
def test_stopped_holder_learns_that_it_lost_the_lock(tmp_path: Path) -> None:
    """A process that was stopped for longer than the time of its lock fails when it goes on; its token is outdated."""
    url = unhurried(f"sqlite:///{tmp_path}/queue.db", "busy_timeout")
    app = make_app(broker=url)
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as holder:
        assert holder.stdout is not None
        first = int(holder.stdout.readline())
        holder.send_signal(SIGSTOP)
        with app.lock("report", wait=PATIENCE) as lock:
            second = lock.token
        holder.send_signal(SIGCONT)
        _, errors = holder.communicate("\n", timeout=PATIENCE)
    app.close()

    assert second > first
    assert "LockLostError: the lock 'report' was lost before its block ended" in errors
    assert holder.returncode == 1


@pytest.mark.torture
def test_lock_of_a_killed_process_ends(tmp_path: Path) -> None:
    """Nobody has to free the lock of a dead process."""
    url = unhurried(f"sqlite:///{tmp_path}/queue.db", "busy_timeout")
    app = make_app(broker=url)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(HOLDER), url], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
        holder.wait()

    with app.lock("report", wait=PATIENCE) as lock:
        assert wait_until(lambda: lock.held)
    app.close()
