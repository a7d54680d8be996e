"""Measure what signing costs a message: ``python tests/bench/signing_bench.py``.

What is timed is the work of core: to prepare a message for its send, and to decide about a delivery, run its body and
decide about the end. No engine takes part. Microseconds of CPU, of the quickest round; the ways take turns. Nothing
here judges.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from queuekit import Queuekit
from queuekit.broker import Delivery
from queuekit.client.sender import Sending
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Run

LOOPS, ROUNDS = 400, 25
SIZES = (10, 1_000, 100_000)
"""Characters of the argument."""
KEYS: dict[str, list[str]] = {"off": [], "on": ["k" * 40]}


def main() -> None:
    """Print a table: a size a row; send and run without and with a key."""
    print("us of CPU".ljust(12) + "".join(f"{f'{verb}, {way}':>12}" for verb in ("send", "run") for way in KEYS))
    for size in SIZES:
        ways = {way: _timers(keys, size) for way, keys in KEYS.items()}
        best = {(verb, way): 1e9 for verb in (0, 1) for way in ways}
        for _ in range(ROUNDS):
            for way, timers in ways.items():
                for verb, timer in enumerate(timers):
                    best[verb, way] = min(best[verb, way], timer())
        print(f"{size:,}".ljust(12) + "".join(f"{best[verb, way]:>12.1f}" for verb in (0, 1) for way in ways))


def _timers(keys: list[str], size: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return what times a send, and a run, in microseconds."""
    app = Queuekit(broker="memory://bench", signing_keys=keys)
    task = app.task(name="idle")(lambda _text: None)
    sending = Sending(app.runtime, app.tasks)
    executor = Executor(app.runtime, app.tasks, sending, worker="bench")
    text, loops = "x" * size, max(20, LOOPS * 100 // (100 + size // 100))

    def send() -> float:
        begun = time.process_time()
        for _ in range(loops):
            sending.prepare(task.s(text))
        return (time.process_time() - begun) / loops * 1e6

    envelopes = [sending.prepare(task.s(text)).envelope for _ in range(loops)]
    deliveries = [Delivery(envelope=one, token=one.id, number=1, sent_at=1, claimed_at=2) for one in envelopes]

    def run() -> float:
        begun = time.process_time()
        for delivery in deliveries:
            found = executor.prepare(delivery, {})
            assert isinstance(found, Run)
            executor.begin(found)
            executor.call(found).item()
        return (time.process_time() - begun) / loops * 1e6

    return send, run


if __name__ == "__main__":
    main()
