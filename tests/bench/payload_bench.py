"""Measure workers on 10 KB, 100 KB and 1 MB of JSON for each task, by turns with Dramatiq and Huey, and print a table.

``python tests/bench/payload_bench.py [ROUNDS]``: two minutes a round. What counts on a busy machine is the CPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import servers  # noqa: E402 - after the path
from peers.peer import STAMP  # noqa: E402 - ...
from running import Run, Worker  # noqa: E402 - ...
from turn import Entry, description  # noqa: E402 - ...

PEERS = ("with_queuekit", "with_queuekit_fast", "with_dramatiq", "with_huey")
SIZES = {10_000: 2_000, 100_000: 400, 1_000_000: 60}
"""Bytes of an argument, and how many tasks have one."""


def main() -> None:
    """Measure, and print medians."""
    found: defaultdict[tuple[int, str], list[tuple[float, ...]]] = defaultdict(list)
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        for size, count in SIZES.items():
            for peer in (*PEERS[number:], *PEERS[:number]):
                found[size, peer].append(_drain(peer, size, count))
    print("| bytes | queue | tasks/s | CPU ms/task | MB |\n| ---: | --- | ---: | ---: | ---: |")
    for (size, peer), samples in sorted(found.items()):
        rate, cpu, memory = map(statistics.median, zip(*samples, strict=True))
        print(f"| {size:,} | {peer} | {rate:,.0f} | {cpu:.2f} | {memory:.0f} |")


def _drain(peer: str, size: int, count: int) -> tuple[float, float, float]:
    """Return tasks a second, milliseconds of CPU for each from the first run on, and megabytes at the end."""
    with servers.folder_for(servers.redis) as (folder, url):
        run = Run(peer, folder, url, stored=False)
        run.environ["BENCH_BYTES"] = str(size)
        run.send(warm=1, large=count)
        with run.worker(description(Entry(peer, servers.redis, 0, 0))) as worker:
            while (first := run.file.stat().st_size // STAMP.size) == 0 and worker.processes()[0].is_running():
                time.sleep(0.005)
            before = _spent(worker)
            rate = run.drained(1 + count)
            return rate, 1_000 * (_spent(worker) - before) / (1 + count - first), worker.memory()


def _spent(worker: Worker) -> float:
    """Return the seconds of CPU that all processes of a worker have taken."""
    return sum(sum(one.cpu_times()[:2]) for one in worker.processes())


if __name__ == "__main__":
    main()
