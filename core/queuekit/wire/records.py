"""The records that core keeps in a result backend: their keys, their content, and how to read them.

===================================  ==========================================================================
``result:<id>``                      state, outcome and times of a message
``cancel:<id>``                      a request to cancel a message: who made it, when, and what a worker did
``progress:<id>``                    progress of a running task
``entered:<id>:<gen>:<try>:<claim>`` a suspect's body was entered in this claim (QK6)
``worker:<name>``                    a live worker, refreshed every 10 s
``ask:<id>``, ``stack:<id>``          a request for the stack of a running body, and the answer (``wire.stacks``)
``action:<id>``                      something that an operator changed, and who did it (``operations.actions``)
``graph:<id>``, ``graph:<id>:<n>``   the graph of a workflow, in parts
``once:<id>``                        the holder of a follow-up that the broker may deliver in copies (``copies``)
``dropped:<queue>``                  how many dead letters were dropped beyond their bounds (``dead_bounds``)
===================================  ==========================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs

from queuekit.backend import Backend, Record
from queuekit.broker import Delivery
from queuekit.envelope import Envelope, join_frame, split_frame
from queuekit.errors import DecodeError
from queuekit.failure import Failure
from queuekit.logs.plaintext import clean
from queuekit.serializer import Serializer
from queuekit.states import FINAL, State, rank
from queuekit.values import frozen, quickly
from queuekit.wire.fields import Check, checked, is_flag, is_moment, is_text, or_none, read_object
from queuekit.wire.merges import Merge, read_merge

__all__ = [
    "CANCEL_TTL",
    "ENTERED_TTL",
    "UNKNOWN_TASK",
    "Cancellation",
    "Info",
    "begun",
    "cancel_key",
    "cancel_mark",
    "cancelled",
    "entered_keys",
    "entered_mark",
    "failed",
    "moved",
    "never_ran",
    "on_queue",
    "pending",
    "progress_key",
    "read_cancellation",
    "read_info",
    "read_infos",
    "result_key",
    "succeeded",
    "unconfirmed",
    "withdrawn",
    "worker_key",
]

ENTERED_TTL = 86_400.0
"""Seconds for which a crash is remembered."""
_PROBED_CLAIMS = 50
"""Most earlier claims whose crash marks are looked up."""
_MOST = 2**63 - 1
"""Highest valid count."""
_FARTHEST = 1e12
"""Highest valid time, in epoch seconds."""
_PENDING = rank(State.PENDING)
_SUCCESS = rank(State.SUCCESS)


_quick_record = quickly(Record)
# The header of a success as succeeded() writes it: recognised without a JSON parser.
_USUAL = re.compile(
    rb'\{"v":1,"state":"SUCCESS","ct":"([a-z0-9]{1,20})","queue":"([A-Za-z0-9_.:-]{1,120})",'
    rb'"sent":([0-9]{1,11}\.[0-9]{6}),"attempt":(0|[1-9][0-9]{0,8}),"generation":(0|[1-9][0-9]{0,8}),'
    rb'"worker":"([A-Za-z0-9_.:-]{1,200})","started":([0-9]{1,11}\.[0-9]{6}),"finished":([0-9]{1,11}\.[0-9]{6})\}\n'
)


def result_key(id: str) -> str:
    """Return the key of a message's outcome."""
    return "result:" + id


CANCEL = "cancel:"
"""Prefix of the keys of cancel marks."""


def cancel_key(id: str) -> str:
    """Return the key of a message's cancel mark."""
    return CANCEL + id


def progress_key(id: str) -> str:
    """Return the key of a task's progress."""
    return "progress:" + id


def worker_key(name: str) -> str:
    """Return the key of a worker's presence."""
    return "worker:" + name


def entered_keys(delivery: Delivery) -> list[str]:
    """Return the keys of the crash marks that earlier claims of this attempt may have left."""
    first = max(1, delivery.number - _PROBED_CLAIMS)
    return [_entered(delivery, number) for number in range(first, delivery.number)]


def entered_mark(delivery: Delivery, *, seen: bool = True) -> Record:
    """Return the crash mark: the body was entered in this claim, and its process died.

    Args:
        delivery: The claim.
        seen: Whether the crash is confirmed. A mark left before the body is unconfirmed; it counts until it is deleted.
    """
    return Record(key=_entered(delivery, delivery.number), body=b"" if seen else b"unseen", ttl=ENTERED_TTL)


def unconfirmed(marks: Mapping[str, Record]) -> list[str]:
    """Return the keys of the crash marks that were left before a body and never confirmed."""
    return [key for key, mark in marks.items() if mark.body]


