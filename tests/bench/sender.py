"""Sends tasks of one queue, in a process of its own: ``python sender.py with_rq '{"single": 100}'``.

Each action is a name and a number; the answer is one JSON object on standard output. Peers are imported as
``peers.<name>``, so ``PYTHONPATH`` must name this folder.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from peers.peer import STAMP, Peer, Rows

BYTES = int(os.environ.get("BENCH_BYTES", "100000"))
"""JSON of a large argument."""


def single(peer: Peer, count: int) -> float:
    """Return sends a second, one after the other."""
    since = time.perf_counter()
    for number in range(count):
        peer.send(number)
    return count / (time.perf_counter() - since)


def many(peer: Peer, count: int) -> float:
    """Return sends a second, with the peer's call for many."""
    since = time.perf_counter()
    peer.send_many(count)
    return count / (time.perf_counter() - since)


def large(peer: Peer, count: int) -> float:
    """Return sends a second of tasks with a large argument."""
    rows = large_rows()
    since = time.perf_counter()
    for _ in range(count):
        peer.send_rows(rows)
    return count / (time.perf_counter() - since)


def idle(peer: Peer, count: int) -> list[float]:
    """Return the milliseconds from just before a send to an idle worker to the start of the body."""
    chance = random.Random(count)
    _latency(peer)  # connects
    taken = []
    for _ in range(count):
        time.sleep(chance.uniform(0.3, 0.7))
        taken.append(_latency(peer))
    return taken


def _latency(peer: Peer) -> float:
    file = Path(os.environ["BENCH_STAMPS"])
    before, since = file.stat().st_size, time.monotonic()
    peer.send(0)
    while file.stat().st_size == before:
        time.sleep(0.001)
    began: float = STAMP.unpack_from(file.read_bytes(), before)[0]
    return (began - since) * 1e3


def check(peer: Peer, count: int) -> int:
    """Send *count* tasks and wait for the result of each."""
    assert peer.wait is not None
    for handle in [peer.send(number) for number in range(count)]:
        peer.wait(handle)
    return count


def describe(peer: Peer, _: int) -> dict[str, Any]:
    """Return what the report says of the peer."""
    return {
        "versions": {name: metadata.version(name) for name in peer.distributions},
        "worker": list(peer.worker),
        "environ": dict(peer.environ),
        "settings": dict(peer.settings),
        "many": peer.many,
        "results": peer.wait is not None,
    }


def large_rows() -> Rows:
    """Return rows as a table gives them: numbers, text, a flag and a short list each."""
    row = {"id": 1_000_000, "name": "somebody with a name", "price": 12.5, "new": True, "tags": ["red", "green"]}
    return [{**row, "id": row["id"] + number} for number in range(BYTES // (len(json.dumps(row)) + 2))]  # type: ignore[operator]


ACTIONS: dict[str, Callable[[Peer, int], Any]] = {
    "warm": single,
    "single": single,
    "many": many,
    "large": large,
    "idle": idle,
    "check": check,
    "describe": describe,
}


def main(module: str, actions: str) -> None:
    """Carry out *actions* on the peer in *module*."""
    peer: Peer = importlib.import_module(f"peers.{module}").PEER
    with peer.opened():
        print(json.dumps({name: ACTIONS[name](peer, count) for name, count in json.loads(actions).items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
