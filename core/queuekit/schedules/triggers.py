"""Triggers: ``every("30s")``, ``cron("*/5 9-17 * * 1-5", tz="Europe/Berlin")``.

Both are pure functions of time: every scheduler on every machine computes the same ticks. The first cron expression
imports cronsim (the extra ``cron``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

import attrs

from queuekit import durations
from queuekit.durations import DurationError
from queuekit.errors import DecodeError, ScheduleError, did_you_mean
from queuekit.schedules.series import SeriesCache
from queuekit.schedules.wall_clock import FIRST, LAST, Times, fixed, passing
from queuekit.values import frozen

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from queuekit.wire.call_options import Duration

__all__ = ["Cron", "Every", "When", "cron", "every", "form_of", "when_from_dict", "when_from_text"]

_SHORTEST = 0.1
"""Least seconds between two ticks."""
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = 5
_series = SeriesCache()
_WINDOWS = (60.0, 3_600.0, 86_400.0, 32 * 86_400.0, 366 * 86_400.0)
"""Seconds to look back for the latest tick, tried in order, so that the first window with a tick has only a few."""
MOST_COUNTED = 10_000
"""The number at which :meth:`When.count` stops."""


class When:
    """A rule for when a schedule is due. All times are UTC epoch seconds."""

    def next_after(self, moment: float) -> float | None:
        """Return the first tick after *moment*; ``None`` if there is none within 50 years."""
        raise NotImplementedError

    def latest(self, after: float, until: float) -> float | None:
        """Return the last tick after *after* and not after *until*, if there is one."""
        raise NotImplementedError

    def words(self) -> str:
        """Return a description in words."""
        raise NotImplementedError

    def zone(self) -> tzinfo:
        """Return the time zone in which to show its ticks."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for :func:`when_from_dict`."""
        raise NotImplementedError

    def ticks(self, after: float) -> Iterator[float]:
        """Yield the ticks after *after*, in order."""
        tick = self.next_after(after)
        while tick is not None:
            yield tick
            tick = self.next_after(tick)

    def count(self, after: float, until: float) -> int:
        """Return the number of ticks after *after* and not after *until*; counting stops at 10,000."""
        found = 0
        for tick in itertools.islice(self.ticks(after), MOST_COUNTED):
            if tick > until:
                break
            found += 1
        return found


@frozen
class Every(When):
    """Ticks at a fixed interval, counted from midnight of 1 January 1970, UTC: every 30 s is at :00 and :30.

    Attributes:
        seconds: Seconds between two ticks, in whole milliseconds.
        offset: Seconds by which all ticks are later; less than the interval.
    """

    seconds: float
    offset: float = attrs.field(default=0.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        for name, value in (("seconds", self.seconds), ("offset", self.offset)):
            if type(value) not in {int, float} or not 0 <= value <= durations.LONGEST:
                raise ScheduleError(f"{name} of a schedule must be a number of seconds, got {_cut(value)}")
        if self.seconds < _SHORTEST:
            raise ScheduleError(f"every {durations.format(self.seconds)} is too often", fix="Use 100ms or more")
        if self.offset >= self.seconds:
            raise ScheduleError(f"the offset, {durations.format(self.offset)}, must be less than the interval")

    def __str__(self) -> str:
        later = f" + {durations.format(self.offset)}" if self.offset else ""
        return f"every {durations.format(self.seconds)}{later}"

    def next_after(self, moment: float) -> float | None:
        """Return the first tick after *moment*."""
        if not _moment(moment) < LAST:
            return None
        moment = max(moment, FIRST)
        number = math.floor((moment - self.offset) / self.seconds)
        # The division of floats may be off by one.
        while self._tick(number) > moment:
            number -= 1
        while self._tick(number) <= moment:
            number += 1
        return self._tick(number)

    def latest(self, after: float, until: float) -> float | None:
        """Return the last tick after *after* and not after *until*, if there is one."""
        number = math.floor((until - self.offset) / self.seconds) + 1
        while self._tick(number) > until:
            number -= 1
        tick = self._tick(number)
        return tick if tick > after else None

    def words(self) -> str:
        """Return a description in words."""
        return f"E{str(self)[1:]}"

    def zone(self) -> tzinfo:
        """Return UTC."""
        return UTC

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"every": self.seconds} | ({"offset": self.offset} if self.offset else {})

    def _tick(self, number: int) -> float:
        return round(self.offset + number * self.seconds, 3)


