"""What an operator does with limits: look at them, change their numbers, let a key start again."""

from __future__ import annotations

import json

import attrs

from queuekit.backend import Record
from queuekit.ids import check_name
from queuekit.limiting.rates import LIMIT, RATE, SLOW, LimitKey, number_in
from queuekit.limits import Rate, rate_text
from queuekit.operations.actions import named, record_action
from queuekit.operations.admin import Source
from queuekit.timelimit import time_limit

__all__ = ["LimitView", "free_limit", "list_limits", "set_limit", "unset_limit"]


@attrs.frozen(kw_only=True)
class LimitView:
    """A limit, or one key of it."""

    name: str
    key: str = ""
    limit: str = ""
    """Numbers in effect, e.g. ``"100/m"``; empty if no task here declares it and none are set."""
    burst: int = 1
    set_by: str = ""
    """Who set the numbers; empty if they are those of the code."""
    next_start: float | None = None
    """When a message that arrives now may start, in UTC epoch seconds; ``None`` if at once."""
    until: float | None = None
    """Until when a task has slowed it down."""


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
    views = {(name, ""): _view(name, known.get(name), numbers.get(name)) for name in {*known, *numbers}}
    for record, what in used:
        name, key = _text(record, "name"), _text(record, "key")
        view = views.get((name, key)) or attrs.evolve(_view(name, known.get(name), numbers.get(name)), key=key)
        moment = number_in(record, what)
        if moment > now and what == "next":
            views[name, key] = attrs.evolve(view, next_start=moment)
        elif moment > now:
            views[name, key] = attrs.evolve(view, until=moment)
    return [views[place] for place in sorted(views)]


def _view(name: str, rate: Rate | None, numbers: Record | None) -> LimitView:
    limit = "" if rate is None else rate_text(rate.amount, rate.period)
    view = LimitView(name=name, limit=limit, burst=1 if rate is None else rate.burst)
    if numbers is None:
        return view
    burst = int(number_in(numbers, "burst")) or view.burst
    return attrs.evolve(view, limit=_text(numbers, "limit"), burst=burst, set_by=_text(numbers, "by"))


def set_limit(app: Source, name: str, limit: str, *, burst: int | None = None, by: str | None = None) -> None:
    """Set the numbers of a limit for all workers, from their next batch on.

    Raises:
        InvalidNameError: *name* cannot name a limit.
        NoBackendError: No backend is configured.
        OptionError: *limit* is not a rate, or *burst* not a whole number of at least 1.
    """
    check_name(name, what="limit")
    made = Rate(limit, burst=burst or 1)
    text, who = rate_text(made.amount, made.period), named(by)
    body = json.dumps({"limit": text, "burst": burst, "by": who}).encode()
    with time_limit(app.runtime.config.send_timeout):
        app.runtime.need_backend("a limit").put([Record(key=LIMIT + name, body=body)])
    record_action(app.runtime, f"limits set {text}", by=by, on=name)


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

    Messages that have a turn already keep it.
    """
    place = LimitKey(check_name(name, what="limit"), key, Rate("1/s"))
    named(by)
    with time_limit(app.runtime.config.send_timeout):
        done = bool(app.runtime.need_backend("a limit").delete(place.records[:2]))
    record_action(app.runtime, "limits free", by=by, on=f"{name}/{key}" if key else name)
    return done


def _text(record: Record, name: str) -> str:
    try:
        value = json.loads(record.body)[name]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""
