"""Measure workflows: ``python tests/bench/flow_bench.py [sqlite redis mongo aws ...]``; one worker.

Servers are started where they are needed. For each chord: seconds from the call of ``send`` to its return and to the
callback's result, and milliseconds from the end of the last member to the start of the callback. Nothing here judges.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from flowapp import add, app, total  # noqa: E402 - found by the lines above

from queuekit import chain, chord, group  # noqa: E402
from support.calls import SERVED, sqlite  # noqa: E402

PATIENCE = 300.0
"""Seconds after which a measurement is given up."""
ENGINES = {"sqlite": sqlite} | SERVED


def main() -> None:
    """Measure on each engine and print a table each."""
    options = _options()
    for name in options.engines or ["sqlite", "redis", "mongo", "aws"]:
        with tempfile.TemporaryDirectory(prefix="queuekit-bench-") as folder:
            config = ENGINES[name](Path(folder)).config
            urls = {"broker": config.broker, "backend": config.backend}
            app.configure(urls)
            print(f"\n{name}\n{'':28}{'sent':>9}{'result':>9}{'behind':>9}")
            with _worker(urls, options.concurrency):
                _chords(options.sizes)
                if not options.chords:
                    _others()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", choices=[[], *ENGINES])
    parser.add_argument("--sizes", type=int, nargs="*", default=[10, 100, 1_000, 2_000, 10_000])
    parser.add_argument("--chords", action="store_true", help="leave out all but single chords")
    parser.add_argument("--concurrency", type=int, default=10)
    return parser.parse_args()


@contextmanager
def _worker(urls: dict[str, Any], concurrency: int) -> Iterator[None]:
    """Run a worker, of one process, until the caller is through."""
    ours = {f"QUEUEKIT_{name.upper()}": url for name, url in urls.items() if url is not None}
    paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "queuekit.cli", "worker", "flowapp:app", "-c", str(concurrency)]
    environ = {**os.environ, **ours, "PYTHONPATH": paths}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        add.send(1, 1).get(timeout=PATIENCE)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _chords(sizes: list[int]) -> None:
    _chord(100)  # connections are open and code is warm
    for size in sizes:
        sent, done, behind = _chord(size)
        _row(f"chord of {size:,}", sent, done, behind)


def _others() -> None:
    _row("1,000 chords of 3", *_timed(_small_chords))
    _row("chain of 500", *_timed(lambda: [chain(add.s(0, 1), *[add.s(1) for _ in range(499)]).send()]))
    _row("nested 6 deep", *_timed(lambda: [chain(_nested(6), total.si([1])).send()]))
    late = sorted(_late(0.1) for _ in range(50))
    middle, most = late[len(late) // 2] * 1000, late[-1] * 1000
    print(f"{'due in 100 ms, late by':<28}{middle:6.0f} ms at the middle, {most:.0f} ms at most", flush=True)


def _chord(size: int) -> tuple[float, float, float]:
    """Return the seconds until the send returned, until there was a result, and from last member to callback."""
    members = [add.s(index, 1) for index in range(size)]
    begin = time.perf_counter()
    result = chord(members, total.s()).send()
    sent = time.perf_counter() - begin
    value = result.get(timeout=PATIENCE)
    done = time.perf_counter() - begin
    if value != sum(range(size)) + size:
        raise SystemExit(f"a chord of {size} gave {value}")
    infos = [info for start in range(0, size, 500) for info in app.infos(result.members.ids[start : start + 500])]
    ends = [info.finished or 0.0 for info in infos]
    return sent, done, (result.info().started or 0.0) - max(ends)


def _late(delay: float) -> float:
    """Return the seconds from the moment that a delayed task was due until it started."""
    due = time.time() + delay
    result = add.options(delay=delay).send(1, 1)
    result.get(timeout=PATIENCE)
    return (result.info().started or 0.0) - due


def _small_chords() -> list[Any]:
    return [chord([add.s(i, j) for j in range(3)], total.s()).send() for i in range(1_000)]


def _nested(depth: int) -> Any:
    return group(add.si(1, 1), chain(_nested(depth - 1), add.si(depth, 1))) if depth else add.si(1, 1)


def _timed(send: Callable[[], list[Any]]) -> tuple[float, float]:
    begin = time.perf_counter()
    results = send()
    sent = time.perf_counter() - begin
    for result in results:
        result.get(timeout=PATIENCE)
    return sent, time.perf_counter() - begin


def _row(what: str, sent: float, done: float, behind: float | None = None) -> None:
    late = "" if behind is None else f"{behind * 1000:6.0f} ms"
    print(f"{what:<28}{sent:7.2f} s{done:7.2f} s{late:>9}", flush=True)


if __name__ == "__main__":
    main()
