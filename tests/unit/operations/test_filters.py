"""Filters of messages: what each term selects, and what is said of one that is not valid."""

import re
from typing import Any

import pytest

from queuekit.operations.filters import EVERYTHING, Subject, parse_filter


def subject(**fields: Any) -> Subject:
    """Return a dead letter of a mail."""
    usual = {"task": "mail.send", "queue": "high", "reason": "failed", "error": "SMTPTimeout: no answer", "age": 7200.0}
    return Subject(**{**usual, **fields})


@pytest.mark.parametrize(
    "term",
    ["task:mail.*", "task:mail.send", "queue:high", "reason:failed", "error:Timeout", "error:smtp*answer", "age:>1h"],
)
def test_selects(term: str) -> None:
    """Names by pattern, errors by any part in any case, ages by bounds."""
    assert parse_filter([term]).matches(subject())


@pytest.mark.parametrize(
    "term", ["task:mail", "task:MAIL.*", "queue:hig", "reason:crashed", "error:Timeouts", "age:<1h", "age:>2h"]
)
def test_leaves_out(term: str) -> None:
    """A name is compared as a whole, and a bound is not part of what it bounds."""
    assert not parse_filter([term]).matches(subject())


def test_pattern_of_lanes_finds_only_messages_in_lanes() -> None:
    """The common lane is one of them; a message without a lane is in none, not in that with an empty name."""
    found = [lane for lane in ("acme", "", None) if parse_filter(["lane:*"]).matches(subject(lane=lane))]

    assert found == ["acme", ""]


def test_all_terms_must_match() -> None:
    """Two terms select less than one."""
    assert parse_filter(["task:mail.*", "queue:high"]).matches(subject())
    assert not parse_filter(["task:mail.*", "queue:low"]).matches(subject())


def test_no_terms_select_everything() -> None:
    """The empty filter is false, so that a command can tell whether one was given."""
    assert EVERYTHING.matches(subject())
    assert (bool(EVERYTHING), bool(parse_filter(["queue:x"]))) == (False, True)


def test_an_unknown_age_matches_no_bound() -> None:
    """Neither above nor below."""
    assert not parse_filter(["age:>0s"]).matches(subject(age=None))
    assert not parse_filter(["age:<99d"]).matches(subject(age=None))


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("mail", "'mail' is not NAME:VALUE"),
        ("task:", "'task:' is not NAME:VALUE"),
        ("tasks:x", "did you mean 'task'?"),
        ("zzz:x", "there are task, queue, lane, reason, error, age"),
        ("age:1h", "has no > or <"),
        ("age:>soon", "'age:>soon'"),
    ],
)
def test_explains_what_is_not_valid(term: str, text: str) -> None:
    """With the nearest name, or all of them."""
    with pytest.raises(ValueError, match=re.escape(text)):
        parse_filter([term])
