"""Ask the gates of an app once a second whether its workers may take messages."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from queuekit.logs.errors import log_error

__all__ = ["Gates"]

_logger = logging.getLogger("queuekit.worker")
_LOOK = 1.0
"""Seconds between two questions."""
_FIRST = 1.0
"""Most seconds that the start waits for the first answer; a burst waits :data:`_SILENT`, or it would end."""
_SILENT = 5.0
"""Seconds without an answer after which a gate counts as closed."""


class Gates:
    """A thread that asks the gates; they are closed until all have let messages pass.

    Args:
        gates: Functions of the user; each returns whether messages may be taken.
        clock: Returns monotonic seconds.
        change: Called with why messages are held back, or with an empty text once they are not.
    """

    def __init__(
        self, gates: Sequence[Callable[[], object]], *, clock: Callable[[], float], change: Callable[[str], None]
    ) -> None:
        self._gates = gates
        self._clock = clock
        self._change = change
        self._asked: tuple[str, float] | None = None
        """The gate that is being asked, and since when."""
        self._failures: Counter[str] = Counter()
        self._why: str | None = None
        self._lock = threading.Lock()
        self._answered, self._stopped = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._loop, name="queuekit-gate", daemon=True)

    def start(self, *, burst: bool = False) -> None:
        """Start, and wait for the first answer, longer in a *burst*; until then, no messages are taken."""
        self._report("its gate has not answered yet")
        self.thread.start()
        self._answered.wait(_SILENT if burst else _FIRST)

    def stop(self) -> None:
        """Ask no more, and wait for no answer."""
        self._stopped.set()
        self._answered.set()

    def check(self) -> str:
        """Hold messages back if a gate does not answer; called once a second by another thread. Never a fault."""
        asked = self._asked
        if asked is not None and self._clock() - asked[1] >= _SILENT:
            self._report(f"the gate {asked[0]} has not answered for {_SILENT:.0f} s")
        return ""

    def _loop(self) -> None:
        while not self._stopped.is_set():
            self.ask()
            self._answered.set()
            self._stopped.wait(_LOOK)

    def ask(self) -> None:
        """Ask all gates once; the first closed one is the reason."""
        self._report(next(filter(None, map(self._ask, self._gates)), ""))

    def _ask(self, gate: Callable[[], object]) -> str:
        """Return why *gate* holds messages back; empty if it does not."""
        name = getattr(gate, "__qualname__", type(gate).__name__)
        self._asked = (name, self._clock())
        try:
            is_open = bool(gate())
        except BaseException as error:  # noqa: BLE001 - also SystemExit: a gate must not end its worker
            return self._failed(name, error)
        finally:
            self._asked = None
        if failures := self._failures.pop(name, 0):
            _logger.info("the gate %s answers again after %d failures", name, failures)
        return "" if is_open else f"the gate {name} is closed"

    def _failed(self, name: str, error: BaseException) -> str:
        """Log the first of several failures in full; the others are counted."""
        self._failures[name] += 1
        if self._failures[name] == 1:
            log_error(_logger, "the gate %s failed, so messages are held back", name, error=error)
        return f"the gate {name} raised {type(error).__name__}"

    def _report(self, why: str) -> None:
        with self._lock:
            if why == self._why:
                return
            self._why = why
            self._change(why)  # inside: the last change to be reported must be the last that was found
