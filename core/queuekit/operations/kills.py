"""End a running body whatever it does: with its own process, or with the worker process that runs it."""

from __future__ import annotations

import attrs

from queuekit.ids import plain
from queuekit.operations.actions import named
from queuekit.operations.admin import Admin, MessageView
from queuekit.states import FINAL
from queuekit.wire.records import CANCEL_TTL, Cancellation, cancel_mark

__all__ = ["kill"]

_LOOK = 0.1
"""Seconds between two looks whether it has ended."""
_DEAD = frozenset({"killed", "dropped", "removed"})


def kill(admin: Admin, id: str, *, by: str | None, patience: float) -> MessageView:
    """Have the process of the running message *id* killed; return what is known when it is, or after *patience* s.

    The message ends as CANCELLED. It has not ended in the returned view if no worker has acted yet.

    Raises:
        UnknownIdError: Neither broker nor backend knows it.
        NoBackendError: The request needs a backend.
    """
    id, clock = plain(id), admin.runtime.clock
    wish = Cancellation(by=named(by), at=clock.time(), hard=True)
    with admin.in_time():
        admin.runtime.need_backend("killing a running task").put([cancel_mark(id, ttl=CANCEL_TTL, wish=wish)])
    end = clock.monotonic() + patience
    while True:
        view = admin.show(id)
        did = "" if view.cancellation is None else view.cancellation.did
        if view.info.state in FINAL or did in _DEAD or clock.monotonic() >= end:
            return attrs.evolve(view, now=clock.time())
        clock.sleep(_LOOK)
