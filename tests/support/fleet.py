"""Real workers for fault tests, each in a process group of its own: all of it can be killed, and nothing is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit, State
from queuekit.broker import Place, QueueCounts, Stored
from queuekit.worker.child import FORKED
from queuekit.worker.supervisor import ONE_SIGNAL
from support.ledger import LEDGER, Ledger
from support.preloaded import NAME, Preloaded
from support.waiting import PATIENCE, UNHURRIED, wait_until

ROOT = Path(__file__).parents[2]
_LONGEST_LOG = 24_000


def freeze(pid: int) -> None:
    """Stop a process with SIGSTOP, and return when no thread of it runs, and it keeps no others from a file.

    In the middle of a write to SQLite it would: nobody could write for as long as it stands still.
    """

    def is_frozen() -> bool:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: _all_stopped(pid), what=f"the threads of {pid} standing still")
        if not _has_locked(pid):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    wait_until(is_frozen, what=f"a moment at which {pid} writes to no file")


def _all_stopped(pid: int) -> bool:
    """Return whether no thread of a process runs; one that ends meanwhile does not."""
    states = []
    for file in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(file.read_bytes().rpartition(b") ")[2][:1])
    return set(states) == {b"T"}


def _has_locked(pid: int) -> bool:
    """Return whether a process has locked a part of some file so that no other can; readers share theirs."""
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(lock[1] == "POSIX" and lock[3] == "WRITE" and lock[4] == str(pid) for lock in locks)


def _is_forked(pid: int) -> bool:
    """Return whether a process is a worker process that the supervisor has forked."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == FORKED
    return False


