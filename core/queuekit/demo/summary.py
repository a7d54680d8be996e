"""The demo's last words: what was counted, what happened on the way, and whether it is right."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import attrs

from queuekit.admin import Letter
from queuekit.demo.counting import Totals
from queuekit.demo.place import Place
from queuekit.demo.screen import Screen
from queuekit.demo.tasks import ATTEMPTS
from queuekit.records import Info
from queuekit.states import State

__all__ = ["Report", "print_report"]

_GRAIN = 0.01
"""Seconds by which the times of records are rounded, at most."""


@attrs.frozen(kw_only=True)
class Report:
    """All that there is to tell."""

    place: Place
    totals: Totals
    """Of the tasks' results."""
    plain: Totals
    """Of the same files counted in one process, without queue."""
    plain_seconds: float
    send_seconds: float
    sent: int
    """Messages."""
    outcomes: Sequence[Info]
    """Of the tasks that count, one a file."""
    stumbled: Info
    """Of the task that fails at first."""
    delayed: Info
    delay: float
    """Seconds by which that one was delayed."""
    dead: Sequence[Letter]
    doomed: str
    """Id of the message whose task fails for good."""
    victim: int
    """Pid of the killed process; 0 if none was."""
    victim_file: str
    """What it was counting."""
    repeated: int
    """Runs that were begun again."""
    crashes: tuple[str, ...]
    """How worker processes ended, in the words of their supervisor."""

    @property
    def seconds(self) -> float:
        """Seconds from the start of the first count to the end of the last."""
        started = [info.started for info in self.outcomes if info.started is not None]
        finished = [info.finished for info in self.outcomes if info.finished is not None]
        return max(finished) - min(started) if started and finished else 0.0

    @property
    def waited(self) -> float:
        """Seconds after its send at which the delayed task started."""
        return (self.delayed.started or 0.0) - (self.delayed.sent or 0.0)

    @property
    def totals_agree(self) -> bool:
        """Whether the tasks' totals, longest functions included, are those of the plain count."""
        return self.totals == self.plain

    @property
    def killed(self) -> bool:
        """Whether a process was killed, and its supervisor saw that."""
        return bool(self.victim and self.crashes)

    @property
    def retried(self) -> bool:
        """Whether the task that fails at first succeeded at its last attempt."""
        return self.stumbled.state is State.SUCCESS and self.stumbled.attempt == ATTEMPTS - 1

    @property
    def was_delayed(self) -> bool:
        """Whether the delayed task ran, and not too early."""
        return self.delayed.state is State.SUCCESS and self.waited >= self.delay - _GRAIN

    @property
    def buried(self) -> bool:
        """Whether the one task that fails for good is the one dead letter."""
        return [letter.id for letter in self.dead] == [self.doomed]

    @property
    def good(self) -> bool:
        """Whether all came out as it should."""
        return self.totals_agree and self.killed and self.retried and self.was_delayed and self.buried


def print_report(report: Report, screen: Screen) -> None:
    """Print *report*."""
    for lines in (_totals(report, screen), _longest(report, screen), _events(report, screen), _verdict(report, screen)):
        for line in lines:
            screen.line(line)
        screen.line()
    screen.line(f"All of it is kept in {report.place.folder}; when you have seen enough:")
    screen.line(f"  rm -r {shlex.quote(str(report.place.folder))}")


def _totals(report: Report, screen: Screen) -> Iterator[str]:
    totals = report.totals
    yield screen.paint("Counted", "bold")
    hint = f"   {totals.unreadable:,} of them unreadable: not valid Python" if totals.unreadable else ""
    rows = {
        "files": totals.files,
        "lines": totals.lines,
        "functions": totals.functions,
        "classes": totals.classes,
        "imports": totals.imports,
    }
    width = max(len(f"{number:,}") for number in rows.values())
    for name, number in rows.items():
        yield f"  {number:>{width},} {name}{hint if name == 'files' else ''}"


def _longest(report: Report, screen: Screen) -> Iterator[str]:
    functions = report.totals.longest
    if not functions:
        yield screen.paint("No functions", "bold")
        return
    yield screen.paint("The longest functions", "bold")
    width = len(f"{functions[0].lines:,}")
    name_width = max(len(function.name) for function in functions)
    for function in functions:
        place = screen.paint(f"{function.file}:{function.first_line}", "dim")
        yield f"  {function.lines:>{width},} lines  {function.name:<{name_width}}  {place}"


def _events(report: Report, screen: Screen) -> Iterator[str]:
    yield screen.paint("What happened", "bold")
    rate = len(report.outcomes) / report.seconds if report.seconds else 0.0
    yield (
        f"  {screen.mark(good=True)} {report.sent:,} tasks sent in {report.send_seconds:.2f} s; "
        f"the files were counted in {report.seconds:.1f} s, {rate:,.0f} tasks per second"
    )
    yield f"  {screen.mark(good=report.killed)} {_kill(report)}"
    attempts = report.stumbled.attempt + 1
    end = "succeeded" if report.stumbled.state is State.SUCCESS else "did not succeed"
    yield f"  {screen.mark(good=report.retried)} {attempts - 1} retries: demo.stumble {end} on attempt {attempts}"
    yield (
        f"  {screen.mark(good=report.was_delayed)} demo.later was sent with a delay of {report.delay:g} s "
        f"and started after {report.waited:.2f} s"
    )
    letters = _count(len(report.dead), "message")
    yield f"  {screen.mark(good=report.buried)} {letters} in the dead-letter queue, on purpose:"
    for letter in report.dead[:3]:
        yield f"      {letter.task}  {letter.stored.reason}: {letter.stored.error}"
    yield f"      {screen.paint(report.place.command('dlq', 'ls', '--queue', report.place.queue), 'bold')}"


def _kill(report: Report) -> str:
    if not report.victim:
        return "no worker process could be killed half-way"
    runs = _count(report.repeated, "run")
    again = f"{runs} that it had begun but not recorded {'was' if report.repeated == 1 else 'were'} repeated"
    noticed = "" if len(report.crashes) == 1 else f"; but the supervisor saw {', '.join(report.crashes) or 'no crash'}"
    return f"half-way, worker process {report.victim} got SIGKILL in {report.victim_file}: {again}{noticed}"


def _verdict(report: Report, screen: Screen) -> Iterator[str]:
    if report.totals_agree:
        text = "The totals are exactly right: a plain loop over the same files finds the same"
        kill = ", though a worker process was killed" if report.victim else ""
        style = "green"
    else:
        text, kill, style = "THE TOTALS ARE WRONG: a plain loop over the same files finds something else", "", "red"
    yield f"{screen.mark(good=report.totals_agree)} {screen.paint(text + kill + '.', style)}"
    if not report.totals_agree:
        for name in ("files", "unreadable", "lines", "functions", "classes", "imports"):
            ours, plain = getattr(report.totals, name), getattr(report.plain, name)
            yield f"    {name}: {ours:,} by tasks, {plain:,} in a loop"
    yield (
        f"  {report.seconds:.1f} s in {_count(report.place.processes, 'worker process')}, "
        f"{report.plain_seconds:.1f} s in the loop, in one process without a queue."
    )


def _count(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"
