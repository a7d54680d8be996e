"""What ``queuekit worker --reload`` and ``queuekit dev`` share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from queuekit.cli.session import Session
from queuekit.worker.development import DRAIN, DevProgram, Programs, changes_of

__all__ = ["drain_of", "program", "reload_dirs_option", "run_reloading", "watched"]

reload_dirs_option: Callable[[Any], Any] = click.option(
    "--reload-dir",
    "folders",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder to watch instead of the current one. Repeatable.",
)


def watched(folders: Sequence[Path]) -> list[Path]:
    """Return the folders to watch: *folders*, else the current one."""
    return [folder.resolve() for folder in folders] or [Path.cwd()]


def drain_of(session: Session) -> float:
    """Return how long a worker may take to end, and let the worker know it."""
    session.overrides.setdefault("worker.drain", DRAIN)
    return session.config().worker.drain


def program(name: str, session: Session, *words: str, reloads: bool = True) -> DevProgram:
    """Return the program that runs another command of queuekit with the options of this one."""
    command = [sys.executable, "-m", "queuekit.cli.attended", *session.arguments(), *words]
    return DevProgram(name=name, command=command, reloads=reloads)


def run_reloading(session: Session, *, wait_for: float | None, folders: Sequence[Path]) -> int:
    """Run a worker, and start it again when source files change; return its exit code."""
    changes, drain = changes_of(watched(folders), required=True), drain_of(session)
    words = [] if wait_for is None else ["--wait-for", str(wait_for)]
    session.say(f"Watching {', '.join(map(str, watched(folders)))}. For development, not for production.")
    return Programs([program("worker", session, "worker", *words)], changes, say=session.say, drain=drain).run()
