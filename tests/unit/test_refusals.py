"""What cannot be is refused where it is written: by every public callable, for every parameter, in our words."""

import asyncio
import datetime
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import (
    Context,
    Delays,
    Exponential,
    Fibonacci,
    Fixed,
    Queuekit,
    Result,
    Retry,
    Signature,
    Snooze,
    UniqueKey,
    chain,
    chord,
    cron,
    every,
    group,
)
from queuekit.errors import QueuekitError
from support.working import make_app


class Odd:
    """A class that nobody knows."""

    @staticmethod
    def anything(*args: Any, **kwargs: Any) -> None:
        """Take any arguments."""

    def method(self) -> None:
        """Do nothing."""


JUNK: dict[str, Any] = {
    "whole": 5,
    "negative": -1,
    "zero": 0,
    "float": 2.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "huge": 10**400,
    "true": True,
    "none": None,
    "text": "x y",
    "empty": "",
    "nul": "a\0b",
    "surrogate": "\ud800",
    "bytes": b"ab",
    "list": [1],
    "tuple": (1, 2),
    "dict": {"a": 1},
    "numbered": {1: 2},
    "set": {1},
    "object": Odd(),
    "class": Odd,
    "function": len,
    "naive": datetime.datetime(2026, 1, 1),  # noqa: DTZ001 - without a zone
    "delta": datetime.timedelta(seconds=-5),
}
"""One value of each kind, by name."""
NUMBERS = "whole zero float true"
WHOLE = "whole zero none"
WAIT = "whole zero float none"
"""Kinds that have a meaning, by the kind of parameter."""


APP: Any = make_app()


def body(x: Any, y: Any = 1) -> Any:
    """Do what tasks do."""
    return x, y


F: Any = APP.task(name="f")(body)
NUMBERED = itertools.count()
MADE: Any = UniqueKey
SENT = F.send(1)
GROUP = group(F.s(1), F.s(2)).send()
CHAIN: Any = chain(F.s(1), F.s(2)).send()
CALLS: tuple[str, ...] = (
    "id",
    "queue",
    "priority",
    "delay",
    "eta",
    "expires",
    "headers",
    "retries",
    "retry",
    "timeout",
)
CALLS += ("ignore_result", "unique", "on_success", "on_error")
FITS = {"priority": WHOLE, "delay": WAIT, "expires": WAIT, "retries": WHOLE, "timeout": "whole float none"}
FITS |= {"ignore_result": "true none", "unique": "true none text nul surrogate", "headers": "zero none empty"}
FITS |= {"on_success": "none empty", "on_error": "none empty", "immutable": "true none", "each": "true none"}
FITS |= {"extra": "dict numbered", "args": "list tuple set", "kwargs": "dict"}
FITS |= {"retry_on": "", "dont_retry": "", "track": "true none", "ack": "", "task": ""}
FITS |= {"time_limit": "whole float none"}
DECLARED: tuple[str, ...] = (
    "name",
    "queue",
    "priority",
    "retries",
    "retry",
    "retry_on",
    "dont_retry",
    "timeout",
    "expires",
)
DECLARED += ("ignore_result", "unique", "track", "ack", "time_limit", "pool")
WORKER = {"queues": "none dict numbered", "concurrency": "whole huge none", "processes": "whole huge none"}
WORKER |= {"pool": "none", "name": "none", "drain": WAIT, "lease": "whole float none", "burst": "true none"}
WORKER |= {"wait_for": WAIT}

Rows = dict[str, tuple[Callable[[Any], object], str]]
"""What is called with each kind of value, and the kinds that it takes."""


def _of(option: Any, call: Callable[[Any, Any], object]) -> Callable[[Any], object]:
    """Return *call* with its first argument given."""
    return functools.partial(call, option)


def _declare(option: str, value: Any) -> object:
    app: Any = Queuekit(broker="memory://")
    return app.task(**{"name": "t", option: value})(Odd.method)


def _with_schedule(option: str, value: Any, *, change: bool) -> object:
    name = f"n{next(NUMBERED)}"
    given: dict[str, Any] = {"when": every("1h"), "call": Signature[Any]("f")}
    if not change:
        return APP.schedules.add(**{"name": name, **given, option: value})
    APP.schedules.add(name, **given)
    return APP.schedules.change(name, **{option: value})


def _decorate(value: Any, *, option: str) -> object:
    app: Any = Queuekit()
    return app.periodic(every("1h"), **{option: value})(app.task(name="f")(Odd.anything))


