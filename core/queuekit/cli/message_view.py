"""The view of one message that ``show`` and ``dlq show`` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuekit.broker import Place
from queuekit.cli.output import as_json, fields, moment, one_line, span, when
from queuekit.client.codec import Message
from queuekit.envelope import Lane
from queuekit.errors import DecodeError
from queuekit.logs.plaintext import clean
from queuekit.operations.admin import MessageView
from queuekit.serializer import Serializer
from queuekit.states import FINAL, State
from queuekit.values import frozen
from queuekit.wire.records import Cancellation, Info

__all__ = ["as_document", "as_text", "cancel_text"]


_HAVE_A_DUE_TIME = frozenset({Place.READY, Place.DELAYED})


def as_document(view: MessageView, serializers: Mapping[str, Serializer]) -> dict[str, Any]:
    """Return everything that is known, as a JSON document; unknown values are ``null``."""
    info, message, known = view.info, view.message, _known(view)
    return {
        "id": info.id,
        "task": _or_null(_task(view)),
        "state": info.state.value,
        "place": known.place.value if known.place else None,
        "place_not_told_by": _or_null(view.silent) if known.place is None else None,
        "queue": _or_null(known.queue),
        "lane": known.lane.key if known.lane is not None else None,
        "attempt": known.attempt,
        "generation": known.generation,
        "sent": moment(known.sent),
        "due": moment(known.due) if known.place in _HAVE_A_DUE_TIME else None,
        "lease_ends": moment(known.due) if known.place is Place.LEASED and view.queued is not None else None,
        "started": moment(info.started),
        "finished": moment(info.finished),
        "worker": _or_null(known.worker),
        "reason": _or_null(known.reason),
        "error": _or_null(_error(view)),
        "traceback": _or_null(info.traceback),
        "args": message.args if message else None,
        "kwargs": message.kwargs if message else None,
        "broker": message.broker if message else None,
        "result": _result(info, serializers),
        "cancellation": _cancellation(view.cancellation),
        "timeline": [{"at": moment(at), "what": what} for at, what in timeline(view)],
    }


def as_text(view: MessageView, serializers: Mapping[str, Serializer], *, now: float) -> str:
    """Return everything that is known, as text; a traceback comes last."""
    info, known = view.info, _known(view)
    table = fields(
        {
            "id": info.id,
            "task": _call(view),
            "state": info.state.value if info.state is not State.UNKNOWN else "",
            "place": _place(known, now) or _untold(view),
            "queue": known.queue,
            "lane": _lane(known.lane),
            "broker": _service_options(view.message),
            "attempt": _attempt(known),
            "sent": when(known.sent, now=now),
            "started": when(info.started, now=now),
            "finished": _finished(info, now),
            "worker": known.worker,
            "on unknown": (view.message.on_unknown or "") if view.message is not None else "",
            "cancel": cancel_text(view.cancellation, now=now, ended=info.state in FINAL),
            "error": one_line(_error(view), width=500),
            "result": as_json(_result(info, serializers)) if info.state is State.SUCCESS else "",
        }
    )
    parts = [table, _timeline_text(view, now), clean(info.traceback.rstrip(), lines=True)]
    return "\n\n".join(part for part in parts if part)


def timeline(view: MessageView) -> list[tuple[float, str]]:
    """Return what happened to a message, and what will, each with its UTC epoch seconds, in the order of time.

    Only the last attempt is recorded, so earlier attempts are not in it.
    """
    info, known, wish = view.info, _known(view), view.cancellation
    number, by = known.attempt + 1, f" on {info.worker}" if info.worker else ""
    moments = [
        (known.sent, f"sent to {known.queue}" if known.queue else "sent"),
        (known.due if known.place in _HAVE_A_DUE_TIME else None, "due"),
        (info.started, f"attempt {number} began{by}"),
        (info.finished, f"{_ended_as(info, number)}{by}"),
        (known.died, f"became a dead letter: {known.reason}"),
        (known.due if known.place is Place.LEASED and view.queued is not None else None, "its lease ends"),
        (wish.at if wish is not None else None, _cancel_moment(wish)),
    ]
    happened = [(at, what) for at, what in moments if at is not None]
    return sorted(happened, key=lambda moment: moment[0])


def _ended_as(info: Info, number: int) -> str:
    if info.state is State.RETRY:
        return f"attempt {number} failed, to be tried again"
    return f"ended as {info.state.value}"


def _cancel_moment(wish: Cancellation | None) -> str:
    by = f" by {wish.by}" if wish is not None and wish.by else ""
    return f"cancel requested{by}"


def _timeline_text(view: MessageView, now: float) -> str:
    rows = [one_line(f"  {when(at, now=now)}  {what}", width=500) for at, what in timeline(view)]
    return "\n".join(["timeline", *rows]) if rows else ""


@frozen(kw_only=True)
class _Facts:
    """Facts from the queued message, or from its state record, which may be out of date but outlives the message."""

    place: Place | None = None
    queue: str
    lane: Lane | None = None
    attempt: int
    generation: int
    sent: float | None
    due: float | None = None
    worker: str
    reason: str = ""
    died: float | None = None


def _known(view: MessageView) -> _Facts:
    info = view.info
    if view.queued is None:
        return _Facts(
            place=_guessed_place(view),
            queue=info.queue,
            attempt=info.attempt,
            generation=info.generation,
            sent=info.sent,
            due=info.due,
            worker=info.worker or view.holder,
        )
    stored = view.queued.stored
    return _Facts(
        place=stored.place,
        queue=stored.envelope.queue,
        lane=stored.envelope.lane,
        attempt=stored.envelope.attempt,
        generation=stored.envelope.generation,
        sent=stored.sent_at or info.sent,
        due=stored.due,
        worker=view.holder or info.worker or stored.holder,
        reason=stored.reason,
        died=stored.died_at,
    )


def _guessed_place(view: MessageView) -> Place | None:
    """Return the place that the records imply, if the broker does not report it."""
    if not view.silent:
        return None
    if view.holder:
        return Place.LEASED
    return Place.DELAYED if view.info.due is not None and view.info.due > view.now else None


def _untold(view: MessageView) -> str:
    return f"waiting or running: {view.silent} does not report which" if view.silent else ""


def _or_null(text: str) -> str | None:
    return text or None


def _task(view: MessageView) -> str:
    return view.info.task or (view.queued.task if view.queued else "")


def _call(view: MessageView) -> str:
    """Return the task with its arguments, if they can be read."""
    message: Message | None = view.message
    if message is None:
        return _task(view) or "unknown: the bytes cannot be read"
    named = [f"{name}={as_json(value)}" for name, value in message.kwargs.items()]
    return one_line(f"{message.task}({', '.join([*map(as_json, message.args), *named])})", width=1000)


def _service_options(message: Message | None) -> str:
    given = message.broker if message is not None else None
    return one_line(" ".join(f"{name}={as_json(value)}" for name, value in (given or {}).items()), width=500)


def _lane(lane: Lane | None) -> str:
    if lane is None:
        return ""
    share = "" if lane.weight == 1 else f" (weight {lane.weight:g})"
    return (one_line(as_json(lane.key), width=500) if lane.key else "the common one") + share


def _place(known: _Facts, now: float) -> str:
    if known.place is None:
        return ""
    if known.place is Place.DEAD:
        return f"dead, {known.reason}, {when(known.died, now=now)}".removesuffix(", ")
    if known.place is Place.DELAYED:
        return f"delayed, due {when(known.due, now=now)}"
    return {Place.READY: "waiting", Place.LEASED: "held by a worker"}[known.place]


def _attempt(known: _Facts) -> str:
    """Return the number of this attempt and of the replays; empty for the first attempt of a message never replayed."""
    attempt, generation = known.attempt, known.generation
    replays = f", replayed {generation} times" if generation > 1 else ", replayed once" if generation else ""
    return f"{attempt + 1}{replays}" if attempt or generation else ""


def _finished(info: Info, now: float) -> str:
    if info.finished is None:
        return ""
    ran = f", ran {span(info.finished - info.started)}" if info.started is not None else ""
    return when(info.finished, now=now) + ran


def _cancellation(wish: Cancellation | None) -> dict[str, Any] | None:
    if wish is None:
        return None
    texts = {"by": _or_null(wish.by), "did": _or_null(wish.did), "worker": _or_null(wish.worker)}
    return {"at": moment(wish.at), **texts}


_DID = {
    "": "no worker has seen the request yet",
    "asked": "its body was notified, and runs until it checks",
    "dropped": "a worker held it, but did not start it",
    "killed": "its process was killed",
    "raised": "an exception was raised in its body",
    "removed": "it was waiting, and was removed from its queue",
}


def cancel_text(wish: Cancellation | None, *, now: float, ended: bool) -> str:
    """Return who asked to cancel a message, when, and what was done; an empty text if there was no request.

    If the message has *ended* and no action is recorded, the text leaves the action out.
    """
    if wish is None:
        return ""
    by = f" by {wish.by}" if wish.by else ""
    at = f" {when(wish.at, now=now)}" if wish.at is not None else ""
    did = "" if ended and not wish.did else f"; {_DID.get(wish.did, wish.did)}"
    return one_line(f"asked for{by}{at}{did}", width=500)


def _error(view: MessageView) -> str:
    info = view.info
    if info.error or info.error_type:
        return f"{info.error_type}: {info.error}".strip(": ")
    return view.queued.stored.error if view.queued else ""


def _result(info: Info, serializers: Mapping[str, Serializer]) -> Any:
    if info.state is not State.SUCCESS:
        return None
    try:
        return info.value(serializers)
    except DecodeError as error:
        return f"(cannot be read: {error.what})"