@frozen
class Cron(When):
    """The ticks of a cron expression in a time zone.

    A job at a fixed time runs once a day, whatever the clocks do. If its time is skipped in spring, it runs at the end
    of the gap. If its time occurs twice in autumn, it runs the first time. On a day that the zone skips, it does not
    run. An expression whose minute or hour begins with ``*`` follows elapsed time, so an hourly job runs 23 or 25 times
    on days of a clock change. These are Debian's rules; they apply to every zone and shift.

    Attributes:
        expression: Minute, hour, day of the month, month, day of the week.
        tz: Name of the time zone in the IANA database.
    """

    expression: str
    tz: str = attrs.field(default="UTC", kw_only=True)

    def __attrs_post_init__(self) -> None:
        for what, value, most in (("cron expression", self.expression, 1_000), ("time zone", self.tz, 100)):
            if not isinstance(value, str) or len(value) > most:
                raise ScheduleError(f"a {what} must be text of at most {most:,} characters, got {_cut(value)}")

    def __str__(self) -> str:
        return self.expression if self.tz == "UTC" else f"{self.expression} ({self.tz})"

    def next_after(self, moment: float) -> float | None:
        """Return the first tick after *moment*; ``None`` if there is none within 50 years."""
        return next(self.ticks(moment), None)

    def ticks(self, after: float) -> Iterator[float]:
        """Yield the ticks after *after*, in order."""
        yield from map(float, self._from(after))

    def latest(self, after: float, until: float) -> float | None:
        """Return the last tick after *after* and not after *until*, if there is one."""
        for window in _WINDOWS:
            start = max(after, until - window)
            found = self._last(start, until)
            if found is not None or start == after:
                return found
        return self._last(after, until)

    def words(self) -> str:
        """Return a description in words; without cronsim, the expression itself."""
        try:
            from cronsim.explain import explain

            said: str = explain(self.expression)
        except Exception:  # noqa: BLE001 - cronsim is missing, or cannot describe the expression
            said = self.expression
        return said if self.tz == "UTC" else f"{said}, {self.tz}"

    def zone(self) -> tzinfo:
        """Return its time zone.

        Raises:
            ScheduleError: The zone is not installed on this machine.
        """
        return UTC if self.tz == "UTC" else _zone(self.tz)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"cron": self.expression, "tz": self.tz}

    def check(self) -> Cron:
        """Return self if it is valid here.

        Raises:
            ScheduleError: The expression or the time zone is not valid, or cronsim is not installed.
        """
        self.read()
        self.zone()
        return self

    def read(self) -> None:
        """Check the expression.

        Raises:
            ScheduleError: It is not valid, or cronsim is not installed.
        """
        if len(self.expression.split()) != _FIELDS:
            raise ScheduleError(
                f"{_cut(self.expression)} is not a cron expression: it needs minute, hour, day, month and weekday",
                fix='For an interval, write every("30s"), or 30s on the command line',
            )
        self._times()

    def _last(self, start: float, until: float) -> float | None:
        found = None
        for tick in self.ticks(start):
            if tick > until:
                break
            found = tick
        return found

    def _from(self, moment: float) -> Iterator[int]:
        """Return the ticks after *moment*; there are none before the year 2 or after 9998."""
        if not _moment(moment) < LAST:
            self.check()
            return iter(())
        start = math.floor(max(moment, FIRST)) + 1
        return _series.since((self.expression, self.tz), start, lambda: self._computed(start))

    def _computed(self, start: int) -> Iterator[int]:
        times, zone = self._times(), self.zone()
        minute, hour, *_ = self.expression.split()
        rule = passing if minute.startswith("*") or hour.startswith("*") else fixed
        return itertools.takewhile(lambda tick: tick < LAST, rule(times, zone, start))

    def _times(self) -> Times:
        """Return a function that yields the local times of the expression."""
        try:
            from cronsim import CronSim, CronSimError
        except ImportError as error:
            raise ScheduleError(
                "cron expressions need cronsim, which is not installed", fix="pip install 'queuekit[cron]'"
            ) from error

        def times(start: datetime) -> Iterator[datetime]:
            with contextlib.suppress(OverflowError):  # datetime ends with the year 9999
                yield from CronSim(self.expression, start - timedelta(seconds=1))

        try:
            CronSim(self.expression, datetime(2000, 1, 1))  # noqa: DTZ001 - only to check the expression
        except CronSimError as error:
            raise ScheduleError(f"{_cut(self.expression)} is not a cron expression: {str(error).lower()}") from error
        return times


def every(period: Duration, *, offset: Duration = 0.0) -> Every:
    """Return a trigger with a fixed interval.

    Args:
        period: Seconds between two ticks, at least 0.1, or text such as ``"90s"`` or ``"1h30m"``. Ticks are aligned to
            the clock: ``every("1h")`` is at the full hour, ``every("1d")`` at midnight UTC.
        offset: Delay of all ticks: ``every("1h", offset="5m")`` is at five past.

    Raises:
        ScheduleError: The period is too short.
        DurationError: One of them is not a duration.
    """
    seconds, later = round(durations.parse(period), 3), round(durations.parse(offset), 3)
    return Every(seconds, offset=later % seconds if seconds else 0.0)


