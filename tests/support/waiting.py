"""Waiting for what should come at once, with patience for a busy machine."""

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

E = TypeVar("E", bound=BaseException)

__all__ = ["PATIENCE", "UNHURRIED", "error_of", "unhurried", "wait_until"]

PATIENCE = 120.0 * float(os.environ.get("QUEUEKIT_TEST_PATIENCE", "1"))
"""Seconds that a test waits for what should come at once. Every wait ends with what it waits for, so this is a limit
for what hangs, and no machine is so busy that it misses it; QUEUEKIT_TEST_PATIENCE multiplies it."""
UNHURRIED = PATIENCE / 2
"""Seconds that a client of an engine waits for its answer, where a test is not about that: the engine is as busy as
the machine. Less than ``PATIENCE``, so that an engine that hangs is told by its client."""
_LOOK, _LONGEST_LOOK = 0.01, 0.05
"""Seconds between two looks: a tenth of the time for which somebody waits, within these bounds."""


def unhurried(url: str, *options: str) -> str:
    """Return *url* with *options*, such as ``timeout``, which bear with an engine that takes its time."""
    query = "&".join(f"{option}={UNHURRIED:g}" for option in options)
    return f"{url}{'&' if '?' in url else '?'}{query}"


def wait_until(condition: Callable[..., Any], what: str | Callable[[], str] = "", *, timeout: float = PATIENCE) -> Any:
    """Return what *condition* returns as soon as that is true; fail if it is not within *timeout* seconds.

    *what* was waited for, in words, or what tells it then.
    """
    begun = time.monotonic()
    while not (answer := condition()):
        waited = time.monotonic() - begun
        if waited >= timeout:
            missing = what() if callable(what) else what
            pytest.fail(f"not within {timeout:g} s: {missing or 'the condition'}")
        time.sleep(min(max(_LOOK, 0.1 * waited), _LONGEST_LOOK))
    return answer


def error_of(call: Callable[[], object], kind: type[E], text: str) -> E:
    """Return the error of *kind* with *text* that *call* raises.

    A call in a hurry may raise others of that kind before, where the machine is too busy to answer in its time.
    """

    def raised() -> E | None:
        with pytest.raises(kind) as caught:
            call()
        return caught.value if text in str(caught.value) else None

    error: E = wait_until(raised, what=f"{kind.__name__}: {text}")
    return error
