"""Several calls as one piece of plain data: chains, groups and chords of signatures, nested freely, not yet sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import attrs

from queuekit.errors import DecodeError
from queuekit.ids import InvalidNameError, check_name
from queuekit.signature import Signature, signatures
from queuekit.wire.call_options import OptionError, at_once, choice, flag, known, sender
from queuekit.wire.position import POLICIES, Policy

if TYPE_CHECKING:
    from queuekit.workflows.results import ChainResult, ChordResult, GroupResult

__all__ = ["Chain", "Chord", "Group", "Part", "Starter", "Workflow", "is_workflow", "part_from_dict"]

R_co = TypeVar("R_co", covariant=True)
VERSION = 1
LONGEST_ID = 90
"""Most characters of a workflow's id: those of its messages are longer."""


class Starter(Protocol):
    """What can send workflows: an app."""

    def start(self, workflow: Workflow[Any]) -> Any:
        """Send *workflow* and return a handle on its result."""
        ...

    async def astart(self, workflow: Workflow[Any]) -> Any:
        """Send *workflow* without blocking the event loop."""
        ...


def _id(value: str | None) -> str | None:
    if value is None:
        return None
    name = check_name(value, what="workflow")
    if "." in name or len(name) > LONGEST_ID:
        raise InvalidNameError(f"{name!r} cannot name a workflow", fix=f"Use at most {LONGEST_ID} characters, no dot")
    return name


def _parts(values: Iterable[Part]) -> tuple[Part, ...]:
    if not isinstance(values, Iterable):
        raise OptionError(f"{_shown(values)} is no list of signatures", fix="Put brackets around it")
    parts = tuple(values)
    for part in parts:
        _check_part(part)
    return parts


def _links(values: Iterable[Part]) -> tuple[Part, ...]:
    links = _parts(values)
    if not links:
        raise OptionError("a chain without links", fix="Give it one signature at least: chain(task.s(...), ...)")
    return links


def _flat(value: bool) -> bool:  # noqa: FBT001 - the value that is checked
    return bool(flag(value, option="flat"))


def _check_part(part: Any) -> None:
    if not isinstance(part, Signature | Workflow):
        raise OptionError(f"{_shown(part)} is no signature", fix="Make one with task.s(...)")
    if part.id is not None:
        raise OptionError(f"a part of a workflow has no id of its own, as {part.id!r}", fix="Give the whole one")


def _shown(value: Any) -> str:
    name = getattr(value, "name", None)
    return f"the task {name}" if isinstance(name, str) else f"an object of {type(value).__name__}"


def _policy(value: Policy) -> Policy:
    found: Policy = choice(value, POLICIES, option="policy")
    return found


def _part(_self: Any, _attribute: Any, value: Any) -> None:
    _check_part(value)


