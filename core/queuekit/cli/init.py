"""``queuekit init``."""

from __future__ import annotations

from pathlib import Path

import click

from queuekit.cli.options import pass_session
from queuekit.cli.session import Session
from queuekit.errors import QueuekitError

__all__ = ["command"]

TASKS = '''"""Tasks: functions that can be sent to a queue and that a worker runs."""

from queuekit import Queuekit

app = Queuekit()  # settings: queuekit.toml, then QUEUEKIT_* variables


@app.task(retries=3, timeout="30s")
def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


@app.task
def fail(text: str = "this task always fails") -> None:
    """Fail, to show what happens to the message of a failed task."""
    raise ValueError(text)
'''
CONFIG = """# Settings of queuekit; "queuekit config show --origin" lists them all.
app = "tasks:app"                      # what "queuekit worker" runs
broker = "sqlite:///.queuekit.db"      # needs no server; results are stored there too
"""


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@pass_session
def command(session: Session, directory: Path) -> None:
    """Create a starter tasks.py and queuekit.toml in DIRECTORY, or in this folder.

    Overwrites nothing.
    """
    files = {"tasks.py": (TASKS, "two tasks: add, and one that fails"), "queuekit.toml": (CONFIG, "broker in one file")}
    there = [name for name in files if (directory / name).exists()]
    if there:
        raise QueuekitError(
            f"{' and '.join(there)} already {'exists' if len(there) == 1 else 'exist'}; nothing was written",
            fix="Choose another folder:  queuekit init shop",
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, (text, _) in files.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise QueuekitError(f"cannot write to {directory}: {error.strerror}") from error
    for name, (_, what) in files.items():
        session.say(f"created  {directory / name!s:<14}  {what}")
    inside = "" if directory == Path() else f"cd {directory} && "
    session.say(f"next     {inside}queuekit worker")
    session.say("         queuekit send add 1 2 --wait     (in another terminal)")
