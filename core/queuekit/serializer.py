"""The contract of a serializer, and the two built-in ones: JSON, and pickle, which the config must allow.

The JSON serializer preserves types that the ``json`` module does not: tuples, sets, bytes, dates and times, UUID,
Decimal, Enum members, attrs classes, dataclasses, pydantic models and msgspec structs. Plain JSON values are written as
plain JSON; others become an object with one key that begins with ``$``, e.g. ``{"$date": "2026-11-23"}``. Instances are
rebuilt only if the app knows their class: a class name in a message is looked up, never imported.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import math
import re
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Protocol, runtime_checkable

from queuekit.encoding.classes import build, shape_of, take_apart
from queuekit.encoding.models import ModelKind, model_of, why
from queuekit.encoding.moments import read_moment, read_zone, write_moment, write_zone
from queuekit.encoding.plain_json import (
    MAX_DEPTH,
    SCALARS,
    SMALL,
    depth_of,
    is_plain,
    is_small_plain,
    read_text,
    write_text,
)
from queuekit.encoding.quick_json import quick_json
from queuekit.errors import DecodeError, EncodeError
from queuekit.ids import module_of

__all__ = ["JsonSerializer", "PickleSerializer", "Serializer", "type_name"]

_MAX_TEXT_DEPTH = 3 * MAX_DEPTH + 1
"""Deepest nesting of a JSON text: one level of a value takes up to three."""

TypeLookup = Callable[[str], type | None]


@runtime_checkable
class Serializer(Protocol):
    """Converts values to bytes and back."""

    content_type: str
    """Short name on the wire, e.g. ``"json"``; a worker reads those in its accept list."""
    safe: bool
    """Whether reading untrusted bytes cannot execute code; the config must allow an unsafe serializer by name."""

    def dumps(self, value: Any) -> bytes:
        """Return *value* as bytes.

        Raises:
            EncodeError: The value cannot be written; names the path inside it.
        """
        ...

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*, which is untrusted.

        Raises:
            DecodeError: *data* is malformed, nested too deep, or not the output of this serializer.
        """
        ...


def type_name(kind: type) -> str:
    """Return the name of a class in messages: its module, as other processes import it, and its qualified name."""
    return f"{module_of(kind)}.{kind.__qualname__}"


def _no_types(_name: str) -> type | None:
    return None


