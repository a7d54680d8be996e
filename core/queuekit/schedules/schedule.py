"""A schedule: when, what, and by which rules; and the records that the backend keeps of it.

==================  ==================================================================================================
``cron:<name>``     the schedule, as declared in code or added later; changed by its version
``ticked:<name>``   how far it has come; its rank is the last tick that was dealt with, so it never moves back
``crons:changes``   written with each change of a schedule, so that the leader need only look at one version
``declares:<who>``  the names that the code of a live scheduler declares; forgotten soon after its end
==================  ==================================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from queuekit.backend import Record
from queuekit.durations import LONGEST
from queuekit.durations import parse as parse_duration
from queuekit.envelope import Unique, join_frame, split_frame
from queuekit.errors import DecodeError, ScheduleError, TooLargeError
from queuekit.ids import check_name, is_name
from queuekit.schedules.due import MISFIRES, OVERLAPS, Misfire, Overlap
from queuekit.schedules.triggers import When, form_of, when_from_dict
from queuekit.schedules.wall_clock import LAST
from queuekit.serializer import Serializer
from queuekit.signature import Signature
from queuekit.wire.call_options import choice
from queuekit.workflows.workflow import Chain, Chord, Group, Part, part_from_dict

__all__ = [
    "CHANGES",
    "DECLARES",
    "ENTRIES",
    "PROGRESS",
    "Progress",
    "Schedule",
    "StoredSchedule",
    "about",
    "entry_key",
    "entry_of",
    "progress_key",
    "read_entry",
    "read_progress",
    "ticking",
]

ENTRIES, PROGRESS, CHANGES, DECLARES = "cron:", "ticked:", "crons:changes", "declares:"
GRACE = 60.0
VERSION = 1
_WEEK = 7 * 86_400.0
_LONGEST_NAME = 100
_MOST_COUNTED = 2**53


def _check_when(_self: Any, _attribute: Any, value: Any) -> None:
    if not isinstance(value, When):
        raise ScheduleError(f"{value!r:.60} says no when: it is neither every(...) nor cron(...)", fix=form_of(value))


def _name(value: str) -> str:
    name = check_name(value, what="schedule")
    if len(name) > _LONGEST_NAME:
        raise ScheduleError(f"{name!r} is too long for a schedule", fix=f"Use at most {_LONGEST_NAME} characters")
    return name


def _check_call(_self: Any, _attribute: Any, value: Part) -> None:
    if not isinstance(value, Signature | Chain | Group | Chord):
        raise ScheduleError(f"{value!r:.60} cannot be sent", fix="Make a signature with task.s(...)")
    if value.id is not None:
        raise ScheduleError("what is sent again and again has no id of its own", fix="Leave id out")
    if isinstance(value, Signature) and value.eta is not None:
        raise ScheduleError("what is sent again and again has no one eta", fix="Use delay, in seconds from each tick")


def _misfire(value: Misfire) -> Misfire:
    found: Misfire = choice(value, MISFIRES, option="misfire")
    return found


def _overlap(value: Overlap) -> Overlap:
    found: Overlap = choice(value, OVERLAPS, option="overlap")
    return found


@attrs.frozen(kw_only=True)
class Schedule:
    """A call that is sent again and again."""

    name: str = attrs.field(converter=_name)
    """Its name, unlike any other's."""
    when: When = attrs.field(validator=_check_when)
    """Each moment is a tick: the call is sent once, whatever crashes and however many schedulers run."""
    call: Part = attrs.field(validator=_check_call)
    """A signature, chain, group or chord."""
    misfire: Misfire = attrs.field(default="once", converter=_misfire)
    """What becomes of ticks for which no worker was there: none of them is sent (``skip``), the last (``once``), or
    each (``all``)."""
    overlap: Overlap = attrs.field(default="allow", converter=_overlap)
    """What becomes of a tick while the call of an earlier one has not ended: sent (``allow``), left out (``skip``)."""
    grace: float = attrs.field(default=GRACE, converter=parse_duration)
    """Seconds that a tick may be late without having been missed."""


