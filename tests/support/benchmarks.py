"""The page of benchmarks and the README's table, made of the results that ``tests/bench/compare.py`` has left."""

import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from string import Template
from typing import Any

import attrs

from support.venvs import ROOT

RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
TEMPLATE = ROOT / "docs" / "benchmarks" / "page.md.in"
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
TABLE = re.compile(r"(?<=<!-- benchmarks -->\n).*?(?=<!-- end of benchmarks -->)", re.DOTALL)
"""What is generated in the README."""
NAMES = {
    "queuekit": "queuekit",
    "queuekit-fast": "queuekit[fast]",
    "celery": "Celery",
    "dramatiq": "Dramatiq",
    "rq": "RQ",
    "huey": "Huey",
    "procrastinate": "procrastinate",
    "queuekit-sqlite": "queuekit, SQLite",
    "huey-sqlite": "Huey, SQLite",
}
FILES = ("queuekit-sqlite", "huey-sqlite")
SERVERS = tuple(name for name in NAMES if name not in FILES)
PLAIN = tuple(name for name in SERVERS if name != "queuekit-fast")
"""What the README compares: queuekit as it is without extras."""


@attrs.frozen
class Row:
    """A figure of each peer."""

    key: str
    title: str
    unit: str
    better: Callable[[Iterable[float]], float] = max
    factor: float = 1.0
    """From what was measured to the unit."""
    short: str = ""
    """Its title in the README; empty if it is not there."""

    def shown(self, figure: float) -> str:
        """Return *figure* to three digits."""
        value = figure * self.factor
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        return f"{float(f'{value:.3g}'):,.{digits}f}"


ROWS = (
    Row("single", "send one by one, no results", "tasks/s", short="send one task"),
    Row("single stored", "send one by one, results", "tasks/s"),
    Row("many", "send many, no results", "tasks/s", short="send many"),
    Row("many stored", "send many, results", "tasks/s"),
    Row("drain", "run no-op tasks, no results", "tasks/s", short="run tasks, no results"),
    Row("drain stored", "run no-op tasks, results", "tasks/s", short="run tasks, results stored"),
    Row("large", "100 KB of JSON, send", "tasks/s"),
    Row("large drain", "100 KB of JSON, run", "tasks/s", short="run tasks with 100 KB of JSON"),
    Row("idle", "send to start, idle worker", "ms", min, short="send to start, idle worker"),
    Row("start", "worker start", "ms", min, 1e3, short="worker start to first task"),
    Row("memory", "memory after a run", "MB", min, short="memory of a worker"),
    Row("large memory", "memory after 100 KB tasks", "MB", min),
)


def load() -> dict[str, Any]:
    """Return the committed results."""
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def write() -> None:
    """Write page and table anew."""
    results = load()
    PAGE.write_text(page(results), encoding="utf-8")
    README.write_text(readme(results, README.read_text(encoding="utf-8")), encoding="utf-8")


