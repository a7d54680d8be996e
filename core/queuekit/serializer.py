"""The contract of a serializer, and the two that are built in: JSON, and pickle behind a lock.

JSON brings back what the ``json`` module alone would change: tuples, sets, bytes, dates and times, UUID, Decimal,
Enum members, attrs classes and dataclasses. A value that plain JSON holds is written as plain JSON; others become an
object with one key that begins with ``$``, e.g. ``{"$date": "2026-11-23"}``. Classes come back as themselves only
where the app knows them: a name in a message is looked up, never imported.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from queuekit.errors import DecodeError, EncodeError

__all__ = ["JsonSerializer", "PickleSerializer", "Serializer", "type_name"]

MAX_DEPTH = 100
"""Deepest nesting that is read or written."""

TypeLookup = Callable[[str], type | None]


@runtime_checkable
class Serializer(Protocol):
    """Turns values into bytes and back."""

    content_type: str
    """Short name on the wire, e.g. ``"json"``; the worker's accept list decides which are read."""
    safe: bool
    """Whether reading hostile bytes cannot execute code; an unsafe one must be allowed by name in the config."""

    def dumps(self, value: Any) -> bytes:
        """Return *value* as bytes.

        Raises:
            EncodeError: It cannot be written; names the path inside it.
        """
        ...

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*, which may hold anything.

        Raises:
            DecodeError: It is malformed, too deep, or not what this serializer writes.
        """
        ...


def type_name(kind: type) -> str:
    """Return the name under which a class travels: module and qualified name."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _no_types(_name: str) -> type | None:
    return None


class JsonSerializer:
    """JSON that keeps types, cannot execute code, and refuses what is too deep.

    Args:
        types: Finds a class by :func:`type_name`; without it Enum members come back as their values and instances
            as dicts.
    """

    content_type = "json"
    safe = True

    def __init__(self, types: TypeLookup = _no_types) -> None:
        self._types = types

    def dumps(self, value: Any) -> bytes:
        """Return *value* as UTF-8 JSON without spaces; see :class:`Serializer`."""
        try:
            return _write(value if _is_plain(value, 0) else _tag(value, "", 0)).encode("utf-8", "surrogatepass")
        except RecursionError as error:
            raise EncodeError("it is nested too deep") from error
        except ValueError as error:
            raise EncodeError(str(error)) from error

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*; see :class:`Serializer`."""
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            _check_depth(data)
        try:
            value = _read(data.decode("utf-8", "surrogatepass"))
            return self._untag(value) if b'"$' in data else value
        except Exception as error:  # hostile bytes, and classes of the user's that refuse what these hold
            raise DecodeError(f"not JSON that queuekit writes: {_short(error)}") from error

    def _untag(self, value: Any) -> Any:
        """Undo :func:`_tag`, from the outside in."""
        if type(value) is list:
            return [self._untag(item) for item in value]
        if type(value) is not dict:
            return value
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key.startswith("$"):
                return self._rebuild(key, inner)
        return {key: self._untag(item) for key, item in value.items()}

    def _rebuild(self, tag: str, inner: Any) -> Any:
        if tag == "$":
            return {key: self._untag(item) for key, item in inner.items()}
        if tag in _SCALAR_READERS:
            return _SCALAR_READERS[tag](inner)
        if tag in _COLLECTIONS:
            return _COLLECTIONS[tag](self._untag(item) for item in inner)
        if tag == "$dict":
            return {self._untag(key): self._untag(item) for key, item in inner}
        if tag == "$enum":
            return self._member(*inner)
        if tag == "$object":
            return self._instance(*inner)
        raise DecodeError(f"unknown tag {_short(tag)!r}")

    def _member(self, name: str, value: Any) -> Any:
        kind = self._types(name)
        plain = self._untag(value)
        return plain if kind is None or not issubclass(kind, enum.Enum) else kind(plain)

    def _instance(self, name: str, fields: dict[str, Any]) -> Any:
        kind = self._types(name)
        plain = {key: self._untag(item) for key, item in fields.items()}
        if kind is None or field_names(kind) is None:
            return plain
        made: Any = object.__new__(kind)
        known = field_names(kind) or ()
        if missing := [key for key in known if key not in plain]:
            return kind(**{key.lstrip("_"): item for key, item in plain.items() if key in known and key not in missing})
        for key in known:
            object.__setattr__(made, key, plain[key])
        return made


class PickleSerializer:
    """Any Python value. Reading it runs what the sender wrote, so a worker needs ``allow_unsafe = ["pickle"]``."""

    content_type = "pickle"
    safe = False

    def __init__(self, types: TypeLookup = _no_types) -> None:
        """Take *types* as every serializer does; pickle finds classes by itself."""

    def dumps(self, value: Any) -> bytes:
        """Return *value* pickled; see :class:`Serializer`."""
        import pickle

        try:
            return pickle.dumps(value, protocol=5)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
            path = _unpicklable(value)
            raise EncodeError(f"{path + ': ' if path else ''}it cannot be pickled: {_short(error)}") from error

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*, executing what it says; see :class:`Serializer`."""
        import pickle

        try:
            return pickle.loads(data)  # noqa: S301 - this class is refused until config names it
        except Exception as error:
            raise DecodeError(f"not a pickle that can be read: {_short(error)}") from error


