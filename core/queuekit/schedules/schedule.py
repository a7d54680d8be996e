"""A schedule: its trigger, call and rules, and the records in which the backend stores it.

==================  ==================================================================================================
``cron:<name>``     the schedule, declared in code or added later; written only if its version is unchanged
``ticked:<name>``   its progress; the rank is the last handled tick, so that it never moves back
``crons:changes``   written with each change of a schedule, so that the leader needs to check only one version
``declares:<who>``  the names that the code of a live scheduler declares; expires soon after its end
==================  ==================================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from queuekit.backend import Record
from queuekit.durations import parse as parse_duration
from queuekit.envelope import Unique, join_frame, split_frame
from queuekit.errors import DecodeError, ScheduleError, TooLargeError
from queuekit.ids import check_name, is_name
from queuekit.schedules.due import MISFIRES, OVERLAPS, Misfire, Overlap
from queuekit.schedules.triggers import When, form_of, when_from_dict
from queuekit.serializer import Serializer
from queuekit.signature import Signature
from queuekit.tasks.task import Task
from queuekit.values import frozen
from queuekit.wire.call_options import choice
from queuekit.wire.fields import Check, checked, is_count, is_flag, is_moment, is_span, is_text, or_none, read_object
from queuekit.wire.signing import Signing
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


def _check_when(_self: Any, _attribute: Any, value: Any) -> None:
    if not isinstance(value, When):
        raise ScheduleError(f"when must be every(...) or cron(...), got {value!r:.60}", fix=form_of(value))


def _name(value: str) -> str:
    name = check_name(value, what="schedule")
    if len(name) > _LONGEST_NAME:
        raise ScheduleError(f"schedule name {name!r} is too long", fix=f"Use at most {_LONGEST_NAME} characters")
    return name


def _call(value: Part | Task[..., Any]) -> Part:
    return value.si() if isinstance(value, Task) else value


def _check_call(_self: Any, _attribute: Any, value: Part) -> None:
    if not isinstance(value, Signature | Chain | Group | Chord):
        raise ScheduleError(f"{value!r:.60} cannot be sent", fix="Make a signature with task.s(...)")
    if value.id is not None:
        raise ScheduleError("the call of a schedule cannot have an id: it is sent repeatedly", fix="Leave id out")
    if isinstance(value, Signature) and value.eta is not None:
        raise ScheduleError(
            "the call of a schedule cannot have an eta: it is sent repeatedly",
            fix="Use delay, in seconds from each tick",
        )


def _misfire(value: Misfire) -> Misfire:
    found: Misfire = choice(value, MISFIRES, option="misfire")
    return found


def _overlap(value: Overlap) -> Overlap:
    found: Overlap = choice(value, OVERLAPS, option="overlap")
    return found


@frozen(kw_only=True)
class Schedule:
    """A call that is sent repeatedly.

    Attributes:
        name: Its unique name.
        when: The trigger. The call is sent once for each tick, whatever crashes and however many schedulers run.
        call: A signature, chain, group or chord; a task becomes its call without arguments.
        misfire: What to send of ticks that no scheduler sent in time: nothing (``skip``), the last one (``once``), or
            all (``all``).
        overlap: What to do with a tick while the call of an earlier one has not ended: send it (``allow``), or not
            (``skip``).
        grace: Seconds by which a tick may be late before it counts as missed.
    """

    name: str = attrs.field(converter=_name)
    when: When = attrs.field(validator=_check_when)
    call: Part = attrs.field(converter=_call, validator=_check_call)
    misfire: Misfire = attrs.field(default="once", converter=_misfire)
    overlap: Overlap = attrs.field(default="allow", converter=_overlap)
    grace: float = attrs.field(default=GRACE, converter=parse_duration)


@frozen(kw_only=True)
class StoredSchedule:
    """A schedule as the backend stores it. Times are UTC epoch seconds.

    Attributes:
        name: Name of the schedule.
        when: Its trigger.
        about: Short description of the call.
        misfire: What happens to ticks that nothing sent in time.
        overlap: What happens to a tick while the call of an earlier one has not ended.
        grace: Seconds after which a tick counts as missed.
        source: Whether an app's code declares it, or it was added.
        since: Time of its creation, resumption or change of trigger; only later ticks count.
        paused: Whether it is paused.
        orphaned: When the leader first found that no live worker's code declares it.
        digest: Digest of the declaration, by which a worker detects a change in the code.
        content_type: Serializer of the payload.
        payload: The call, encoded.
        version: Version of its record; 0 if it has none yet.
    """

    name: str
    when: When
    about: str
    misfire: Misfire
    overlap: Overlap
    grace: float
    source: Literal["code", "added"]
    since: float
    paused: bool = False
    orphaned: float | None = None
    digest: str = ""
    content_type: str = ""
    payload: bytes = attrs.field(default=b"", repr=False)
    version: int = attrs.field(default=0, eq=False)

    def record(self, signing: Signing | None = None) -> Record:
        """Return its record for the backend, signed by *signing*."""
        head = attrs.asdict(self, filter=attrs.filters.exclude("name", "when", "payload", "version"), recurse=False)
        body = join_frame({"v": VERSION, **head, "when": self.when.to_dict()}, self.payload)
        record = Record(key=entry_key(self.name), body=body, task=self.about[:120])
        return record if signing is None else signing.signed_record(record)

    def call(self, serializers: Mapping[str, Serializer]) -> Part:
        """Return its call.

        Raises:
            DecodeError: Its serializer is not accepted here, or the payload is damaged.
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