def page(results: dict[str, Any]) -> str:
    """Return the whole page."""
    parts = {
        "conditions": _conditions(results),
        "results": _table(results, SERVERS, _median),
        "files": _table(results, FILES, _median),
        "lost": _lost(results),
        "ranges": _table(results, tuple(NAMES), _range),
        "peers": "\n\n".join(_peer(name, peer) for name, peer in results["peers"].items()),
        "machine": _machine(results),
        "versions": _versions(results),
        "servers": _servers(results),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(parts)


def readme(results: dict[str, Any], text: str) -> str:
    """Return *text* of the README with the table and what a reader must know of it."""
    return TABLE.sub(lambda _: f"\n{_short(results)}\n\n{_claim(results)}\n\n", text)


def tables(results: dict[str, Any]) -> str:
    """Return the figures for a terminal."""
    return _table(results, [name for name in NAMES if name in results["peers"]], _median)


def _medians(results: dict[str, Any], row: Row, peers: Iterable[str]) -> dict[str, float]:
    figures = results["figures"].get(row.key, {})
    return {peer: statistics.median(figures[peer]) for peer in peers if peer in figures}


def _median(results: dict[str, Any], row: Row, peers: Sequence[str]) -> list[str]:
    medians = _medians(results, row, peers)
    best = row.shown(row.better(medians.values())) if medians else ""
    shown = {peer: row.shown(figure) for peer, figure in medians.items()}
    return [f"**{text}**" if (text := shown.get(peer, "-")) == best else text for peer in peers]


def _range(results: dict[str, Any], row: Row, peers: Sequence[str]) -> list[str]:
    figures = {peer: results["figures"].get(row.key, {}).get(peer) for peer in peers}
    return [f"{row.shown(min(some))} to {row.shown(max(some))}" if some else "-" for some in figures.values()]


Cells = Callable[[dict[str, Any], Row, Sequence[str]], list[str]]


def _table(results: dict[str, Any], peers: Sequence[str], cells: Cells) -> str:
    rows = [["", *(NAMES[peer] for peer in peers)], ["---", *["---:"] * len(peers)]]
    rows += [[f"{row.title}, {row.unit}", *cells(results, row, peers)] for row in ROWS]
    return _lines(rows)


def _short(results: dict[str, Any]) -> str:
    rows = [["", *(NAMES[peer] for peer in PLAIN)], ["---", *["---:"] * len(PLAIN)]]
    rows += [[f"{row.short} ({row.unit})", *_median(results, row, PLAIN)] for row in ROWS if row.short]
    return _lines(rows)


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _lost(results: dict[str, Any]) -> str:
    """Return each row in which another queue on a server, or on a file, has the better figure."""
    lines = []
    for peers in (PLAIN, FILES):
        for row in ROWS:
            medians = _medians(results, row, peers)
            best = min(medians, key=lambda peer: medians[peer] * (1 if row.better is min else -1))
            if best != peers[0]:
                ours, theirs = row.shown(medians[peers[0]]), row.shown(medians[best])
                lines.append(f"- {row.title}: {NAMES[peers[0]]} {ours} {row.unit}, {NAMES[best]} {theirs} {row.unit}")
    return "\n".join(lines) or "In no row of this run."


def _claim(results: dict[str, Any]) -> str:
    """Return what the README says below its table."""
    machine, servers = results["machine"], results["servers"]
    versions = ", ".join(f"{NAMES[name]} {_version(results, name)}" for name in PLAIN)
    return (
        f"**Bold** is the best of a row. Measured on {results['date']} on {machine['processor']}, {machine['cores']} "
        f"of {machine['cores_of_machine']} cores, {machine['python']}: {versions}. Each worker is one process with "
        f"eight threads; RQ runs one job at a time. procrastinate uses {servers['PostgreSQL']['name']}, the others "
        f"use {servers['Redis']['name']}.{_note(results)} "
        "[How it was measured, and what the figures do not say](docs/benchmarks.md)."
    )


def _note(results: dict[str, Any]) -> str:
    return f" {results['note']}" if results["note"] else ""


def _version(results: dict[str, Any], peer: str) -> str:
    version: str = next(iter(results["peers"][peer]["versions"].values()))
    return version


def _conditions(results: dict[str, Any]) -> str:
    machine, rounds = results["machine"], results["amount"]["rounds"]
    return (
        f"Measured on {results['date']} at commit `{results['commit']}` with `{results['command']}`: "
        f"{rounds} round{'s' * (rounds > 1)} in {results['seconds']} s, on {machine['cores']} of the "
        f"machine's {machine['cores_of_machine']} cores. Before the run, {machine['load']} processes wanted a core, "
        f"and {machine['load_after']} at its end (load average of one minute).{_note(results)}"
    )


def _peer(name: str, peer: dict[str, Any]) -> str:
    settings = _lines(
        [["setting", "why"], ["---", "---"], *([f"`{key}`", why] for key, why in peer["settings"].items())]
    )
    environ = [f"{key}={value}" for key, value in peer["environ"].items()]
    counts = peer["counts"]
    return (
        f"### {NAMES[name]}\n\n```text\n{' '.join([*environ, *peer['worker']])}\n```\n\n{settings}\n\n"
        f"Sent many with `{peer['many']}`. Tasks: {counts['single']:,} one by one, {counts['many']:,} at once, "
        f"{counts['large']:,} of 100 KB."
    )


def _machine(results: dict[str, Any]) -> str:
    machine = results["machine"]
    rows = [
        ["processor", machine["processor"]],
        ["cores used, of the machine", f"{machine['cores']} of {machine['cores_of_machine']}"],
        ["memory", f"{machine['memory_gb']} GB"],
        ["system", f"{machine['system']}, kernel {machine['kernel']}"],
        ["file system of servers and files", machine["file_system"]],
        ["Python", machine["python"]],
    ]
    return _lines([["machine", ""], ["---", "---"], *rows])


def _versions(results: dict[str, Any]) -> str:
    rows = [
        [NAMES[name], ", ".join(f"{dist} {version}" for dist, version in peer["versions"].items())]
        for name, peer in results["peers"].items()
    ]
    return _lines([["peer", "distributions"], ["---", "---"], *rows])


def _servers(results: dict[str, Any]) -> str:
    rows = [
        [server["name"], ", ".join(f"`{name} {value}`" for name, value in server["settings"].items())]
        for server in results["servers"].values()
    ]
    return _lines([["server", "settings"], ["---", "---"], *rows])
