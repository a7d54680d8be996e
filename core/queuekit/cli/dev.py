"""``queuekit dev``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from queuekit.cli.development import drain_of, program, reload_dirs_option, watched
from queuekit.cli.options import common_options, engine_options, pass_session
from queuekit.cli.output import paint
from queuekit.cli.program import plugin_commands
from queuekit.cli.session import Session
from queuekit.logs.plaintext import clean
from queuekit.worker.development import Programs, changes_of

__all__ = ["command"]

_COLOURS = {"worker": "cyan", "scheduler": "magenta", "dashboard": "green"}
_DASHBOARD = "dashboard"
"""Command of a plugin."""


@click.command()
@click.argument("target", metavar="[APP]", required=False)
@reload_dirs_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, target: str | None, folders: tuple[Path, ...]) -> int:
    """Run all that APP needs in this terminal: for development, not for production.

    A worker, a scheduler and, if it is installed, the dashboard. Worker and scheduler start again when source files
    change. Running tasks have 5 s to finish, or worker.drain if it is set on the command line. Ctrl-C ends all.
    """
    session.target = target or session.target
    folders_, drain = watched(folders), drain_of(session)
    changes = changes_of(folders_, required=False)
    programs = [program(name, session, name) for name in ("worker", "scheduler")]
    if any(spec.name == _DASHBOARD for spec in plugin_commands(session.plugins())):
        programs.append(program(_DASHBOARD, session, _DASHBOARD, reloads=False))
    session.say(f"{', '.join(one.name for one in programs)}: for development, not for production. Ctrl-C ends all.")
    return Programs(programs, changes, say=session.say, copy=_copier(list(_COLOURS)), drain=drain).run()


def _copier(names: Sequence[str]) -> Callable[[str, bytes], None]:
    """Return what prints a line with the name of its program before it."""
    width, lock = max(map(len, names)), threading.Lock()

    def copy(name: str, line: bytes) -> None:
        text = clean(line.decode(errors="replace").rstrip("\n"))
        if not text:
            return
        with lock:
            sys.stdout.write(f"{paint(name.ljust(width), _COLOURS[name])} | {text}\n")
            sys.stdout.flush()

    return copy