def _entered(delivery: Delivery, number: int) -> str:
    envelope = delivery.envelope
    return f"entered:{envelope.id}:{envelope.generation}:{envelope.attempt}:{number}"


@frozen(kw_only=True)
class Cancellation:
    """A request to cancel a message, and its effect.

    Attributes:
        by: Author of the request, as ``user@host``; empty if unknown.
        at: UTC epoch seconds of the request.
        did: Effect on the message, in one word. ``removed``: it was waiting, and was deleted from its queue.
            ``dropped``: a worker held it, and did not start it. ``raised``: an exception was raised in its body.
            ``killed``: the process that ran its body was killed. ``asked``: the body was only notified through its
            context. Empty: no worker has seen the request yet.
        worker: Name of the worker that did it.
        hard: Whether a running body is to be killed, with its worker process if it has none of its own.
    """

    by: str = ""
    at: float | None = None
    did: str = ""
    worker: str = ""
    hard: bool = False


UNKNOWN_TASK = "UnknownTask"
"""Type of the error in the record of a message that was dropped where its task is not known."""
CANCEL_TTL = 7 * 86_400.0
"""Seconds for which a cancel mark is kept."""


def cancel_mark(id: str, *, ttl: float, wish: Cancellation | None = None, ended: bool = False) -> Record:
    """Return the mark that makes workers drop or stop the message; *ended* says whether this has ended it."""
    if wish is None:
        return Record(key=cancel_key(id), ttl=ttl)
    place = 2 if ended else 1 if wish.did else 0
    return Record(key=cancel_key(id), body=json.dumps(attrs.asdict(wish)).encode(), ttl=ttl, rank=place)


_CANCELLATION: dict[str, Check] = {
    **dict.fromkeys(("by", "did", "worker"), is_text),
    "at": or_none(is_moment),
    "hard": is_flag,
}


def read_cancellation(record: Record) -> Cancellation:
    """Return the content of a cancel mark; empty if the mark is damaged."""
    try:
        fields = checked(read_object(record.body or b"{}"), _CANCELLATION)
    except DecodeError:
        return Cancellation()
    for name in ("by", "did", "worker"):
        fields[name] = clean(fields.get(name, ""))
    return Cancellation(**fields)


def pending(
    *,
    id: str,
    task: str,
    queue: str,
    ttl: float,
    at: float,
    generation: int = 0,
    due: float | None = None,
    merge: Merge | None = None,
) -> Record:
    """Return the record of a message that was sent; *due* is set if it is delayed, *merge* if others may merge."""
    later = "" if due is None else f',"due":{due!r}'
    again = f',"generation":{generation}' if generation else ""
    takes = "" if merge is None else f',"merge":{json.dumps(merge.header())}'
    body = f'{{"v":1,"state":"PENDING","queue":"{queue}","sent":{at!r}{later}{again}{takes}}}\n'.encode()
    place = rank(State.PENDING, generation=generation) if generation else _PENDING
    return _quick_record(key="result:" + id, body=body, ttl=ttl, rank=place, task=task, state="PENDING", at=at)


def on_queue(record: Record, queue: str) -> Record | None:
    """Return *record* with the name of another queue; ``None`` if it cannot be read."""
    try:
        header, rest = split_frame(record.body)
    except DecodeError:
        return None
    return attrs.evolve(record, body=join_frame({**header, "queue": queue}, rest))


def succeeded(
    delivery: Delivery,
    *,
    task: str,
    value: bytes,
    content_type: str,
    ttl: float,
    worker: str,
    times: tuple[float, float],
) -> Record:
    """Return the record of a task that returned; *value* is its serialized result, *times* are start and end."""
    envelope = delivery.envelope
    started, finished = times
    head = _success_head(content_type, envelope.queue, envelope.attempt, envelope.generation, worker)
    return _quick_record(
        key="result:" + envelope.id,
        body=(head % (delivery.sent_at, started, finished)).encode() + value,
        ttl=ttl,
        rank=rank(State.SUCCESS, generation=envelope.generation) if envelope.generation else _SUCCESS,
        final=True,
        task=task,
        state="SUCCESS",
        at=finished,
    )


@lru_cache(maxsize=256)
def _success_head(content_type: str, queue: str, attempt: int, generation: int, worker: str) -> str:
    """Return the header of a success as a format string for three times; bytes would take longer to format.

    Built by hand for speed, since every message has one; names need no escaping in JSON.
    """
    before = f'{{"v":1,"state":"SUCCESS","ct":"{content_type}","queue":"{queue}","sent":'
    after = f',"attempt":{attempt},"generation":{generation},"worker":"{worker}","started":'
    before, after = (text.replace("%", "%%") for text in (before, after))
    return f'{before}%.6f{after}%.6f,"finished":%.6f}}\n'


