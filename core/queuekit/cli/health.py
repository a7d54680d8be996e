"""``queuekit health``. The program asks without this module where it can: see :mod:`queuekit_start`."""

from __future__ import annotations

import os

import click

from queuekit.cli.options import common_options, pass_session
from queuekit.cli.session import Session
from queuekit.worker.ask_health import PROBES, VARIABLE, ask, parse_address

__all__ = ["command"]


@click.command()
@click.argument("probe", metavar="[live|ready|startup]", type=click.Choice(list(PROBES)), default="live")
@click.option(
    "--port",
    metavar="[HOST:]PORT",
    help="The worker's --health-port, or the path of its socket. Default: the setting worker.health_port.",
)
@common_options
@pass_session
def command(session: Session, *, probe: str, port: str | None) -> int:
    """Ask a worker on this machine whether it is alive, takes messages, or has started.

    Prints "ok" and exits with 0, or says why not and exits with 1. Does not import the app and needs no engine.
    """
    address = port or os.environ.get(VARIABLE) or session.config().worker.health_port
    if not address:
        raise click.UsageError(
            f"Name the worker's port: --port, or {VARIABLE}, or worker.health_port in queuekit.toml."
        )
    try:
        parse_address(address)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--port'") from None
    passed, text = ask(address, probe)
    click.echo(text, err=not passed)
    return 0 if passed else 1
