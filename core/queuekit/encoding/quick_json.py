"""Reads and writes plain JSON with msgspec, if the extra ``fast`` installed it: same bytes, same values, same refusals.

It serves only what Python's own module reads and writes in the same way; :mod:`queuekit.encoding.plain_json` does and
decides the rest. See decision 20.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from queuekit.encoding.plain_json import SCALARS, SMALL, is_plain, is_small_plain, read_text

__all__ = ["QuickJson", "quick_json"]

_SAME = SCALARS - {float}
"""Classes of scalars that both write alike, whatever the value."""
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_SPACE = frozenset({b"", b" ", b"\t", b"\r", b"\n"})
"""Beginnings of texts that msgspec accepts and Python's own module refuses."""


class QuickJson(NamedTuple):
    """Reads and writes with a codec in C; both functions raise for whatever they do not take."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]

    def read(self, data: bytes) -> Any:
        """Return the value of a JSON text.

        Raises:
            ValueError: It is not JSON.
            RecursionError: It is nested deeper than the interpreter allows.
        """
        if data[:1] not in _SPACE:
            try:
                return self.decode(data)
            except Exception:  # noqa: BLE001, S110 - such as numbers beyond a float, and lone surrogates
                pass
        return read_text(data.decode("utf-8", "surrogatepass"))

    def write(self, value: Any) -> bytes:
        """Return *value* as JSON; nothing if it is not plain, or Python's own module might write it differently."""
        try:
            data = self.encode(value)
        except Exception:  # noqa: BLE001 - also errors of the user's classes; the slow path reports what is wrong, and where
            return b""
        same = is_small_plain if len(data) <= SMALL else is_plain
        scalars = SCALARS if b"." in data and not _floats_differ(data) else _SAME
        return data if same(value, dollars=b'"$' in data, scalars=scalars) else b""


def _floats_differ(data: bytes) -> bool:
    """Return whether *data* may hold a float that Python writes in another way: 1e+16, 1e-05, or NaN for null."""
    # A tenth of the time of a search for [0-9]e.
    return b"null" in data or b"0.0000" in data or b"0e" in data.translate(_DIGITS)


def quick_json() -> QuickJson | None:
    """Return the codec; ``None`` if it is not installed, or cannot be imported here."""
    try:
        codec: Any = importlib.import_module("msgspec.json")
        return QuickJson(codec.Decoder().decode, codec.Encoder().encode)
    except Exception:  # noqa: BLE001 - messages are read and written without it
        return None
