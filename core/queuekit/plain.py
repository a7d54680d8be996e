"""Plain data as JSON text, at nearly the speed of Python's own parser; and how deep a text is nested.

Whatever is asked of each value costs as much as to parse it, so the guards look at whole texts or whole containers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from queuekit.errors import EncodeError

__all__ = ["MAX_DEPTH", "SCALARS", "depth_of", "is_plain", "read_text", "write_text"]

MAX_DEPTH = 100
"""Deepest nesting of a value that is written or read: a container in a container counts 2."""
SCALARS = frozenset({str, int, float, bool, type(None)})

_SMALL = 2_000
"""Bytes of a text whose brackets are quicker counted than singled out."""
_PEELED = 6
"""Layers of the innermost brackets that are taken off all at once."""
_AS_LISTS = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")
"""Brackets as signed bytes: one level deeper, one less."""


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


write_text = _compiled()
"""Writes what JSON can hold without spaces; a ring raises RecursionError, NaN and long numbers ValueError."""


def read_text(text: str) -> Any:
    """Return the value of a text that holds one value and nothing else.

    Raises:
        ValueError: It does not.
        RecursionError: It is nested deeper than the interpreter allows.
    """
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no value") from None
    if end != len(text) and text[end:].strip(" \t\r\n"):
        raise ValueError("more than one value")
    return value


def depth_of(data: bytes) -> int:
    """Return how deep the JSON in *data* is nested, or a number up to ``MAX_DEPTH`` if it is no deeper than that.

    Text is never counted. Of what is no JSON it returns some number; the parser refuses that.
    """
    if len(data) <= MAX_DEPTH or (len(data) <= _SMALL and data.count(b"[") + data.count(b"{") <= MAX_DEPTH):
        return 0
    brackets = _brackets(data)
    peeled = 0
    while len(brackets) > 2 * MAX_DEPTH and peeled < _PEELED:
        brackets = brackets.replace(b"[]", b"")
        peeled += 1
    if len(brackets) <= 2 * (MAX_DEPTH - peeled):
        return 0
    return peeled + max(accumulate(memoryview(brackets.translate(_STEPS)).cast("b")), default=0)


def _brackets(data: bytes) -> bytes:
    """Return the brackets of a JSON text that are not inside strings, all of them as those of lists."""
    if b"\\" in data:
        # Pairs first: what is left before a quote is one that escapes it.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Where two quotes stand side by side, leaving both out changes for no other sign whether it is inside a string.
    structure = data.translate(_AS_LISTS, _NOT_STRUCTURE).replace(b'""', b"")
    return b"".join(structure.split(b'"')[::2]) if b'"' in structure else structure


def is_plain(value: Any, *, dollars: bool) -> bool:
    """Return whether JSON alone brings *value*, which it could write, back as it is.

    Args:
        value: Holds no ring.
        dollars: Whether a key could begin with ``$``.
    """
    layer = [value] if type(value) not in SCALARS else []
    for _ in range(MAX_DEPTH):
        if not layer:
            return True
        inner: list[Any] = []
        for item in layer:
            kind = type(item)
            if kind is dict and _has_plain_keys(item, dollars=dollars):
                item = item.values()  # noqa: PLW2901 - from here on it is looked at as a list is
            elif kind is not list:
                return False
            for each in item:
                if type(each) not in SCALARS:
                    inner.append(each)  # noqa: PERF401 - a comprehension for each container takes twice as long
        layer = inner
    return not layer


def _has_plain_keys(item: dict[Any, Any], *, dollars: bool) -> bool:
    for key in item:  # noqa: SIM110 - half the time of all(), on the way of every message
        if type(key) is not str or (dollars and key[:1] == "$"):
            return False
    return True
