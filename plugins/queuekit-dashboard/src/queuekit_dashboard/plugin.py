"""The plugin: adds ``queuekit dashboard``, ``queuekit top`` and the table ``[dashboard]``."""

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
    """Add ``queuekit dashboard`` and ``queuekit top``."""
    page, frames = "Serve a web page of queues, messages and workers.", "Watch queues and workers in this terminal."
    return [
        CommandSpec(name="dashboard", help=page, command="queuekit_dashboard.command:command"),
        CommandSpec(name="top", help=frames, command="queuekit_dashboard.top:command"),
    ]
