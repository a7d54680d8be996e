"""``queuekit demo``."""

from __future__ import annotations

from pathlib import Path

import click

from queuekit.demo import run

__all__ = ["command"]


@click.command()
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--broker", metavar="URL", help="Broker to use. Default: SQLite in a temporary folder.")
@click.option("--backend", metavar="URL", help="Result backend to use. Default: the broker's engine.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="Worker processes.")
def command(directory: Path | None, *, broker: str | None, backend: str | None, processes: int) -> int:
    """Run a demonstration on real files: those in DIRECTORY, or the sources of Python."""
    return run(directory, broker=broker, backend=backend, processes=processes)
