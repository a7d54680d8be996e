"""The frame of bodies and records: a line of JSON, then bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.envelope import MAX_HEADER_BYTES, join_frame, split_frame
from queuekit.errors import DecodeError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(header=st.dictionaries(st.text(), PLAIN, max_size=4), payload=st.binary())
def test_comes_apart_as_it_was_joined(header: dict[str, Any], payload: bytes) -> None:
    """Any header and any payload survive, lone surrogates and newlines included."""
    assert split_frame(join_frame(header, payload)) == (header, payload)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"", "no header line", id="empty"),
        pytest.param(b'{"v":1}', "no header line", id="no-newline"),
        pytest.param(b" " * MAX_HEADER_BYTES + b"{}\n", "no header line", id="header-too-long"),
        pytest.param(b"\n", "not JSON", id="empty-line"),
        pytest.param(b"\xff\xfe\n", "not JSON", id="not-utf-8"),
        pytest.param(b"{\n", "not JSON", id="truncated"),
        pytest.param(b"[" * 60_000 + b"\n", "not JSON", id="deep"),
        pytest.param(b'{"v":' + b"1" * 5_000 + b"}\n", "not JSON", id="many-digits"),
        pytest.param(b"[1]\n", "not an object", id="list"),
        pytest.param(b"null\n", "not an object", id="null"),
    ],
)
def test_refuses_what_is_no_frame(body: bytes, text: str) -> None:
    """The error says what is missing; nothing else is ever raised."""
    with pytest.raises(DecodeError, match=text):
        split_frame(body)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(body: bytes) -> None:
    """Hostile bytes end in a header that is an object or in the one error."""
    try:
        header, _ = split_frame(body)
    except DecodeError:
        return

    assert type(header) is dict
