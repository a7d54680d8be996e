"""``queuekit plugin``: start a plugin, or print what it must do."""

from __future__ import annotations

from pathlib import Path

import click

from queuekit.cli.options import pass_session
from queuekit.cli.session import Session

__all__ = ["KINDS", "command"]

KINDS = ("broker", "backend", "serializer", "middleware")
"""Kinds of new plugins."""


@click.group()
def command() -> None:
    """Create a plugin of your own, or read what it must do."""


@command.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True, help="What the plugin provides.")
@click.option(
    "--into",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where to write it. Default: queuekit-NAME in this folder.",
)
@pass_session
def new(session: Session, name: str, *, kind: str, into: Path | None) -> None:
    """Create a distribution for a new plugin.

    It installs, and its tests list what is left to write. NAME is also the scheme of its URLs. Overwrites nothing.
    Needs pip install 'queuekit[testing]'.
    """
    from queuekit.testing import scaffold

    names = scaffold.PluginNames.of(name)
    folder = into or Path(names.dist)
    for path in scaffold.write_plugin(names, kind, folder):
        click.echo(path)
    session.say(f'next  cd {folder} && pip install --editable ".[testing]"')
    session.say("      queuekit plugins     (lists it)")
    session.say(f"      pytest -x            (says what is left to write in src/{names.package}/{kind}.py)")


@command.command("contract")
@click.argument("kind", type=click.Choice(KINDS))
def contract(kind: str) -> None:
    """Print what a plugin of KIND must do.

    Its methods, capabilities and data, as the installed version documents them. Needs pip install 'queuekit[testing]'.
    """
    from queuekit.testing import scaffold

    click.echo(scaffold.contract_text(kind))
