"""Workflows as plain data, not yet sent: chains, groups and chords of signatures, nested freely."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import attrs

from queuekit.errors import DecodeError
from queuekit.ids import InvalidNameError, check_name
from queuekit.signature import Signature, signatures
from queuekit.values import frozen
from queuekit.wire.call_options import OptionError, at_once, choice, flag, known, sender
from queuekit.wire.position import POLICIES, Policy

if TYPE_CHECKING:
    from queuekit.workflows.results import ChainResult, ChordResult, GroupResult

__all__ = ["Chain", "Chord", "Group", "Part", "Workflow", "is_workflow", "part_from_dict"]

R_co = TypeVar("R_co", covariant=True)
VERSION = 1
LONGEST_ID = 90
"""Most characters of a workflow's id; the ids of its messages are longer, and must be valid too."""


class Starter(Protocol):
    """A sender of workflows: an app."""

    def send(self, workflow: Any, /) -> Any:
        """Send *workflow* and return a handle on its result."""
        ...

    async def asend(self, workflow: Any, /) -> Any:
        """Send *workflow* without blocking the event loop."""
        ...


def _id(value: str | None) -> str | None:
    if value is None:
        return None
    name = check_name(value, what="workflow")
    if "." in name or len(name) > LONGEST_ID:
        raise InvalidNameError(f"{name!r} cannot name a workflow", fix=f"Use up to {LONGEST_ID} characters, no dot")
    return name


def _parts(values: Iterable[Part]) -> tuple[Part, ...]:
    if not isinstance(values, Iterable):
        raise OptionError(f"{_shown(values)} is not a list of signatures", fix="Put brackets around it")
    parts = tuple(values)
    for part in parts:
        _check_part(part)
    return parts


def _links(values: Iterable[Part]) -> tuple[Part, ...]:
    links = _parts(values)
    if not links:
        raise OptionError("the chain has no links", fix="Give it at least one signature: chain(task.s(...), ...)")
    return links


def _flat(value: bool) -> bool:  # noqa: FBT001 - the value that is checked
    return bool(flag(value, option="flat"))


def _check_part(part: Any) -> None:
    if not isinstance(part, Signature | Workflow):
        raise OptionError(f"{_shown(part)} is not a signature", fix="Make one with task.s(...)")
    if part.id is not None:
        raise OptionError(
            f"a part of a workflow cannot have an id, got {part.id!r}", fix="Set the workflow's id instead"
        )


def _shown(value: Any) -> str:
    name = getattr(value, "name", None)
    return f"the task {name}" if isinstance(name, str) else f"an object of {type(value).__name__}"


def _policy(value: Policy) -> Policy:
    found: Policy = choice(value, POLICIES, option="policy")
    return found


def _part(_self: Any, _attribute: Any, value: Any) -> None:
    _check_part(value)


