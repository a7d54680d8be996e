"""Ask the worker that runs a message for the stack of its body."""

from __future__ import annotations

from queuekit.client.runtime import Runtime
from queuekit.ids import new_id, plain
from queuekit.timelimit import time_limit
from queuekit.wire.stacks import StackReport, answer_key, ask_key, asking, read_report

__all__ = ["ask_stack"]

_LOOK = 0.1
"""Seconds between two looks for the answer."""
_AGAIN = 1.0
"""Seconds after which a request is written again if another one has replaced it."""


def ask_stack(runtime: Runtime, id: str, *, patience: float) -> StackReport | None:
    """Return where the body of message *id* is; ``None`` if no worker answers within *patience* seconds.

    A worker answers within about a second; its supervisor answers for one whose interpreter is held.

    Raises:
        NoBackendError: There is no backend through which to ask.
        InvalidNameError: It is not a valid id.
    """
    id, token = plain(id), new_id()
    backend, clock = runtime.need_backend("asking a worker"), runtime.clock
    end, again = clock.monotonic() + patience, 0.0
    while True:
        with time_limit(runtime.config.send_timeout):
            found = backend.get([ask_key(id), answer_key(id)])
            report = read_report(found.get(answer_key(id)), token)
            now = clock.monotonic()
            if report is not None:
                return report
            if now >= end:
                backend.delete([ask_key(id)])
                return None
            if now >= again and ask_key(id) not in found:
                again = now + _AGAIN
                backend.put([asking(id, token, ttl=end - now + _AGAIN)])
        clock.sleep(_LOOK)
