"""Unique keys that let the newest arguments win, for operators: what their records say, and who leaves them."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from queuekit.broker import Stored
from queuekit.client.runtime import Runtime
from queuekit.errors import DecodeError
from queuekit.execution.merging import end
from queuekit.wire.merges import MERGE, KeyState, Merge, merge_in, read_state
from queuekit.wire.records import Info

__all__ = ["leave", "merge_of", "newest", "overdue", "state_of"]

_LATE = 60.0
"""Seconds after its due time at which a message that waits is reported."""
_SHOWN = 3


def merge_of(stored: Stored | None, info: Info | None = None) -> Merge | None:
    """Return the key of a message that is stored, or whose record says that it waits; ``None`` if it has none."""
    if stored is None:
        return None if info is None else info.merge
    try:
        return merge_in(stored.envelope.body)
    except DecodeError:
        return None


def state_of(runtime: Runtime, merge: Merge | None) -> KeyState | None:
    """Return what the record of a key says; ``None`` without a key or a backend."""
    if merge is None or runtime.backend is None:
        return None
    key = MERGE + merge.key
    return read_state(runtime.backend.get([key]).get(key))


def newest(stored: Stored, state: KeyState | None) -> Stored:
    """Return a stored message with the body that it will run with."""
    waiting = state.waiting if state is not None else None
    if waiting is None or waiting.id != stored.envelope.id:
        return stored
    return attrs.evolve(stored, envelope=waiting.content.into(stored.envelope))


def leave(runtime: Runtime, merge: Merge | None, id: str, *, removed: bool) -> KeyState | None:
    """Take message *id* out of the record of its key, and send what waits for its end.

    Args:
        runtime: Broker and backend.
        merge: Its key; ``None`` if it has none.
        id: The message.
        removed: Whether it was removed from its queue. Else it may run, and only a message that waits leaves.

    Returns:
        The state in which it was waiting; ``None`` if it was not.
    """
    state = state_of(runtime, merge)
    if merge is None or state is None:
        return None
    waited = state.awaits(id)
    if not waited and not removed:
        return None
    after = end(runtime, merge, id)
    waiting = after.waiting if after is not None and after.running is None else None
    if waiting is not None and not waiting.sent:
        runtime.broker.send([waiting.envelope(runtime.now(), longest=runtime.broker.limits.max_delay)])
    return state if waited else None


def overdue(runtime: Runtime) -> Iterator[str]:
    """Yield a line if messages of keys have been due for long: no worker takes them, or they are lost."""
    backend = runtime.backend
    if backend is None or not backend.capabilities.scan:
        return
    now, late = runtime.now(), list[str]()
    for record in backend.walk(MERGE):
        state = read_state(record)
        waiting = state.waiting
        if waiting is not None and state.running is None and now - waiting.due > _LATE:
            sent = "" if waiting.sent else ", and may not have been sent"
            late.append(f"{state.task} {waiting.id} has been due for {now - waiting.due:.0f} s{sent}")
    if late:
        more = f", and {len(late) - _SHOWN} more" if len(late) > _SHOWN else ""
        yield f"{'; '.join(late[:_SHOWN])}{more}: start a worker, or send a call with the same key"
