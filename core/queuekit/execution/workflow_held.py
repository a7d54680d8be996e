"""Parts of a workflow whose unique key is taken: they get the outcome of the message that holds it.

A duplicate part is never sent, so its workflow would wait for it forever. A message of queuekit's own is sent under its
id instead; it waits for the holder and takes over its outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from queuekit.client.codec import Message, decode, encode
from queuekit.client.runtime import Runtime
from queuekit.context import Context
from queuekit.control import Cancel, Snooze
from queuekit.envelope import Envelope
from queuekit.errors import QueuekitError, TaskFailed
from queuekit.execution.run import re_delayed
from queuekit.signature import Signature
from queuekit.states import State
from queuekit.wire.records import Info, read_infos

__all__ = ["FOLLOW_TASK", "UniqueKeyError", "dropped", "follow", "follower", "message_of"]

FOLLOW_TASK = "queuekit.follow"
"""Name of the task that waits for another message and takes its outcome."""
_SOONEST, _LATEST = 0.1, 10.0
"""Shortest and longest seconds between two checks of the holder; they grow with the time waited."""
_NOT_DUE = 5.0
"""Most seconds until the holder is due; a workflow does not wait for a longer delay."""
_UNSEEN = 5.0
"""Seconds after which a holder without a record is assumed to store no result."""
_LONGEST = 86_400.0
"""Most seconds to wait for the holder."""
_logger = logging.getLogger("queuekit.workflow")


class UniqueKeyError(QueuekitError):
    """A part of a workflow is a duplicate of a message whose outcome is not available."""

    code = "QK218"


def message_of(runtime: Runtime, envelope: Envelope) -> Message:
    """Return the message in an envelope that queuekit made."""
    return decode(envelope, runtime.accepted)


def follower(runtime: Runtime, envelope: Envelope, holder: str) -> Envelope:
    """Return the envelope to send in place of *envelope*, whose unique key the message *holder* holds."""
    message = message_of(runtime, envelope)
    signature = Signature[Any](
        FOLLOW_TASK,
        (holder,),
        headers=message.headers,
        ignore_result=False,
        broker=message.broker,
        on_success=message.on_success,
        on_error=message.on_error,
    )
    body = encode(
        signature, id=envelope.id, serializer=runtime.serializer, parent=message.parent, link=message.link, gather=None
    )
    if runtime.signing is not None:
        body = runtime.signing.signed_message(body)
    # As a step of its own it differs from the refused message. It starts at once, since it only waits for the holder.
    return re_delayed(envelope, body=body, unique=None, delay=0.0, not_before=None)


def dropped(ids: Iterable[tuple[str, str]]) -> None:
    """Log follow-ups that are duplicates: pairs of their id and the holder's."""
    for id, holder in ids:
        _logger.info("%s is not sent: %s holds its unique key", id, holder)


def follow(runtime: Runtime, context: Context, holder: str) -> Any:
    """Return the result of *holder*, or raise its error; snooze until it has ended.

    Raises:
        UniqueKeyError: Its outcome is not available, or not soon.
        TaskFailed: It failed.
        Cancel: It was cancelled.
        Snooze: It has not ended.
    """
    found = read_infos(runtime.need_backend("a part of a workflow"), [holder, context.id])
    info, waited = found[0], _waited(runtime, found[1])
    if info.done:
        return _outcome(runtime, info)
    what = f"{holder}, which holds the unique key,"
    if info.state is State.UNKNOWN and waited > _UNSEEN:
        raise UniqueKeyError(
            f"{what} stores no result", fix="Remove its ignore_result, or send this call without a unique key"
        )
    if info.state is State.PENDING and info.due is not None and info.due - runtime.now() > _NOT_DUE:
        raise UniqueKeyError(f"{what} is not due yet", fix="Send the workflow later, or this call without a unique key")
    if waited > _LONGEST:
        raise UniqueKeyError(f"{what} has not ended in {_LONGEST:.0f} s")
    raise Snooze(min(_LATEST, max(_SOONEST, waited / 4)))


def _waited(runtime: Runtime, own: Info) -> float:
    return _LONGEST + 1 if own.sent is None else max(0.0, runtime.clock.time() - own.sent)


def _outcome(runtime: Runtime, info: Info) -> Any:
    if info.state is State.SUCCESS:
        return info.value(runtime.accepted)
    if info.state is State.CANCELLED:
        raise Cancel(f"{info.id}, which held the unique key, was cancelled")
    error = TaskFailed(f"{info.task} {info.id}, which held the unique key, failed: {info.error_type}: {info.error}")
    error.task_id, error.error_type, error.traceback = info.id, info.error_type, info.traceback
    raise error