@attrs.frozen(kw_only=True)
class StoredSchedule:
    """A schedule as the backend keeps it. Times are UTC epoch seconds."""

    name: str
    when: When
    about: str
    """What it calls, in a few words."""
    misfire: Misfire
    overlap: Overlap
    grace: float
    source: Literal["code", "added"]
    """Whether an app's code declares it, or somebody has added it."""
    since: float
    """Ticks after this count: when it was made, resumed, or given another time."""
    paused: bool = False
    orphaned: float | None = None
    """When the leader first found that no live worker's code declares it."""
    digest: str = ""
    """Of what the code says, so that a worker knows whether it says something else."""
    content_type: str = ""
    payload: bytes = attrs.field(default=b"", repr=False)
    version: int = attrs.field(default=0, eq=False)
    """Of its record; 0 if it has none yet."""

    def record(self) -> Record:
        """Return what is put into the backend."""
        head = attrs.asdict(self, filter=attrs.filters.exclude("name", "when", "payload", "version"), recurse=False)
        body = join_frame({"v": VERSION, **head, "when": self.when.to_dict()}, self.payload)
        return Record(key=entry_key(self.name), body=body, task=self.about[:120])

    def call(self, serializers: Mapping[str, Serializer]) -> Part:
        """Return what it calls.

        Raises:
            DecodeError: It was written by a serializer that is not accepted here, or is damaged.
        """
        serializer = serializers.get(self.content_type)
        if serializer is None:
            raise DecodeError(f"the call of {self.name} is {self.content_type!r}, which is not accepted here")
        call = part_from_dict(serializer.loads(self.payload))
        try:
            _check_call(self, None, call)
        except ScheduleError as error:
            raise DecodeError(f"the call of {self.name}: {error.what}") from error
        return call


@attrs.frozen(kw_only=True)
class Progress:
    """How far a schedule has come. Times are UTC epoch seconds."""

    at: float = 0.0
    """The last tick that was dealt with."""
    last: float | None = None
    """The last tick that was sent."""
    id: str = ""
    """Id of what it sent."""
    sent: int = 0
    """Ticks sent."""
    missed: int = 0
    """Ticks left out by the misfire policy."""
    skipped: int = 0
    """Ticks left out by the overlap policy."""
    failed: int = 0
    """Ticks whose call could not be sent."""
    error: str = ""
    """Why, if the last one could not."""

    def record(self, name: str) -> Record:
        """Return what is put into the backend, where newer than what is there."""
        body = json.dumps({"v": VERSION, **attrs.asdict(self)}).encode()
        return Record(
            key=progress_key(name), body=body, rank=round(self.at * 1000), at=self.at, error=self.error or None
        )


def entry_key(name: str) -> str:
    """Return the key of a schedule."""
    return ENTRIES + name


def progress_key(name: str) -> str:
    """Return the key of a schedule's progress."""
    return PROGRESS + name


def entry_of(
    schedule: Schedule, serializer: Serializer, *, source: Literal["code", "added"], since: float, max_record: int
) -> StoredSchedule:
    """Return what is stored of *schedule*.

    Raises:
        EncodeError: An argument of its call cannot be written.
        TooLargeError: It is more than a record may hold.
    """
    payload = serializer.dumps(schedule.call.to_dict())
    rules = [schedule.when.to_dict(), schedule.misfire, schedule.overlap, schedule.grace, serializer.content_type]
    entry = StoredSchedule(
        name=schedule.name,
        when=schedule.when,
        about=about(schedule.call),
        misfire=schedule.misfire,
        overlap=schedule.overlap,
        grace=schedule.grace,
        source=source,
        since=since,
        digest=hashlib.sha256(json.dumps(rules).encode() + payload).hexdigest()[:32],
        content_type=serializer.content_type,
        payload=payload,
    )
    if len(payload) + 4_000 > max_record:
        raise TooLargeError(
            f"schedule {schedule.name}: its call has {len(payload):,} bytes, a record holds {max_record:,}",
            fix="Let a task of its own send the workflow",
        )
    return entry


def read_entry(record: Record) -> StoredSchedule:
    """Return the schedule in *record*.

    Raises:
        DecodeError: It is not one that this release can read.
    """
    head, payload = split_frame(record.body)
    if head.pop("v", None) != VERSION:
        raise DecodeError(f"record {record.key!r} is not a schedule that this release reads")
    name = record.key.removeprefix(ENTRIES)
    if not is_name(name) or type(head.get("when")) is not dict:
        raise DecodeError(f"record {record.key!r} is not a schedule")
    fields = {field: head[field] for field in _ENTRY if field in head}
    _check_fields(record, fields, _ENTRY)
    when = when_from_dict(head["when"])
    try:
        return StoredSchedule(name=name, when=when, payload=payload, version=record.version, **fields)
    except TypeError as error:
        raise DecodeError(f"record {record.key!r} is not a schedule: {error}") from error


