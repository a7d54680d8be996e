"""Validates the options of tasks and calls, for the decorator, ``.options``, signatures and the CLI.

Each function returns the value in the form that is sent, or raises where the value is set; otherwise the message would
end as malformed on some worker. Members of ``(str, Enum)`` and ``IntEnum`` become plain str and int here, so that no
engine has to handle them.
"""

from __future__ import annotations

import difflib
import json
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from queuekit.durations import DurationError
from queuekit.durations import parse as parse_duration
from queuekit.envelope import Lane, Unique
from queuekit.errors import OptionError, did_you_mean
from queuekit.fair import Fair
from queuekit.ids import check_name, plain, plain_data
from queuekit.retry import LONGEST, Backoff
from queuekit.unique import UniqueKey

__all__ = [
    "ON_UNKNOWN",
    "Duration",
    "OptionError",
    "acknowledgement",
    "argument_lists",
    "arguments",
    "at_least_one",
    "at_once",
    "backoff",
    "choice",
    "classes",
    "fair_by",
    "fair_by_argument",
    "flag",
    "further",
    "headers",
    "known",
    "named",
    "on_unknown",
    "optional_name",
    "pool",
    "priority",
    "retries",
    "seconds",
    "sender",
    "service",
    "time_limit",
    "timeout",
    "unique",
]

Duration = float | int | str | timedelta
ON_UNKNOWN = ("hold", "drop", "dead")
"""What a worker can do with a message whose task it does not know."""
_SHOWN = 60
_LONGEST_SERVICE = 8_000
"""Characters of all options of the service, as JSON; a header is limited, too."""
_UNTIL = ("start", "done", "ttl")
_CONFLICTS = ("skip", "raise", "latest", "debounce")
_MERGING = ("latest", "debounce")
_QUIET_TIMES = 10.0
"""How many quiet times a debounced call waits at most, unless it says so."""
_LONGEST_LANE = 300
"""Characters of the key of a lane; longer values of arguments are shortened."""
_WEIGHTS = (0.01, 1_000)
_PATH = re.compile(r"[^\W\d]\w*(\.\w+)*")


def _reject(option: str, expected: str, value: object, *, fix: str = "") -> OptionError:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
    return OptionError(f"{option}: expected {expected}, got {shown}", fix=fix)


def known(given: Iterable[str], names: Iterable[str], *, of: str) -> None:
    """Raise for the first of *given* that is not among *names*; *of* names the owner of the options.

    Raises:
        OptionError: A name is unknown; suggests similar ones.
    """
    names = list(names)
    for name in given:
        if name not in names:
            near = " or ".join(map(repr, difflib.get_close_matches(name, names, n=2)))
            fix = f"Did you mean {near}?" if near else f"Options: {', '.join(sorted(names))}"
            raise OptionError(f"{of} has no option {name!r}", fix=fix)


def optional_name(value: str | None, *, what: str) -> str | None:
    """Return the name of a *what*, as a plain str."""
    return None if value is None else check_name(value, what=what)


def _whole(option: str, value: Any, expected: str, most: int) -> int:
    try:
        number = None if isinstance(value, bool) else int(operator.index(value))
    except TypeError:
        number = None
    if number is None or not 0 <= number <= most:
        raise _reject(option, expected, value)
    return number


def priority(value: int | None) -> int | None:
    """Return a priority, 0 (last) to 9 (first)."""
    return None if value is None else _whole("priority", value, "a whole number from 0 to 9", 9)


def retries(value: int | None) -> int | None:
    """Return a number of retries."""
    return None if value is None else _whole("retries", value, "a whole number, 0 or more", 2**31 - 1)


def backoff(value: Any) -> Backoff | None:
    """Return a retry policy."""
    if value is None or isinstance(value, Backoff):
        return value
    number = isinstance(value, int) and not isinstance(value, bool)
    fix = f"For a number of retries write retries={value}" if number else ""
    raise _reject("retry", 'a policy such as Fixed("10s") or Exponential()', value, fix=fix)


def flag(value: bool | None, *, option: str) -> bool | None:  # noqa: FBT001 - the value that is checked
    """Return a bool."""
    if value is None or isinstance(value, bool):
        return value
    raise _reject(option, "True or False", value)


def acknowledgement(value: str) -> str:
    """Return when a message is acknowledged."""
    chosen: str = choice(value, ("late", "early"), option="ack")
    return chosen


def choice(value: Any, choices: Sequence[str], *, option: str) -> Any:
    """Return the one of *choices* that *value* is."""
    if isinstance(value, str) and plain(value) in choices:
        return plain(value)
    near = did_you_mean(value, choices) if isinstance(value, str) else ""
    raise _reject(option, " or ".join(f'"{each}"' for each in choices), value, fix=near[:1].upper() + near[1:])


def at_once(value: int | None) -> int | None:
    """Return how many members of a group may wait or run at a time."""
    if value is None:
        return None
    return at_least_one(value, option="at_once")


