"""Pause queues and tasks, resume them, drain workers, and find out which workers have obeyed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from queuekit import durations
from queuekit.backend import Backend
from queuekit.errors import OptionError, QueuekitError, UnavailableError, UnknownIdError, did_you_mean
from queuekit.ids import check_length, check_name, new_id
from queuekit.operations.actions import named
from queuekit.operations.admin import Admin
from queuekit.wire.pauses import (
    LONGEST_PAUSES,
    LONGEST_WHY,
    PAUSED,
    Drain,
    Pause,
    drain_record,
    pauses_record,
    read_pauses,
)
from queuekit.wire.presence import Presence

__all__ = [
    "NotPausedError",
    "Obedience",
    "drain",
    "drained",
    "obedience",
    "pause",
    "resume",
    "resume_command",
    "until_obeyed",
]

PATIENCE = 3.0
"""Seconds to wait for workers, which look every two seconds."""
_LOOK = 0.2
_LONGEST = 500
"""Most characters of the pattern of a task, and of a name and value of an argument or header."""
_TRIES = 20
"""Most attempts to change the record while others change it."""

Change = Callable[[list[Pause]], list[Pause]]


class Obedience(NamedTuple):
    """The workers that a pause concerns."""

    obeyed: tuple[Presence, ...]
    """Those that report to obey."""
    others: tuple[Presence, ...]
    """Those that do not, including silent ones."""

    @property
    def is_complete(self) -> bool:
        """Whether all have obeyed."""
        return not self.others


def pause(
    admin: Admin,
    *,
    queue: str = "",
    task: str = "",
    where: Sequence[tuple[str, str]] = (),
    lasts: float | None = None,
    by: str | None = None,
    why: str = "",
) -> Pause:
    """Pause a queue or a task, record who did it, and return the pause; it replaces an earlier one of the same.

    Workers start no more messages of it within 2 seconds, and hand back those that wait for a slot; running ones go on.

    Args:
        admin: The operator's interface to the app.
        queue: Name of the queue.
        task: Name of the task instead, in which ``*`` and ``?`` stand for any characters.
        where: Arguments or headers of the task's messages that are paused, and their values as text.
        lasts: Seconds until it ends by itself, more than 0; ``None`` for no end.
        by: Who does it; default: user and host of this process.
        why: The reason, for others; at most 500 characters.

    Raises:
        OptionError: Neither a queue nor a task is named, or both, or *where* goes with a queue, or a text is too long,
            or so much is paused that the record of all pauses would be too large.
        DurationError: *lasts* is not a duration, or is 0.
        InvalidNameError: It cannot be the name of a queue.
        NoBackendError: No backend is configured, in which pauses are recorded.
    """
    _check(queue, task, where, lasts)
    check_length(why, most=LONGEST_WHY, what="the reason of a pause")
    backend = admin.need_backend("a pause, which workers read from it,")
    made = Pause(
        mark=new_id(),
        queue=check_name(queue, what="queue") if queue else "",
        task=task,
        where=tuple(sorted(where)),
        by=named(by),
        at=admin.now(),
        left=lasts,
        why=why,
    )
    _change(admin, backend, lambda old: _with(old, made))
    admin.acted("pause", by=by, on=made.what, why=why)
    return made


def _check(queue: str, task: str, where: Sequence[tuple[str, str]], lasts: float | None) -> None:
    """Raise if that would pause nothing, or something else than its words say."""
    if bool(queue) == bool(task):
        raise OptionError(f"a pause needs a queue or a task, got {queue=} and {task=}", fix="Give one of the two")
    if queue and where:
        raise OptionError("where= selects messages of a task, not of a queue", fix="Give a task")
    _check_texts(task, where)
    if lasts is not None and durations.parse(lasts) == 0:
        raise durations.DurationError("a pause must last longer than 0 seconds")


def _check_texts(target: str, where: Sequence[tuple[str, str]]) -> None:
    """Raise if a text is too long for a record that all workers read."""
    check_length(target, most=_LONGEST, what="the queue or task of a pause")
    for name, value in where:
        check_length(f"{name}={value}", most=_LONGEST, what="a where= of a pause")


def _with(old: list[Pause], made: Pause) -> list[Pause]:
    """Return the pauses *old* with *made*, which replaces one of the same.

    Raises:
        OptionError: The record of them would be too large.
    """
    after = [*(one for one in old if one.target != made.target), made]
    size = len(pauses_record(after, now=made.at).body)
    if size > LONGEST_PAUSES:
        text = f"the record of {len(after)} pauses would have {size:,} bytes, above the limit of {LONGEST_PAUSES:,}"
        raise OptionError(text, fix="End some of them, or pause tasks by a pattern:  queuekit pauses")
    return after


def resume(
    admin: Admin,
    *,
    queue: str = "",
    task: str = "",
    where: Sequence[tuple[str, str]] = (),
    everything: bool = False,
    by: str | None = None,
) -> list[Pause]:
    """End the pauses of a queue or a task, or all of them, and return them.

    Args:
        admin: The operator's interface to the app.
        queue: Name of the queue.
        task: Name of the task, as it was paused.
        where: As it was paused; empty for all pauses of the task.
        everything: Whether to end all pauses.
        by: Who does it; default: user and host of this process.

    Raises:
        NotPausedError: That is not paused.
        NoBackendError: No backend is configured.
        OptionError: A text is longer than that of a pause may be.
    """
    named(by)
    _check_texts(queue or task, where)
    backend, pairs, ended = admin.need_backend("a pause"), tuple(sorted(where)), list[Pause]()

    def without(old: list[Pause]) -> list[Pause]:
        ended[:] = [one for one in old if everything or _is_named(one, queue, task, pairs)]
        return [one for one in old if one not in ended]

    left = _change(admin, backend, without)
    if not ended and not everything:
        raise _not_paused(queue, task, left)
    for one in ended:
        admin.acted("resume", by=by, on=one.what)
    return ended


def _is_named(pause: Pause, queue: str, task: str, where: tuple[tuple[str, str], ...]) -> bool:
    return pause.queue == queue and pause.task == task and (not where or pause.where == where)


def resume_command(pause: Pause) -> str:
    """Return the arguments of the command that ends *pause*."""
    if pause.queue:
        return shlex.join(["resume", pause.queue])
    where = [word for name, value in pause.where for word in ("--where", f"{name}={value}")]
    return shlex.join(["resume", "--task", pause.task, *where])


class NotPausedError(QueuekitError, LookupError):
    """A queue or task that is to be resumed is not paused."""

    code = "QK229"


def _not_paused(queue: str, task: str, paused: Sequence[Pause]) -> NotPausedError:
    name = queue or task
    names = [one.queue if queue else one.task for one in paused]
    near = did_you_mean(name, [one for one in names if one])
    text = f"{name!r} is not paused" + (f"; {near}" if near else "")
    return NotPausedError(text, fix="List what is:  queuekit pauses")


def _change(admin: Admin, backend: Backend, change: Change) -> list[Pause]:
    """Change the pauses, also while others change them, and return what they are now."""
    for _ in range(_TRIES):
        with admin.in_time():
            record = backend.get([PAUSED]).get(PAUSED)
            now = admin.now()
            before = list(read_pauses(record, now=now))
            after = change(before)
            expect = 0 if record is None else record.version
            if after == before:
                return after
            if not after and backend.delete([PAUSED], expect=expect):
                return after
            if after and backend.put([pauses_record(after, now=now)], expect=expect)[0]:
                return after
    raise UnavailableError("others are changing what is paused", fix="Try again")


def obedience(admin: Admin, *, paused: Iterable[Pause] = (), resumed: Iterable[Pause] = ()) -> Obedience | None:
    """Return which workers obey pauses and the end of others; ``None`` if the backend cannot list workers."""
    workers = admin.seen_workers()
    if workers is None:
        return None
    on, off = [*paused], [*resumed]
    concerned = [one for one in workers if any(not each.queue or each.queue in one.queues for each in [*on, *off])]
    marks = {each.mark for each in on}, {each.mark for each in off}
    obeyed = tuple(one for one in concerned if marks[0] <= {*one.paused} and not marks[1] & {*one.paused} and one.live)
    return Obedience(obeyed, tuple(one for one in concerned if one not in obeyed))


def until_obeyed(
    admin: Admin,
    *,
    paused: Iterable[Pause] = (),
    resumed: Iterable[Pause] = (),
    patience: float = PATIENCE,
    sleep: Callable[[float], None],
) -> Obedience | None:
    """Return :func:`obedience` once all live workers have obeyed, or after *patience* seconds."""
    paused, resumed = list(paused), list(resumed)
    waited = 0.0
    while True:
        found = obedience(admin, paused=paused, resumed=resumed)
        if found is None or not any(one.live for one in found.others) or waited >= patience:
            return found
        sleep(_LOOK)
        waited += _LOOK


def drain(admin: Admin, name: str, *, by: str | None = None) -> Presence:
    """Ask a worker to take no more messages, finish what it runs, and end; return what it last reported.

    Args:
        admin: The operator's interface to the app.
        name: Name of the worker, or its process id if no other worker has the same.
        by: Who asks; default: user and host of this process.

    Raises:
        UnknownIdError: No worker has that name.
        NoBackendError: No backend is configured.
        CapabilityError: The backend cannot list workers.
    """
    worker = _worker_named(admin.fleet(), name)
    wish = Drain(by=named(by), at=admin.now())
    with admin.in_time():
        admin.need_backend("draining a worker").put([drain_record(worker.name, wish)])
    admin.acted("drain", by=by, on=worker.name)
    return worker


def _worker_named(fleet: Sequence[Presence], name: str) -> Presence:
    """Return the worker with that name, or the only one with that process id."""
    found = [one for one in fleet if one.name == name] or [one for one in fleet if str(one.pid) == name]
    if len(found) == 1:
        return found[0]
    text = f"no worker is named {name!r}" if not found else f"{name} is the process of {len(found)} workers"
    near = did_you_mean(name, [one.name for one in fleet])
    raise UnknownIdError(text + (f"; {near}" if near else ""), fix="List them:  queuekit workers")


def drained(
    admin: Admin, name: str, *, until_ended: bool, patience: float, sleep: Callable[[float], None]
) -> Presence | None:
    """Return what a worker reports once it drains, or only once it has ended: then ``None``; or after *patience*."""
    waited = 0.0
    while True:
        found = next((one for one in admin.fleet() if one.name == name), None)
        if found is None or (found.draining and not until_ended) or waited >= patience:
            return found
        sleep(_LOOK)
        waited += _LOOK