@frozen(kw_only=True)
class Progress:
    """The progress of a schedule. Times are UTC epoch seconds.

    Attributes:
        at: The last tick that was handled.
        last: The last tick that was sent.
        id: Id of the message or workflow that the last tick sent.
        sent: Ticks sent.
        missed: Ticks dropped by the misfire policy.
        skipped: Ticks dropped by the overlap policy.
        failed: Ticks whose call could not be sent.
        error: Why the call of the last tick could not be sent; empty if it was sent.
    """

    at: float = 0.0
    last: float | None = None
    id: str = ""
    sent: int = 0
    missed: int = 0
    skipped: int = 0
    failed: int = 0
    error: str = ""

    def record(self, name: str) -> Record:
        """Return its record for the backend; it replaces only an older one."""
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
    """Return the entry to store for *schedule*.

    Raises:
        EncodeError: An argument of its call cannot be encoded.
        TooLargeError: It exceeds the size of a record.
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
            f"schedule {schedule.name}: its call has {len(payload):,} bytes, the limit of a record is {max_record:,}",
            fix="Schedule a task that sends the workflow",
        )
    return entry


def read_entry(record: Record, signing: Signing | None = None) -> StoredSchedule:
    """Return the schedule in *record*.

    Args:
        record: The record.
        signing: Checks its signature.

    Raises:
        UnsignedError: It is not signed as required.
        DecodeError: This release cannot read it.
    """
    if signing is not None:
        signing.check_record(record)
    head, payload = split_frame(record.body)
    if head.pop("v", None) != VERSION:
        raise DecodeError(f"record {record.key!r} is not a schedule that this release can read")
    name = record.key.removeprefix(ENTRIES)
    if not is_name(name) or type(head.get("when")) is not dict:
        raise DecodeError(f"record {record.key!r} is not a schedule")
    fields = checked(head, _ENTRY, what=f"record {record.key!r}")
    when = when_from_dict(head["when"])
    try:
        return StoredSchedule(name=name, when=when, payload=payload, version=record.version, **fields)
    except TypeError as error:
        raise DecodeError(f"record {record.key!r} is not a schedule: {error}") from error


def read_progress(record: Record | None) -> Progress:
    """Return the progress of a schedule; if it cannot be read, only the last tick that its rank implies."""
    if record is None:
        return Progress()
    try:
        return Progress(**checked(read_object(record.body), _PROGRESS))
    except DecodeError:
        at = record.rank / 1000
        return Progress(at=at if is_moment(at) else 0.0)


_ENTRY: dict[str, Check] = {
    "about": is_text,
    "misfire": lambda value: value in MISFIRES,
    "overlap": lambda value: value in OVERLAPS,
    "grace": is_span,
    "source": lambda value: value in ("code", "added"),
    "since": is_moment,
    "paused": is_flag,
    "orphaned": or_none(is_moment),
    "digest": is_text,
    "content_type": is_text,
}
"""Checks of the fields of a stored schedule."""
_PROGRESS: dict[str, Check] = {
    "at": is_moment,
    "last": or_none(is_moment),
    "id": lambda value: value == "" or (type(value) is str and is_name(value)),
    **dict.fromkeys(("sent", "missed", "skipped", "failed"), is_count),
    "error": is_text,
}
"""Checks of the fields of a stored progress."""


def about(call: Part) -> str:
    """Return a short description of *call*."""
    if isinstance(call, Signature):
        return call.task
    if isinstance(call, Chain):
        return "chain of " + _listed(call.links)
    if isinstance(call, Group):
        return "group of " + _listed(call.members)
    assert isinstance(call, Chord)  # noqa: S101 - there are no other kinds
    return f"chord of {_listed(call.group.members)}, then {about(call.callback)}"


def _listed(parts: tuple[Part, ...]) -> str:
    names = list(dict.fromkeys(about(part) if isinstance(part, Signature) else "..." for part in parts))
    return f"{len(parts)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"  # noqa: PLR2004 - a short line


def ticking(entry: StoredSchedule, call: Part, *, id: str, moment: str) -> Part:
    """Return the call that one tick of *entry* sends.

    Args:
        entry: The schedule.
        call: Its call.
        id: Id of this tick.
        moment: The tick's time, for the headers of its tasks.
    """
    headers = {"cron": entry.name, "cron-time": moment}
    if not isinstance(call, Signature):
        sent: Part = _with_headers(call, headers).options(id=id)
        return sent
    unique = call.unique
    if entry.overlap == "skip" and not unique:
        unique = Unique(key=f"cron:{entry.name}", ttl=_WEEK)
    return attrs.evolve(call, headers={**headers, **call.headers}, unique=unique, id=id)


def _with_headers(part: Any, headers: dict[str, str]) -> Any:
    """Return *part* with headers on its first messages; later messages inherit them."""
    if isinstance(part, Signature):
        return attrs.evolve(part, headers={**headers, **part.headers})
    if isinstance(part, Chain):
        first, *rest = part.links
        return attrs.evolve(part, links=(_with_headers(first, headers), *rest))
    if isinstance(part, Group):
        return attrs.evolve(part, members=tuple(_with_headers(member, headers) for member in part.members))
    return attrs.evolve(part, group=_with_headers(part.group, headers))
