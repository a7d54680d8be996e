"""Unique keys whose waiting message takes the newest arguments: the record of a key, and how it changes.

A key with ``on_conflict="latest"`` or ``"debounce"`` has one record in the result backend. It names the message that
runs and the one that waits, and holds the body that the waiting one gets when it starts. Every change replaces the
record only if nobody else has changed it. All functions here are pure; ``client.merging`` and ``execution.merging``
write what they return.

==================  ===================================================================================
``merge:<digest>``  the record of a key
``taken:<id>``      what a message is to run with, from its start until its own body says the same
``ended:<id>``      the message of a key has ended, and the record of the key may still name it as running
``merged:<id>``     a send with an id of the caller's was merged, for the time of its repetitions
==================  ===================================================================================
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import attrs

from queuekit.backend import Record
from queuekit.envelope import MAX_HEADER_BYTES, Envelope, Lane, join_frame, split_frame, split_header
from queuekit.errors import DecodeError
from queuekit.values import frozen, quick_frozen
from queuekit.wire.fields import Check, checked, is_flag, is_moment, is_name, is_priority, is_text, or_none

__all__ = [
    "MERGE",
    "CallContent",
    "KeyState",
    "KeyTurn",
    "Merge",
    "Running",
    "Waiting",
    "arrived",
    "closed",
    "ended_mark",
    "merge_in",
    "merge_key",
    "merged",
    "merged_mark",
    "over",
    "read_content",
    "read_merge",
    "read_state",
    "taken_key",
    "taken_mark",
    "withdrawn",
]

MERGE, _TAKEN, _ENDED, _MERGED = "merge:", "taken:", "ended:", "merged:"
Mode = Literal["latest", "debounce"]
_MODES = ("latest", "debounce")
_REPEATED = 300.0
"""Seconds for which a repetition of a send is known, as brokers remember ids."""
_GRAIN = 0.005
"""Seconds before its due time at which a message may start."""


@quick_frozen(kw_only=True)
class Merge:
    """What a message says about its key."""

    mode: Mode
    key: str
    """Digest of the key."""
    ttl: float
    """Seconds after the last change of its record after which the key is free in any case."""

    def header(self) -> list[Any]:
        """Return what :func:`read_merge` reads."""
        return [self.mode, self.key, self.ttl]


def merge_key(mode: str, key: str) -> str:
    """Return the digest of a key."""
    return hashlib.sha256(f"{mode}:{key}".encode("utf-8", "surrogatepass")).hexdigest()[:40]


def merge_in(body: bytes) -> Merge | None:
    """Return what an untrusted body says about the key of its message; ``None`` if nothing.

    Raises:
        DecodeError: Its header cannot be read, or says something else.
    """
    end = body.find(b"\n", 0, MAX_HEADER_BYTES)
    if body.find(b'"merge":', 0, max(end, 0)) < 0:
        return None
    return read_merge(split_header(body)[0].get("merge"))


def read_merge(value: Any) -> Merge | None:
    """Return what the header of an untrusted message says about its key.

    Raises:
        DecodeError: It is not what :meth:`Merge.header` returns.
    """
    if value is None:
        return None
    if isinstance(value, list) and [type(one) for one in value[:2]] == [str, str] and len(value) == 3:  # noqa: PLR2004
        mode, key, ttl = value
        if mode in _MODES and len(key) <= 100 and type(ttl) in {int, float} and 0 < ttl < 1e10:  # noqa: PLR2004
            return Merge(mode=mode, key=key, ttl=float(ttl))
    raise DecodeError("merge in the header is not a key")


def _lane(value: Any) -> Any:
    """Return a lane that was stored."""
    return Lane(**value) if type(value) is dict else value


@frozen(kw_only=True)
class CallContent:
    """What a message runs with."""

    body: bytes = attrs.field(default=b"", repr=False)
    priority: int
    expires: float | None = None
    lane: Lane | None = attrs.field(default=None, converter=_lane)

    @classmethod
    def of(cls, envelope: Envelope) -> CallContent:
        """Return the content of *envelope*."""
        return cls(body=envelope.body, priority=envelope.priority, expires=envelope.expires, lane=envelope.lane)

    def into(self, envelope: Envelope, **changes: Any) -> Envelope:
        """Return *envelope* with this content."""
        return attrs.evolve(envelope, body=self.body, priority=self.priority, expires=self.expires, **changes)


@frozen(kw_only=True)
class Running:
    """The message of a key that has started, and has not ended; it may wait for a retry."""

    id: str
    queue: str
    since: float


@frozen(kw_only=True)
class Waiting:
    """The message of a key that has not started."""

    id: str
    queue: str
    since: float
    """UTC epoch seconds of the first call that it takes in."""
    due: float
    """UTC epoch seconds from which it may start."""
    latest: float
    """UTC epoch seconds at which it is due in any case."""
    sent: bool = False
    """Whether it is known to be on its queue; it is not sent while another message of its key runs."""
    content: CallContent

    def envelope(self, now: float, *, longest: float | None) -> Envelope:
        """Return the message as it is sent; *longest* is the broker's longest delay."""
        delay = max(0.0, self.due - now)
        delay = delay if longest is None else min(delay, longest)
        # Its expiry is set when it starts: until then a newer call may replace it.
        body, priority, lane = self.content.body, self.content.priority, self.content.lane
        return Envelope(id=self.id, queue=self.queue, body=body, priority=priority, delay=delay, lane=lane)


