"""Retry policies: the wait before the next attempt, as pure functions of attempt and chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any, ClassVar

import attrs

from queuekit import durations
from queuekit.errors import DecodeError, OptionError
from queuekit.values import frozen

__all__ = [
    "LONGEST",
    "MOST_RETRIES",
    "Backoff",
    "Delays",
    "Exponential",
    "Fibonacci",
    "Fixed",
    "backoff",
    "policy_from_dict",
]

Chance = Callable[[], float]
Duration = float | str | timedelta
"""Seconds, or text such as ``"10s"``."""
LONGEST = 1e10
"""Seconds, about three centuries: later times cannot be represented."""
MOST_RETRIES = 2**31 - 1
"""Most retries that a message may ask for."""


def backoff(attempt: int, *, base: float, cap: float, chance: Chance) -> float:
    """Return the seconds to wait after failed attempt *attempt* (1 is the first): doubling up to *cap*, full jitter.

    *chance* returns a number in [0, 1); tests pass a constant.
    """
    # 2.0**1024 overflows, and no sane cap is beyond 2**32 times the base.
    return min(cap, base * 2.0 ** min(attempt - 1, 32)) * chance()


@frozen
class Backoff:
    """Base of the retry policies; each is plain data that is sent with a message."""

    kind: ClassVar[str] = ""

    def delay(self, attempt: int, chance: Chance) -> float:
        """Return the seconds to wait after failed attempt *attempt* (1 is the first)."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for :func:`policy_from_dict`."""
        return {"kind": self.kind, **attrs.asdict(self)}


def _seconds(value: Duration, *, of: str) -> float:
    """Return *value* in seconds; an int stays an int, so that messages carry it as written."""
    try:
        seconds = durations.parse(value)
    except durations.DurationError as error:
        raise OptionError(f"{of}: {error.what}") from None
    if seconds > LONGEST:
        raise OptionError(f"{of}: {value!r:.60} is longer than {LONGEST:g} seconds")
    return value if type(value) is int else seconds


def _base(value: Duration) -> float:
    return _seconds(value, of="Exponential: base")


def _bound(value: Duration) -> float:
    return _seconds(value, of="cap")


def _unit(value: Duration) -> float:
    return _seconds(value, of="Fibonacci: unit")


def _wait(value: Duration) -> float:
    return _seconds(value, of="Fixed: seconds")


def _each(value: Duration) -> float:
    return _seconds(value, of="Delays: seconds")


@frozen(kw_only=True)
class Exponential(Backoff):
    """A random wait between 0 and a bound that doubles from *base* up to *cap* seconds.

    Attributes:
        base: Bound after the first failure, in seconds.
        cap: Largest bound, in seconds.
    """

    kind = "exponential"
    base: float = attrs.field(default=1.0, converter=_base)
    cap: float = attrs.field(default=3600.0, converter=_bound)

    def delay(self, attempt: int, chance: Chance) -> float:
        """Return the seconds to wait."""
        return backoff(attempt, base=self.base, cap=self.cap, chance=chance)


@frozen
class Fixed(Backoff):
    """The same wait each time.

    Attributes:
        seconds: The wait, in seconds.
    """

    kind = "fixed"
    seconds: float = attrs.field(converter=_wait)

    def delay(self, attempt: int, chance: Chance) -> float:
        """Return the seconds to wait."""
        return self.seconds


@frozen(kw_only=True)
class Fibonacci(Backoff):
    """1, 1, 2, 3, 5, 8 ... times *unit* seconds, up to *cap*.

    Attributes:
        unit: Wait after the first failure, in seconds.
        cap: Longest wait, in seconds.
    """

    kind = "fibonacci"
    unit: float = attrs.field(default=1.0, converter=_unit)
    cap: float = attrs.field(default=3600.0, converter=_bound)

    def delay(self, attempt: int, chance: Chance) -> float:
        """Return the seconds to wait."""
        one, two = 1, 1
        # The 60th number is 1.5e12, beyond any useful wait, so later ones need not be computed.
        for _ in range(min(attempt, 60) - 1):
            one, two = two, one + two
        return min(self.cap, one * self.unit)


def _waits(values: Iterable[Duration]) -> tuple[float, ...]:
    if isinstance(values, str | bytes | Mapping | AbstractSet) or not isinstance(values, Iterable):
        raise OptionError(f"Delays: expected a list of waits, got {values!r:.60}", fix='Write Delays([1, 10, "5m"])')
    waits = tuple(map(_each, values))
    if not waits:
        raise OptionError("Delays: the list of waits is empty", fix='Write Delays([1, 10, "5m"])')
    return waits


@frozen
class Delays(Backoff):
    """A list of waits, in seconds; the last one applies to all later attempts.

    Attributes:
        seconds: The waits, in seconds; the last one applies to all later attempts.
    """

    kind = "delays"
    seconds: tuple[float, ...] = attrs.field(converter=_waits)

    def delay(self, attempt: int, chance: Chance) -> float:
        """Return the seconds to wait."""
        return self.seconds[min(attempt, len(self.seconds)) - 1]


_KINDS: dict[str, type[Backoff]] = {kind.kind: kind for kind in (Exponential, Fixed, Fibonacci, Delays)}


def policy_from_dict(data: Mapping[str, Any]) -> Backoff:
    """Return the policy that :meth:`Backoff.to_dict` wrote; *data* may come from a message.

    Raises:
        DecodeError: *data* is not a valid policy.
    """
    fields = dict(data)
    kind = _KINDS.get(str(fields.pop("kind", None)))
    try:
        if kind is None:
            raise DecodeError("unknown retry policy")
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise DecodeError("the retry policy cannot be read") from error
