"""Limits as tasks declare them, and the keys that give each value of an argument a limit or a lane of its own."""

from __future__ import annotations

import datetime
import decimal
import enum
import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any

import attrs

from queuekit import durations
from queuekit.errors import OptionError
from queuekit.ids import check_name, is_name
from queuekit.values import frozen
from queuekit.wire.call_options import at_least_one

__all__ = [
    "Argument",
    "Concurrency",
    "Limit",
    "LimitView",
    "Rate",
    "arg",
    "digest",
    "limits_of",
    "parse_rate",
    "rate_text",
    "shortened",
]

_RATE = re.compile(r"\s*([0-9][0-9_]{0,11})\s*/\s*([^\s/][^/]*?)\s*")
_MOST, _LONGEST = 1_000_000, 366 * 86_400.0
_LONGEST_KEY = 200
_PLAIN = (str, int, float, decimal.Decimal, uuid.UUID, datetime.date, datetime.time)
_PATH = re.compile(r"[^\W\d]\w*(\.\w+)*")


@frozen
class Argument:
    """An argument of a call, or a part of one; made by :func:`arg`.

    Attributes:
        path: Name of the parameter, and the keys or attributes that lead into its value.
    """

    path: tuple[str, ...]

    def of(self, arguments: Mapping[str, Any], *, task: str, what: str = "a limit") -> str | None:
        """Return the key of a call with *arguments*; ``None`` if it has none.

        Args:
            arguments: The arguments by name.
            task: Name of the task, for errors.
            what: What the key is of, for errors.

        Raises:
            OptionError: The value cannot be a key, e.g. because it is a list.
        """
        value: Any = arguments
        for name in self.path:
            value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if isinstance(value, enum.Enum):
            value = value.value
        if value is None:
            return None
        if not isinstance(value, _PLAIN):
            kind = type(value).__name__
            raise OptionError(f"{task}: the key of {what}, {self}, is text or a number, not {kind}")
        return shortened(str(value))

    def __str__(self) -> str:
        return f'arg("{".".join(self.path)}")'


def shortened(key: str) -> str:
    """Return *key*; if it is long, its start, and a digest that tells it from others."""
    return key if len(key) <= _LONGEST_KEY else f"{key[:_LONGEST_KEY]}#{digest(key)}"


def arg(path: str) -> Argument:
    """Return the key of a limit, or of a lane: the value of an argument, e.g. ``arg("tenant")``.

    Dots lead into it, by key or attribute: ``arg("order.customer.id")``. A call in which the value is missing or
    ``None`` is not limited, and is in the common lane.

    Raises:
        OptionError: *path* is not a name, or names with dots between them.
    """
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise OptionError(f'arg: expected the name of a parameter, such as "tenant" or "order.id", got {path!r:.60}')
    return Argument(tuple(path.split(".")))