class Group:
    """One ``queuekit worker`` and all that it has started."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self.log = log
        self.pid = process.pid
        """The supervisor's; the group's as well."""

    def alive(self) -> bool:
        """Return whether the supervisor runs."""
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self._process.send_signal(number)

    def signal_again(self, number: int) -> None:
        """Send a second signal, when it no longer counts as one with the first."""
        first = time.monotonic()
        wait_until(lambda: time.monotonic() - first > ONE_SIGNAL, what="the second in which signals count as one")
        self.signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to all processes of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End the whole group with SIGKILL and wait until nothing is left of it."""
        self.signal_all(signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not self.members(), what=f"the end of all processes of group {self.pid}")

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit code."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker has not ended within {timeout:g} s:\n{self.read_log()}")

    def members(self) -> dict[int, list[str]]:
        """Return the living processes of the group: pid to command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                _, _, rest = (folder / "stat").read_bytes().rpartition(b") ")
                state, _, group = rest.split()[:3]
                if int(group) == self.pid and state not in (b"Z", b"X"):
                    command = (folder / "cmdline").read_text().split("\0")
                    if command[0] != NAME:
                        found[int(folder.name)] = command
        return found

    def workers(self) -> list[int]:
        """Return the pids of the worker processes under the supervisor, oldest first."""
        return sorted(
            pid for pid, command in self.members().items() if "queuekit.worker.child" in command or _is_forked(pid)
        )

    def read_log(self) -> str:
        """Return what it has written to its standard error."""
        return self.log.read_text(errors="replace")


class Fleet:
    """Worker groups on one broker, what they did, and the app that sends to them.

    Args:
        folder: For logs and the ledger.
        app: The app, as the test uses it.
        broker: URL of the broker.
        backend: URL of the backend; ``None`` leaves it to the broker's engine.
    """

    def __init__(self, folder: Path, app: Queuekit, *, broker: str, backend: str | None = None) -> None:
        self.folder = folder
        self.app = app
        self.urls = {"broker": broker} | ({} if backend is None else {"backend": backend})
        self.ledger = Ledger(folder / "ledger")
        self.groups: list[Group] = []
        # Also what is not given, or the backend of an earlier test would stay.
        app.configure({"broker": broker, "backend": backend, "send_timeout": UNHURRIED})

    def start(
        self,
        *options: str,
        app: str = "support.fault_tasks:app",
        folder: Path | None = None,
        command: str = "worker",
        fresh: bool = False,
        **settings: object,
    ) -> Group:
        """Start ``queuekit worker``, or another *command*, with *options* and *settings* of the table ``[worker]``.

        Args:
            *options: Options of the command.
            app: The app, from ``tests/`` or from *folder*.
            folder: Where else the app may be.
            command: Name of the command.
            fresh: Whether Python itself is started, which looks into *folder* for what it does at its start.
            **settings: As in the table.
        """
        log = self.folder / f"worker-{len(self.groups)}.log"
        arguments = [sys.executable, "-m", "queuekit.cli", command, app, *options]
        with log.open("wb") as file:
            process = (subprocess.Popen if fresh else Preloaded)(
                arguments,
                cwd=ROOT / "tests",
                env=self._environ(settings, folder),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        group = Group(process, log)
        self.groups.append(group)
        return group

    def start_ready(self, *options: str, **settings: Any) -> Group:
        """As :meth:`start`; returns when its processes take messages."""
        group = self.start(*options, **settings)
        count = int(settings.get("processes", 1))
        wait_until(
            lambda: group.read_log().count(" ready") >= count or not group.alive(), what="a worker that is ready"
        )
        assert group.alive(), group.read_log()
        return group

    def gate(self, name: str = "gate") -> Path:
        """Return the path of a file that is not there yet; tasks wait for it."""
        return self.folder / name

    # -- looking

    def counts(self, queue: str = "default") -> QueueCounts:
        """Return the counts of a queue."""
        return self.app.runtime.broker.counts([queue])[queue]

    def left(self, *queues: str) -> int:
        """Return how many messages are neither done nor dead."""
        found = self.app.runtime.broker.counts(queues or ("default",)).values()
        return sum(each.ready + each.delayed + each.leased for each in found)

    def dead(self, queue: str = "default") -> dict[str, Stored]:
        """Return the dead letters, by id."""
        return {each.envelope.id: each for each in self._all(queue, Place.DEAD)}

    def waiting(self, queue: str = "default") -> dict[str, Stored]:
        """Return the messages that are ready or delayed, by id."""
        return {each.envelope.id: each for place in (Place.READY, Place.DELAYED) for each in self._all(queue, place)}

    def leased(self, queue: str = "default") -> dict[str, Stored]:
        """Return the messages that somebody holds, or held when it died, by id."""
        return {each.envelope.id: each for each in self._all(queue, Place.LEASED)}

    def overdue(self, queue: str = "default") -> float:
        """Return for how many seconds the oldest lease has been over, without anybody noticing; below 0 if it holds."""
        ends = [each.due for each in self.leased(queue).values()]
        return time.time() - min(ends, default=float("inf"))

    def states(self, ids: Iterable[str]) -> Counter[State]:
        """Return how many of *ids* are in which state."""
        return Counter(self.app.info(id).state for id in ids)

    def reached(self, word: str, count: int) -> None:
        """Wait until *count* messages have *word* in the ledger."""
        wait_until(lambda: len(self.ledger.counts(word)) >= count, what=f"{count} messages with {word!r}")

    def drained(self, timeout: float = PATIENCE, *, queues: Iterable[str] = ("default",)) -> None:
        """Wait until all messages are done or dead; fail if their number is the same for *timeout* seconds."""
        names = tuple(queues)
        left = self.left(*names)
        while left:
            before = left
            wait_until(
                lambda before=before: self.left(*names) != before,
                lambda: f"{self.left(*names)} messages are left\n{self.stacks()}{self.logs()}",
                timeout=timeout,
            )
            left = self.left(*names)

    def logs(self) -> str:
        """Return the end of what all workers have written."""
        return "\n".join(f"--- {group.log.name}\n{group.read_log()[-_LONGEST_LOG:]}" for group in self.groups)

    def stacks(self) -> str:
        """End all workers, and have each write down first where its threads are; return a word about that."""
        for group in self.groups:
            group.signal_all(signal.SIGABRT)
        wait_until(lambda: not any(group.members() for group in self.groups), what="the end of what has aborted")
        return "(they were aborted, and their stacks are at the end)\n"

    # -- ending

    def close(self) -> None:
        """End all that was started, and the app's connections."""
        for group in self.groups:
            group.signal_all(signal.SIGCONT)
            group.kill()
        self.app.close()

    def _all(self, queue: str, place: Place) -> list[Stored]:
        broker = self.app.runtime.broker
        found: list[Stored] = []
        cursor: str | None = None
        while True:
            page = broker.peek(queue, place=place, limit=500, cursor=cursor)
            found += page.items
            cursor = page.cursor
            if cursor is None:
                return found

    def _environ(self, settings: Mapping[str, object], folder: Path | None) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUEUEKIT_")}
        given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        paths = [folder or ROOT / "tests", ROOT / "tests", *(Path(path).absolute() for path in given)]
        ours = {f"QUEUEKIT_{name.upper()}": url for name, url in self.urls.items()}
        ours["PYTHONFAULTHANDLER"] = "1"
        ours["QUEUEKIT_SEND_TIMEOUT"] = str(UNHURRIED)
        ours |= {f"QUEUEKIT_WORKER__{name.upper()}": str(value) for name, value in settings.items()}
        return {**inherited, **ours, "PYTHONPATH": os.pathsep.join(map(str, paths)), LEDGER: str(self.ledger.path)}
