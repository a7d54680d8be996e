"""Takes apart and rebuilds pydantic models and msgspec structs, with the library that defined their class.

Core depends on neither. A class can only exist after the app imported its library, so nothing is imported here: the
library is the module that the process already has. The reader always validates. So the sender must find out whether
that would rebuild the instance unchanged.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from queuekit.errors import EncodeError

__all__ = ["ModelKind", "is_model", "is_pydantic", "is_struct", "model_of", "validate", "why"]

_BUILTIN = (
    bytes,
    bytearray,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
)
"""Types of values that messages hold as they are, so that msgspec need not write them as text."""
_OLDEST_PYDANTIC = (2, 11)
_MISSING = object()


class ModelKind(Protocol):
    """How the instances of one library travel."""

    def take_apart(self, value: Any) -> tuple[dict[str, Any], Any]:
        """Return the fields of an instance by name, and what else its rebuilding needs.

        Raises:
            EncodeError: It cannot be taken apart.
        """
        ...

    def plain(self, value: Any, name: str) -> Any:
        """Return one field in the library's own JSON form, for a value that messages cannot hold.

        Raises:
            LookupError: The form does not exist.
        """
        ...

    def build(self, kind: Any, fields: Mapping[str, Any], rest: Any) -> Any:
        """Return an instance of *kind* made of untrusted fields, validated by the library.

        Raises:
            Exception: Any error of the library or of the class.
        """
        ...

    def difference(self, value: Any, twin: Any) -> str:
        """Return the first field in which *twin* differs from *value*; empty if none does."""
        ...


def is_pydantic(kind: Any) -> bool:
    """Return whether *kind* is a pydantic model."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_fields__") and hasattr(kind, "model_validate")


def is_struct(kind: Any) -> bool:
    """Return whether *kind* is a msgspec struct."""
    return isinstance(kind, type) and hasattr(kind, "__struct_fields__") and hasattr(kind, "__struct_config__")


def is_model(kind: Any) -> bool:
    """Return whether *kind* is a pydantic model or a msgspec struct."""
    return is_pydantic(kind) or is_struct(kind)


def model_of(kind: Any) -> ModelKind | None:
    """Return how instances of *kind* travel; ``None`` if it is neither a pydantic model nor a msgspec struct."""
    if is_pydantic(kind):
        return _Pydantic()
    return _Struct() if is_struct(kind) else None


def validate(kind: Any, data: Any, *, lax: bool) -> Any:
    """Return an instance of *kind* made of plain *data*, as a web framework would make it.

    Args:
        kind: A pydantic model or a msgspec struct.
        data: Data whose keys are the names that the class reads (aliases).
        lax: Whether msgspec may convert text to numbers; a pydantic model decides that itself.

    Raises:
        Exception: Any error of the library or of the class; :func:`why` describes it.
    """
    if is_pydantic(kind):
        return kind.model_validate(data)
    return _msgspec().convert(data, kind, builtin_types=_BUILTIN, strict=not lax)


def why(error: BaseException) -> tuple[str, str]:
    """Return the path inside the value at which the library found a mistake, and what it says."""
    known: Any = error
    if hasattr(known, "errors"):
        try:
            first = known.errors(include_url=False, include_input=False)[0]
            return "".join(_step(step) for step in first["loc"]), str(first["msg"])
        except Exception:  # noqa: BLE001 - not pydantic's error, or one that cannot be described
            return "", _line(error)
    text, mark, path = _line(error).rpartition(" - at `$")
    return (path.rstrip("`"), text) if mark else ("", _line(error))


def _step(step: Any) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:120] or type(error).__name__


class _Pydantic:
    """Fields keep their Python values; a value that messages cannot hold, such as a URL, is sent in its JSON form."""

    def take_apart(self, value: Any) -> tuple[dict[str, Any], Any]:
        """Return fields and extra fields by name, and the names of fields that were never set."""
        kind = type(value)
        if _pydantic_version() < _OLDEST_PYDANTIC:
            raise EncodeError("pydantic 2.11 or later is needed to send models")
        names = kind.__pydantic_fields__
        found = {name: getattr(value, name, _MISSING) for name in names}
        lost = [name for name, item in found.items() if item is _MISSING]
        if lost:
            raise EncodeError(f"its field {lost[0]!r} is missing")
        unset = [name for name in names if name not in value.model_fields_set]
        return {**found, **(value.__pydantic_extra__ or {})}, unset or None

    def plain(self, value: Any, name: str) -> Any:
        """Return one field as ``model_dump(mode="json")`` writes it."""
        return value.model_dump(mode="json", include={name}, by_alias=False, warnings=False)[name]

    def build(self, kind: Any, fields: Mapping[str, Any], rest: Any) -> Any:
        """Validate *fields* by name, and restore which fields were set."""
        data = fields["root"] if kind.__pydantic_root_model__ else dict(fields)
        made = kind.__pydantic_validator__.validate_python(data, by_alias=False, by_name=True)
        if type(rest) is list:
            # Copied, since it may be shared between instances.
            object.__setattr__(made, "__pydantic_fields_set__", made.model_fields_set - {*map(str, rest)})
        return made

    def difference(self, value: Any, twin: Any) -> str:
        """Compare all fields, then private attributes."""
        names: list[str] = [*type(value).__pydantic_fields__, *(value.__pydantic_extra__ or {})]
        for name in names:
            if not _is_same(getattr(value, name), getattr(twin, name, _MISSING)):
                return name
        mine, others = value.__pydantic_private__ or {}, twin.__pydantic_private__ or {}
        return next((str(name) for name in mine if not _is_same(mine[name], others.get(name, _MISSING))), "")


def _pydantic_version() -> tuple[int, ...]:
    text = str(getattr(sys.modules.get("pydantic"), "VERSION", "0"))
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


class _Struct:
    """The whole struct travels in msgspec's own form, except for values that messages can hold."""

    def take_apart(self, value: Any) -> tuple[dict[str, Any], Any]:
        """Return the fields by the names that msgspec writes; a struct that is written as a list has none."""
        try:
            found = _msgspec().to_builtins(value, builtin_types=_BUILTIN)
        except Exception as error:
            raise EncodeError(_line(error)) from error
        return (found, None) if isinstance(found, dict) else ({}, found)

    def plain(self, value: Any, name: str) -> Any:
        """Raise: msgspec has already written what it can."""
        raise LookupError(name)

    def build(self, kind: Any, fields: Mapping[str, Any], rest: Any) -> Any:
        """Convert the fields, or the list, to a struct."""
        data = dict(fields) if rest is None else rest
        return _msgspec().convert(data, kind, builtin_types=_BUILTIN)

    def difference(self, value: Any, twin: Any) -> str:
        """Compare all fields."""
        names: tuple[str, ...] = type(value).__struct_fields__
        return next((name for name in names if not _is_same(getattr(value, name), getattr(twin, name, None))), "")


def _msgspec() -> Any:
    return sys.modules["msgspec"]


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    try:
        return bool(one == other) or (one != one and other != other)  # noqa: PLR0124 - two NaN are the same
    except Exception:  # noqa: BLE001 - values that cannot be compared count as different
        return False
