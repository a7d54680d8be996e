"""``queuekit config``."""

from __future__ import annotations

import click

from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import fields, print_json
from queuekit.cli.session import Session
from queuekit.config.settings import check_sections

__all__ = ["command"]

EMPTY = frozenset({"", "null", "{}"})


@click.group()
def command() -> None:
    """Show the settings in effect."""


@command.command("show")
@click.option("--origin", is_flag=True, help="Show where each value comes from.")
@json_option
@engine_options
@common_options
@pass_session
def show(session: Session, *, origin: bool, as_json: bool) -> None:
    """Print every setting with its value. Passwords are hidden."""
    app = session.any_app(lenient=True)
    check_sections(app.config, app.plugins)
    rows = app.config.rows()
    if as_json:
        print_json({key: {"value": value, "origin": source} for key, value, source in rows})
        return
    shown = [(key, "-" if value in EMPTY else value, source) for key, value, source in rows]
    width = max(len(value) for _, value, _ in shown)
    click.echo(fields({key: f"{value:<{width}}  {source}" if origin else value for key, value, source in shown}))
