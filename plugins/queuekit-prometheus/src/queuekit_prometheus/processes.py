"""The numbers of all processes of a worker: each serves its own on a Unix socket, and the supervisor asks and adds.

A process that stops leaves its last numbers in a file. Of one that was killed, what it answered last counts on, so
that no counter goes back.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from queuekit_prometheus.tally import Key, ProcessTally, from_json, to_json

__all__ = ["FOLDER", "Collected", "Reporter"]

FOLDER = "_QUEUEKIT_PROMETHEUS"
"""Variable that names the folder of the sockets to the processes that a supervisor starts."""
_PATIENCE = 1.0
"""Seconds to wait for the answer of one process, which may stand still."""
_LONGEST = 64
"""Bytes of a folder below which the path of a socket fits: systems allow 104 or 108, of which our part takes 35."""


class Reporter:
    """Serves the numbers of this process in *folder* until :meth:`close`."""

    def __init__(self, folder: str, tally: ProcessTally) -> None:
        self._tally = tally
        self._path = Path(folder, f"{os.getpid()}.sock")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self._path))
        self._socket.listen()
        self.thread = threading.Thread(target=self._loop, name="queuekit-metrics", daemon=True)
        self.thread.start()

    def _loop(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(_PATIENCE)
                connection.sendall(to_json(self._tally.snapshot()))

    def close(self) -> None:
        """Write the last numbers down, and serve no more."""
        last = self._path.with_suffix(".part")
        with suppress(OSError):  # the supervisor is gone, and its folder with it
            last.write_bytes(to_json(_without_load(self._tally.snapshot())))
            last.rename(self._path.with_suffix(".json"))
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()
        self.thread.join(_PATIENCE)
        self._path.unlink(missing_ok=True)


class Collected:
    """The numbers of a supervisor and of all processes that it started."""

    def __init__(self, own: Callable[[], Counter[Key]]) -> None:
        self._own = own
        self._folder = tempfile.TemporaryDirectory(prefix="queuekit-", dir=_short_folder())
        self._lock = threading.Lock()
        self._seen: dict[str, Counter[Key]] = {}
        """The last numbers of each process, by its pid."""
        self._sum: Counter[Key] = Counter()
        """The numbers of those that have ended."""
        self._ended: set[str] = set()

    @property
    def folder(self) -> str:
        """Where the processes serve their numbers."""
        return self._folder.name

    def snapshot(self) -> Counter[Key]:
        """Return the sums."""
        with self._lock:
            for path in Path(self.folder).glob("*.sock"):
                found = None if path.stem in self._ended else _ask(path)
                if found is not None:
                    self._seen[path.stem] = found
            self._fold()
            total = self._own() + self._sum
            for found in self._seen.values():
                total.update(found)
            return total

    def _fold(self) -> None:
        """Add the numbers of processes that have ended to a sum, each once."""
        for path in Path(self.folder).glob("*.json"):
            with suppress(OSError, ValueError):
                self._seen[path.stem] = from_json(path.read_bytes())
                self._ended.add(path.stem)
                path.unlink()
        for pid in [pid for pid in self._seen if pid in self._ended or not _lives(pid)]:
            self._sum.update(_without_load(self._seen.pop(pid)))
            Path(self.folder, f"{pid}.sock").unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


def _short_folder() -> str | None:
    """Return where to make a folder, if the usual one for temporary files has too long a path for sockets."""
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _LONGEST else None  # noqa: S108 - made by mkdtemp


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def _without_load(snapshot: Counter[Key]) -> Counter[Key]:
    return Counter({key: value for key, value in snapshot.items() if key[0] != "load"})


def _ask(path: Path) -> Counter[Key] | None:
    """Return the numbers of the process that serves *path*; ``None`` if it does not answer."""
    parts: list[bytes] = []
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(str(path))
            while part := connection.recv(65_536):
                parts.append(part)
        return from_json(b"".join(parts))
    except (OSError, ValueError):
        return None
