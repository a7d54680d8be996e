"""``queuekit check``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import attrs
import click

from queuekit.app import Queuekit
from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, one_line, paint, print_json
from queuekit.cli.pauses import line_of
from queuekit.cli.session import Session, need_shared
from queuekit.client.runtime import Runtime
from queuekit.config.settings import Config, check_sections
from queuekit.errors import QueuekitError
from queuekit.logs.plaintext import clean
from queuekit.operations.admin import Admin
from queuekit.operations.against_queue import MOST_LOOKED, survey
from queuekit.operations.dead_bounds import Dropped, dropped_before
from queuekit.plugins.support import caveats

__all__ = ["command"]

T = TypeVar("T")
OTHERS = ("workers", "queues")
"""Subjects that are reported only if there is a problem."""
INDENT = "\n" + " " * 15
"""Aligns the further lines of a text with its first line."""


@click.command()
@click.option("--against-queue", "against", is_flag=True, help="Find waiting messages that the app cannot run.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=MOST_LOOKED,
    show_default=True,
    help="Look at no more than this many messages with --against-queue.",
)
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, against: bool, limit: int, as_json: bool) -> int:
    """Check config, app, plugins, broker and backend for problems, without running anything.

    With --against-queue, check instead whether the app can run the messages that wait: it must know the task and the
    serializer, and the arguments must fit.

    Exits with 1 if there is any problem.
    """
    if against:
        return _against_queue(session, limit, as_json=as_json)
    checkup = Checkup()
    checkup.examine(session)
    if as_json:
        print_json([finding._asdict() for finding in checkup.findings])
    else:
        for finding in checkup.findings:
            _print(*finding)
    bad = sum(not finding.ok for finding in checkup.findings)
    if bad:
        session.say(f"{bad} problem{'s' if bad > 1 else ''}")
    return 1 if bad else 0


def _against_queue(session: Session, limit: int, *, as_json: bool) -> int:
    app, _ = session.app()
    need_shared(app)
    found = survey(Admin(app), app.tasks, most=limit)
    if as_json:
        print_json(attrs.asdict(found))
        return 1 if found.unfit else 0
    rows = [(str(one.count), one.task or "-", one.queue, one_line(one.text), one.sample) for one in found.unfit]
    if rows:
        click.echo(columns(("COUNT", "TASK", "QUEUE", "WHY", "SAMPLE"), rows, right=("COUNT",)))
    unable = sum(one.count for one in found.unfit)
    text = f"this app cannot run {unable} of {found.looked} waiting messages"
    session.say(text if found.complete else f"{text}; there are more: raise --limit")
    return 1 if found.unfit else 0


def _print(subject: str, fine: bool, text: str) -> None:  # noqa: FBT001 - a row
    mark = paint("ok  ", "green") if fine else paint("FAIL", "red")
    click.echo(f"{mark}  {subject:<7}  {clean(text, lines=True).replace(chr(10), INDENT)}")


class Finding(NamedTuple):
    """One line of the report: the subject, whether it is fine, and the details."""

    subject: str
    ok: bool
    text: str


class Checkup:
    """Runs the checks in order; skips those that depend on one that failed."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def examine(self, session: Session) -> None:
        """Run all checks."""
        config = self._try("config", lambda: _settings(session))
        if config is None:
            return
        origins = dict.fromkeys(setting.origin for setting in config.settings.values())
        self._fine("config", ", ".join(origins) or "nothing is set: all defaults")
        loaded = self._try("app", session.app)
        if loaded is None:
            return
        app, ref = loaded
        self._fine("app", f"{ref.target}: {', '.join(sorted(app.tasks)) or 'no tasks'}")
        problems = self._try("engines", lambda: _ask(app))
        if problems is not None:
            self._engines(app, problems)

    def _engines(self, app: Queuekit, problems: list[str]) -> None:
        """Report the subjects that are fine, then the problems."""
        about = _about(app.runtime)
        for subject, text in about.items():
            if not any(problem.startswith(subject) for problem in problems):
                self._fine(subject, text)
        admin = Admin(app)
        for pause in admin.pauses():
            self._fine("pauses", line_of(pause, admin.now()))
        for dropped in dropped_before(admin):
            self._fine("dead", _dropped_text(dropped, admin.now()))
        for problem in problems:
            subject = next((subject for subject in (*about, *OTHERS) if problem.startswith(subject)), "more")
            self.findings.append(Finding(subject, ok=False, text=problem.removeprefix(f"{subject}: ")))

    def _fine(self, subject: str, text: str) -> None:
        self.findings.append(Finding(subject, ok=True, text=text))

    def _try(self, subject: str, step: Callable[[], T]) -> T | None:
        """Return the result of *step*; if it fails, record why and return ``None``."""
        try:
            return step()
        except QueuekitError as error:
            self.findings.append(Finding(subject, ok=False, text="\n".join(line.strip() for line in error.lines())))
            return None


def _dropped_text(dropped: Dropped, now: float) -> str:
    """Return in words what was dropped from a queue."""
    parts = [f"{dropped.age} too old"] * bool(dropped.age) + [f"{dropped.count} too many"] * bool(dropped.count)
    total = dropped.age + dropped.count
    text = f"{total} dead letters of {dropped.queue} were dropped in 30 days: {', '.join(parts)}"
    return f"{text}; last {age(now - dropped.at)} ago"


def _settings(session: Session) -> Config:
    config = session.config()
    check_sections(config, session.plugins())
    return config


def _about(runtime: Runtime) -> dict[str, str]:
    """Return the text to show for each subject that has no problem."""
    loaded = sum(info.status == "ok" for info in runtime.plugins.infos())
    stored = runtime.backend.notes() if runtime.backend is not None else []
    return {
        "plugin": f"{loaded} loaded",
        "broker": "\n".join([str(runtime.broker_url), *runtime.broker.notes(), *caveats(runtime.broker.capabilities)]),
        "backend": "\n".join([str(runtime.backend_url or "none: results are not stored"), *stored]),
    }


def _ask(app: Queuekit) -> list[str]:
    need_shared(app)
    return Admin(app).check()
