"""What an operator does with limits: look at them, change their numbers, let a key start again."""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs

from queuekit.backend import Record
from queuekit.errors import OptionError
from queuekit.ids import check_name
from queuekit.limiting.rates import LIMIT, RATE, SLOW, LimitKey, number_in
from queuekit.limiting.slot_store import Slots
from queuekit.limiting.slots import SLOTS, SlotKey, SlotState, place_in
from queuekit.limits import Concurrency, Limit, LimitView, Rate
from queuekit.operations.actions import named, record_action
from queuekit.operations.admin import Source
from queuekit.timelimit import time_limit

__all__ = ["free_limit", "list_limits", "set_limit", "unset_limit"]


def list_limits(app: Source) -> list[LimitView]:
    """Return all limits that the tasks declare or that have records, and their keys that are in use.

    Raises:
        NoBackendError: No backend is configured.
        CapabilityError: The backend cannot list records.
    """
    runtime = app.runtime
    backend = runtime.need_listing("listing limits")
    known = app.tasks.limits()
    with time_limit(runtime.config.send_timeout):
        now = runtime.now()
        numbers = {record.key.removeprefix(LIMIT): record for record in backend.walk(LIMIT)}
        used = [(record, "next") for record in backend.walk(RATE)]
        used += [(record, "until") for record in backend.walk(SLOW)]
        slots = [(place, record) for record in backend.walk(SLOTS) if (place := place_in(record)) is not None]
    views = _Views(known, numbers)
    for record, what in used:
        views.add_rate(record, what, now)
    for at, record in slots:
        views.add_slots(at, record, now)
    return views.all()


class _Views:
    """Limits by name and key, and what their records say."""

    def __init__(self, known: Mapping[str, Limit], numbers: Mapping[str, Record]) -> None:
        self._known, self._numbers = known, numbers
        self._views = {(name, ""): self._new(name) for name in {*known, *numbers}}

    def add_rate(self, record: Record, what: str, now: float) -> None:
        """Add the record of a rate or of a slowed limit; *what* names its moment."""
        name, key = _text(record, "name"), _text(record, "key")
        moment = number_in(record, what)
        if moment <= now:
            return
        view = self._of(name, key)
        self._views[name, key] = (
            attrs.evolve(view, next_start=moment) if what == "next" else attrs.evolve(view, until=moment)
        )

    def add_slots(self, at: SlotKey, record: Record, now: float) -> None:
        """Add the record of a limit of concurrency if anything holds or waits for a slot."""
        state = SlotState.read(record, at, None)
        holders = tuple(id for id in state.first_holders() if state.holders[id].until > now)
        if holders or state.waiting:
            view = self._of(at.name, at.key)
            self._views[at.name, at.key] = attrs.evolve(view, holders=holders, waiting=state.waiting)

    def all(self) -> list[LimitView]:
        """Return them by name and key."""
        return [self._views[place] for place in sorted(self._views)]

    def _of(self, name: str, key: str) -> LimitView:
        return self._views.get((name, key)) or attrs.evolve(self._new(name), key=key)

    def _new(self, name: str) -> LimitView:
        return _view(name, self._known.get(name), self._numbers.get(name))


def _view(name: str, declared: Limit | None, numbers: Record | None) -> LimitView:
    burst = declared.burst if isinstance(declared, Rate) else 1
    view = LimitView(name=name, limit="" if declared is None else declared.text, burst=burst)
    if numbers is None:
        return view
    burst = int(number_in(numbers, "burst")) or view.burst
    return attrs.evolve(view, limit=_text(numbers, "limit"), burst=burst, set_by=_text(numbers, "by"))


def set_limit(app: Source, name: str, limit: str, *, burst: int | None = None, by: str | None = None) -> None:
    """Set the numbers of a limit for all workers, from their next batch on.

    Raises:
        InvalidNameError: *name* cannot name a limit.
        NoBackendError: No backend is configured.
        OptionError: *limit* is neither a rate nor a whole number, is not of the kind that the code declares, or *burst*
            is not a whole number of at least 1.
    """
    check_name(name, what="limit")
    made = _parsed(limit, burst)
    declared = app.tasks.limits().get(name)
    if declared is not None and type(declared) is not type(made):
        fix = "Give a rate such as 50/m" if isinstance(declared, Rate) else "Give a number of runs such as 3"
        raise OptionError(f"the code limits {name} to {declared.text}, and {limit!r} is of another kind", fix=fix)
    text, who = made.text, named(by)
    body = json.dumps({"limit": text, "burst": burst, "by": who}).encode()
    with time_limit(app.runtime.config.send_timeout):
        app.runtime.need_backend("a limit").put([Record(key=LIMIT + name, body=body)])
    record_action(app.runtime, f"limits set {text}", by=by, on=name)


def _parsed(limit: str, burst: int | None) -> Limit:
    if not limit.isdecimal():
        return Rate(limit, burst=burst or 1)
    if burst is not None:
        raise OptionError(f"a limit of {limit} runs at the same time has no burst", fix="Leave out --burst")
    return Concurrency(int(limit))


def unset_limit(app: Source, name: str, *, by: str | None = None) -> bool:
    """Let the numbers of the code be in effect again; return whether others were set."""
    check_name(name, what="limit")
    named(by)
    with time_limit(app.runtime.config.send_timeout):
        done = bool(app.runtime.need_backend("a limit").delete([LIMIT + name]))
    record_action(app.runtime, "limits unset", by=by, on=name)
    return done


def free_limit(app: Source, name: str, key: str = "", *, by: str | None = None) -> bool:
    """Let the next message of a key start at once; return whether it would have had to wait.

    Messages that have a turn by a rate keep it. The first that waits for a slot starts beside those that run.
    """
    runtime = app.runtime
    place = LimitKey(check_name(name, what="limit"), key, Rate("1/s"))
    named(by)
    with time_limit(runtime.config.send_timeout):
        backend = runtime.need_backend("a limit")
        done = bool(backend.delete(place.records[:2]))
        slots = Slots(backend, runtime.broker, lease=runtime.config.worker.lease)
        done = bool(slots.move([SlotKey(name, key)], runtime.now(), more=1)) or done
    record_action(runtime, "limits free", by=by, on=f"{name}/{key}" if key else name)
    return done


def _text(record: Record, name: str) -> str:
    try:
        value = json.loads(record.body)[name]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""
