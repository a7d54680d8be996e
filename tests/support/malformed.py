"""Messages that nobody should send, and the reason for which each must be found in the dead letters."""

import json
import random
from collections.abc import Callable, Iterator

from queuekit.envelope import Envelope

__all__ = ["KINDS", "WRONG", "make"]

TASK = "support.fault_tasks.nap"
LARGE = 5_000_000
"""Bytes; the default of ``max_message_bytes`` is a fifth of it."""


def _frame(header: object, payload: object = None) -> bytes:
    return json.dumps(header).encode() + b"\n" + json.dumps({"args": [0.5]} if payload is None else payload).encode()


def _header(name: str, **fields: object) -> dict[str, object]:
    return {"v": 1, "id": name, "task": TASK, "ct": "json", **fields}


def _truncated(id: str, chance: random.Random) -> bytes:
    whole = _frame(_header(id), {"args": [0.0, "text"], "kwargs": {"a": [1, 2]}})
    return whole[: chance.randrange(len(whole))]


_DEEP = "[" * 5_000
WRONG: tuple[Callable[[str], bytes], ...] = (
    lambda _id: b"[]\n{}",
    lambda _id: b'"text"\n{}',
    lambda _id: b"null\nnull",
    lambda id: _frame(_header(id, v="1")),
    lambda id: _frame(_header(id, v=-1)),
    lambda id: _frame(_header(id, id=7)),
    lambda id: _frame(_header(f"not-{id}")),
    lambda id: _frame(_header(id, task=None)),
    lambda id: _frame(_header(id, task="../../etc/passwd")),
    lambda id: _frame(_header(id, ct="pick le")),
    lambda id: _frame(_header(id, ct=["json"])),
    lambda id: _frame(_header(id, headers=[1])),
    lambda id: _frame(_header(id, retries="many")),
    lambda id: _frame(_header(id, timeout="soon")),
    lambda id: _frame(_header(id, timeout=10**400)),
    lambda id: _frame(_header(id, timeout=float("inf"))),
    lambda id: _frame(_header(id, timeout=float("nan"))),
    lambda id: _frame(_header(id, timeout=-1)),
    lambda id: _frame(_header(id, retry={"kind": "exponential", "base": "x"})),
    lambda id: _frame(_header(id, retry={"kind": "fixed", "seconds": float("inf")})),
    lambda id: _frame(_header(id), [1]),
    lambda id: _frame(_header(id), {"args": {}}),
    lambda id: _frame(_header(id), {"args": [0], "kwargs": []}),
    lambda id: _frame(_header(id), {"on_success": 1}),
    lambda id: _frame(_header(id), {"on_success": [{"task": 1}]}),
    lambda id: _frame(_header(id), {"args": [{"$date": "yesterday"}]}),
    lambda id: _frame(_header(id), {"args": [{"$decimal": []}]}),
    lambda id: _frame(_header(id), {"args": [{"$unheard": 1}]}),
    lambda id: _frame(_header(id), {"args": [{"$timedelta": [10**18, 0, 0]}]}),
    lambda id: json.dumps(_header(id)).encode() + f'\n{{"args": {_DEEP}'.encode(),
    lambda id: json.dumps(_header(id)).encode() + b"\n" + b"9" * 10_000,
    lambda _id: _DEEP.encode() + b"\n{}",
    lambda id: json.dumps(_header(id)).encode() + b'\n{"args": [NaN]}',
    lambda id: b"\xff\xfe" + _frame(_header(id)),
)


def _random(_id: str, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(300))


def _wrong(id: str, chance: random.Random) -> bytes:
    return WRONG[chance.randrange(len(WRONG))](id)


def _unknown(id: str, chance: random.Random) -> bytes:
    return _frame(_header(id, task=f"nobody.knows.{chance.randrange(5)}"), {"args": [1]})


def _large(id: str, _chance: random.Random) -> bytes:
    return _frame(_header(id), {"args": ["x" * LARGE]})


KINDS: dict[str, Callable[[str, random.Random], bytes]] = {
    "random": _random,
    "truncated": _truncated,
    "wrong": _wrong,
    "unknown": _unknown,
    "large": _large,
}
"""Kind to what makes a body for an id."""


def make(count: int, *, large: int, seed: int) -> Iterator[Envelope]:
    """Yield *count* envelopes, of all kinds in turn, *large* of them of 5 MB; the id begins with the kind."""
    chance = random.Random(seed)
    small = [kind for kind in KINDS if kind != "large"]
    for number in range(count):
        kind = "large" if number < large else small[number % len(small)]
        id = f"{kind}-{number}"
        yield Envelope(id=id, queue="default", body=KINDS[kind](id, chance))
