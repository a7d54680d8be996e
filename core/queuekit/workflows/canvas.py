"""``chain``, ``group`` and ``chord``: the functions that build workflows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar, overload

from queuekit.failure import Failure
from queuekit.signature import Signature
from queuekit.wire.position import Policy
from queuekit.workflows.workflow import Chain, Chord, Group, Part, Workflow

__all__ = ["chain", "chord", "group"]

R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
T = TypeVar("T")
Unfilled = Literal["fail", "skip"] | None
"""Policies that leave no failure among the results."""
Errors = Iterable[Signature[Any, Failure]]
First = Signature[R, Any] | Workflow[R]
Next = Signature[R, T] | Workflow[R]
"""A link that returns its first type parameter and takes the second as its last argument."""

# Type checkers cannot check any number of links, so the common numbers are spelled out: each link takes the result of
# the one before. The argument of a nested workflow is not checked.


@overload
def chain(_1: First[R], /, *, id: str | None = ..., on_error: Errors = ...) -> Chain[R]: ...
@overload
def chain(_1: First[A], _2: Next[R, A], /, *, id: str | None = ..., on_error: Errors = ...) -> Chain[R]: ...
@overload
def chain(
    _1: First[A], _2: Next[B, A], _3: Next[R, B], /, *, id: str | None = ..., on_error: Errors = ...
) -> Chain[R]: ...
@overload
def chain(
    _1: First[A], _2: Next[B, A], _3: Next[C, B], _4: Next[R, C], /, *, id: str | None = ..., on_error: Errors = ...
) -> Chain[R]: ...
@overload
def chain(
    _1: First[A],
    _2: Next[B, A],
    _3: Next[C, B],
    _4: Next[D, C],
    _5: Next[R, D],
    /,
    *,
    id: str | None = ...,
    on_error: Errors = ...,
) -> Chain[R]: ...
@overload
def chain(
    _1: First[A],
    _2: Next[B, A],
    _3: Next[C, B],
    _4: Next[D, C],
    _5: Next[E, D],
    _6: Next[R, E],
    /,
    *,
    id: str | None = ...,
    on_error: Errors = ...,
) -> Chain[R]: ...
@overload
def chain(
    _1: Part,
    _2: Part,
    _3: Part,
    _4: Part,
    _5: Part,
    _6: Part,
    _7: Part,
    /,
    *links: Part,
    id: str | None = ...,
    on_error: Errors = ...,
) -> Chain[Any]: ...
def chain(*links: Part, id: str | None = None, on_error: Errors = ()) -> Chain[Any]:
    """Return a chain: calls that run one after the other, each with the previous result as its last argument.

    Args:
        *links: Signatures, groups, chords or chains. The link after a group receives the list of its results.
        id: Id of the chain, an idempotency key.
        on_error: Sent once if a link fails, with a :class:`~queuekit.failure.Failure` appended.
    """
    return Chain(links, id=id, on_error=on_error)


@overload
def group(
    *members: Signature[R], policy: Literal["continue"], at_once: int | None = ..., id: str | None = ...
) -> Group[list[R | Failure]]: ...
@overload
def group(
    members: Iterable[Signature[R]], /, *, policy: Literal["continue"], at_once: int | None = ..., id: str | None = ...
) -> Group[list[R | Failure]]: ...
@overload
def group(
    *members: Signature[R], policy: Policy = ..., at_once: int | None = ..., id: str | None = ...
) -> Group[list[R]]: ...
@overload
def group(
    members: Iterable[Signature[R]], /, *, policy: Policy = ..., at_once: int | None = ..., id: str | None = ...
) -> Group[list[R]]: ...
@overload
def group(
    *members: Part | Iterable[Part], policy: Policy = ..., at_once: int | None = ..., id: str | None = ...
) -> Group[Any]: ...
def group(
    *members: Part | Iterable[Part],
    policy: Policy = "fail",
    at_once: int | None = None,
    id: str | None = None,
) -> Group[Any]:
    """Return a group: calls that run in parallel; its result is the list of their results, in this order.

    Args:
        *members: Signatures, chains, chords or groups; or iterables of them.
        policy: Effect of a failed member on what follows the group: ``fail``, ``skip`` or ``continue``.
        at_once: Most members that wait or run at a time.
        id: Id of the group, an idempotency key.
    """
    found: list[Part] = []
    for member in members:
        if isinstance(member, Iterable):
            found += member
        else:
            found.append(member)
    return Group(found, policy=policy, at_once=at_once, id=id)


@overload
def chord(
    members: Group[A], callback: Next[R, A], *, policy: Unfilled = ..., on_error: Errors = ..., id: str | None = ...
) -> Chord[R]: ...
@overload
def chord(
    members: Iterable[First[A]],
    callback: Next[R, list[A]],
    *,
    policy: Unfilled = ...,
    on_error: Errors = ...,
    id: str | None = ...,
) -> Chord[R]: ...
@overload
def chord(
    members: Group[Any] | Iterable[Part],
    callback: First[R],
    *,
    policy: Literal["continue"],
    on_error: Errors = ...,
    id: str | None = ...,
) -> Chord[R]: ...
def chord(
    members: Group[Any] | Iterable[Part],
    callback: First[R],
    *,
    policy: Policy | None = None,
    on_error: Errors = (),
    id: str | None = None,
) -> Chord[R]:
    """Return a chord: a group with a callback that is sent once, with the list of the results as its last argument.

    Args:
        members: A group, or the members of one.
        callback: A signature or a workflow.
        policy: Effect of a failed member: the callback never runs and *on_error* is sent (``fail``), the member is left
            out (``skip``), or a :class:`~queuekit.failure.Failure` takes its place (``continue``).
        on_error: Sent once if the group or the callback fails, with the failure appended.
        id: Id of the chord, an idempotency key.
    """
    header = members if isinstance(members, Group) else group(members)
    if policy is not None:
        header = header.options(policy=policy)
    return Chord(header, callback, on_error=on_error, id=id)