def read_progress(record: Record | None) -> Progress:
    """Return how far a schedule has come; what cannot be read counts as nothing."""
    if record is None:
        return Progress()
    try:
        data = json.loads(record.body)
        fields = {field: data[field] for field in _PROGRESS if field in data}
        _check_fields(record, fields, _PROGRESS)
        return Progress(**fields)
    except (ValueError, TypeError, RecursionError, DecodeError):
        at = record.rank / 1000
        return Progress(at=at if _is_moment(at) else 0.0)


def _is_moment(value: Any) -> bool:
    """Return whether *value* is UTC epoch seconds that a calendar has a date for."""
    return type(value) in {int, float} and 0 <= value < LAST


def _is_span(value: Any) -> bool:
    return type(value) in {int, float} and 0 <= value <= LONGEST


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_COUNTED


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_ENTRY: dict[str, Callable[[Any], bool]] = {
    "about": _is_text,
    "misfire": lambda value: value in MISFIRES,
    "overlap": lambda value: value in OVERLAPS,
    "grace": _is_span,
    "source": lambda value: value in ("code", "added"),
    "since": _is_moment,
    "paused": lambda value: type(value) is bool,
    "orphaned": _or_none(_is_moment),
    "digest": _is_text,
    "content_type": _is_text,
}
"""What each field of a stored schedule may be."""
_PROGRESS: dict[str, Callable[[Any], bool]] = {
    "at": _is_moment,
    "last": _or_none(_is_moment),
    "id": lambda value: value == "" or (type(value) is str and is_name(value)),
    **dict.fromkeys(("sent", "missed", "skipped", "failed"), _is_count),
    "error": _is_text,
}
"""What each field of a stored progress may be."""


def _check_fields(record: Record, fields: Mapping[str, Any], checks: Mapping[str, Callable[[Any], bool]]) -> None:
    """Refuse what was not written by us, as it is refused when it is made."""
    for name, value in fields.items():
        if not checks[name](value):
            raise DecodeError(f"record {record.key!r}: {name} is {repr(value)[:60]}")


def about(call: Part) -> str:
    """Return what *call* is, in a few words."""
    if isinstance(call, Signature):
        return call.task
    if isinstance(call, Chain):
        return "chain of " + _listed(call.links)
    if isinstance(call, Group):
        return "group of " + _listed(call.members)
    assert isinstance(call, Chord)  # noqa: S101 - there are no others
    return f"chord of {_listed(call.group.members)}, then {about(call.callback)}"


def _listed(parts: tuple[Part, ...]) -> str:
    names = list(dict.fromkeys(about(part) if isinstance(part, Signature) else "..." for part in parts))
    return f"{len(parts)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"  # noqa: PLR2004 - a short line


def ticking(entry: StoredSchedule, call: Part, *, id: str, moment: str) -> Part:
    """Return what one tick of *entry* sends.

    Args:
        entry: The schedule.
        call: What it calls.
        id: Id of this tick.
        moment: The tick's time, which its tasks find in their headers.
    """
    marked: Part = _with_headers(call, {"cron": entry.name, "cron-time": moment})
    if entry.overlap == "skip" and isinstance(marked, Signature) and not marked.unique:
        marked = marked.options(unique=Unique(key=f"cron:{entry.name}", ttl=_WEEK))
    sent: Part = marked.options(id=id)
    return sent


def _with_headers(part: Any, headers: dict[str, str]) -> Any:
    """Return *part* with headers on what it begins with; what follows inherits them."""
    if isinstance(part, Signature):
        return attrs.evolve(part, headers={**headers, **part.headers})
    if isinstance(part, Chain):
        first, *rest = part.links
        return attrs.evolve(part, links=(_with_headers(first, headers), *rest))
    if isinstance(part, Group):
        return attrs.evolve(part, members=tuple(_with_headers(member, headers) for member in part.members))
    return attrs.evolve(part, group=_with_headers(part.group, headers))
