"""Reads and writes plain JSON at nearly the speed of Python's own parser, and measures how deep a text is nested.

A check of each single value would take as long as parsing it, so the guards check whole texts or whole containers.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable
from itertools import accumulate, chain
from typing import Any

from queuekit.errors import EncodeError

__all__ = ["MAX_DEPTH", "SCALARS", "SMALL", "depth_of", "is_plain", "is_small_plain", "read_text", "write_text"]

MAX_DEPTH = 100
"""Deepest nesting of a value that can be written or read; a container in a container counts as 2."""
SCALARS = frozenset({str, int, float, bool, type(None)})

SMALL = 2_000
"""Length of a text up to which it is faster to check its values one by one."""
_BYTES_A_VALUE = 64
"""Bytes per value of a text above which a walk over its values takes little time compared to parsing."""
_PEELED = 6
"""Layers of innermost brackets to remove, all of a layer at once."""
_AS_LISTS = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")
"""Brackets as signed bytes: +1 level, -1 level."""
_TELLS_KEYS = [len(gc.get_referents({key: 1})) for key in ("a", 1, type("_Text", (str,), {})("a"))] == [1, 2, 2]
"""Whether ``gc.get_referents`` returns the keys of a dict only if not all keys are str, as in CPython. If so, one fast
call returns the values of many dicts and shows whether all their keys are str."""


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _reject_object(value: Any) -> Any:
    raise EncodeError(f"{type(value).__qualname__} is not something JSON can hold")


_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_reject_object)
_decoder: Any = json.JSONDecoder(parse_constant=_reject_constant)
_scan = _decoder.scan_once


def _compiled() -> Callable[[Any], str]:
    """Return the C encoder, created once: ``JSONEncoder.encode`` creates one per value, which doubles the time."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.encode
    encoder = _encoder
    write = make(
        None,
        _reject_object,
        json.encoder.encode_basestring,
        None,
        encoder.key_separator,
        encoder.item_separator,
        *(False, False, False),  # sort_keys, skipkeys, allow_nan
    )
    return lambda value: "".join(write(value, 0))


write_text = _compiled()
"""Writes JSON without spaces; a circular reference raises RecursionError, NaN or a too long number ValueError."""


def read_text(text: str) -> Any:
    """Return the value of a text that holds exactly one value.

    Raises:
        ValueError: The text holds none, more than one, or is not JSON.
        RecursionError: The text is nested deeper than the interpreter allows.
    """
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no value") from None
    if end != len(text) and text[end:].strip(" \t\r\n"):
        raise ValueError("more than one value")
    return value


def depth_of(data: bytes, value: Any) -> int:
    """Return the depth of *value*, which was read from *data*; or 0 if it is at most ``MAX_DEPTH``.

    If the text is long for its number of values, this walks over the values, else it counts the brackets of the text.
    """
    if len(data) <= MAX_DEPTH or (len(data) <= SMALL and data.count(b"[") + data.count(b"{") <= MAX_DEPTH):
        return 0
    few = len(data) // _BYTES_A_VALUE
    # Commas separate values: with more commas than this, the walk would be given up half-way.
    if data.count(b",") <= few and _is_shallow(value, few):
        return 0
    brackets = _brackets(data)
    peeled = 0
    while len(brackets) > 2 * MAX_DEPTH and peeled < _PEELED:
        brackets = brackets.replace(b"[]", b"")
        peeled += 1
    if len(brackets) <= 2 * (MAX_DEPTH - peeled):
        return 0
    return peeled + max(accumulate(memoryview(brackets.translate(_STEPS)).cast("b")), default=0)


def _is_shallow(value: Any, most: int) -> bool:
    """Return whether a walk over at most *most* values shows that *value* is not nested too deep."""
    layer = _containers([value])
    for _ in range(MAX_DEPTH):
        most -= sum(map(len, layer))
        if not layer or most < 0:
            break
        layer = _containers(chain.from_iterable(item.values() if type(item) is dict else item for item in layer))
    return not layer


def _brackets(data: bytes) -> bytes:
    """Return the brackets of a JSON text outside strings, with braces replaced by square brackets."""
    if b"\\" in data:
        # Escaped backslashes first: then any backslash before a quote escapes the quote.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two adjacent quotes can be removed together: no other character changes between inside and outside a string.
    structure = data.translate(_AS_LISTS, _NOT_STRUCTURE).replace(b'""', b"")
    return b"".join(structure.split(b'"')[::2]) if b'"' in structure else structure


def is_small_plain(value: Any, depth: int = 1, *, dollars: bool, scalars: frozenset[Any] = SCALARS) -> bool:
    """Return the same as :func:`is_plain`, faster for few values: it checks them one by one."""
    kind = type(value)
    if kind is list:
        items = value
    elif kind is dict:
        if not _has_plain_keys(value, dollars=dollars):
            return False
        items = value.values()
    else:
        return kind in scalars
    if depth > MAX_DEPTH:
        return False
    for item in items:
        if type(item) not in scalars and not is_small_plain(item, depth + 1, dollars=dollars, scalars=scalars):
            return False
    return True


def _has_plain_keys(keys: Iterable[Any], *, dollars: bool) -> bool:
    for key in keys:  # noqa: SIM110 - takes half the time of all(), and runs for every message
        if type(key) is not str or (dollars and key[:1] == "$"):
            return False
    return True


def is_plain(value: Any, *, dollars: bool, scalars: frozenset[Any] = SCALARS) -> bool:
    """Return whether plain JSON preserves *value*, which it can write.

    Args:
        value: The value, without circular references.
        dollars: Whether a key could begin with ``$``.
        scalars: Classes of scalars to accept.
    """
    layer = _containers([value], scalars)
    for _ in range(MAX_DEPTH):
        if not layer:
            return True
        dicts = [item for item in layer if type(item) is dict]
        lists = [item for item in layer if type(item) is list] if len(dicts) < len(layer) else []
        if len(dicts) + len(lists) < len(layer):
            return False
        values = _values_under_text(dicts, dollars=dollars)
        if values is None:
            return False
        layer = _containers(chain(values, chain.from_iterable(lists)) if lists else values, scalars)
    return not layer


def _values_under_text(dicts: list[dict[Any, Any]], *, dollars: bool) -> list[Any] | None:
    """Return the values of *dicts*; ``None`` if a key is not a str or begins with ``$``."""
    if not dollars and _TELLS_KEYS:
        values = gc.get_referents(*dicts)
        if len(values) == sum(map(len, dicts)):
            return values
    if not _has_plain_keys(chain.from_iterable(dicts), dollars=dollars):
        return None
    return [*chain.from_iterable(map(dict.values, dicts))]


def _containers(items: Iterable[Any], scalars: frozenset[Any] = SCALARS) -> list[Any]:
    """Return the items of a whole layer that are not scalars; a loop per container would double the time."""
    return [item for item in items if type(item) not in scalars]
