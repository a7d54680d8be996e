"""How one message is told of: in ``show`` and in ``dlq show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuekit.admin import Sight
from queuekit.broker import Place, Stored
from queuekit.cli.output import as_json, fields, moment, one_line, span, when
from queuekit.errors import DecodeError
from queuekit.message import Message
from queuekit.records import Info
from queuekit.serializer import Serializer
from queuekit.states import State

__all__ = ["as_document", "as_text"]


def as_document(sight: Sight, serializers: Mapping[str, Serializer]) -> dict[str, Any]:
    """Return everything that is known, as JSON can hold it; what is not known is ``null``."""
    info, message = sight.info, sight.message
    stored = sight.letter.stored if sight.letter else None
    return {
        "id": info.id,
        "task": _task(sight) or None,
        "state": info.state.value,
        "place": stored.place.value if stored else None,
        "queue": stored.envelope.queue if stored else info.queue or None,
        "attempt": stored.envelope.attempt if stored else info.attempt,
        "generation": stored.envelope.generation if stored else info.generation,
        "sent": moment(_sent(info, stored)),
        "due": moment(stored.due) if stored else None,
        "started": moment(info.started),
        "finished": moment(info.finished),
        "worker": info.worker or (stored.holder if stored else "") or None,
        "reason": (stored.reason if stored else "") or None,
        "error": _error(sight) or None,
        "traceback": info.traceback or None,
        "args": message.args if message else None,
        "kwargs": message.kwargs if message else None,
        "result": _result(info, serializers),
    }


def as_text(sight: Sight, serializers: Mapping[str, Serializer], *, now: float) -> str:
    """Return everything that is known, for people; a traceback comes last."""
    info = sight.info
    stored = sight.letter.stored if sight.letter else None
    known = info.state is not State.UNKNOWN
    table = fields(
        {
            "id": info.id,
            "task": _call(sight),
            "state": info.state.value if known else "",
            "place": _place(stored, now),
            "queue": stored.envelope.queue if stored else info.queue,
            "attempt": _attempt(info, stored),
            "sent": when(_sent(info, stored), now=now),
            "started": when(info.started, now=now),
            "finished": _finished(info, now),
            "worker": info.worker or (stored.holder if stored else ""),
            "error": one_line(_error(sight), width=500),
            "result": as_json(_result(info, serializers)) if info.state is State.SUCCESS else "",
        }
    )
    return f"{table}\n\n{info.traceback.rstrip()}" if info.traceback else table


def _task(sight: Sight) -> str:
    return sight.info.task or (sight.letter.task if sight.letter else "")


def _call(sight: Sight) -> str:
    """Return the task with its arguments, if they can be read."""
    message: Message | None = sight.message
    if message is None:
        return _task(sight) or "unknown: the bytes cannot be read"
    named = [f"{name}={as_json(value)}" for name, value in message.kwargs.items()]
    return one_line(f"{message.task}({', '.join([*map(as_json, message.args), *named])})", width=1000)


def _place(stored: Stored | None, now: float) -> str:
    if stored is None:
        return ""
    if stored.place is Place.DEAD:
        return f"dead, {stored.reason}, {when(stored.died_at, now=now)}".removesuffix(", ")
    if stored.place is Place.DELAYED:
        return f"delayed, due {when(stored.due, now=now)}"
    return {Place.READY: "waiting", Place.LEASED: "held by a worker"}[stored.place]


def _attempt(info: Info, stored: Stored | None) -> str:
    """Return how many attempts and replays came before, if any did."""
    attempt = stored.envelope.attempt if stored else info.attempt
    generation = stored.envelope.generation if stored else info.generation
    replays = f", replayed {generation} times" if generation > 1 else ", replayed once" if generation else ""
    return f"{attempt + 1}{replays}" if attempt or generation else ""


def _sent(info: Info, stored: Stored | None) -> float | None:
    return info.sent or (stored.sent_at if stored else None)


def _finished(info: Info, now: float) -> str:
    if info.finished is None:
        return ""
    ran = f", ran {span(info.finished - info.started)}" if info.started is not None else ""
    return when(info.finished, now=now) + ran


def _error(sight: Sight) -> str:
    info = sight.info
    if info.error or info.error_type:
        return f"{info.error_type}: {info.error}".strip(": ")
    return sight.letter.stored.error if sight.letter else ""


def _result(info: Info, serializers: Mapping[str, Serializer]) -> Any:
    if info.state is not State.SUCCESS:
        return None
    try:
        return info.value(serializers)
    except DecodeError as error:
        return f"(cannot be read: {error.what})"
