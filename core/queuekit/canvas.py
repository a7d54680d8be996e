"""``chain``, ``group`` and ``chord``: how workflows are written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from queuekit.links import Policy
from queuekit.signature import Signature
from queuekit.workflow import Chain, Chord, Group, Part

__all__ = ["chain", "chord", "group"]


def chain(*links: Part, id: str | None = None, on_error: Iterable[Signature[Any]] = ()) -> Chain[Any]:
    """Return calls that run one after the other, each getting the result of the one before as its last argument.

    Args:
        *links: Signatures, groups, chords or chains. What comes after a group gets the list of its results.
        id: Id of the whole, an idempotency key.
        on_error: Sent once if a link fails, with a :class:`~queuekit.failure.Failure` appended.
    """
    return Chain(links, id=id, on_error=on_error)


def group(
    *members: Part | Iterable[Part],
    policy: Policy = "fail",
    at_once: int | None = None,
    id: str | None = None,
) -> Group[Any]:
    """Return calls that run side by side; the result is the list of theirs, in this order.

    Args:
        *members: Signatures, chains, chords or groups; or iterables of them.
        policy: What a failed member means for what follows: ``fail``, ``skip`` or ``continue``.
        at_once: Most members that wait or run at a time.
        id: Id of the whole, an idempotency key.
    """
    found: list[Part] = []
    for member in members:
        if isinstance(member, Iterable):
            found += member
        else:
            found.append(member)
    return Group(found, policy=policy, at_once=at_once, id=id)


def chord(
    members: Group[Any] | Iterable[Part],
    callback: Part,
    *,
    policy: Policy | None = None,
    on_error: Iterable[Signature[Any]] = (),
    id: str | None = None,
) -> Chord[Any]:
    """Return a group with a callback that gets the list of its results as the last argument, once.

    Args:
        members: A group, or what makes one.
        callback: A signature, or a workflow.
        policy: What a failed member means: the callback never runs and *on_error* is sent (``fail``), the member is
            left out (``skip``), or a :class:`~queuekit.failure.Failure` stands in its place (``continue``).
        on_error: Sent once if the group fails or the callback does, with the failure appended.
        id: Id of the whole, an idempotency key.
    """
    header = members if isinstance(members, Group) else group(members)
    if policy is not None:
        header = header.options(policy=policy)
    return Chord(header, callback, on_error=on_error, id=id)