@frozen
class Workflow(Generic[R_co]):
    """Base of chains, groups and chords.

    Attributes:
        id: Id of the workflow, an idempotency key: sending it twice runs it once. ``None`` creates a new one.
        sender: App that sends it; default: the app of the first signature that has one. Not sent with the workflow.
    """

    id: str | None = attrs.field(default=None, kw_only=True, converter=_id)
    sender: Starter | None = attrs.field(default=None, kw_only=True, eq=False, repr=False, converter=sender)

    def parts(self) -> tuple[Part, ...]:
        """Return its direct parts."""
        raise NotImplementedError

    def options(self, **changes: Any) -> Any:
        """Return a copy with other options, named like the fields.

        Raises:
            OptionError: An option does not exist, or its value is not valid.
        """
        kind = type(self).__name__.lower()
        known(changes, [field.name for field in attrs.fields(type(self))], of=f"a {kind}")
        return attrs.evolve(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; see :meth:`queuekit.signature.Signature.to_dict`."""
        raise NotImplementedError

    def _starter(self) -> Starter:
        found: Starter | None = _starter(self)
        if found is None:
            raise OptionError("this workflow does not belong to an app", fix="Send it with app.send(workflow)")
        return found


Part = Signature[Any] | Workflow[Any]


def _starter(part: Part) -> Any:
    if isinstance(part, Signature):
        return part.sender
    return part.sender or next((found for inner in part.parts() if (found := _starter(inner))), None)


@frozen
class Chain(Workflow[R_co]):
    """Runs its links one after the other; appends each result to the arguments of the next link unless immutable.

    Its result is the result of the last link. If a link fails, the rest never runs, and the chain fails with the same
    failure.

    Attributes:
        id: Id of the workflow, an idempotency key: sending it twice runs it once. ``None`` creates a new one.
        sender: App that sends it; default: the app of the first signature that has one. Not sent with the workflow.
        links: The parts, in order.
        on_error: Sent once if a link fails, with the failure appended.
    """

    links: tuple[Part, ...] = attrs.field(converter=_links)
    on_error: tuple[Signature[Any], ...] = attrs.field(default=(), converter=signatures, kw_only=True)

    def parts(self) -> tuple[Part, ...]:
        """Return the links."""
        return self.links

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        data: dict[str, Any] = {"v": VERSION, "chain": [part.to_dict() for part in self.links]}
        return _with_options(self, data)

    def send(self) -> ChainResult[R_co]:
        """Send the first link and return a handle on the result of the last."""
        result: ChainResult[R_co] = self._starter().send(self)
        return result

    async def asend(self) -> ChainResult[R_co]:
        """Like :meth:`send`, without blocking the event loop."""
        result: ChainResult[R_co] = await self._starter().asend(self)
        return result


@frozen
class Group(Workflow[R_co]):
    """Runs its members in parallel. Its result is the list of their results, in the members' order.

    Attributes:
        id: Id of the workflow, an idempotency key: sending it twice runs it once. ``None`` creates a new one.
        sender: App that sends it; default: the app of the first signature that has one. Not sent with the workflow.
        members: The parts, in the order of their results.
        policy: Effect of a failed, cancelled or expired member on what follows the group: it never runs (``fail``), the
            member is left out (``skip``), or a :class:`~queuekit.failure.Failure` takes its place (``continue``).
        at_once: Most members that wait or run at a time; ``None`` for all.
        flat: Whether each member returns a list of results, to be joined into one list.
    """

    members: tuple[Part, ...] = attrs.field(converter=_parts)
    policy: Policy = attrs.field(default="fail", kw_only=True, converter=_policy)
    at_once: int | None = attrs.field(default=None, kw_only=True, converter=at_once)
    flat: bool = attrs.field(default=False, kw_only=True, converter=_flat)

    def __len__(self) -> int:
        return len(self.members)

    def parts(self) -> tuple[Part, ...]:
        """Return the members."""
        return self.members

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return _with_options(self, {"v": VERSION, "group": [part.to_dict() for part in self.members]})

    def send(self) -> GroupResult[R_co]:
        """Send the members and return a handle on all of them."""
        result: GroupResult[R_co] = self._starter().send(self)
        return result

    async def asend(self) -> GroupResult[R_co]:
        """Like :meth:`send`, without blocking the event loop."""
        result: GroupResult[R_co] = await self._starter().asend(self)
        return result


@frozen
class Chord(Workflow[R_co]):
    """A group, and a callback that receives the list of the group's results as its last argument.

    Attributes:
        id: Id of the workflow, an idempotency key: sending it twice runs it once. ``None`` creates a new one.
        sender: App that sends it; default: the app of the first signature that has one. Not sent with the workflow.
        group: The members.
        callback: Receives the list of results as its last argument.
        on_error: Sent once, with the failure appended, if the group or the callback fails.
    """

    group: Group[Any] = attrs.field(validator=_part)
    callback: Part = attrs.field(validator=_part)
    on_error: tuple[Signature[Any], ...] = attrs.field(default=(), converter=signatures, kw_only=True)

    def parts(self) -> tuple[Part, ...]:
        """Return the group and the callback."""
        return (self.group, self.callback)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return _with_options(self, {"v": VERSION, "chord": self.group.to_dict(), "callback": self.callback.to_dict()})

    def send(self) -> ChordResult[R_co]:
        """Send the members and return a handle on the callback's result."""
        result: ChordResult[R_co] = self._starter().send(self)
        return result

    async def asend(self) -> ChordResult[R_co]:
        """Like :meth:`send`, without blocking the event loop."""
        result: ChordResult[R_co] = await self._starter().asend(self)
        return result


_OPTIONS: dict[str, Any] = {"id": None, "policy": "fail", "at_once": None, "flat": False}


def is_workflow(value: object) -> bool:
    """Return whether *value* is a chain, a group or a chord."""
    return isinstance(value, Workflow)


def _with_options(workflow: Any, data: dict[str, Any]) -> dict[str, Any]:
    for name, usual in _OPTIONS.items():
        value = getattr(workflow, name, usual)
        if value != usual:
            data[name] = value
    if getattr(workflow, "on_error", ()):
        data["on_error"] = [link.to_dict() for link in workflow.on_error]
    return data


def part_from_dict(data: Mapping[str, Any], *, sender: Any = None) -> Part:
    """Return the signature or workflow that ``to_dict`` wrote; *data* may come from anywhere.

    Raises:
        DecodeError: *data* is neither, or has a version that this release cannot read.
    """
    try:
        if "task" in data:
            return Signature.from_dict(data, sender=sender)
        if data.get("v", VERSION) != VERSION:
            raise DecodeError(f"the workflow has version {data['v']!r}; this release reads {VERSION}")
        return _read(data, sender)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise DecodeError(f"not a workflow: {error}") from error


def _read_options(data: Mapping[str, Any], sender: Any) -> dict[str, Any]:
    options: dict[str, Any] = {name: data[name] for name in _OPTIONS if name in data}
    options["sender"] = sender
    if "on_error" in data:
        options["on_error"] = [Signature.from_dict(link, sender=sender) for link in data["on_error"]]
    return options


def _read(data: Mapping[str, Any], sender: Any) -> Part:
    options = _read_options(data, sender)
    if "chain" in data:
        return Chain([part_from_dict(part, sender=sender) for part in data["chain"]], **options)
    if "group" in data:
        return Group([part_from_dict(part, sender=sender) for part in data["group"]], **options)
    group = part_from_dict(data["chord"], sender=sender)
    if not isinstance(group, Group):
        raise DecodeError("the members of a chord are not a group")
    return Chord(group, part_from_dict(data["callback"], sender=sender), **options)