@frozen(kw_only=True)
class KeyState:
    """The record of a key."""

    task: str = ""
    running: Running | None = None
    closing: bool = False
    """Whether the running message is about to end, so that nobody may rely on it to send the waiting one."""
    waiting: Waiting | None = None
    asked: float = 0.0
    """UTC epoch seconds at which a sender has last looked for its messages."""
    version: int = 0

    @property
    def blocked(self) -> bool:
        """Whether the running message will send the waiting one."""
        return self.running is not None and not self.closing

    def runs(self, id: str) -> bool:
        """Return whether message *id* runs."""
        return self.running is not None and self.running.id == id

    def awaits(self, id: str) -> bool:
        """Return whether message *id* waits."""
        return self.waiting is not None and self.waiting.id == id

    def has_started(self, id: str, *, mode: str) -> bool:
        """Return whether message *id* has left its place in the record, if it had one, to run."""
        if mode == "latest":
            return self.runs(id)
        return not self.awaits(id)

    def record(self, merge: Merge, now: float) -> Record:
        """Return the record of the key *merge*, to be written over this version."""
        head = attrs.asdict(self, filter=lambda field, _: field.name not in ("body", "version"))
        body = self.waiting.content.body if self.waiting is not None else b""
        later = 0.0 if self.waiting is None else max(0.0, self.waiting.due - now)
        key = MERGE + merge.key
        return Record(key=key, body=join_frame(head, body), ttl=merge.ttl + later, version=self.version, task=self.task)


def _is_lane(value: Any) -> bool:
    """Return whether *value* is what a record says of a lane."""
    fields = checked(value, _LANE, what="lane")
    return len(fields) == len(_LANE) == len(value)


_LANE: dict[str, Check] = {
    "key": is_text,
    "weight": lambda value: type(value) in {int, float} and 0.01 <= value <= 1_000,  # noqa: PLR2004 - as fair_by has it
}
_CONTENT: dict[str, Check] = {"priority": is_priority, "expires": or_none(is_moment), "lane": or_none(_is_lane)}
_RUNNING: dict[str, Check] = {"id": is_name, "queue": is_name, "since": is_moment}
_WAITING: dict[str, Check] = {**_RUNNING, "due": is_moment, "latest": is_moment, "sent": is_flag}
_STATE: dict[str, Check] = {"task": is_text, "closing": is_flag, "asked": is_moment}


def read_state(record: Record | None) -> KeyState:
    """Return the state that *record* holds; an empty one if there is none, or if it cannot be read."""
    if record is None:
        return KeyState()
    try:
        head, body = split_frame(record.body)
        running, waiting = head["running"], head["waiting"]
        if waiting is not None:
            content = CallContent(**checked(waiting["content"], _CONTENT), body=body)
            waiting = Waiting(**checked(waiting, _WAITING), content=content)
        running = None if running is None else Running(**checked(running, _RUNNING))
        return KeyState(running=running, waiting=waiting, version=record.version, **checked(head, _STATE))
    except (DecodeError, KeyError, TypeError):
        return KeyState(version=record.version)


# -- a call that is sent


