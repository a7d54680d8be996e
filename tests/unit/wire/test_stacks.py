"""What an operator and a worker write to each other about a stack."""

import json
from typing import Any

import pytest

from queuekit.backend import Record
from queuekit.wire.stacks import Frame, StackReport, answer_key, read_report, reported

REPORT = StackReport(worker="w-1", host="web", pid=12, kind="thread", frames=(Frame("a.py", 3, "f", "x = 1"),))


def test_comes_back_as_it_was() -> None:
    """To whoever has asked, by the token."""
    record = reported("id-1", "token", REPORT)

    assert read_report(record, "token") == REPORT
    assert read_report(record, "another") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"token": "t"}',
        b'{"token": "t", "frames": 3}',
        b'{"token": "t", "frames": [[1]]}',
        b'{"token": "t", "frames": []}',
    ],
)
def test_skips_a_damaged_answer(body: bytes) -> None:
    """As if there were none."""
    assert read_report(Record(key=answer_key("id-1"), body=body), "t") is None


def test_leaves_out_what_it_does_not_know() -> None:
    """A newer worker may say more."""
    fields: dict[str, Any] = json.loads(reported("id-1", "t", REPORT).body)
    fields["mood"] = "fine"

    assert read_report(Record(key=answer_key("id-1"), body=json.dumps(fields).encode()), "t") == REPORT


def test_keeps_both_ends_of_a_long_stack() -> None:
    """Where it began and where it is; a recursion in between is counted."""
    frames = tuple(Frame("a.py", number, f"f{number}") for number in range(1000))
    found = read_report(
        reported("id-1", "t", StackReport(worker="w", host="h", pid=1, kind="thread", frames=frames)), "t"
    )

    assert found is not None
    assert (len(found.frames), found.frames[0].line, found.frames[-1].line) == (201, 0, 999)
    assert found.frames[100].file == "... 800 frames left out ..."
