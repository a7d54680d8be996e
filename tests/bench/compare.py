"""Measure queuekit beside Celery, Dramatiq, RQ, Huey and procrastinate, by turns, and write what came out.

``python tests/bench/compare.py`` writes docs/benchmarks/results.json, docs/benchmarks.md and the table of the README;
``--quick`` takes fewer samples, ``--dry`` prints and writes nothing, ``--report`` makes page and table anew from the
results that are there.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import machine  # noqa: E402 - after the path
import servers  # noqa: E402 - ...
from turn import Amount, Entry, Turn, counts_of, description  # noqa: E402 - ...

from support import benchmarks  # noqa: E402 - ...

Figures = dict[str, dict[str, list[float]]]
"""Row -> peer -> one figure for each sample."""
ENTRIES = {
    "queuekit": Entry("with_queuekit", servers.redis, 4_000, 20_000),
    "queuekit-fast": Entry("with_queuekit_fast", servers.redis, 4_000, 20_000),
    "celery": Entry("with_celery", servers.redis, 1_000, 1_500, 100),
    "dramatiq": Entry("with_dramatiq", servers.redis, 2_000, 4_000),
    "rq": Entry("with_rq", servers.redis, 500, 500),
    "huey": Entry("with_huey", servers.redis, 2_000, 4_000),
    "procrastinate": Entry("with_procrastinate", servers.postgres, 300, 600, 50),
    "queuekit-sqlite": Entry("with_queuekit", servers.sqlite_of_queuekit, 1_000, 10_000),
    "huey-sqlite": Entry("with_huey", servers.sqlite_of_huey, 1_000, 2_000),
}


WHOLE, QUICK = Amount(3, 1.0, 2, 8), Amount(1, 0.3, 1, 5)


def main() -> None:
    """Measure, and write results, page and table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that servers and workers are stopped as well
    options = _options()
    if not options.report:
        results = _measured(options)
        if options.dry:
            print(benchmarks.tables(results))
            return
        benchmarks.RESULTS.parent.mkdir(exist_ok=True)
        benchmarks.RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    benchmarks.write()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of fewer tasks, within four minutes")
    parser.add_argument("--rounds", type=int, help="how often each peer has its turn, instead of three times")
    parser.add_argument(
        "--only", nargs="+", choices=ENTRIES, default=list(ENTRIES), help="some of the peers; implies --dry"
    )
    parser.add_argument("--dry", action="store_true", help="print the tables and write nothing")
    parser.add_argument("--report", action="store_true", help="measure nothing, make page and table from the results")
    parser.add_argument("--note", default="", help="what else is to be known of the conditions of this run")
    options = parser.parse_args()
    options.dry = options.dry or options.only != list(ENTRIES)
    return options


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    amount, names = QUICK if options.quick else WHOLE, options.only
    amount = attrs.evolve(amount, rounds=options.rounds or amount.rounds)
    since, commit, before = datetime.now(UTC), machine.commit(), machine.facts()
    figures: Figures = {}
    peers = {name: description(ENTRIES[name]) for name in names}
    for turn in range(amount.rounds):
        for name in [*names[turn % len(names) :], *names[: turn % len(names)]]:
            print(f"{datetime.now(UTC):%H:%M:%S} round {turn + 1}: {name}", file=sys.stderr, flush=True)
            for row, values in Turn(ENTRIES[name], amount, peers[name]).figures().items():
                figures.setdefault(row, {}).setdefault(name, []).extend(values)
    return {
        "date": f"{since:%Y-%m-%d}",
        "seconds": round((datetime.now(UTC) - since).total_seconds()),
        "command": _command(options),
        "commit": commit,
        "note": options.note,
        "machine": {**before, "load_after": machine.load()},
        "servers": servers.described(),
        "amount": attrs.asdict(amount),
        "peers": {name: {**peers[name], "counts": counts_of(ENTRIES[name], amount)} for name in names},
        "figures": {
            row: {peer: [round(one, 3) for one in some] for peer, some in by.items()} for row, by in figures.items()
        },
    }


def _command(options: argparse.Namespace) -> str:
    given = [*(["--quick"] if options.quick else []), *(["--rounds", str(options.rounds)] if options.rounds else [])]
    return " ".join(["python tests/bench/compare.py", *given])


if __name__ == "__main__":
    main()
