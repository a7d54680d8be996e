"""What ``queuekit worker`` and the plugin that reloads workers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from queuekit.cli.program import command_of, plugin_commands
from queuekit.cli.session import Session
from queuekit.errors import NotInstalledError

__all__ = ["reload_dirs_option", "run_reloading"]

reload_dirs_option: Callable[[Any], Any] = click.option(
    "--reload-dir",
    "folders",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder to watch instead of the current one. Repeatable.",
)


def run_reloading(session: Session, *, wait_for: float | None, folders: Sequence[Path]) -> int:
    """Run a worker, and start it again when source files change, as ``queuekit dev --only worker`` does.

    Returns:
        The worker's exit code.

    Raises:
        NotInstalledError: No plugin adds ``queuekit dev``.
    """
    for spec in plugin_commands(session.plugins()):
        if spec.name == "dev":
            context, dev = click.get_current_context(), command_of(spec)
            code: int = context.invoke(dev, only="worker", wait_for=wait_for, folders=folders)
            return code
    raise NotInstalledError(
        "--reload needs queuekit-dev, which is not installed", fix="Install it:  pip install 'queuekit[dev]'"
    )
