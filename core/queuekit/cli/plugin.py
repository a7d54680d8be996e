"""``queuekit plugin``: begin one."""

from __future__ import annotations

from pathlib import Path

import click

from queuekit.cli.options import pass_session
from queuekit.cli.session import Session

__all__ = ["KINDS", "command"]

KINDS = ("broker", "backend", "serializer", "middleware")
"""What a new plugin may provide."""


@click.group()
def command() -> None:
    """Begin a plugin of your own."""


@command.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True, help="What it provides.")
@click.option(
    "--into",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where to write it; default: queuekit-NAME, here.",
)
@pass_session
def new(session: Session, name: str, *, kind: str, into: Path | None) -> None:
    """Write a whole distribution for the plugin NAME: it installs, and its tests say what is left to write.

    NAME is also the scheme of its URLs. Nothing is overwritten. Needs pip install 'queuekit[testing]'.
    """
    from queuekit.testing import scaffold

    names = scaffold.Names.of(name)
    folder = into or Path(names.dist)
    for path in scaffold.write_plugin(names, kind, folder):
        click.echo(path)
    session.say(f'next  cd {folder} && pip install --editable ".[testing]"')
    session.say("      queuekit plugins     (lists it)")
    session.say(f"      pytest -x            (says what is left to write in src/{names.package}/{kind}.py)")
