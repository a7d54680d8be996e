"""Filters that select messages: ``task:mail.* error:Timeout age:>1h queue:high``. A message must match all terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from queuekit import durations
from queuekit.errors import did_you_mean
from queuekit.values import frozen

__all__ = ["EVERYTHING", "Filter", "Subject", "is_filter", "parse_filter"]

_WILD = frozenset("*?[")


@frozen(kw_only=True)
class Subject:
    """What a filter looks at in a message."""

    task: str
    queue: str
    reason: str = ""
    """Why it is a dead letter; else empty."""
    error: str = ""
    """Error type and text of a dead letter."""
    age: float | None = None
    """Seconds since it died, or since it was sent; ``None`` if unknown."""
    lane: str | None = None
    """The key of its lane, empty for the common one; ``None`` if it has none, and no pattern matches it."""


Test = Callable[[Subject], bool]


@frozen
class Filter:
    """Terms that must all match."""

    tests: tuple[Test, ...] = ()
    terms: tuple[str, ...] = ()
    """The terms as they were written."""

    @property
    def text(self) -> str:
        """The terms in one line."""
        return " ".join(self.terms)

    def __bool__(self) -> bool:
        """Whether there are terms."""
        return bool(self.tests)

    def matches(self, subject: Subject) -> bool:
        """Return whether all terms match."""
        return all(test(subject) for test in self.tests)


EVERYTHING = Filter()
"""Matches every message."""


def parse_filter(terms: Sequence[str]) -> Filter:
    """Return the filter that *terms*, such as ``task:mail.*``, describe.

    ``task``, ``queue``, ``lane`` and ``reason`` are whole names, in which ``*`` and ``?`` stand for any characters.
    ``error`` is found anywhere in the type and text of an error, in upper or lower case. ``age`` is ``>1h`` or
    ``<10m``.

    Raises:
        ValueError: A term is not of this form.
    """
    return Filter(tuple(_test(term) for term in terms), tuple(terms))


def is_filter(text: str) -> bool:
    """Return whether *text* begins like a term."""
    name, colon, _ = text.partition(":")
    return bool(colon) and name in _TERMS


def _test(term: str) -> Test:
    name, colon, value = term.partition(":")
    if not colon or not value:
        raise ValueError(f"{term!r} is not NAME:VALUE, such as task:mail.*")
    make = _TERMS.get(name)
    if make is None:
        hint = did_you_mean(name, _TERMS) or f"there are {', '.join(_TERMS)}"
        raise ValueError(f"no filter is named {name!r}; {hint}")
    return make(value)


def _name(of: Callable[[Subject], str | None]) -> Callable[[str], Test]:
    return lambda pattern: lambda subject: (name := of(subject)) is not None and fnmatchcase(name, pattern)


def _error(pattern: str) -> Test:
    wanted = pattern.casefold()
    if _WILD.isdisjoint(wanted):
        return lambda subject: wanted in subject.error.casefold()
    return lambda subject: fnmatchcase(subject.error.casefold(), f"*{wanted}*")


def _age(value: str) -> Test:
    sign, length = value[0], value[1:]
    if sign not in "<>":
        raise ValueError(f"{'age:' + value!r} has no > or <, as in age:>1h")
    try:
        seconds = durations.parse(length)
    except durations.DurationError as error:
        raise ValueError(f"{'age:' + value!r}: {error.what}") from None
    if sign == ">":
        return lambda subject: subject.age is not None and subject.age > seconds
    return lambda subject: subject.age is not None and subject.age < seconds


_TERMS: Mapping[str, Callable[[str], Test]] = {
    "task": _name(lambda subject: subject.task),
    "queue": _name(lambda subject: subject.queue),
    "lane": _name(lambda subject: subject.lane),
    "reason": _name(lambda subject: subject.reason),
    "error": _error,
    "age": _age,
}
