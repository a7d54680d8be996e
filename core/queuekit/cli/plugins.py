"""``queuekit plugins``."""

from __future__ import annotations

from typing import Any

import click

from queuekit.cli.options import common_options, json_option, pass_session
from queuekit.cli.output import columns, print_json
from queuekit.cli.program import plugin_commands
from queuekit.cli.session import Session
from queuekit.loading import PluginInfo

__all__ = ["command"]

HEADER = ("NAME", "FROM", "VERSION", "STATUS", "SERVES", "LOADED IN")


@click.command()
@json_option
@common_options
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List the plugins: what they serve, the commands that they add, and why one cannot be used."""
    plugins = session.any_app(lenient=True).plugins
    commands = plugin_commands(plugins)
    infos = plugins.infos()
    if as_json:
        print_json({"plugins": [_document(info) for info in infos], "commands": [spec.name for spec in commands]})
        return
    click.echo(columns(HEADER, [_row(info) for info in infos], right=("LOADED IN",)))
    for info in infos:
        if info.error:
            click.echo(f"{info.name}: {info.error}")
    for spec in commands:
        click.echo(f"queuekit {spec.name}  {spec.help}")


def _row(info: PluginInfo) -> list[str]:
    serves = ", ".join(dict.fromkeys(f"{scheme}://" for scheme in info.schemes))
    return [info.name, info.dist, info.version, info.status, serves, f"{info.load_ms:.1f} ms"]


def _document(info: PluginInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "distribution": info.dist or None,
        "version": info.version or None,
        "api": list(info.api) if info.api else None,
        "status": info.status,
        "error": info.error or None,
        "schemes": list(info.schemes),
        "hooks": list(info.hooks),
        "load_ms": info.load_ms,
    }
