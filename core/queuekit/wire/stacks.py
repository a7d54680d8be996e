"""The records by which an operator asks where a running body is, and its worker answers.

A worker reads the requests of its running bodies with their cancel marks, so nothing is read that was not read before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs

from queuekit.backend import Record
from queuekit.errors import DecodeError
from queuekit.logs.plaintext import clean
from queuekit.values import frozen
from queuekit.wire.fields import Check, checked, is_count, is_flag, is_span, is_text, read_object

__all__ = ["Frame", "StackReport", "answer_key", "ask_key", "asking", "read_report", "reported", "token_of"]

MOST_FRAMES = 200
"""Most frames of a stack that are reported; the middle ones of a longer stack are left out."""
_LONGEST = 500
"""Most characters of a text in a report."""
_TTL = 60.0
"""Seconds for which an answer is kept."""


@frozen
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str
    code: str = ""
    """The source line; empty if it cannot be read."""


@frozen(kw_only=True)
class StackReport:
    """Where a body is, and in what kind of process. Never what its variables hold."""

    worker: str = attrs.field(converter=clean)
    host: str = attrs.field(converter=clean)
    pid: int
    """Id of the process that runs the body."""
    kind: str = attrs.field(converter=clean)
    """``thread``, ``coroutine`` or ``process``."""
    task: str = attrs.field(default="", converter=clean)
    """Name of its task; empty if unknown."""
    seconds: float = 0.0
    """How long the body has been running."""
    others: int = 0
    """Number of other bodies in the same process."""
    replaceable: bool = False
    """Whether a supervisor can end the process and start another."""
    frames: tuple[Frame, ...] = ()
    """Outermost first; empty if the stack could not be read, for the reason in *note*."""
    note: str = attrs.field(default="", converter=clean)


def ask_key(id: str) -> str:
    """Return the key of a request to report the stack of message *id*."""
    return "ask:" + id


def answer_key(id: str) -> str:
    """Return the key of the answer."""
    return "stack:" + id


def asking(id: str, token: str, *, ttl: float) -> Record:
    """Return the record of a request; *token* comes back in the answer, and *ttl* is in seconds."""
    return Record(key=ask_key(id), body=token.encode(), ttl=ttl)


def token_of(request: Record) -> str:
    """Return the token of a request."""
    return request.body[:100].decode(errors="replace")


def shortened(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return *frames* without the middle ones of a stack that is too long."""
    if len(frames) <= MOST_FRAMES:
        return tuple(frames)
    half = MOST_FRAMES // 2
    left_out = Frame(f"... {len(frames) - 2 * half} frames left out ...", 0, "")
    return (*frames[:half], left_out, *frames[-half:])


def reported(id: str, token: str, report: StackReport) -> Record:
    """Return the record of an answer."""
    rows = [(f.file[-_LONGEST:], f.line, f.function[:_LONGEST], f.code[:_LONGEST]) for f in shortened(report.frames)]
    fields = {**attrs.asdict(report, recurse=False), "frames": rows, "token": token}
    return Record(key=answer_key(id), body=json.dumps(fields).encode(), ttl=_TTL)


_FRAME: dict[str, Check] = {"file": is_text, "line": is_count, "function": is_text, "code": is_text}
_REPORT: dict[str, Check] = {
    **dict.fromkeys(("worker", "host", "kind", "task", "note"), is_text),
    **dict.fromkeys(("pid", "others"), is_count),
    "seconds": is_span,
    "replaceable": is_flag,
}


def read_report(record: Record | None, token: str) -> StackReport | None:
    """Return the answer to the request *token*; ``None`` if the record holds no such answer."""
    try:
        fields = {} if record is None else read_object(record.body)
        if fields.get("token") != token:
            return None
        rows = [checked(dict(zip(_FRAME, row, strict=True)), _FRAME) for row in fields["frames"]]
        return StackReport(frames=tuple(Frame(**row) for row in rows), **checked(fields, _REPORT))
    except (DecodeError, ValueError, TypeError, KeyError):
        return None
