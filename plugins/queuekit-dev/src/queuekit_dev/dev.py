"""``queuekit dev``, of which ``queuekit worker --reload`` is a part."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from queuekit.cli.development import reload_dirs_option
from queuekit.cli.options import common_options, duration_option, engine_options, pass_session
from queuekit.cli.output import paint
from queuekit.cli.program import plugin_commands
from queuekit.cli.session import Session
from queuekit.logs.plaintext import clean
from queuekit_dev.changes import changes_of
from queuekit_dev.programs import DRAIN, DevProgram, Programs

__all__ = ["command"]

_COLOURS = {"worker": "cyan", "scheduler": "magenta", "dashboard": "green"}
_DASHBOARD = "dashboard"
"""Command of a plugin."""


@click.command()
@click.argument("target", metavar="[APP]", required=False)
@click.option(
    "--only", type=click.Choice(list(_COLOURS)), help="Run only this program, and print its lines without a prefix."
)
@duration_option("--wait-for", help="How long the worker waits at startup for engines that are down. Default: 30s.")
@reload_dirs_option
@engine_options
@common_options
@pass_session
def command(
    session: Session, *, target: str | None, only: str | None, wait_for: float | None, folders: tuple[Path, ...]
) -> int:
    """Run everything that APP needs in this terminal, for development. Not for production.

    Starts a worker, a scheduler and, if it is installed, the dashboard. Worker and scheduler restart when source files
    change. Running tasks have 5 s to finish, or worker.drain if it is set on the command line. Ctrl-C ends all.
    """
    session.target = target or session.target
    session.overrides.setdefault("worker.drain", DRAIN)
    drain = session.config().worker.drain
    programs = [_program(name, session, wait_for) for name in ([only] if only else _usual(session))]
    watched = [folder.resolve() for folder in folders] or [Path.cwd()]
    session.say(f"{', '.join(one.name for one in programs)}: for development, not for production. Ctrl-C ends all.")
    copy = None if only else _copier()
    return Programs(programs, changes_of(watched), say=session.say, copy=copy, drain=drain).run()


def _usual(session: Session) -> list[str]:
    """Return what runs, with the dashboard if a plugin adds it."""
    found = {spec.name for spec in plugin_commands(session.plugins())}
    return [name for name in _COLOURS if name != _DASHBOARD or name in found]


def _program(name: str, session: Session, wait_for: float | None) -> DevProgram:
    """Return the program that runs the command *name* with the options of this one."""
    words = [] if wait_for is None or name != "worker" else ["--wait-for", str(wait_for)]
    command = [sys.executable, "-m", "queuekit_dev.attended", *session.arguments(), name, *words]
    return DevProgram(name=name, command=command, reloads=name != _DASHBOARD)


def _copier() -> Callable[[str, bytes], None]:
    """Return what prints a line with the name of its program before it."""
    width, lock = max(map(len, _COLOURS)), threading.Lock()

    def copy(name: str, line: bytes) -> None:
        text = clean(line.decode(errors="replace").rstrip("\n"))
        if not text:
            return
        with lock:
            sys.stdout.write(f"{paint(name.ljust(width), _COLOURS[name])} | {text}\n")
            sys.stdout.flush()

    return copy
