"""The values of ``datetime`` as plain data, and back: equal, and equal in what is reckoned with them.

A time zone is part of a value: an hour added to a time in Berlin is another moment in March than with a fixed offset.
"""

from __future__ import annotations

import datetime
from typing import Any

from queuekit.errors import DecodeError, EncodeError

__all__ = ["read_moment", "read_zone", "write_moment", "write_zone"]

_LONGEST_NAME = 200


def write_moment(value: Any, kind: type) -> Any:
    """Return a datetime or a time as ISO 8601 text, or as ``[text, fold, zone]`` if that does not say it all.

    Raises:
        EncodeError: Its time zone cannot travel.
    """
    zone = value.tzinfo
    if zone is None:
        return [value.isoformat(), 1, None] if value.fold else value.isoformat()
    written = write_zone(zone)
    if type(written) is list and len(written) == 1 and not value.fold:
        return value.replace(tzinfo=read_zone(written)).isoformat()
    return [kind.replace(value, tzinfo=None, fold=0).isoformat(), value.fold, written]  # type: ignore[attr-defined]


def read_moment(written: Any, kind: Any) -> Any:
    """Return what :func:`write_moment` wrote; raises anything if it did not."""
    if type(written) is str:
        return kind.fromisoformat(written)
    text, fold, zone = written
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=None if zone is None else read_zone(zone))


def write_zone(zone: datetime.tzinfo) -> Any:
    """Return a time zone as plain data: the key of a ``ZoneInfo``, or ``[microseconds]`` and perhaps a name.

    Raises:
        EncodeError: It is neither a ``ZoneInfo`` with a key nor a fixed offset.
    """
    if type(zone) is not datetime.timezone:
        from zoneinfo import ZoneInfo  # seldom needed, and slow to import

        if type(zone) is ZoneInfo and zone.key:
            return zone.key
    offset = zone.utcoffset(None)
    if offset is None or (type(zone).__name__ == "ZoneInfo"):
        raise EncodeError(f"the time zone {_named(zone)} is not something JSON can hold; use zoneinfo.ZoneInfo or UTC")
    whole = offset // datetime.timedelta(microseconds=1)
    if type(zone) is datetime.timezone and zone is not datetime.UTC:
        name = zone.tzname(None)
        if name != datetime.timezone(offset).tzname(None):
            return [whole, name]
    return [whole]


def read_zone(written: Any) -> datetime.tzinfo:
    """Return the time zone that :func:`write_zone` wrote."""
    if type(written) is str:
        from zoneinfo import ZoneInfo

        if len(written) > _LONGEST_NAME:
            raise DecodeError("no time zone has so long a name")
        return ZoneInfo(written)
    offset, *name = written
    if not offset and not name:
        return datetime.UTC
    return datetime.timezone(datetime.timedelta(microseconds=offset), *name)


def _named(zone: datetime.tzinfo) -> str:
    return f"{type(zone).__module__}.{type(zone).__qualname__}"
