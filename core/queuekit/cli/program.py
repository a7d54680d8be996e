"""The group of all commands: each is imported when it is called, and errors end here."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from queuekit.cli.session import Session
from queuekit.cli.streams import failed_write, finish_output, make_streams_safe
from queuekit.errors import PluginError, QueuekitError, UnavailableError
from queuekit.logs.plaintext import clean

if TYPE_CHECKING:
    from queuekit.hookspecs import CommandSpec
    from queuekit.plugins.manager import Plugins

__all__ = ["COMMANDS", "Program", "error_lines", "plugin_commands"]

INTERRUPTED = 130
MAX_LINES = 6
_WIDTH = 500
"""Longest line of an error, in characters."""


class Command(NamedTuple):
    """A command of core: enough for the list of commands, without importing it."""

    section: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "init": Command("Run", "Create a starter tasks.py and queuekit.toml."),
    "worker": Command("Run", "Run tasks until told to stop."),
    "send": Command("Run", "Put one call of a task on its queue."),
    "scheduler": Command("Run", "Send the ticks of schedules, without running tasks."),
    "demo": Command("Run", "Run a demonstration on real files."),
    "queues": Command("Look", "List the queues with their messages by state."),
    "show": Command("Look", "Show everything known about one message."),
    "schedules": Command("Look", "List, add, change, pause, resume, run or remove schedules."),
    "plugins": Command("Look", "List the plugins, including those that failed to load."),
    "config": Command("Look", "Show the settings in effect."),
    "check": Command("Look", "Check config, app, plugins and engines for problems."),
    "cancel": Command("Act", "Cancel a waiting or running message."),
    "dlq": Command("Act", "Inspect, replay or delete dead letters."),
    "purge": Command("Act", "Permanently delete messages of a queue."),
    "plugin": Command("Extend", "Start a plugin of your own."),
}
"""Commands of core, in the order of the list; ``name`` is in ``queuekit.cli.<name>``, as ``command``."""

ALIASES: Mapping[str, str] = {"crons": "schedules"}
"""Further names of commands, which the list leaves out."""


class Program(click.Group):
    """``queuekit``.

    The list of commands names those of core only and loads no plugin, so that it stays quick; commands of plugins are
    looked for when a name is not one of core's, and ``queuekit plugins`` lists them.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of core's commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now; those of core come before those of plugins."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name in COMMANDS:
            command: click.Command = import_module(f"queuekit.cli.{name}").command
            return command
        plugins = ctx.ensure_object(Session).plugins()
        for spec in plugin_commands(plugins):
            if spec.name == cmd_name:
                return _command_of(spec)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that *args* begin with, or say which one may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            plugins = ctx.ensure_object(Session).plugins()
            known = [*COMMANDS, *ALIASES, *(spec.name for spec in plugin_commands(plugins))]
            near = difflib.get_close_matches(error.command_name, known)
            meant = " or ".join(repr(name) for name in dict.fromkeys(ALIASES.get(name, name) for name in near))
            text = f"No such command {error.command_name!r}.{f' Did you mean {meant}?' if meant else ''}"
            raise click.NoSuchCommand(error.command_name, text, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, by section."""
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                width = max(map(len, COMMANDS))
                rows = [(name.ljust(width), entry.help) for name, entry in COMMANDS.items() if entry.section == section]
                formatter.write_dl(rows)
        with formatter.section("More"):
            formatter.write_text("Plugins may add commands: queuekit plugins lists them.")

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's own signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002
        **extra: Any,
    ) -> Any:
        """Run a command and leave with its exit code; a user's mistake is told in a few lines."""
        session = extra.setdefault("obj", Session())
        name = prog_name or "queuekit"
        extra["windows_expand_args"] = windows_expand_args
        if not standalone_mode:
            return super().main(args, name, complete_var, standalone_mode=False, **extra)
        lost = make_streams_safe()
        try:
            with warnings.catch_warnings():
                _shorten_warnings()
                code = super().main(args, name, complete_var, standalone_mode=False, **extra)
            finish_output(lost)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - what is no mistake of the user's is raised again
            code = _exit_code(error, session)
        finally:
            session.close()
        sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: BaseException, session: Session) -> int:
    """Tell the user of *error* and return the exit code of its kind; what is nobody's mistake is raised again."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, QueuekitError):
        _show(error, session)
        return error.exit_code
    if not isinstance(error, OSError):
        raise error
    if session.full_traceback or _is_on(os.environ.get("QUEUEKIT_DEBUG", "")):
        click.echo(clean("".join(traceback.format_exception(error)), lines=True), err=True)
    text = failed_write(error)
    if not isinstance(error, BrokenPipeError):
        click.echo(f"Error: {text}.", err=True)
    return 1


def plugin_commands(plugins: Plugins) -> list[CommandSpec]:
    """Return the commands that plugins add; none takes the name of one of core's."""
    return [spec for spec in plugins.collect("queuekit_commands") if spec.name not in {*COMMANDS, *ALIASES}]


def error_lines(error: QueuekitError) -> list[str]:
    """Return *error* as the command line prints it: what, where, fix and what would work, at most six lines."""
    first, *rest = [clean(line.strip()) for text in error.lines() for line in text.splitlines() if line.strip()]
    lines = [f"Error {error.code}: {first.removesuffix('.')}.", *(f"  {line}" for line in rest)]
    return [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..." for line in lines[:MAX_LINES]]


def _show(error: QueuekitError, session: Session) -> None:
    if isinstance(error, UnavailableError):
        session.locate(error)
    if session.full_traceback or _is_on(os.environ.get("QUEUEKIT_DEBUG", "")):
        click.echo(clean("".join(traceback.format_exception(error)), lines=True), err=True)
    click.echo("\n".join(error_lines(error)), err=True)


def _is_on(value: str) -> bool:
    return value.strip().lower() not in {"", "0", "false", "no", "off"}


def _command_of(spec: CommandSpec) -> click.Command:
    """Return the command that *spec* names or makes.

    Raises:
        PluginError: It cannot be imported or made.
    """
    from queuekit.plugins.factory import resolve
    from queuekit.plugins.loading import reason

    what, fix = f"the command {spec.name!r} of a plugin cannot be used", "See:  queuekit plugins"
    try:
        found = resolve(spec.command)
        made = found if isinstance(found, click.Command) else found()
    except Exception as error:
        raise PluginError(f"{what}: {reason(error)}", fix=fix) from error
    if not isinstance(made, click.Command):
        raise PluginError(f"{what}: it is {type(made).__name__}, which is no click command", fix=fix)
    return made


def _shorten_warnings() -> None:
    """Print warnings of queuekit as one line of talk; those of others as Python does."""
    here = str(Path(__file__).parents[1])
    usual = warnings.showwarning

    def show(  # noqa: PLR0917 - as Python calls it
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(here):
            click.echo(f"Warning: {clean(str(message), lines=True)}", err=True)
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show