def failed(
    delivery: Delivery, *, state: State, task: str, ttl: float | None, run: dict[str, Any], error: Mapping[str, str]
) -> Record:
    """Return the record of an attempt that failed; *error* holds ``type``, ``text`` and ``traceback``."""
    head = join_frame({"v": 1, "state": state.value, **_origin(delivery), **run, "error": dict(error)}, b"")
    text = f"{error.get('type', '')}: {error.get('text', '')}".strip(": ")
    return _record(delivery, state, head, task=task, ttl=ttl, run=run, text=text[:1000])


def never_ran(id: str, *, task: str, failure: Failure, ttl: float, generation: int, at: float) -> Record:
    """Return the record of a message that is never sent, because a message before it ended with *failure*."""
    error = {"type": failure.error_type, "text": failure.error, "traceback": failure.traceback}
    head = {"v": 1, "state": "FAILURE", "generation": generation, "finished": at, "error": error, "origin": failure.id}
    return Record(
        key=result_key(id),
        body=join_frame(head, b""),
        ttl=ttl,
        rank=rank(State.FAILURE, generation=generation),
        final=True,
        task=task,
        state="FAILURE",
        error=f"{failure.error_type}: {failure.error}"[:1000],
        at=at,
    )


def cancelled(id: str, *, task: str, ttl: float, at: float, envelope: Envelope | None = None) -> Record:
    """Return the record of a message that was cancelled while no worker held it; *envelope* is the stored message."""
    head: dict[str, Any] = {"v": 1, "state": "CANCELLED", "finished": at}
    place = rank(State.CANCELLED)
    if envelope is not None:
        head["queue"] = envelope.queue
        place = rank(State.CANCELLED, attempt=envelope.attempt, generation=envelope.generation)
    body = join_frame({**head, "error": {"type": "Cancelled", "text": "cancelled"}}, b"")
    return Record(key=result_key(id), body=body, ttl=ttl, rank=place, final=True, task=task, state="CANCELLED", at=at)


def withdrawn(record: Record, text: str) -> Record:
    """Return *record*, the record of a message to send, changed to CANCELLED; *text* is the reason."""
    error = {"type": "Cancelled", "text": text}
    body = join_frame({"v": 1, "state": "CANCELLED", "finished": record.at, "error": error}, b"")
    return attrs.evolve(record, body=body, rank=rank(State.CANCELLED), final=True, state="CANCELLED", error=text)


def moved(delivery: Delivery, *, state: State, task: str, ttl: float, run: dict[str, Any]) -> Record:
    """Return the record of an intermediate state: RECEIVED or STARTED."""
    head = join_frame({"v": 1, "state": state.value, **_origin(delivery), **run}, b"")
    return _record(delivery, state, head, task=task, ttl=ttl, run=run)


def begun(envelope: Envelope, *, task: str, worker: str, at: float, ttl: float) -> Record:
    """Return the STARTED record of a message that reports progress; *at* is UTC epoch seconds."""
    head = {"v": 1, "state": "STARTED", "queue": envelope.queue, "attempt": envelope.attempt}
    head |= {"generation": envelope.generation, "worker": worker, "started": at}
    return Record(
        key=result_key(envelope.id),
        body=join_frame(head, b""),
        ttl=ttl,
        rank=rank(State.STARTED, attempt=envelope.attempt, generation=envelope.generation),
        task=task,
        state="STARTED",
        at=at,
    )


def _record(
    delivery: Delivery,
    state: State,
    body: bytes,
    *,
    task: str,
    ttl: float | None,
    run: dict[str, Any],
    text: str | None = None,
) -> Record:
    envelope = delivery.envelope
    return Record(
        key="result:" + envelope.id,
        body=body,
        ttl=ttl,
        rank=rank(state, attempt=envelope.attempt, generation=envelope.generation),
        final=state in FINAL,
        task=task,
        state=state.value,
        error=text,
        at=run.get("finished") or run.get("started"),
    )


def _origin(delivery: Delivery) -> dict[str, Any]:
    envelope = delivery.envelope
    return {
        "queue": envelope.queue,
        "sent": delivery.sent_at,
        "attempt": envelope.attempt,
        "generation": envelope.generation,
    }