def parse_rate(text: Any) -> tuple[int, float]:
    """Return the amount and the period, in seconds, of a rate such as ``"100/m"`` or ``"5/10s"``.

    Raises:
        OptionError: It is not a rate.
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    amount, period = 0, 0.0
    if match is not None:
        amount, span = int(match[1].replace("_", "")), match[2]
        try:
            period = durations.parse(span if span[0].isdigit() else f"1{span}")
        except durations.DurationError:
            amount = 0
    if not 1 <= amount <= _MOST or not 0 < period <= _LONGEST:
        raise OptionError(f'Rate: expected a rate such as "100/m", "5/10s" or "1000/1h", got {text!r:.60}')
    return amount, period


def rate_text(amount: int, period: float) -> str:
    """Return a rate as :func:`parse_rate` reads it."""
    text = durations.format(period)
    return f"{amount}/{text[1:] if re.fullmatch('1[a-z]', text) else text}"


@frozen
class Rate:
    """At most so many starts per period: the others wait, each for its own turn.

    Attributes:
        limit: Amount and period, e.g. ``"100/m"``. Starts are spaced evenly: ``"100/m"`` is one every 0.6 s.
        key: Gives each value its own limit, e.g. ``arg("tenant")``; ``None``: one for all calls.
        burst: Number of starts that may follow at once after a quiet time.
        name: Tasks with a limit of the same name share it; default: the name of the task.
        amount: Starts per period, as *limit* says.
        period: Seconds, as *limit* says.
    """

    limit: str = attrs.field()
    key: Argument | None = attrs.field(default=None, kw_only=True)
    burst: int = attrs.field(default=1, kw_only=True)
    name: str = attrs.field(default="", kw_only=True)
    amount: int = attrs.field(init=False)
    period: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        amount, period = parse_rate(self.limit)
        object.__setattr__(self, "amount", amount)
        object.__setattr__(self, "period", period)
        object.__setattr__(self, "burst", at_least_one(self.burst, option="Rate: burst"))
        _check_scope(self.name, self.key, of="Rate")

    def named(self, task: str) -> str:
        """Return its name as a limit of *task*."""
        return self.name or task

    @property
    def text(self) -> str:
        """Its numbers, as they are written."""
        return rate_text(self.amount, self.period)

    @property
    def every(self) -> float:
        """Seconds between two starts."""
        return self.period / self.amount

    @property
    def numbers(self) -> tuple[int, float, int]:
        """What must be equal where tasks share a limit."""
        return self.amount, self.period, self.burst


@frozen
class Concurrency:
    """At most so many runs at the same time, in all workers: the others wait in the order in which they came.

    Attributes:
        most: Runs at the same time, 1 or more.
        key: Gives each value its own limit, e.g. ``arg("tenant")``; ``None``: one for all calls.
        name: Tasks with a limit of the same name share it; default: the name of the task with ``.concurrency``.
    """

    most: int = attrs.field()
    key: Argument | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default="", kw_only=True)

    def __attrs_post_init__(self) -> None:
        most: Any = self.most
        if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= _MOST:
            raise OptionError(f"Concurrency: expected a whole number from 1 to {_MOST:,}, got {most!r:.60}")
        _check_scope(self.name, self.key, of="Concurrency")

    def named(self, task: str) -> str:
        """Return its name as a limit of *task*."""
        return self.name or f"{task}.concurrency"

    @property
    def text(self) -> str:
        """Its number, as it is written."""
        return str(self.most)

    @property
    def numbers(self) -> tuple[int]:
        """What must be equal where tasks share a limit."""
        return (self.most,)


Limit = Rate | Concurrency


@frozen(kw_only=True)
class LimitView:
    """A limit, or one key of it, as :meth:`Queuekit.limits` finds it.

    Attributes:
        name: Name of the limit.
        key: One of its keys that is in use; empty for the limit itself.
        limit: Numbers in effect, e.g. ``"100/m"``, or ``"3"`` for runs at the same time; empty if none are known here.
        burst: Number of starts that may follow at once after a quiet time.
        set_by: Who set the numbers; empty if they are those of the code.
        next_start: When a message that arrives now may start, in UTC epoch seconds; ``None`` if at once.
        until: Until when a task has slowed it down, in UTC epoch seconds; ``None`` if none has.
        holders: Ids of the messages and blocks that hold slots.
        waiting: Messages and blocks that wait for a slot.
    """

    name: str
    key: str = ""
    limit: str = ""
    burst: int = 1
    set_by: str = ""
    next_start: float | None = None
    until: float | None = None
    holders: tuple[str, ...] = ()
    waiting: int = 0


def _check_scope(name: Any, key: Any, *, of: str) -> None:
    """Raise if *name* cannot name a limit, or *key* is not the key of one."""
    if name != "":
        check_name(name, what="limit")
    if key is not None and not isinstance(key, Argument):
        fix = f'Write  key=arg("{key}")' if isinstance(key, str) and is_name(key) else ""
        raise OptionError(f"{of}: key: expected arg(...), got {key!r:.60}", fix=fix)


def limits_of(value: Any) -> tuple[Limit, ...]:
    """Return the option ``limits`` of a task.

    Raises:
        OptionError: It is not a list of limits, or two of them have one name.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        fix = "Put brackets around it" if isinstance(value, Limit) else 'Write  limits=[Rate("100/m")]'
        raise OptionError(f"limits: expected a list of limits, got {value!r:.60}", fix=fix)
    for one in value:
        _check_limit(one)
    names = [one.named("-") for one in value]
    if len(set(names)) < len(names):
        raise OptionError("limits: two limits of a task have one name", fix='Give each a name, e.g. name="stripe"')
    return tuple(value)


def _check_limit(value: Any) -> None:
    if not isinstance(value, Limit):
        fix = f"Write  Rate({value!r:.40})" if isinstance(value, str) else ""
        fix = f"Write  Concurrency({value})" if isinstance(value, int) and not isinstance(value, bool) else fix
        raise OptionError(f'limits: expected limits such as Rate("100/m"), got {value!r:.60}', fix=fix)


def digest(text: str) -> str:
    """Return a short digest, for keys of records."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
