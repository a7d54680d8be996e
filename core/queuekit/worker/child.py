"""The main program of a worker process under a supervisor: ``python -m queuekit.worker.child PIPE TABLE``."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection

from queuekit.errors import QueuekitError
from queuekit.logs import configure_logging
from queuekit.worker.keeper import Holding
from queuekit.worker.link import Done, Held, Lost, Ready, Start, Stop
from queuekit.worker.slots import Slots
from queuekit.worker.worker import Worker

__all__ = ["main"]

_YOUNG = 10_000
"""New objects after which Python looks for cycles. A batch in hand has some thousands, and next to no cycles."""
_FEW = 40
"""Leases told of at once: so few fit into one write, and no supervisor waits for the rest of a word from a process
that was stopped in the middle."""


class PipeKeeper:
    """Tells the supervisor which leases to keep: it renews them even while a task here holds the GIL."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def hold(self, holdings: Sequence[Holding]) -> None:
        """Keep these from now on; the supervisor will read it whatever happens here next."""
        for start in range(0, len(holdings), _FEW):
            self.say(Held.of(holdings[start : start + _FEW]))

    def done(self, serials: Iterable[int]) -> None:
        """Keep these no longer."""
        self.say(Done(list(serials)))

    def say(self, word: object) -> None:
        """Write *word* to the supervisor; if it is gone, the listening thread stops the worker."""
        try:
            with self._lock:
                self._pipe.send(word)
        except (OSError, ValueError):
            return


def main(arguments: Sequence[str]) -> int:
    """Be a worker process and return its exit code."""
    asked: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    usual = gc.get_threshold()
    pipe = Connection(int(arguments[0]))
    start = pipe.recv()
    assert isinstance(start, Start)  # noqa: S101 - both ends are ours
    configure_logging(level=start.log_level, style=start.log_style)
    try:
        app = start.ref.load()
        slots = Slots(start.rows, fileno=int(arguments[1]))
        keeper = PipeKeeper(pipe)
        worker = Worker(app, burst=start.burst, ref=start.ref, keeper=lambda _worker: keeper, slots=slots)
    except QueuekitError as error:
        print(f"Error {error.code}: {error}", file=sys.stderr)  # noqa: T201 - a user's mistake has no traceback
        return error.exit_code
    _look_less_for_cycles(usual)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop("SIGTERM"))
    if asked:
        worker.stop("SIGTERM")
    threading.Thread(target=_listen, args=(pipe, worker), name="queuekit-pipe", daemon=True).start()
    keeper.say(Ready(worker.name))
    return worker.run()


def _look_less_for_cycles(usual: tuple[int, int, int]) -> None:
    """Leave what has been imported out of the search for cycles, and search less often unless the app has its say."""
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == usual:
        gc.set_threshold(_YOUNG, *usual[1:])


def _listen(pipe: Connection, worker: Worker) -> None:
    """Obey the supervisor; without one, which would start what ends here again, finish what runs and end."""
    while True:
        try:
            word = pipe.recv()
        except (EOFError, OSError):
            worker.keep_leases()
            worker.stop("its supervisor is gone")
            return
        if isinstance(word, Stop):
            worker.stop(word.reason, at_once=word.at_once)
        elif isinstance(word, Lost):
            worker.lost(word.serials)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