@attrs.frozen
class Workflow(Generic[R_co]):
    """What chains, groups and chords have in common."""

    id: str | None = attrs.field(default=None, kw_only=True, converter=_id)
    """Id of the whole, an idempotency key: sending it twice runs it once. ``None`` makes a new one."""
    sender: Starter | None = attrs.field(default=None, kw_only=True, eq=False, repr=False, converter=sender)
    """App that sends it; default: the one of the first signature in it that has one. Does not travel."""

    def parts(self) -> tuple[Part, ...]:
        """Return what it is directly made of."""
        raise NotImplementedError

    def options(self, **changes: Any) -> Any:
        """Return a copy with other options; names and meaning are those of the fields.

        Raises:
            OptionError: There is no such option.
        """
        kind = type(self).__name__.lower()
        known(changes, [field.name for field in attrs.fields(type(self))], of=f"a {kind}")
        return attrs.evolve(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; see :meth:`queuekit.signature.Signature.to_dict`."""
        raise NotImplementedError

    def starter(self) -> Starter:
        """Return the app that sends it.

        Raises:
            OptionError: No part of it belongs to an app.
        """
        found = self.sender or next((_starter(part) for part in self.parts() if _starter(part)), None)
        if found is None:
            raise OptionError("this workflow belongs to no app", fix="Send it with app.send(workflow)")
        return found


Part = Signature[Any] | Workflow[Any]


def _starter(part: Part) -> Any:
    if isinstance(part, Signature):
        return part.sender
    return part.sender or next((found for inner in part.parts() if (found := _starter(inner))), None)


@attrs.frozen
class Chain(Workflow[R_co]):
    """One after the other: each result is appended to the next one's arguments, unless that is immutable.

    The result is that of the last link. If a link fails the rest never runs, and the failure is the chain's.
    """

    links: tuple[Part, ...] = attrs.field(converter=_links)
    on_error: tuple[Signature[Any], ...] = attrs.field(default=(), converter=signatures, kw_only=True)
    """Sent once if a link fails, with the failure appended."""

    def parts(self) -> tuple[Part, ...]:
        """Return the links."""
        return self.links

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        data: dict[str, Any] = {"v": VERSION, "chain": [part.to_dict() for part in self.links]}
        return _with_options(self, data)

    def send(self) -> ChainResult[R_co]:
        """Send the first link and return a handle on the result of the last."""
        result: ChainResult[R_co] = self.starter().start(self)
        return result

    async def asend(self) -> ChainResult[R_co]:
        """Like :meth:`send`, without blocking the event loop."""
        result: ChainResult[R_co] = await self.starter().astart(self)
        return result


@attrs.frozen
class Group(Workflow[R_co]):
    """Side by side. The result is the list of theirs, in this order."""

    members: tuple[Part, ...] = attrs.field(converter=_parts)
    policy: Policy = attrs.field(default="fail", kw_only=True, converter=_policy)
    """What a failed, cancelled or expired member means for what follows the group: it never runs (``fail``), the
    member is left out (``skip``), or a :class:`~queuekit.failure.Failure` stands in its place (``continue``)."""
    at_once: int | None = attrs.field(default=None, kw_only=True, converter=at_once)
    """Most members that wait or run at a time; ``None`` for all."""
    flat: bool = attrs.field(default=False, kw_only=True, converter=_flat)
    """Whether each member returns a list of results, of which one list is made."""

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
        result: GroupResult[R_co] = self.starter().start(self)
        return result

    async def asend(self) -> GroupResult[R_co]:
        """Like :meth:`send`, without blocking the event loop."""
        result: GroupResult[R_co] = await self.starter().astart(self)
        return result


@attrs.frozen
class Chord(Workflow[R_co]):
    """A group, and a callback that gets the list of its results as the last argument."""

    group: Group[Any] = attrs.field(validator=_part)
    callback: Part = attrs.field(validator=_part)
    on_error: tuple[Signature[Any], ...] = attrs.field(default=(), converter=signatures, kw_only=True)
    """Sent once, with the failure appended, if the group fails or the callback does."""

    def parts(self) -> tuple[Part, ...]:
        """Return group and callback."""
        return (self.group, self.callback)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return _with_options(self, {"v": VERSION, "chord": self.group.to_dict(), "callback": self.callback.to_dict()})

    def send(self) -> ChordResult[R_co]:
        """Send the members and return a handle on the callback's result."""
        result: ChordResult[R_co] = self.starter().start(self)
        return result

    async def asend(self) -> ChordResult[R_co]:
        """Like :meth:`send`, without blocking the event loop."""
        result: ChordResult[R_co] = await self.starter().astart(self)
        return result


_Kind = Literal["chain", "group", "chord"]
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
        DecodeError: It is none, or of a version that this release cannot read.
    """
    try:
        if "task" in data:
            return Signature.from_dict(data, sender=sender)
        if data.get("v", VERSION) != VERSION:
            raise DecodeError(f"a workflow of version {data['v']!r}; this release reads {VERSION}")
        return _read(data, sender)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise DecodeError(f"not a workflow: {error}") from error


def _read(data: Mapping[str, Any], sender: Any) -> Part:
    options: dict[str, Any] = {name: data[name] for name in _OPTIONS if name in data}
    options["sender"] = sender
    if "on_error" in data:
        options["on_error"] = [Signature.from_dict(link, sender=sender) for link in data["on_error"]]
    if "chain" in data:
        return Chain([part_from_dict(part, sender=sender) for part in data["chain"]], **options)
    if "group" in data:
        return Group([part_from_dict(part, sender=sender) for part in data["group"]], **options)
    group = part_from_dict(data["chord"], sender=sender)
    if not isinstance(group, Group):
        raise DecodeError("a chord of what is no group")
    return Chord(group, part_from_dict(data["callback"], sender=sender), **options)
