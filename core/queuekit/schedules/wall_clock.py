"""Convert local times to UTC moments, in zones whose clocks go forward and back.

Two rules apply to every zone and every shift of its clock; both depend only on the zone:

* A *fixed* time occurs once on each local day: at the first moment at which the clock shows it or is past it. So a
  skipped time occurs at the end of the gap, and a repeated time at its first occurrence. A day that the zone skips has
  no times.
* A *passing* time occurs whenever the clock shows it: never if it is skipped, twice if it is repeated.

Moments are whole UTC epoch seconds; local times are datetimes without a zone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta, tzinfo

__all__ = ["FIRST", "LAST", "Times", "fixed", "passing"]

Times = Callable[[datetime], Iterator[datetime]]
"""Yields the local times at or after a given one, in order."""

FIRST, LAST = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2, 9999))
"""The supported range of moments, with room on both sides for the offset of a zone."""
_HOUR, _DAY = 3_600, 86_400
_LONGEST_SHIFT = 26 * _HOUR
"""Seconds that exceed every shift of a clock so far: Samoa crossed the date line in one step."""
_WINDOW = 2 * _DAY
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times have no zone


def fixed(times: Times, zone: tzinfo, start: int) -> Iterator[int]:
    """Yield the moments of fixed *times* from *start* on, each moment once."""
    begin = _shown(zone, start)
    if any(_offset(zone, start - back) != _offset(zone, start) for back in range(0, _LONGEST_SHIFT, _HOUR)):
        begin -= timedelta(seconds=_LONGEST_SHIFT)  # times in a gap that just ended are before the current local time
    last = start - 1
    for shown in times(begin):
        moment = _first_at(shown, zone)
        if moment is not None and moment > last:
            yield moment
            last = moment


def passing(times: Times, zone: tzinfo, start: int) -> Iterator[int]:
    """Yield the moments of passing *times* from *start* on."""
    while True:
        change = _change(zone, start, start + _WINDOW)
        end = start + _WINDOW if change is None else change
        shift = _offset(zone, start)
        for shown in times(_shown(zone, start)):
            moment = _seconds(shown) - shift
            if moment >= end:
                break
            yield moment
        else:
            return
        # Without a change for two days, the clock cannot show an earlier time again, so the search may jump.
        start = end if change is not None else max(end, moment - _WINDOW)


def _first_at(shown: datetime, zone: tzinfo) -> int | None:
    """Return the first moment at which the clock shows *shown* or more; ``None`` if its day is skipped."""
    before, after = (_span(shown.replace(tzinfo=zone, fold=fold).utcoffset()) for fold in (0, 1))
    moment = _seconds(shown) - before
    if _offset(zone, moment) == before:
        return moment
    low, high = _seconds(shown) - after, moment
    gap = _bisect(low, high, lambda moment: _shown(zone, moment) >= shown)
    midnight = datetime.combine(shown.date(), time())
    skipped = _shown(zone, gap - 1) < midnight and _shown(zone, gap) >= midnight + timedelta(days=1)
    return None if skipped else gap


def _change(zone: tzinfo, start: int, end: int) -> int | None:
    """Return the first moment after *start* and not after *end* at which the offset changes."""
    shift = _offset(zone, start)
    for moment in range(start, end, _HOUR):
        if _offset(zone, moment + _HOUR) != shift:
            return _bisect(moment, moment + _HOUR, lambda moment: _offset(zone, moment) != shift)
    return None


def _bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first moment after *low* for which *holds* is true; it must be true for *high*."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _shown(zone: tzinfo, moment: int) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


def _offset(zone: tzinfo, moment: int) -> int:
    return _span(datetime.fromtimestamp(moment, zone).utcoffset())


def _span(offset: timedelta | None) -> int:
    """Return the seconds of an offset; offsets in the IANA database are whole seconds."""
    return round(offset.total_seconds()) if offset is not None else 0


def _seconds(shown: datetime) -> int:
    return (shown - _EPOCH) // timedelta(seconds=1)