def at_least_one(value: int, *, option: str) -> int:
    """Return a whole number of at least 1."""
    number = _whole(option, value, "a whole number, 1 or more", 2**31 - 1)
    if not number:
        raise _reject(option, "a whole number, 1 or more", value)
    return number


def seconds(value: Duration | None, *, option: str) -> float | None:
    """Return a duration in seconds."""
    if value is None:
        return None
    try:
        return parse_duration(value)
    except DurationError as error:
        raise DurationError(f"{option}: {error.what}") from None


def timeout(value: Duration | None, *, option: str = "timeout") -> float | None:
    """Return the seconds that an attempt may run."""
    if value is None:
        return None
    limit = seconds(value, option=option)
    if limit is None or not 0 < limit <= LONGEST:
        expected = f"more than 0 and at most {LONGEST:g} seconds"
        raise _reject(option, expected, value, fix=f"Leave {option} out for no limit")
    return limit


def time_limit(value: Duration | None) -> float | None:
    """Return the seconds after which the body of an attempt is ended with its process."""
    return timeout(value, option="time_limit")


def pool(value: str | None) -> str | None:
    """Return where the bodies of a task run."""
    chosen: str | None = None if value is None else choice(value, ("process", "thread"), option="pool")
    return chosen


def on_unknown(value: str | None) -> str | None:
    """Return what a worker does with a message whose task it does not know."""
    chosen: str | None = None if value is None else choice(value, ON_UNKNOWN, option="on_unknown")
    return chosen


def sender(value: Any) -> Any:
    """Return the sender of a signature or workflow: an app."""
    if value is None or (callable(getattr(value, "send", None)) and not isinstance(value, type)):
        return value
    raise _reject("sender", "an app", value)


def further(values: Any) -> dict[str, Any]:
    """Return the keys and values of a newer version."""
    if not isinstance(values, Mapping):
        raise _reject("extra", "values by name", values)
    return dict(values)


def headers(values: Mapping[str, str]) -> dict[str, str]:
    """Return headers: text by name."""
    if not values:
        return {}
    if not isinstance(values, Mapping):
        raise _reject("headers", "text by name", values)
    for name, value in values.items():
        if not isinstance(name, str):
            raise _reject("headers", "names that are text", name)
        if not isinstance(value, str):
            raise _reject(f"headers[{name!r}]", "text", value, fix=f"Write it as text, e.g. {str(value)[:_SHOWN]!r}")
    return {plain(name): plain(value) for name, value in values.items()}