def _rows_of_calls() -> Rows:
    rows: Rows = {}
    for option in CALLS:
        rows[f"options-{option}"] = (_of(option, lambda o, v: F.options(**{o: v})), FITS.get(option, "none"))
    for option in (*CALLS, "immutable", "each", "extra", "sender"):
        takes = FITS.get(option, "none")
        takes = "empty" if option.startswith("on_") else takes
        rows[f"signature-{option}"] = (_of(option, lambda o, v: Signature("f", **{o: v})), takes)
    for option in DECLARED:
        rows[f"decorator-{option}"] = (_of(option, _declare), FITS.get(option, "none"))
    for option, takes in WORKER.items():
        rows[f"worker-{option}"] = (_of(option, lambda o, v: APP.worker(**{o: v})), takes)
    return rows


def _rows_of_workflows() -> Rows:
    rows: Rows = {}
    options = {"policy": "", "at_once": "whole none", "id": "none"}
    for option, takes in options.items():
        rows[f"group-{option}"] = (_of(option, lambda o, v: group(F.s(1), **{o: v})), takes)
        rows[f"starmap-{option}"] = (_of(option, lambda o, v: F.starmap([(1,)], **{o: v})), takes)
        rows[f"map-{option}"] = (_of(option, lambda o, v: F.map([1], **{o: v})), takes)
    one: Any = F.s(1)
    return rows | {
        "starmap": (F.starmap, ""),
        "starmap-each": (lambda v: F.starmap([v]), "list tuple set"),
        "starmap-chunk": (lambda v: F.starmap([(1,)], chunk=v), "whole"),
        "map": (F.map, "list tuple dict numbered set"),
        "map-chunk": (lambda v: F.map([1], chunk=v), "whole"),
        "map-unknown": (lambda v: F.map([1], chunks=v), ""),
        "chain": (chain, ""),
        "chain-id": (lambda v: chain(one, id=v), "none"),
        "chain-on_error": (lambda v: chain(one, on_error=v), "empty"),
        "chain-links": (lambda v: chain(one).options(links=v), ""),
        "chain-sender": (lambda v: chain(one).options(sender=v), "none"),
        "group": (group, "empty"),
        "group-members": (lambda v: group(one).options(members=v), "empty"),
        "group-flat": (lambda v: group(one).options(flat=v), "true none"),
        "chord-members": (lambda v: chord(v, one), "empty"),
        "chord-each": (lambda v: chord([v], one), ""),
        "chord-callback": (lambda v: chord([one], v), ""),
        "chord-policy": (lambda v: chord([one], one, policy=v), "none"),
        "chord-on_error": (lambda v: chord([one], one, on_error=v), "empty"),
        "chord-id": (lambda v: chord([one], one, id=v), "none"),
        "chord-group": (lambda v: chord([one], one).options(group=v), ""),
    }


def _rows_of_schedules() -> Rows:
    rows: Rows = {}
    for option in ("name", "when", "call", "misfire", "overlap", "grace"):
        takes = "whole zero float" if option == "grace" else ""
        rows[f"schedules-add-{option}"] = (_of(option, lambda o, v: _with_schedule(o, v, change=False)), takes)
        if option != "name":
            takes = f"{takes} none"
            rows[f"schedules-change-{option}"] = (_of(option, lambda o, v: _with_schedule(o, v, change=True)), takes)
    for verb in ("get", "pause", "resume", "remove", "run", "change"):
        rows[f"schedules-{verb}"] = (_of(verb, lambda o, v: getattr(APP.schedules, o)(v)), "")
    for option, takes in {"name": "none", "misfire": "", "overlap": "", "grace": "whole zero float", "nam": ""}.items():
        rows[f"periodic-{option}"] = (_of(option, lambda o, v: _decorate(v, option=o)), takes)
    return rows | {
        "periodic-args": (lambda v: _decorate(v, option="args"), "list tuple set"),
        "periodic-kwargs": (lambda v: _decorate(v, option="kwargs"), "none dict"),
        "periodic-when": (lambda v: APP.periodic(v, F.s(1), name="w"), ""),
        "periodic-call": (lambda v: APP.periodic(every("1h"), v, name="c"), "none"),
        "periodic-decorated": (APP.periodic(every("1h")), ""),
        "schedules-upcoming": (lambda v: APP.schedules.upcoming(v, 1), ""),
        "every": (every, "whole float"),
        "every-offset": (lambda v: every("1h", offset=v), "whole zero float"),
        "every-next": (lambda v: every("1h").next_after(v), f"{NUMBERS} negative nan inf huge"),
        "cron": (cron, ""),
        "cron-tz": (lambda v: cron("* * * * *", tz=v), ""),
        "cron-next": (lambda v: cron("* * * * *").next_after(v), f"{NUMBERS} negative nan inf huge"),
    }