def _unpicklable(value: Any) -> str:
    """Return the path, through lists, tuples and dicts, to the first value in *value* that pickle refuses."""
    import pickle

    path = ""
    for _ in range(MAX_DEPTH):
        items = value.items() if type(value) is dict else enumerate(value) if type(value) in (list, tuple) else ()
        for key, item in items:
            try:
                pickle.dumps(item, protocol=5)
            except Exception:  # noqa: BLE001 - whatever it is, it is reported by the caller
                path += f".{key}" if type(key) is str else f"[{key!r}]"
                value = item
                break
        else:
            break
    return path


def field_names(kind: type) -> tuple[str, ...] | None:
    """Return the fields of an attrs class or a dataclass, or ``None`` for any other."""
    for attribute in ("__attrs_attrs__", "__dataclass_fields__"):
        fields = getattr(kind, attribute, None)
        if fields is not None:
            names = fields if isinstance(fields, Mapping) else (field.name for field in fields)
            return tuple(names)
    return None


_SCALARS = frozenset({str, int, float, bool, type(None)})
_SURELY_PLAIN = _SCALARS - {float}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refuse_object(value: Any) -> Any:
    raise EncodeError(f"{type(value).__qualname__} is not something JSON can hold")


_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_refuse_object)
_decoder: Any = json.JSONDecoder(parse_constant=_refuse_constant)
_scan = _decoder.scan_once


def _compiled() -> Callable[[Any], str]:
    """Return the C encoder, made once: ``JSONEncoder.encode`` makes one for each value, which costs as much again."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.encode
    encoder = _encoder
    write = make(
        None,
        _refuse_object,
        json.encoder.encode_basestring,
        None,
        encoder.key_separator,
        encoder.item_separator,
        *(False, False, False),  # neither sorted keys, nor skipped ones, nor NaN
    )
    return lambda value: "".join(write(value, 0))


_write = _compiled()


def _read(text: str) -> Any:
    """Return the value of a text that holds one value and nothing else."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no value") from None
    if end != len(text) and text[end:].strip(" \t\r\n"):
        raise ValueError("more than one value")
    return value


def _is_plain(value: Any, depth: int) -> bool:
    """Tell whether JSON alone brings *value* back as it is."""
    kind = type(value)
    if kind in _SCALARS:
        return kind is not float or math.isfinite(value)
    if depth > MAX_DEPTH:
        return False
    if kind is list:
        return _are_plain(value, depth + 1)
    return kind is dict and _are_plain_keys(value) and _are_plain(value.values(), depth + 1)