def cron(expression: str, *, tz: str | ZoneInfo = "UTC") -> When:
    """Return the trigger of a cron expression.

    Args:
        expression: Five fields (``"*/5 9-17 * * 1-5"``; also names, ``L``, ``LW`` and ``#``), one of ``@yearly``,
            ``@annually``, ``@monthly``, ``@weekly``, ``@daily``, ``@midnight``, ``@hourly``, or ``@every 90s``.
        tz: Time zone, by its name: ``"Europe/Berlin"``.

    Raises:
        ScheduleError: The expression or the time zone is not valid, or the extra ``cron`` is not installed.
    """
    if not isinstance(expression, str):
        raise ScheduleError(
            f"a cron expression must be text, got {_cut(expression)}",
            fix='Write cron("*/5 * * * *"); for an interval, every(30)',
        )
    text = " ".join(expression.split())
    head, _, rest = text.partition(" ")
    if head.lower() == "@every":
        return every(rest)
    if head.startswith("@"):
        if text.lower() not in _ALIASES:
            near = did_you_mean(text.lower(), [*_ALIASES, "@every"])
            raise ScheduleError(
                f"{text!r} is not a cron expression",
                fix=near[:1].upper() + near[1:],
                available=", ".join([*_ALIASES, "@every 90s"]),
            )
        text = _ALIASES[text.lower()]
    zone = tz if isinstance(tz, str) else getattr(tz, "key", None)
    if not isinstance(zone, str):
        raise ScheduleError(f"tz must be the name of a time zone, got {_cut(tz)}", fix='Write e.g. tz="Europe/Berlin"')
    return Cron(text, tz=zone).check()


def when_from_text(text: str, *, tz: str = "UTC") -> When:
    """Return the trigger that *text* describes: ``"every 30s"``, ``"30s"``, ``"*/5 * * * *"``, ``"@daily"``.

    Raises:
        ScheduleError: It is not valid.
        DurationError: It is one word, but not a duration.
    """
    text = text.strip()
    word, _, rest = text.partition(" ")
    try:
        if word.lower() == "every":
            return every(rest)
        return cron(text, tz=tz) if " " in text or text.startswith("@") else every(text)
    except DurationError as error:
        error.fix = 'Write 30s, "every 30s", "0 3 * * *" or @daily'
        raise


def form_of(value: object) -> str:
    """Return how to write the trigger in code that *value*, which is not a :class:`When`, may mean."""
    if isinstance(value, str):
        first, _, rest = value.strip().partition(" ")
        pace = rest.strip() if first.lower() in {"every", "@every"} else value.strip()
        if _is_duration(pace):
            return f'Write every("{pace}")'
        if first in _ALIASES or len(value.split()) == _FIELDS:
            return f'Write cron("{value.strip()}")'
    if isinstance(value, int | float | timedelta) and _is_duration(value):
        return f'Write every("{durations.format(durations.parse(value))}")'
    return 'Write every("30s"), cron("0 3 * * *", tz="Europe/Berlin") or cron("@daily")'


def _is_duration(value: Any) -> bool:
    try:
        return durations.parse(value) > 0
    except DurationError:
        return False


def when_from_dict(data: Mapping[str, Any]) -> When:
    """Return the trigger that ``to_dict`` wrote, with the checks of :func:`every` and :func:`cron`.

    A cron expression is returned even if its time zone is unknown here, or cronsim is missing.

    Raises:
        DecodeError: It is unknown to this release, or not valid.
    """
    try:
        if "every" in data:
            return Every(data["every"], offset=data.get("offset", 0.0))
        chosen = Cron(data["cron"], tz=data["tz"])
        if importlib.util.find_spec("cronsim") is not None:
            chosen.read()
    except ScheduleError as error:
        raise DecodeError(f"not a schedule: {error.what}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"not a schedule: {type(error).__name__}: {error}") from error
    return chosen


def _cut(value: object) -> str:
    """Return *value* for one line of an error."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."  # noqa: PLR2004 - one line's worth


def _moment(value: float) -> float:
    if isinstance(value, int | float):
        return value
    raise ScheduleError(f"a time must be a number, got {_cut(value)}", fix="Give UTC epoch seconds, e.g. time.time()")


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise ScheduleError(
            f"unknown time zone {name!r}", fix="Use a name such as Europe/Berlin, or:  pip install tzdata"
        ) from error
