"""Converts the values of ``datetime`` to plain data and back, so that equality and arithmetic are preserved.

The time zone is part of a value: with a fixed offset instead of Europe/Berlin, adding a day may give another moment.
"""

from __future__ import annotations

import datetime
from typing import Any

from queuekit.errors import DecodeError, EncodeError

__all__ = ["read_moment", "read_zone", "write_moment", "write_zone"]

_LONGEST_NAME = 200
_SECOND = 1_000_000
"""Microseconds."""


def write_moment(value: Any, kind: type) -> Any:
    """Return a datetime or a time as ISO 8601 text, or as ``[text, fold, zone]`` if the text would lose information.

    Raises:
        EncodeError: Its time zone cannot be sent.
    """
    zone = value.tzinfo
    if zone is None:
        return [value.isoformat(), 1, None] if value.fold else value.isoformat()
    written = write_zone(zone)
    if type(written) is list:
        if value.utcoffset() != zone.utcoffset(None):
            raise _reject(zone)
        # Python drops an offset of less than a second when it reads the text.
        if len(written) == 1 and not value.fold and not written[0] % _SECOND:
            return value.replace(tzinfo=read_zone(written)).isoformat()
    return [kind.replace(value, tzinfo=None, fold=0).isoformat(), value.fold, written]  # type: ignore[attr-defined]


def read_moment(written: Any, kind: Any) -> Any:
    """Return the value that :func:`write_moment` wrote; other input may raise any error."""
    if type(written) is str:
        return kind.fromisoformat(written)
    text, fold, zone = written
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=None if zone is None else read_zone(zone))


def write_zone(zone: datetime.tzinfo) -> Any:
    """Return a time zone as plain data: the key of a ``ZoneInfo``, or ``[microseconds]`` with an optional name.

    Raises:
        EncodeError: It is neither a ``ZoneInfo`` with a key nor a fixed offset.
    """
    if type(zone) is not datetime.timezone:
        from zoneinfo import ZoneInfo  # rarely needed, and slow to import

        if type(zone) is ZoneInfo and zone.key:
            return _known(zone.key, zone)
    offset = _fixed(zone)
    if offset is None or (type(zone).__name__ == "ZoneInfo"):
        raise _reject(zone)
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
            raise DecodeError(f"the name of a time zone is longer than {_LONGEST_NAME} characters")
        return ZoneInfo(written)
    offset, *name = written
    if not offset and not name:
        return datetime.UTC
    return datetime.timezone(datetime.timedelta(microseconds=offset), *name)


def _known(key: str, zone: datetime.tzinfo) -> str:
    """Return the key of a time zone, if it can be looked up; a zone read from a file may have any key."""
    try:
        read_zone(key)
    except Exception as error:
        raise _reject(zone) from error
    return key


def _fixed(zone: datetime.tzinfo) -> datetime.timedelta | None:
    """Return the fixed offset of a time zone, or ``None`` if it has none."""
    try:
        return zone.utcoffset(None)
    except Exception:  # noqa: BLE001 - a zone without a fixed offset may fail in any way without a datetime
        return None


def _reject(zone: datetime.tzinfo) -> EncodeError:
    name = f"{type(zone).__module__}.{type(zone).__qualname__}"
    return EncodeError(f"the time zone {name} is not something JSON can hold; use zoneinfo.ZoneInfo or UTC")
