"""Hostile input made of good input: bytes bent, values replaced; and the limits that each try must keep."""

import json
import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

__all__ = ["MINUTES", "WORDS", "Fuzzer", "bent", "swapped", "swapped_json"]

MINUTES = 10.0 * float(os.environ.get("QUEUEKIT_TEST_FUZZ", "1"))
"""Of CPU, for all fuzzers together."""
SHARES = 7
_HANGS = 20.0
"""Seconds of CPU that one input may take."""
_GROWTH = 200_000_000
"""Bytes by which the process may grow."""
WORDS: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 0.0, -0.5, 1e300, math.nan, math.inf, -math.inf,
    "", "x", "json", "pickle", "default", "0", "-1", "NaN", "1h", "a.b", "a b", "../../etc/passwd", "\x00", "\x1b[31m",
    "\x9b31m", "\u202e", "\ud800", "\n", "9" * 500, "x" * 3_000, "é" * 200, [], [[]], [None], [1, 2], {}, {"": 1},
    {"$date": "x"}, {"$object": ["P", {}]}, {"$set": [[1], [1]]}, {"$decimal": "1e999999"}, {"$bytes": "%%"}, {"v": 1},
]  # fmt: skip
_PIECES = [
    b"",
    b"\n",
    b"\x00",
    b"\xff",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"NaN",
]
_PIECES += [b"1e999", b"9" * 400, b"[" * 300, b'{"":' * 200, b"null", b"-1", b"\xc3\xa9", b"\r", b"\x1b[2J"]


def bent(data: bytes, chance: random.Random) -> bytes:
    """Return *data* with a few places cut, doubled, flipped or filled with what parsers dislike."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        start = chance.randrange(len(changed) + 1)
        end = min(len(changed), start + chance.choice((0, 1, 4, 40)))
        way = chance.randrange(4)
        if way == 0:
            changed[start:end] = chance.choice(_PIECES)
        elif way == 1:
            changed[start:start] = changed[start:end] * chance.choice((1, 3))
        elif way == 2 and start < len(changed):
            changed[start] ^= 1 << chance.randrange(8)
        else:
            del changed[start:end]
    return bytes(changed)


def swapped(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one thing in it, at any depth, replaced, added or left out."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        way = chance.randrange(8)
        if way == 0:
            return {name: item for name, item in value.items() if name != key}
        if way == 1:
            return value | {chance.choice([*value, "v", "x", ""]): chance.choice(WORDS)}
        return value | {key: swapped(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], swapped(value[place], chance), *value[place + 1 :]]
    return chance.choice(WORDS)


def swapped_json(text: bytes, chance: random.Random) -> bytes:
    """Return a JSON text after :func:`swapped`; other bytes as they are."""
    try:
        return json.dumps(swapped(json.loads(text), chance)).encode("utf-8", "surrogatepass")
    except ValueError:
        return text


class _HangsError(BaseException):
    """One input has taken too much CPU."""


class Fuzzer:
    """Tries inputs until its share of the CPU is used up, and keeps those that fail in ``.hypothesis/fuzz``.

    Args:
        name: Of what is tried.
        allowed: What may be raised.
    """

    def __init__(self, name: str, *, allowed: tuple[type[BaseException], ...] = ()) -> None:
        self.seed = int(os.environ.get("QUEUEKIT_TEST_SEED", time.time_ns() % 2**32))
        self.chance = random.Random(self.seed)
        self.tried = 0
        self._name = name
        self._allowed = allowed

    def rounds(self) -> Iterator[random.Random]:
        """Yield the source of chance once for each input, as long as there is CPU left."""
        begin, before = _used(), _resident()
        while _used() - begin < 60 * MINUTES / SHARES:
            yield self.chance
            grown = _resident() - before
            if grown > _GROWTH:
                pytest.fail(f"{self._name}, seed {self.seed}: grown by {grown:,} bytes after {self.tried:,} inputs")
        print(f"{self._name}: {self.tried:,} inputs, seed {self.seed}, grown by {_resident() - before:,} bytes")  # noqa: T201

    def attempt(self, given: object, call: Callable[[], object]) -> None:
        """Do *call*, which is about *given*: it may raise what is allowed, and ends in a while."""
        self.tried += 1
        try:
            with _limited():
                call()
        except self._allowed:
            return
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.failed(given, f"{type(error).__name__}: {error}"[:300], error)

    def failed(self, given: object, what: str, error: BaseException | None = None) -> None:
        """Keep *given* and fail."""
        folder = Path(__file__).parents[2] / ".hypothesis" / "fuzz"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._name}-{self.seed}-{self.tried}.txt"
        path.write_text(ascii(given), encoding="utf-8")
        raise AssertionError(f"{self._name}, seed {self.seed}: {what}; kept in {path}: {ascii(given)[:500]}") from error


@contextmanager
def _limited() -> Iterator[None]:
    """Raise in what takes too much CPU; however busy the machine is, that says the same."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _HangsError(f"took more than {_HANGS:g} s of CPU")

    old = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, _HANGS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)


def _used() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