def _rows_of_waits() -> Rows:
    rows: Rows = {
        "retry-after": (lambda v: Retry(after=v), "whole negative zero float none"),
        "snooze": (Snooze, "whole negative zero float"),
        "fixed": (Fixed, "whole zero float"),
        "delays": (Delays, "list tuple"),
        "delays-each": (lambda v: Delays([v]), "whole zero float"),
    }
    kinds: dict[Any, tuple[str, ...]] = {Exponential: ("base", "cap"), Fibonacci: ("unit", "cap")}
    for kind, options in kinds.items():
        for option in options:
            rows[f"{kind.kind}-{option}"] = (_of((kind, option), lambda o, v: o[0](**{o[1]: v})), "whole zero float")
    for option, takes in {"key": "text nul surrogate", "until": "", "ttl": "whole float"}.items():
        rows[f"unique-{option}"] = (_of(option, lambda o, v: F.options(unique=MADE(**{"key": "k", o: v}))), takes)
    return rows


def _rows_of_apps() -> Rows:
    context = Context(id="i", task="t", queue="q")
    rows: Rows = {
        "configure": (lambda v: make_app().configure(v), "none dict"),
        "configure-path": (lambda v: make_app().configure(path=v), "none empty text"),
        "clock": (lambda v: Queuekit(clock=v), "none"),
        "chance": (lambda v: Queuekit(chance=v), "none"),
        "middlewares": (lambda v: Queuekit(middlewares=v), "empty"),
        "middleware": (lambda v: Queuekit(middlewares=[v]), ""),
        "task": (make_app().task, "none class function"),
        "register_type": (make_app().register_type, ""),
        "send": (APP.send, ""),
        "send_many": (APP.send_many, ""),
        "send_many-each": (lambda v: APP.send_many([v]), ""),
        "subscribe": (make_app().events.subscribe, "class function"),
        "infos": (APP.infos, ""),
        "infos-each": (lambda v: APP.infos([v]), ""),
        "handle": (lambda v: Result(v, APP._make_results()), "text empty nul surrogate"),
        "progress-done": (context.progress, f"{NUMBERS} negative nan inf huge none"),
        "progress-total": (lambda v: context.progress(1, v), f"{NUMBERS} negative nan inf huge none"),
        "progress-message": (lambda v: context.progress(1, 2, v), "text empty nul surrogate"),
        "from_dict": (Signature.from_dict, ""),
    }
    rows["asend"] = (lambda v: asyncio.run(APP.asend(v)), "")
    for verb in ("result", "info", "cancel", "forget"):
        rows[verb] = (getattr(APP, verb), "")
    endless = "whole float true inf none"
    """Of waits only what is refused is tried: the others would wait."""
    for name, handle in {"result": SENT, "group": GROUP, "chain": CHAIN}.items():
        rows[f"{name}-get"] = (_of(handle, lambda h, v: h.get(v)), f"!{endless}")
        rows[f"{name}-aget"] = (_of(handle, lambda h, v: asyncio.run(h.aget(v))), f"!{endless}")
    rows["as_completed"] = (lambda v: list(GROUP.as_completed(v)), f"!{endless}")
    return rows


ROWS = _rows_of_calls() | _rows_of_workflows() | _rows_of_schedules() | _rows_of_waits() | _rows_of_apps()


def _refused(call: Callable[[Any], object], value: Any) -> QueuekitError | None:
    try:
        call(value)
    except QueuekitError as error:
        return error
    return None


@pytest.mark.parametrize(("call", "takes"), ROWS.values(), ids=ROWS)
def test_what_cannot_be_is_refused_in_our_words(call: Callable[[Any], object], takes: str) -> None:
    """Each kind of value is taken where it has a meaning, and else refused by one line with a code."""
    left_out = takes.removeprefix("!").split() if takes.startswith("!") else []
    taken: list[str] = []
    for kind, value in JUNK.items():
        if kind in left_out:
            continue
        error = _refused(call, value)
        if error is None:
            taken.append(kind)
        else:
            assert (error.code == "QK100", "\n" in error.what, len(error.what) > 400) == (False, False, False), kind

    assert takes.startswith("!") or sorted(taken) == sorted(takes.split())