@frozen(kw_only=True)
class Info:
    """The information about a message in its record.

    Attributes:
        id: Id of the message.
        state: State of the message.
        task: Name of the task.
        queue: Queue that it was sent to.
        attempt: Number of the attempt; the first is 0.
        generation: Number of earlier replays from the dead letters.
        sent: UTC epoch seconds at which the broker accepted it.
        due: Earliest start, in UTC epoch seconds, while it is delayed.
        started: UTC epoch seconds at which the attempt began; ``None`` unless the task is tracked or has ended.
        finished: UTC epoch seconds at which the attempt ended.
        worker: Name of the worker that wrote the record.
        error_type: Class name of the exception, if any.
        error: Text of the exception.
        traceback: Traceback of the exception in the worker.
        origin: Id of the message that failed, if this message never ran because of that failure.
        merge: Its unique key, while it waits, if that lets the newest arguments win.
        content_type: Content type of the result; names the serializer.
        payload: The result as the serializer wrote it; :meth:`value` reads it.
    """

    id: str
    state: State = State.UNKNOWN
    task: str = ""
    queue: str = ""
    attempt: int = 0
    generation: int = 0
    sent: float | None = None
    due: float | None = None
    started: float | None = None
    finished: float | None = None
    worker: str = ""
    error_type: str = ""
    error: str = ""
    traceback: str = attrs.field(default="", repr=False)
    origin: str = ""
    merge: Merge | None = None
    content_type: str = ""
    payload: bytes = attrs.field(default=b"", repr=False)

    @property
    def done(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL

    def value(self, serializers: Mapping[str, Serializer]) -> Any:
        """Return what the task returned.

        Raises:
            DecodeError: Its serializer is not accepted here, or the result is damaged.
        """
        serializer = serializers.get(self.content_type)
        if serializer is None:
            raise DecodeError(f"the result is {self.content_type!r}, which is not accepted here")
        return serializer.loads(self.payload)


def read_infos(backend: Backend, ids: Sequence[str]) -> list[Info]:
    """Return the information about messages from *backend*, in order. One round trip; raises like :func:`read_info`."""
    found = backend.get([result_key(id) for id in ids])
    return [read_info(id, found.get(result_key(id))) for id in ids]


def read_info(id: str, record: Record | None) -> Info:
    """Return the information about message *id* in *record*; without a record, its state is UNKNOWN.

    Raises:
        DecodeError: The record is not a valid result record.
    """
    if record is None:
        return Info(id=id)
    usual = _USUAL.match(record.body)
    if usual is not None:
        return _read_success(id, record, usual)
    header, payload = split_frame(record.body)
    try:
        error = header.get("error", {})
        return Info(
            id=id,
            state=State(header["state"]),
            task=record.task or "",
            queue=_text(header, "queue"),
            attempt=_count(header, "attempt"),
            generation=_count(header, "generation"),
            sent=_moment(header, "sent"),
            started=_moment(header, "started"),
            finished=_moment(header, "finished"),
            due=_moment(header, "due"),
            worker=_text(header, "worker"),
            error_type=_text(error, "type"),
            error=_text(error, "text"),
            traceback=_text(error, "traceback"),
            origin=_text(header, "origin"),
            merge=read_merge(header.get("merge")),
            content_type=_text(header, "ct"),
            payload=payload,
        )
    except (KeyError, ValueError, AttributeError) as problem:
        raise DecodeError(f"record {record.key!r} is not a result of queuekit") from problem


_quick_info = quickly(Info)


def _read_success(id: str, record: Record, usual: re.Match[bytes]) -> Info:
    """Return the information in the record of a success with a usual header."""
    content_type, queue, sent, attempt, generation, worker, started, finished = usual.groups()
    return _quick_info(
        id=id,
        state=State.SUCCESS,
        task=record.task or "",
        queue=queue.decode(),
        attempt=int(attempt),
        generation=int(generation),
        sent=float(sent),
        started=float(started),
        finished=float(finished),
        worker=worker.decode(),
        content_type=content_type.decode(),
        payload=record.body[usual.end() :],
    )


def _text(fields: Mapping[str, Any], key: str) -> str:
    """Return a text field of a record."""
    value = fields.get(key, "")
    if type(value) is not str:
        raise ValueError(f"{key} is not a text")
    return value


def _count(fields: Mapping[str, Any], key: str) -> int:
    """Return a count field of a record."""
    value = fields.get(key, 0)
    if type(value) is int and 0 <= value <= _MOST:
        return value
    raise ValueError(f"{key} is not a count")


def _moment(fields: Mapping[str, Any], key: str) -> float | None:
    """Return a field of a record that holds UTC epoch seconds."""
    value = fields.get(key)
    if value is None:
        return None
    if type(value) in (int, float) and abs(value) <= _FARTHEST:
        return float(value)
    raise ValueError(f"{key} is not a time")
