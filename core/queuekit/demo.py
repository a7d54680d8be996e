"""``queuekit demo``: run a workflow over real files on a real queue, and kill a worker process half-way.

It uses the public API only: tasks, a chord, a worker in a thread, handles on results, events.
"""

from __future__ import annotations

import ast
import os
import secrets
import signal
import sys
import sysconfig
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import click

from queuekit.app import Queuekit
from queuekit.broker import Place
from queuekit.context import Context
from queuekit.errors import QueuekitError
from queuekit.events import Event, WorkerCrashed
from queuekit.execution.children import stop_signals
from queuekit.operations.admin import Admin
from queuekit.values import define, frozen
from queuekit.workflows.canvas import chord

__all__ = ["Totals", "add_up", "app", "count", "count_file", "find_sources", "run"]

LONGEST_WAIT = 30.0
"""Seconds for which the task in the middle waits to be killed."""
_LOOK = 0.1
_STALLED = 60.0
"""Seconds without progress after which the demo gives up."""
_STEPS = 4
"""Lines of progress when the output is not a terminal."""
_SKIPPED = frozenset({"__pycache__", "dist-packages", "node_modules", "site-packages"})
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Fields in which statements hold other statements."""
_RECORDS = ("result", "progress", "graph", "entered", "worker")
_SIGNALS = stop_signals()

app = Queuekit()


@app.register_type
@frozen
class Totals:
    """Counts for one or more Python files; a file that cannot be parsed counts as unreadable only."""

    files: int = 0
    unreadable: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    imports: int = 0


@app.task(name="demo.count")
def count(ctx: Context, file: str, journal: str, *, wait: bool = False) -> Totals:
    """Count the contents of *file*, and note the start of the run in *journal*.

    With *wait*, the first run reports its process id as its progress and waits to be killed.
    """
    with Path(journal).open("a+", encoding="ascii") as begun:
        begun.write(f"{ctx.id}\n")
        begun.seek(0)
        wait = wait and begun.read().split().count(ctx.id) == 1
    if wait:
        ctx.progress(0, message=str(os.getpid()))
    end = time.monotonic() + LONGEST_WAIT
    while wait and time.monotonic() < end and not ctx.cancelled:
        time.sleep(_LOOK)
    return count_file(Path(file))


@app.task(name="demo.add_up")
def add_up(counts: list[Totals]) -> Totals:
    """Return the sum of *counts*; their order does not matter."""
    return Totals(*map(sum, zip(*map(attrs.astuple, counts), strict=True)))


def find_sources(directory: Path) -> list[Path]:
    """Return the Python files below *directory*, sorted, without hidden or unprintable names or installed packages."""
    found: list[Path] = []
    for folder, subfolders, names in os.walk(directory):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED and name[0] != "." and name.isprintable()]
        paths = [Path(folder, name) for name in names if name.endswith(".py") and name.isprintable()]
        found += [path for path in paths if path.is_file()]
    return sorted(found)


def count_file(path: Path) -> Totals:
    """Count the contents of a file; never fails."""
    try:
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns about invalid escapes in old code
            pending: list[ast.AST] = [ast.parse(source)]
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return Totals(files=1, unreadable=1)
    kinds: Counter[type[ast.AST]] = Counter()
    while pending:  # not recursive: some trees are too deep
        node = pending.pop()
        kinds[type(node)] += 1
        pending += [child for block in _BLOCKS for child in getattr(node, block, ())]
    functions = kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef]
    imports = kinds[ast.Import] + kinds[ast.ImportFrom]
    return Totals(1, 0, len(source.splitlines()), functions, kinds[ast.ClassDef], imports)


def run(
    directory: Path | None = None, *, broker: str | None = None, backend: str | None = None, processes: int = 2
) -> int:
    """Count the Python files in *directory* with a workflow, kill a worker process half-way, and compare the totals.

    *directory* defaults to the standard library, *broker* and *backend* to SQLite in a temporary folder. Return 0 if a
    process was killed and the totals are exact, else 1.

    Raises:
        QueuekitError: There are no Python files, a URL cannot be used, or the work does not finish.
        KeyboardInterrupt: After Ctrl-C, SIGTERM or SIGHUP, once everything is cleaned up.
    """
    root = (directory or Path(sysconfig.get_path("stdlib"))).resolve()
    files = find_sources(root)
    if not files:
        raise QueuekitError(f"no Python files in {root}", fix="Name a directory that contains some, or leave it out")
    handlers = [signal.signal(number, _interrupt) for number in _SIGNALS]
    try:
        with tempfile.TemporaryDirectory(prefix="queuekit-demo-") as folder:
            return 0 if _Demo(root, files, Path(folder), processes).run(broker, backend) else 1
    finally:
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    """Raise KeyboardInterrupt at the first signal; ignore later ones, so that the clean-up can finish."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@define
class _Demo:
    """One run of the demo."""

    root: Path
    files: Sequence[Path]
    folder: Path
    processes: int
    name: str = attrs.field(factory=lambda: f"demo-{secrets.token_hex(4)}")
    """Name of queue, workflow and workers."""
    victim: int = 0
    """Pid of the process that was killed."""
    crashes: list[Event] = attrs.field(factory=list)
    """Crashes that the supervisor of the workers has seen."""

    def run(self, broker: str | None, backend: str | None) -> bool:
        """Run the demo, clean up broker and backend, and return whether the result is right."""
        self._configure(broker or f"sqlite:///{quote(str(self.folder / 'queue.db'))}", backend)
        click.echo(f"queuekit demo   {len(self.files):,} Python files in {self.root}")
        click.echo(f"  broker   {app.runtime.broker_url}\n  results  {app.runtime.backend_url}")
        click.echo(f"  workers  {self.processes}, one of which will be killed half-way\n")
        try:
            with self._working() as running:
                began = time.monotonic()
                totals = self._count(running)
                seconds = time.monotonic() - began
            return self._report(totals, seconds)
        finally:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            with suppress(QueuekitError):
                self._clean()
            app.close()

    def _configure(self, broker: str, backend: str | None) -> None:
        """Give the app an empty config file, and settings that override the environment's."""
        config = self.folder / "queuekit.toml"
        config.touch()
        settings: dict[str, Any] = {"broker": broker, "backend": backend or broker, "default_queue": self.name}
        settings |= {"serializer": "json", "accept": ["json"], "graphs_expire": 600, "eager": False, "include": []}
        settings |= {"worker.pool": "thread", "worker.max_deliveries": 3, "worker.drain": 5, "log.level": "CRITICAL"}
        app.configure(settings, path=str(config))
        if not backend and not app.plugins.has_backend(app.config.url("broker").scheme):
            app.configure({"backend": f"sqlite:///{quote(str(self.folder / 'results.db'))}"})
        app.runtime.need_backend("a result")
        app.events.subscribe(lambda event: self.crashes.append(event) if isinstance(event, WorkerCrashed) else None)

    def _clean(self) -> None:
        """Delete all records, and the messages of an interrupted demo."""
        backend = app.runtime.need_backend("the demo")
        for kind in _RECORDS:
            cursor: str | None = ""
            while cursor is not None:
                page = backend.scan(f"{kind}:{self.name}", limit=500, cursor=cursor or None)
                backend.delete([record.key for record in page.items])
                cursor = page.cursor
        for place in (Place.READY, Place.DEAD, Place.DELAYED):
            Admin(app).purge(self.name, place)

    @contextmanager
    def _working(self) -> Iterator[Future[int]]:
        """Run worker processes: all are ready when this yields, and have stopped when it exits."""
        worker = app.worker(queues=self.name, name=self.name, processes=self.processes, concurrency=1, wait_for=0)
        with ThreadPoolExecutor(1) as pool:
            try:
                running = pool.submit(worker.run)
                while sum(self.name in seen.queues for seen in Admin(app).workers() or ()) < self.processes:
                    _pause(running)
                yield running
                worker.stop()
            except BaseException:
                worker.stop(at_once=True)
                raise

    def _count(self, running: Future[int]) -> Totals:
        """Send the workflow, kill a process half-way, and return the workflow's result."""
        middle, journal, began = len(self.files) // 2, str(self.folder / "journal"), time.monotonic()
        calls = [count.s(str(file), journal, wait=number == middle) for number, file in enumerate(self.files)]
        result = app.send(chord(calls, add_up.s(), id=self.name))
        done, moved, shown = 0, began, 0
        while done < len(calls):
            _pause(running)
            progress = None if self.victim else result.members[middle].progress
            if progress is not None:  # the task waits to be killed
                self.victim = int(progress[2])
                os.kill(self.victim, signal.SIGKILL)
            before, done, now = done, result.members.counts().done, time.monotonic()
            moved = now if done > before else moved
            if now - moved > _STALLED:
                raise QueuekitError(
                    f"{len(calls) - done:,} tasks have not ended: none ended in the last {_STALLED:g} s"
                )
            shown = self._show(done, done / (now - began), shown)
        return result.get(timeout=_STALLED)

    def _show(self, done: int, rate: float, shown: int) -> int:
        """Show the progress: on a terminal by updating one line, elsewhere in a few lines."""
        total, killed = len(self.files), f", killed {self.victim}" if self.victim else ""
        text, step = f"  {done:,} of {total:,} tasks, {rate:,.0f}/s{killed}", done * _STEPS // total
        if sys.stdout.isatty():
            click.echo(f"\r{text:<70}", nl=done == total)
        elif step > shown:
            click.echo(text)
        return step

    def _report(self, totals: Totals, seconds: float) -> bool:
        """Compare with a plain loop, print the summary, and return whether all is right."""
        click.echo("  the same files in a plain loop, to compare ...\n")
        began = time.monotonic()
        plain = add_up([count_file(file) for file in self.files])
        spent, exact = time.monotonic() - began, totals == plain
        for field in attrs.asdict(totals):
            click.echo(_line(field, getattr(totals, field), getattr(plain, field)))
        begun = Counter((self.folder / "journal").read_text(encoding="ascii").split())
        again = sum(runs > 1 for runs in begun.values())
        killed = f"Worker process {self.victim} got SIGKILL half-way; tasks that ran more than once: {again}."
        click.echo(f"\n{totals.files:,} tasks and a callback ran in {seconds:.1f} s, {totals.files / seconds:,.0f}/s.")
        click.echo(killed if self.crashes and self.victim else "NO WORKER PROCESS WAS KILLED: this proves little.")
        right = f"The totals are exactly right: a plain loop finds the same, in {spent:.1f} s."
        click.echo(right if exact else "THE TOTALS ARE WRONG.")
        if note := _slower(seconds, spent, self.processes):
            click.echo(note)
        return exact and bool(self.crashes and self.victim)


def _slower(seconds: float, spent: float, processes: int) -> str:
    """Return what the demo says if the tasks took longer, *seconds*, than the loop, *spent*; else nothing."""
    if seconds <= spent:
        return ""
    shared = f"{processes} worker processes shared {os.cpu_count()} cores with other programs"
    return f"The tasks took {seconds - spent:.1f} s longer than the loop: {shared}."


def _line(field: str, number: int, plain: int) -> str:
    wrong = "" if number == plain else f"   WRONG: the loop finds {plain:,}"
    return f"  {number:>11,} {field}{wrong}"


def _pause(running: Future[int]) -> None:
    """Wait a moment; raise if the workers have ended."""
    if running.done():
        raise QueuekitError(f"the workers ended with exit code {running.result()}", fix="See their messages above")
    time.sleep(_LOOK)