def merged(state: KeyState, call: Waiting, *, quiet: float | None) -> KeyState:
    """Return the state after *call* was sent: a waiting message takes its content, else *call* is what waits.

    Args:
        state: The state before.
        call: The message of the call.
        quiet: Seconds without a call after which a debounced message is due; ``None`` if it is not debounced.
    """
    waiting = state.waiting
    if waiting is None:
        return attrs.evolve(state, waiting=call)
    due = waiting.due if quiet is None else max(waiting.due, min(call.due, waiting.latest))
    return attrs.evolve(state, waiting=attrs.evolve(waiting, content=call.content, due=due))


def withdrawn(state: KeyState, id: str) -> KeyState | None:
    """Return the state without the waiting message *id*; ``None`` if that does not wait."""
    return attrs.evolve(state, waiting=None) if state.awaits(id) else None


# -- a message that arrives at a worker


@frozen(kw_only=True)
class KeyTurn:
    """What a worker does with a message of a key."""

    wait: float = 0.0
    """Seconds until it is to be delivered again; 0 if it may start."""
    after: KeyState | None = None
    """The state to write before it starts; ``None`` if the record stays as it is."""
    content: CallContent | None = None
    """What it is to run with; ``None`` for its own content."""


def arrived(state: KeyState, id: str, queue: str, *, mode: str, now: float, pause: float, ended: bool) -> KeyTurn:
    """Return what to do with message *id*.

    Args:
        state: The state of its key.
        id: Its id.
        queue: Its queue.
        mode: ``latest`` or ``debounce``.
        now: The time, in UTC epoch seconds.
        pause: Seconds to wait while another message runs.
        ended: Whether the message that runs by the record has ended.
    """
    own = state.waiting if state.awaits(id) else None
    if state.runs(id) or (mode == "debounce" and own is None):
        return KeyTurn()
    if own is not None and own.due > now + _GRAIN:
        return KeyTurn(wait=own.due - now)
    if state.running is not None and not ended:
        return KeyTurn(wait=pause)
    after = state
    if mode == "latest":
        after = attrs.evolve(state, running=Running(id=id, queue=queue, since=now), closing=False)
    if own is None:  # without a place of its own in the record, which is gone, or since it was replayed
        return KeyTurn(after=after)
    return KeyTurn(after=attrs.evolve(after, waiting=None), content=own.content)


# -- a message that ends


def closed(state: KeyState, id: str) -> KeyState | None:
    """Return the state while message *id* ends; ``None`` if it does not run, or already is at its end."""
    return attrs.evolve(state, closing=True) if state.runs(id) and not state.closing else None


def over(state: KeyState, id: str, *, sent: str = "") -> KeyState | None:
    """Return the state after message *id* has ended; ``None`` if it neither runs nor waits.

    Args:
        state: The state before.
        id: The message.
        sent: Id of the waiting message that its end has sent.
    """
    waiting = state.waiting
    if waiting is not None and waiting.id == id:  # it never started, e.g. because it was cancelled
        return attrs.evolve(state, waiting=None)
    if not state.runs(id):
        return None
    if waiting is not None and waiting.id == sent:
        waiting = attrs.evolve(waiting, sent=True)
    return attrs.evolve(state, running=None, closing=False, waiting=waiting)


# -- marks


def taken_key(id: str) -> str:
    """Return the key of what message *id* runs with."""
    return _TAKEN + id


def taken_mark(id: str, content: CallContent, *, ttl: float) -> Record:
    """Return the record of what message *id* runs with."""
    head = {"priority": content.priority, "expires": content.expires}
    return Record(key=_TAKEN + id, body=join_frame(head, content.body), ttl=ttl)


def read_content(record: Record | None) -> CallContent | None:
    """Return what a message runs with; ``None`` if nothing readable says so."""
    try:
        head, body = split_frame(record.body) if record is not None else ({}, b"")
        return CallContent(body=body, **checked(head, _CONTENT))
    except (DecodeError, TypeError):
        return None


def ended_mark(id: str, *, ttl: float) -> Record:
    """Return the record which says that message *id* has ended."""
    return Record(key=_ENDED + id, ttl=ttl)


def merged_mark(id: str, holder: str = "") -> Record:
    """Return the record which says that the send of message *id* was merged, and became message *holder*."""
    return Record(key=_MERGED + id, body=holder.encode(), ttl=_REPEATED)
