"""The plugin: adds ``queuekit dashboard`` and the table ``[dashboard]``."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import CommandSpec, ConfigSection, hookimpl
from queuekit_dashboard.options import DashboardOptions

queuekit_api = (1, 1)


@hookimpl
def queuekit_config_sections() -> Iterable[ConfigSection]:
    """Own the table ``[dashboard]``."""
    return [ConfigSection(name="dashboard", options=DashboardOptions)]


@hookimpl
def queuekit_commands() -> Iterable[CommandSpec]:
    """Add ``queuekit dashboard``."""
    text = "Serve a web page of queues, messages and workers."
    return [CommandSpec(name="dashboard", help=text, command="queuekit_dashboard.command:command")]