def _are_plain(items: Iterable[Any], depth: int) -> bool:
    for item in items:  # noqa: SIM110 - half the time of all(), on the way of every message
        if not (type(item) in _SURELY_PLAIN or _is_plain(item, depth)):
            return False
    return True


def _are_plain_keys(keys: Iterable[Any]) -> bool:
    for key in keys:  # noqa: SIM110 - as above
        if type(key) is not str or key.startswith("$"):
            return False
    return True


_SCALAR_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    float: ("$float", repr),
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode()),
    bytearray: ("$bytes", lambda value: base64.b64encode(value).decode()),
    datetime.datetime: ("$datetime", datetime.datetime.isoformat),
    datetime.date: ("$date", datetime.date.isoformat),
    datetime.time: ("$time", datetime.time.isoformat),
    datetime.timedelta: ("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    uuid.UUID: ("$uuid", str),
    decimal.Decimal: ("$decimal", str),
}
_SCALAR_READERS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$datetime": datetime.datetime.fromisoformat,
    "$date": datetime.date.fromisoformat,
    "$time": datetime.time.fromisoformat,
    "$timedelta": lambda parts: datetime.timedelta(*parts),
    "$uuid": uuid.UUID,
    "$decimal": decimal.Decimal,
}
_COLLECTIONS: dict[str, Callable[[Any], Any]] = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}
_COLLECTION_TAGS: dict[type, str] = {tuple: "$tuple", set: "$set", frozenset: "$frozenset"}


def _tag(value: Any, path: str, depth: int) -> Any:
    """Return *value* as plain JSON data with tags; *path* says where it stands, for the error."""
    kind = type(value)
    if kind in _SCALARS and (kind is not float or math.isfinite(value)):
        return value
    if depth > MAX_DEPTH:
        raise EncodeError(f"{path or 'it'} is nested deeper than {MAX_DEPTH}")
    if kind is list:
        return [_tag(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if kind is dict:
        return _tag_dict(value, path, depth)
    if kind in _SCALAR_WRITERS:
        tag, write = _SCALAR_WRITERS[kind]
        return {tag: write(value)}
    if kind in _COLLECTION_TAGS:
        return {_COLLECTION_TAGS[kind]: [_tag(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]}
    return _tag_class(value, path, depth)


def _tag_dict(value: dict[Any, Any], path: str, depth: int) -> Any:
    if all(type(key) is str for key in value):
        tagged = {key: _tag(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
        return {"$": tagged} if any(key.startswith("$") for key in value) else tagged
    pairs = value.items()
    return {
        "$dict": [[_tag(k, f"{path} key {k!r}", depth + 1), _tag(v, f"{path}[{k!r}]", depth + 1)] for k, v in pairs]
    }


def _tag_class(value: Any, path: str, depth: int) -> Any:
    """Write an Enum member or an instance of an attrs class or dataclass."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return {"$enum": [type_name(kind), _tag(value.value, path, depth + 1)]}
    names = field_names(kind)
    if names is None or isinstance(value, type):
        raise EncodeError(f"{path + ': ' if path else ''}{kind.__qualname__} is not something JSON can hold")
    fields = {name: _tag(getattr(value, name), f"{path}.{name}", depth + 1) for name in names}
    return {"$object": [type_name(kind), fields]}


# A string (perhaps unfinished) or a bracket: what decides how deep a text is nested.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\\\]++|\\\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def _check_depth(data: bytes) -> None:
    """Refuse nesting deeper than ``MAX_DEPTH`` before the parser sees it; brackets inside strings do not count."""
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        first = data[match.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise DecodeError(f"nested deeper than {MAX_DEPTH}")
        elif first in b"]}":
            depth -= 1


def _short(error: object) -> str:
    """Return an error's text, short enough for one line and without what it quotes of the payload."""
    return str(error).split("\n", 1)[0][:120]
