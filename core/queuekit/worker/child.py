"""The main program of a worker process under a supervisor.

Run as ``python -m queuekit.worker.child PIPE TABLE LEASES STACKS PARENT``, or forked by
:mod:`queuekit.worker.prefork`.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from queuekit.errors import QueuekitError
from queuekit.execution import children
from queuekit.ids import worker_name
from queuekit.worker.draining import DRAINED
from queuekit.worker.forkserver import ForkServer
from queuekit.worker.isolation import server_for_suspects
from queuekit.worker.lease_table import LeaseTable
from queuekit.worker.log_setup import configure_logging
from queuekit.worker.protocol import (
    HEAD,
    Crashed,
    Drains,
    Lost,
    Ready,
    Recycle,
    Replacement,
    Serves,
    Start,
    Stop,
    hears,
)
from queuekit.worker.run_table import RunTable
from queuekit.worker.stacks import answer_signal
from queuekit.worker.watch import end_process
from queuekit.worker.worker import Worker

__all__ = ["FORKED", "adopted", "main", "received"]

FORKED = "queuekit-child"
"""What the system calls a forked process, in ``/proc/PID/comm``; its command line is that of the supervisor."""

_YOUNG = 10_000
"""New objects after which Python collects garbage. A batch in flight has some thousands, and almost no cycles."""


def main(arguments: Sequence[str]) -> int:
    """Run a worker process and return its exit code."""
    asked: list[int] = []
    for one in children.stop_signals():
        children.listen(one, lambda *_: None)
    children.listen(signal.SIGTERM, lambda number, _: asked.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, children.STOPS)
    usual = gc.get_threshold()
    *numbers, parent = (int(argument) for argument in arguments)
    answer_signal(numbers[3])
    for number in numbers:
        os.set_inheritable(number, False)  # noqa: FBT003 - programs that a task starts must not inherit them
    pipe = Connection(numbers[0])
    start = _started(pipe, parent)
    if start is None:
        return 0
    configure_logging(level=start.log_level, style=start.log_style, worker=worker_name(start.name))
    server = server_for_suspects(start.ref) if start.suspects else None
    try:
        worker = _make_worker(start, server, pipe, files=numbers[1:3])
    except QueuekitError as error:
        print(f"Error {error.code}: {error}", file=sys.stderr)  # noqa: T201 - a user's error needs no traceback
        return error.exit_code
    children.listen(signal.SIGTERM, lambda *_: worker.stop("SIGTERM"))
    children.guard_children()
    _look_less_for_cycles(usual)
    if asked:
        worker.stop("SIGTERM")
    listener = threading.Thread(target=_listen, args=(pipe, worker, parent), name="queuekit-pipe", daemon=True)
    listener.start()
    worker.others.append(listener)
    with suppress(OSError):  # the listener thread notices that the supervisor is gone
        pipe.send(Ready(worker.name))
    code = worker.run()
    children.end_processes()
    return DRAINED if code == 0 and worker.drained else code


def _started(pipe: Connection, parent: int) -> Start | None:
    """Return what *parent*, the supervisor, sends first; ``None`` if it is gone."""
    try:
        start = pipe.recv() if hears(pipe, parent) else None
    except EOFError:
        return None
    assert start is None or isinstance(start, Start)  # noqa: S101 - the supervisor sends nothing else before
    return start


def adopted(pipe: socket.socket, parent: int) -> int:
    """Wait until *parent*, the supervisor, passes the files over *pipe*, then run as :func:`main`.

    Returns:
        The exit code; 0 if the supervisor needs no process or is gone.
    """
    files = received(pipe) if hears(pipe, parent) else []
    if not files:
        return 0
    with suppress(OSError):
        Path("/proc/self/comm").write_text(FORKED, encoding="ascii")
    return main([str(number) for number in (pipe.detach(), *files, parent)])


def received(pipe: socket.socket) -> list[int]:
    """Return the files that the supervisor passes, none if it needs no process; take its environment of this moment."""
    head, files = socket.recv_fds(pipe, HEAD, 3)[:2]
    if files:
        environ = json.loads(pipe.recv(int.from_bytes(head), socket.MSG_WAITALL))
        os.environ.clear()
        os.environ.update(environ)
    return files


def _make_worker(start: Start, server: ForkServer | None, pipe: Connection, *, files: Sequence[int]) -> Worker:
    """Return the worker; *files* are the run table and the lease table that it shares with its supervisor."""

    def replace(reason: str) -> None:
        with suppress(OSError):
            pipe.send(Replacement(reason))

    def drains() -> None:
        with suppress(OSError):
            pipe.send(Drains())

    def serves() -> None:
        with suppress(OSError):
            pipe.send(Serves())

    return Worker(
        start.ref.load(),
        burst=start.burst,
        name=start.name,
        ref=start.ref,
        server=server,
        leases=LeaseTable(fileno=files[1], size=0),
        run_table=RunTable(start.rows, fileno=files[0]),
        on_replace=replace,
        on_drain=drains,
        on_serve=serves,
        on_fault=end_process,
    )


def _look_less_for_cycles(usual: tuple[int, int, int]) -> None:
    """Exempt imported objects from garbage collection, and collect less often unless the app set its own threshold."""
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == usual:
        gc.set_threshold(_YOUNG, *usual[1:])


def _listen(pipe: Connection, worker: Worker, parent: int) -> None:
    """Follow the supervisor's commands; if it is gone, finish what runs and end."""
    while True:
        try:
            has_word = hears(pipe, parent)
            if worker.has_lost_files():  # the supervisor may be there, and the number may be that of another file
                return
            word = pipe.recv() if has_word else None
        except (EOFError, OSError):
            word = None
        if word is None:
            worker.keep_leases()
            worker.stop("its supervisor is gone")
            return
        _obey(word, worker)


def _obey(word: object, worker: Worker) -> None:
    if isinstance(word, Stop):
        worker.stop(word.reason, at_once=word.at_once)
    elif isinstance(word, Recycle):
        worker.recycle(word.reason)
    elif isinstance(word, Lost):
        worker.lost(word.serials)
    elif isinstance(word, Crashed):
        worker.expect_suspects()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
