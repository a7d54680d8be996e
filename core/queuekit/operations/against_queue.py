"""Find the waiting messages that the code at hand cannot run, before a deploy meets them."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from queuekit.broker import Place, Stored
from queuekit.client.codec import Message, outline, sealed
from queuekit.errors import ArgumentsError, CapabilityError, NotReadHereError, QueuekitError, did_you_mean
from queuekit.operations.admin import Admin
from queuekit.tasks.registry import Tasks
from queuekit.values import frozen
from queuekit.wire.position import is_own

__all__ = ["MOST_LOOKED", "Survey", "Unfit", "survey"]

MOST_LOOKED = 10_000
"""Default for the most messages that one survey looks at."""
_PAGE = 50
"""Messages to hold in memory at a time."""
_LONGEST = 200
"""Most characters of a reason."""


@frozen(kw_only=True)
class Unfit:
    """Waiting messages that cannot run for one reason.

    Attributes:
        task: Name of the task; empty if that cannot be read.
        queue: Name of the queue.
        code: ``unknown_task``, ``arguments``, ``unreadable`` or ``malformed``.
        text: The reason, without any argument.
        count: Number of messages.
        sample: Id of one of them.
    """

    task: str
    queue: str
    code: str
    text: str
    count: int
    sample: str


@frozen(kw_only=True)
class Survey:
    """What was found in the queues.

    Attributes:
        unfit: The groups of messages that cannot run, largest first.
        looked: How many messages were looked at.
        complete: Whether these are all that wait.
    """

    unfit: tuple[Unfit, ...]
    looked: int
    complete: bool


def survey(admin: Admin, tasks: Tasks, *, most: int = MOST_LOOKED) -> Survey:
    """Return which waiting messages of all queues *tasks* cannot run; look at *most* messages in all.

    Raises:
        CapabilityError: The broker does not report waiting messages.
    """
    if admin.untold:
        raise CapabilityError(
            f"--against-queue looks at waiting messages, which {admin.untold} does not report",
            fix="Workers hold what they cannot run, and name unknown tasks:  queuekit workers --json",
        )
    found: dict[tuple[str, str, str, str], Unfit] = {}
    looked, complete = 0, False
    for stored in _waiting(admin):
        if looked >= most:
            break
        looked += 1
        task, code, text = _judge(admin, tasks, stored)
        if code:
            queue, key = stored.envelope.queue, (task, stored.envelope.queue, code, text)
            known = found.get(key) or Unfit(
                task=task, queue=queue, code=code, text=text, count=0, sample=stored.envelope.id
            )
            found[key] = attrs.evolve(known, count=known.count + 1)
    else:
        complete = True
    unfit = tuple(sorted(found.values(), key=lambda one: (-one.count, one.task, one.text)))
    return Survey(unfit=unfit, looked=looked, complete=complete)


def _waiting(admin: Admin) -> Iterator[Stored]:
    for queue in admin.queue_names():
        for place in (Place.READY, Place.DELAYED):
            cursor: str | None = None
            while True:
                page = admin.peek(queue, place, limit=_PAGE, cursor=cursor)
                yield from page.items
                cursor = page.cursor
                if cursor is None:
                    break


def _judge(admin: Admin, tasks: Tasks, stored: Stored) -> tuple[str, str, str]:
    """Return the task of a message, and why it cannot run: a code and a text, empty if it can."""
    named = ""
    try:
        named = outline(stored.envelope).task
        message = sealed(stored.envelope, admin.accepted_of(stored))
        problem = _unknown(message.task, tasks)
        if problem:
            return named, "unknown_task", problem
        message.open()
        _bind(message, tasks)
    except NotReadHereError as error:
        return named, "unreadable", error.what[:_LONGEST]
    except ArgumentsError as error:
        return named, "arguments", error.what[:_LONGEST]
    except QueuekitError as error:
        return named, "malformed", error.what[:_LONGEST]
    except Exception as error:  # noqa: BLE001 - classes that are built from a payload may raise anything
        return named, "malformed", type(error).__name__
    return named, "", ""


def _unknown(name: str, tasks: Tasks) -> str:
    """Return why *name* cannot be called here; empty if it can."""
    if name in tasks or is_own(name):
        return ""
    near = did_you_mean(name, list(tasks))
    return f"no such task here{f'; {near}' if near else ''}"


def _bind(message: Message, tasks: Tasks) -> None:
    """Raise if the arguments of *message* do not fit the parameters of its task; the results of a group count as one.

    Raises:
        ArgumentsError: They do not.
    """
    task = tasks.get(message.task)
    if task is None:
        return
    more = () if message.gather is None else (None,)
    for args in message.args[0] if message.each and message.args else [message.args]:
        task.parameters.check((*args, *more), message.kwargs)