class JsonSerializer:
    """JSON that preserves types, cannot execute code, and rejects values that are nested too deep.

    Args:
        types: Finds a class by :func:`type_name`; without it, Enum members are read as their values and instances as
            dicts.
    """

    content_type = "json"
    safe = True

    def __init__(self, types: TypeLookup = _no_types) -> None:
        self._types = types
        self._quick = quick_json()
        """A codec in C; ``None`` without the extra ``fast``."""

    def dumps(self, value: Any) -> bytes:
        """Return *value* as UTF-8 JSON without spaces; see :class:`Serializer`."""
        if value is None:  # the result of most tasks
            return b"null"
        return (self._quick is not None and self._quick.write(value)) or self._dumps(value)

    def _dumps(self, value: Any) -> bytes:
        try:
            text = write_text(value)
        except Exception:  # noqa: BLE001 - also errors of the user's classes; the slow path reports what is wrong, and where
            text = ""
        comes_back = is_small_plain if len(text) <= SMALL else is_plain
        # A value that can be written may still be read as something else, such as a tuple as a list.
        if not text or not comes_back(value, dollars='"$' in text):
            try:
                text = write_text(self._tag(value, "", 1))
            except RecursionError as error:
                raise EncodeError("it is nested too deep") from error
            except ValueError as error:
                raise EncodeError(str(error)) from error
        return text.encode("utf-8", "surrogatepass")

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*; see :class:`Serializer`."""
        try:
            quick = self._quick
            value = read_text(data.decode("utf-8", "surrogatepass")) if quick is None else quick.read(data)
            # A text of MAX_DEPTH bytes or fewer cannot be nested deeper than that.
            if len(data) > MAX_DEPTH and (depth := depth_of(data, value)) > MAX_DEPTH:
                if depth > _MAX_TEXT_DEPTH:
                    raise DecodeError(f"nested deeper than {MAX_DEPTH}")  # noqa: TRY301 - wrapped below, like all errors
                return self._untag(value, 1)  # tags add levels to the text; _untag() counts the value's own levels
            return self._untag(value, 1) if b"$" in data and _A_TAG.search(data) is not None else value
        except RecursionError as error:
            raise DecodeError(f"not JSON that queuekit writes: nested deeper than {MAX_DEPTH}") from error
        except Exception as error:  # hostile bytes may raise anything, also in constructors of the user's classes
            raise DecodeError(f"not JSON that queuekit writes: {_short(error)}") from error

    # -- reading

    def _untag(self, value: Any, depth: int) -> Any:
        """Undo :meth:`_tag`, from the outside inwards."""
        kind = type(value)
        if kind is not list and kind is not dict:
            return value
        if depth > MAX_DEPTH:
            raise DecodeError(f"nested deeper than {MAX_DEPTH}")
        if kind is list:
            return self._untag_all(value, depth + 1)
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key[:1] == "$":
                return self._rebuild(key, inner, depth + 1)
        return self._untag_values(value, depth + 1)

    def _untag_all(self, items: Any, depth: int) -> list[Any]:
        untag = self._untag
        return [item if type(item) in SCALARS else untag(item, depth) for item in items]

    def _untag_values(self, items: dict[str, Any], depth: int) -> dict[str, Any]:
        untag = self._untag
        return {key: item if type(item) in SCALARS else untag(item, depth) for key, item in items.items()}

    def _rebuild(self, tag: str, inner: Any, depth: int) -> Any:
        if tag == "$":
            return self._untag_values(inner, depth)
        if tag in _SCALAR_READERS:
            return _SCALAR_READERS[tag](inner)
        if tag in _COLLECTIONS:
            items = self._untag_all(_listed(inner), depth)
            if tag != "$tuple":
                _reject_crowd(items)
            return _COLLECTIONS[tag](items)
        if tag == "$dict":
            pairs = [self._untag_all(pair, depth) for pair in _listed(inner)]
            _reject_crowd([key for key, _ in pairs])
            return dict(pairs)
        if tag == "$enum":
            return self._member(*inner, depth=depth)
        if tag == "$object":
            return self._instance(*inner, depth=depth)
        raise DecodeError(f"unknown tag {_short(tag)!r}")

    def _member(self, name: str, value: Any, *, depth: int) -> Any:
        kind = self._types(name)
        plain = self._untag(value, depth)
        return plain if kind is None or not issubclass(kind, enum.Enum) else kind(plain)

    def _instance(self, name: str, fields: dict[str, Any], content: Any = None, *, depth: int) -> Any:
        kind = self._types(name)
        plain = self._untag_values(fields, depth)
        held = self._untag(content, depth)
        if kind is not None and shape_of(kind) is not None:
            return build(kind, plain, held)
        model = None if kind is None else model_of(kind)
        if kind is not None and model is not None:
            return _built(model, kind, plain, held)
        return held if fields == {} and content is not None else plain

    # -- writing

    def _tag(self, value: Any, path: str, depth: int) -> Any:
        """Return *value* as plain JSON data with tags; *path* is its place in the whole value, for errors."""
        kind = type(value)
        if kind in SCALARS and (kind is not float or math.isfinite(value)):
            return value
        if kind in _SCALAR_WRITERS:
            return _tag_scalar(value, kind, path)
        if depth > MAX_DEPTH:
            raise EncodeError(f"{_shortened(path) or 'it'} is nested deeper than {MAX_DEPTH}")
        if kind is list:
            return [self._tag(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        if kind is dict:
            return self._tag_dict(value, path, depth)
        if kind in _COLLECTION_TAGS:
            return self._tag_collection(value, path, depth)
        return self._tag_class(value, path, depth)

    def _tag_collection(self, value: Any, path: str, depth: int) -> Any:
        if type(value) is not tuple and _is_crowded(value):
            raise EncodeError(f"{path + ': ' if path else ''}{_CROWDED}")
        items = [self._tag(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        return {_COLLECTION_TAGS[type(value)]: items}

    def _tag_dict(self, value: dict[Any, Any], path: str, depth: int) -> Any:
        if all(type(key) is str for key in value):
            tagged = {key: self._tag(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
            return {"$": tagged} if any(key[:1] == "$" for key in value) else tagged
        if _is_crowded(value):
            raise EncodeError(f"{path + ': ' if path else ''}{_CROWDED}")
        tag = self._tag
        pairs = value.items()
        return {
            "$dict": [[tag(k, f"{path} key {k!r}", depth + 1), tag(v, f"{path}[{k!r}]", depth + 1)] for k, v in pairs]
        }

    def _tag_class(self, value: Any, path: str, depth: int) -> Any:
        """Write an Enum member or an instance of an attrs class, dataclass, pydantic model or msgspec struct."""
        kind = type(value)
        where = f"{path}: " if path else ""
        if isinstance(value, enum.Enum):
            return self._tag_member(value, path, depth)
        shape = shape_of(kind)
        model = model_of(kind) if shape is None else None
        if model is not None:
            return self._tag_model(value, model, path, depth)
        if shape is None or isinstance(value, type):
            raise EncodeError(f"{where}{kind.__qualname__} is not something JSON can hold")
        name = self._name(kind, where)
        try:
            fields, content = take_apart(value, shape)
        except EncodeError as error:
            raise EncodeError(f"{where}{kind.__qualname__} cannot be sent: {error.what}") from error
        tagged = {key: self._tag(item, f"{path}.{key}", depth + 1) for key, item in fields.items()}
        more = [] if content is None else [self._tag(content, path, depth + 1)]
        return {"$object": [name, tagged, *more]}

    def _tag_member(self, value: enum.Enum, path: str, depth: int) -> Any:
        kind, where = type(value), f"{path}: " if path else ""
        written: list[Any] = [self._name(kind, where), self._tag(value.value, path, depth + 1)]
        if not _comes_back(value, self._untag(written[1], 1)):
            raise EncodeError(f"{where}{kind.__qualname__} does not find {value.name} by its value")
        return {"$enum": written}

    def _tag_model(self, value: Any, model: ModelKind, path: str, depth: int) -> Any:
        kind, where = type(value), f"{path}: " if path else ""
        name = self._name(kind, where)
        try:
            fields, rest = model.take_apart(value)
        except EncodeError as error:
            raise EncodeError(f"{where}{kind.__qualname__} cannot be sent: {error.what}") from error
        tagged: dict[str, Any] = {}
        for key, item in fields.items():
            try:
                tagged[key] = self._tag(item, f"{path}.{key}", depth + 1)
            except EncodeError:
                fields[key] = plain = _plain_field(model, value, key)
                if plain is None:
                    raise
                tagged[key] = self._tag(plain, f"{path}.{key}", depth + 1)
        try:
            changed = model.difference(value, model.build(kind, fields, rest))
        except Exception as error:
            inside, text = why(error)
            raise EncodeError(f"{path}{inside}: {kind.__qualname__} rejects its own fields: {text}") from error
        if changed:
            raise EncodeError(f"{path}.{changed}: {kind.__qualname__} would not be rebuilt unchanged")
        return {"$object": [name, tagged, *([] if rest is None else [self._tag(rest, path, depth + 1)])]}

    def _name(self, kind: type, where: str) -> str:
        """Return the name of a class that the app knows; the process that reads the value likely knows it too."""
        name = type_name(kind)
        if self._types is not _no_types and self._types(name) is None:
            raise EncodeError(
                f"{where}{kind.__qualname__} is not known to the app, so its instances could not be rebuilt: "
                "name it in a task's annotation, or register it with @app.register_type"
            )
        return name


def _built(model: ModelKind, kind: type, fields: dict[str, Any], rest: Any) -> Any:
    try:
        return model.build(kind, fields, rest)
    except Exception as error:
        inside, text = why(error)
        raise DecodeError(f"{kind.__qualname__}{inside}: {text}") from error


def _plain_field(model: ModelKind, value: Any, name: str) -> Any:
    """Return a field in its library's JSON form, ``None`` if it has none."""
    try:
        return model.plain(value, name)
    except Exception:  # noqa: BLE001 - serializers of the class may raise anything; the caller reports the value itself
        return None


