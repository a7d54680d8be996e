"""JSON by msgspec: what it reads and writes is what Python's own module reads and writes."""

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuekit.encoding.quick_json import QuickJson, quick_json
from queuekit.errors import DecodeError, EncodeError
from queuekit.serializer import JsonSerializer


def pure() -> JsonSerializer:
    """Return a serializer that does not use msgspec."""
    serializer = JsonSerializer()
    serializer._quick = None
    return serializer


QUICK, PURE = JsonSerializer(), pure()
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**70)
    | st.floats()
    | st.text()
    | st.text(alphabet=st.characters(categories=["Cs", "Cc", "Lu"]))
    | st.binary(max_size=10)
)
KEYS = st.text(max_size=5) | st.sampled_from(["$", "$date", "$$"]) | st.integers(0, 5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5) | st.tuples(inner)
)
PIECES = st.lists(
    st.sampled_from(
        [
            "NaN",
            "Infinity",
            "true",
            "null",
            *'[]{},:"\\-01.e \n\x00\x7f\ufeffé',
            "9" * 20,
            "E+",
            "308",
            "\\u",
            "d800",
            "dc00",
            "00e9",
            '"a":1,"a":2',
            '"$',
        ]
    ),
    max_size=12,
).map("".join)


def outcome(read: Any, data: bytes) -> str:
    """Return what *read* does with *data*: the value, as text that tells 1 from 1.0 and -0.0 from 0.0, or no value."""
    try:
        return repr(read(data))
    except DecodeError:
        return "refused"


def written(write: Any, value: Any) -> bytes:
    """Return what *write* makes of *value*, or its error."""
    try:
        return bytes(write(value))
    except EncodeError as error:
        return str(error).encode(errors="replace")


@settings(max_examples=settings().max_examples // 2)
@given(VALUES)
def test_writes_the_same_bytes(value: Any) -> None:
    """A process with the extra and one without write one message alike, and both refuse the same values."""
    assert written(QUICK.dumps, value) == written(PURE.dumps, value)


@given(PIECES.map(lambda text: text.encode()) | st.binary(max_size=20))
def test_reads_the_same_values(data: bytes) -> None:
    """Hostile bytes have one meaning, with the extra and without it."""
    assert outcome(QUICK.loads, data) == outcome(PURE.loads, data)


@given(VALUES)
def test_reads_what_was_written(value: Any) -> None:
    """Each reads the other's bytes."""
    data = written(PURE.dumps, value)

    assert outcome(QUICK.loads, data) == outcome(PURE.loads, data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" * 100 + b"]" * 100, id="as-deep-as-allowed"),
        pytest.param(b"[" * 101 + b"]" * 101, id="too-deep"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="far-too-deep"),
        pytest.param(b"1" * 4301, id="more-digits-than-Python-reads"),
        pytest.param(b"1" * 4300, id="as-many-digits-as-Python-reads"),
        pytest.param(b"1e400", id="beyond-a-float"),
        pytest.param(b"-0", id="minus-zero"),
        pytest.param(b"9007199254740993.0", id="rounding"),
        pytest.param(b'"\xed\xa0\x80"', id="raw-surrogate"),
        pytest.param(b'"\\ud83d\\ude00"', id="pair-of-surrogates"),
        pytest.param(b" 1", id="space-before"),
        pytest.param(b"1 \n", id="space-behind"),
        pytest.param(b"\xef\xbb\xbf1", id="byte-order-mark"),
        pytest.param(b'{"a":1,"a":2}', id="a-key-twice"),
        pytest.param(b"[1,]", id="comma-at-the-end"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_refuses_the_same_texts(data: bytes) -> None:
    """Limits of depth and size are those of the pure form."""
    assert outcome(QUICK.loads, data) == outcome(PURE.loads, data)


def test_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without msgspec, messages are read and written all the same."""
    monkeypatch.setitem(sys.modules, "msgspec.json", None)
    serializer = JsonSerializer()

    assert quick_json() is None
    assert serializer.loads(serializer.dumps({"a": [1, 2.5, "x"]})) == {"a": [1, 2.5, "x"]}


def test_survives_a_codec_that_fails() -> None:
    """Whatever it raises, the pure form decides."""

    def fail(_: Any) -> Any:
        raise OverflowError

    serializer = JsonSerializer()
    serializer._quick = QuickJson(fail, fail)

    assert serializer.loads(serializer.dumps([1])) == [1]