def service(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the options for the broker's service: plain data by name; ``None`` without any."""
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise _reject("broker", 'options by name, e.g. {"routing_key": "eu"}', values)
    for name, value in values.items():
        if not isinstance(name, str):
            raise _reject("broker", "names that are text", name)
        _check_plain(value, f"broker[{name!r}]")
    data: dict[str, Any] = plain_data(values)
    if len(json.dumps(data)) > _LONGEST_SERVICE:
        raise _reject("broker", f"at most {_LONGEST_SERVICE:,} characters in all", data)
    return data or None


def _check_plain(value: Any, option: str) -> None:
    """Raise unless *value* is data that a header can carry."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise _reject(option, "text, a number, a bool, or a list or table of them", value) from None


def unique(value: UniqueKey | Unique | bool | str | None) -> UniqueKey | Unique | bool | str | None:  # noqa: FBT001 - the value that is checked
    """Return a unique key in the form that is sent, or how to derive one: from all arguments (True) or from some."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _key(value)
    if not isinstance(value, UniqueKey | Unique):
        raise _reject("unique", 'True, a key such as "invoice-7", or UniqueKey(...)', value)
    until = _word(value.until, _UNTIL, option="until")
    ttl = seconds(value.ttl, option="unique: ttl")
    if not ttl:
        raise _reject("unique: ttl", "more than 0 seconds", value.ttl)
    plain_key = isinstance(value, UniqueKey) and value.by is value.quiet is value.max_wait is None
    if isinstance(value, Unique) or (plain_key and value.on_conflict == "skip"):
        return Unique(key=_key(value.key), until=until, ttl=ttl)
    return _derived(value, until=until, ttl=ttl)


def fair_by(value: Any) -> Fair | Lane | None:
    """Return what gives a call its lane: the path to an argument and the weights, or the lane itself."""
    if value is None:
        return None
    if isinstance(value, Lane):
        return Lane(_lane_key(value.key), _weight(value.weight))
    if isinstance(value, str):
        return Lane(_lane_key(value))
    if not isinstance(value, Fair):
        if not isinstance(getattr(value, "path", None), tuple):
            raise _reject("fair_by", 'arg("tenant"), Fair(arg("tenant"), weights=...), or the lane of a call', value)
        value = Fair(value)
    if not isinstance(value.weights, Mapping):
        raise _reject("fair_by: weights", "numbers by value", value.weights)
    weights = {_lane_key(str(name)): _weight(weight) for name, weight in value.weights.items()}
    return Fair(_path(value.by, option="fair_by"), weights)


def fair_by_argument(value: Any) -> Fair | None:
    """Return which argument of a task's calls gives them their lanes."""
    found = fair_by(value)
    if isinstance(found, Lane):
        fix = f'Write  fair_by=arg("{value}")' if isinstance(value, str) else ""
        raise _reject("fair_by", 'an argument of the task, e.g. arg("tenant")', value, fix=fix)
    return found


def _lane_key(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_LANE or not value.isprintable():
        raise _reject("fair_by", f"at most {_LONGEST_LANE} printable characters", value)
    return plain(value)


def _weight(value: Any) -> float:
    least, most = _WEIGHTS
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _reject("fair_by: weights", f"numbers from {least:g} to {most:,}", value)
    return float(value)


def _derived(value: UniqueKey, *, until: Any, ttl: float) -> UniqueKey:
    """Return a key that is made from arguments, or that treats a conflict in its own way, with its values checked."""
    conflict = _word(value.on_conflict, _CONFLICTS, option="on_conflict")
    if conflict in _MERGING and until != "done":
        raise _reject("unique: until", f'"done", as on_conflict is "{conflict}"', until)
    if value.by is not None and value.key is not None:
        raise _reject("unique", "either key or by", value)
    key, by = (_key(value.key), None) if value.by is None else (None, _paths(value.by))
    quiet, max_wait = _waits(value, conflict)
    return UniqueKey(key=key, by=by, until=until, ttl=ttl, on_conflict=conflict, quiet=quiet, max_wait=max_wait)


def _waits(value: UniqueKey, conflict: str) -> tuple[float | None, float | None]:
    """Return the quiet time and the longest wait of a debounced call, in seconds."""
    if conflict != "debounce":
        for name in ("quiet", "max_wait"):
            if getattr(value, name) is not None:
                raise _reject(f"unique: {name}", 'nothing unless on_conflict is "debounce"', getattr(value, name))
        return None, None
    quiet = seconds(value.quiet, option="unique: quiet")
    if not quiet:
        raise _reject("unique: quiet", "more than 0 seconds, as calls are debounced", value.quiet)
    max_wait = seconds(value.max_wait, option="unique: max_wait")
    max_wait = _QUIET_TIMES * quiet if max_wait is None else max_wait
    if max_wait < quiet:
        raise _reject("unique: max_wait", "at least the quiet time", value.max_wait)
    return quiet, max_wait


def _paths(by: Any) -> tuple[str, ...]:
    single = isinstance(by, str) or not isinstance(by, Iterable)
    paths = tuple(map(_path, [by] if single else by))
    if not paths or len(set(paths)) < len(paths):
        raise _reject("unique: by", "the names of different arguments", by)
    return paths


def _path(value: Any, *, option: str = "unique: by") -> str:
    """Return the path to a part of an argument: text, or what ``arg`` returned."""
    names = getattr(value, "path", None)
    text = ".".join(names) if isinstance(names, tuple) else value
    if not isinstance(text, str) or not _PATH.fullmatch(text):
        raise _reject(option, 'names of arguments such as "customer" or "order.id"', value)
    return plain(text)


def _word(value: Any, words: Sequence[str], *, option: str) -> Any:
    """Return the one of *words* that *value* is."""
    if value not in words:
        near = did_you_mean(value, words) if isinstance(value, str) else ""
        expected = ", ".join(f'"{word}"' for word in words[:-1]) + f' or "{words[-1]}"'
        raise _reject(f"unique: {option}", expected, value, fix=near[:1].upper() + near[1:])
    return plain(value)


def _key(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _reject("unique", "a key that is non-empty text", value)
    return plain(value)


def classes(values: type | Iterable[type], *, option: str) -> tuple[type, ...]:
    """Return exception classes."""
    found: tuple[Any, ...] = (values,)
    if isinstance(values, Iterable) and not isinstance(values, type | str):
        found = tuple(values)
    for value in found:
        if not (isinstance(value, type) and issubclass(value, BaseException)):
            raise _reject(option, "exception classes", value, fix=_fix_class(value, option))
    return found


def _fix_class(value: Any, option: str) -> str:
    if isinstance(value, BaseException):
        return f"Name its class, {type(value).__name__}"
    return f"Write {option}={value.strip()} without quotes" if isinstance(value, str) else ""


def arguments(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return positional arguments."""
    if type(values) is tuple:
        return values
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise _reject("args", "a list of arguments", values, fix="Put brackets around it" if values is not None else "")
    return tuple(values)


def argument_lists(values: Iterable[Any], *, option: str = "arguments") -> Iterator[Any]:
    """Return an iterator over the arguments of the calls; raise for a str, which would yield its characters."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise _reject(option, "a list, or another iterable", values, fix="Put brackets around it")
    return iter(values)


def named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by name; names become plain str."""
    if type(values) is not dict and not isinstance(values, Mapping):
        raise _reject("kwargs", "arguments by name", values)
    for name in values:
        if type(name) is not str:
            return {_parameter(name): value for name, value in values.items()}
    return dict(values)


def _parameter(name: object) -> str:
    if not isinstance(name, str):
        raise _reject("kwargs", "names that are text", name)
    return plain(name)