class PickleSerializer:
    """Any Python value. Reading executes code that the sender chose, so it needs ``allow_unsafe = ["pickle"]``."""

    content_type = "pickle"
    safe = False

    def __init__(self, types: TypeLookup = _no_types) -> None:
        """Accept *types* like every serializer; pickle finds classes by itself."""

    def dumps(self, value: Any) -> bytes:
        """Return *value* pickled; see :class:`Serializer`."""
        import pickle

        try:
            return pickle.dumps(value, protocol=5)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
            path = _unpicklable(value)
            raise EncodeError(f"{path + ': ' if path else ''}it cannot be pickled: {_short(error)}") from error

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*, executing the code in it; see :class:`Serializer`."""
        import pickle

        try:
            return pickle.loads(data)  # noqa: S301 - this class is rejected unless the config allows it
        except Exception as error:
            raise DecodeError(f"not a pickle that can be read: {_short(error)}") from error


def _unpicklable(value: Any) -> str:
    """Return the path, through lists, tuples and dicts, to the first value in *value* that pickle cannot write."""
    import pickle

    path = ""
    for _ in range(MAX_DEPTH):
        items = value.items() if type(value) is dict else enumerate(value) if type(value) in (list, tuple) else ()
        for key, item in items:
            try:
                pickle.dumps(item, protocol=5)
            except Exception:  # noqa: BLE001 - the caller reports it
                path += f".{key}" if type(key) is str else f"[{key!r}]"
                value = item
                break
        else:
            break
    return path


_LONGEST_PATH = 60
"""Characters of a path that errors show; the path of a deep value is long."""
_A_TAG = re.compile(rb'\{[ \t\r\n]*+"\$')
_CROWDED = "too many of its values have the same hash"
_MOST_OF_A_HASH = 64
"""Most values with the same hash in a set or dict, since each of them is compared with all the others."""


def _listed(value: Any) -> Any:
    if type(value) is not list:
        raise DecodeError("the tag of a collection does not hold a list")
    return value


def _is_crowded(items: Collection[Any]) -> bool:
    """Return whether *items* have so many equal hashes that a set or dict of them is slow to build: an attack."""
    return len(items) > _MOST_OF_A_HASH and max(Counter(map(hash, items)).values()) > _MOST_OF_A_HASH


def _reject_crowd(items: Collection[Any]) -> None:
    if _is_crowded(items):
        raise DecodeError(_CROWDED)


def _comes_back(member: enum.Enum, value: Any) -> bool:
    """Return whether an Enum finds *member* by its value; it does not if the value is, say, another NaN."""
    try:
        return type(member)(value) is member
    except Exception:  # noqa: BLE001 - the Enum's own code may raise anything
        return False


def _tag_scalar(value: Any, kind: type, path: str) -> Any:
    tag, write = _SCALAR_WRITERS[kind]
    try:
        return {tag: write(value)}
    except EncodeError as error:
        raise EncodeError(f"{path + ': ' if path else ''}{error.what}") from error


def _special(text: str) -> float:
    if text not in {"nan", "inf", "-inf"}:
        raise ValueError("$float is not nan, inf or -inf")
    return float(text)


_SCALAR_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    float: ("$float", repr),
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode()),
    bytearray: ("$bytearray", lambda value: base64.b64encode(value).decode()),
    datetime.datetime: ("$datetime", partial(write_moment, kind=datetime.datetime)),
    datetime.date: ("$date", datetime.date.isoformat),
    datetime.time: ("$time", partial(write_moment, kind=datetime.time)),
    datetime.timezone: ("$zone", write_zone),
    datetime.timedelta: ("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    uuid.UUID: ("$uuid", str),
    decimal.Decimal: ("$decimal", str),
}
_SCALAR_READERS: dict[str, Callable[[Any], Any]] = {
    "$float": _special,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$bytearray": lambda text: bytearray(base64.b64decode(text, validate=True)),
    "$datetime": partial(read_moment, kind=datetime.datetime),
    "$date": datetime.date.fromisoformat,
    "$time": partial(read_moment, kind=datetime.time),
    "$zone": read_zone,
    "$timedelta": lambda parts: datetime.timedelta(*parts),
    "$uuid": uuid.UUID,
    "$decimal": decimal.Decimal,
}
_COLLECTIONS: dict[str, Callable[[Any], Any]] = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}
_COLLECTION_TAGS: dict[type, str] = {tuple: "$tuple", set: "$set", frozenset: "$frozenset"}


def _shortened(path: str) -> str:
    return path if len(path) <= _LONGEST_PATH else path[:_LONGEST_PATH] + "..."


def _short(error: object) -> str:
    """Return the beginning of an error's text on one line, so that it quotes little of the payload."""
    return str(error).split("\n", 1)[0][:120]
