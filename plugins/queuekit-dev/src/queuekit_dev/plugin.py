"""The plugin: adds ``queuekit dev``, ``queuekit run`` and ``queuekit replay``."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import CommandSpec, hookimpl

queuekit_api = (1, 1)

COMMANDS = {
    "dev": "Run worker, scheduler and dashboard in this terminal.",
    "run": "Run one call of a task here, without a queue.",
    "replay": "Run the call of a dead letter here.",
}


@hookimpl
def queuekit_commands() -> Iterable[CommandSpec]:
    """Add the commands; each is ``command`` of the module of its name."""
    return [
        CommandSpec(name=name, help=text, command=f"queuekit_dev.{name}:command") for name, text in COMMANDS.items()
    ]
