"""The group of all commands. Imports a command when it is called, and prints errors."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
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

__all__ = ["COMMANDS", "Program", "command_of", "error_lines", "plugin_commands"]

INTERRUPTED = 130
MAX_LINES = 6
_WIDTH = 500
"""Longest line of an error, in characters."""


class Command(NamedTuple):
    """What the list of commands shows of a command of core, without importing it."""

    section: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "init": Command("Run", "Create a starter tasks.py and queuekit.toml."),
    "worker": Command("Run", "Run tasks until told to stop."),
    "send": Command("Run", "Put one call of a task on its queue."),
    "scheduler": Command("Run", "Send the ticks of schedules, without running tasks."),
    "demo": Command("Run", "Run a demonstration on real files."),
    "queues": Command("Look", "List the queues with their messages by state."),
    "workers": Command("Look", "List the workers and what each runs."),
    "pauses": Command("Look", "List what is paused, by whom and until when."),
    "ls": Command("Look", "List the messages of a queue."),
    "why": Command("Look", "Explain why a message does not run."),
    "stack": Command("Look", "Print where the body of a running message is."),
    "show": Command("Look", "Show everything known about one message."),
    "health": Command("Look", "Ask a worker on this machine whether it is alive."),
    "schedules": Command("Look", "List, add, change, pause, resume, run or remove schedules."),
    "limits": Command("Look", "List or change the limits of tasks."),
    "actions": Command("Look", "List what operators changed, and who did it."),
    "plugins": Command("Look", "List the plugins, including those that failed to load."),
    "config": Command("Look", "Show the settings in effect."),
    "check": Command("Look", "Check config, app, plugins and engines for problems."),
    "pause": Command("Act", "Pause a queue or a task."),
    "resume": Command("Act", "End the pause of a queue or a task."),
    "drain": Command("Act", "Let a worker finish its tasks, then end it."),
    "cancel": Command("Act", "Cancel a waiting or running message."),
    "kill": Command("Act", "Kill the running body of a message."),
    "dlq": Command("Act", "Inspect, replay or delete dead letters."),
    "move": Command("Act", "Move the waiting messages of a queue to another one."),
    "purge": Command("Act", "Permanently delete messages of a queue."),
    "plugin": Command("Extend", "Create a plugin, or read what it must do."),
}
"""Commands of core, in the order of the list; each is ``queuekit.cli.<name>.command``."""

ALIASES: Mapping[str, str] = {"crons": "schedules"}
"""Other names of commands; the list leaves them out."""

EXTRAS: Mapping[str, str] = {
    "dashboard": "dashboard",
    "metrics": "prometheus",
    **dict.fromkeys(("dev", "run", "replay"), "dev"),
    "top": "dashboard",
}
"""Extra of queuekit that provides a command. Only for hints: any plugin may add these commands."""


class Program(click.Group):
    """``queuekit``.

    The list of commands names only those of core and loads no plugin, so that it stays quick. Plugins are loaded when
    a name is not one of core's; ``queuekit plugins`` lists their commands.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of core's commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; core's commands take precedence over those of plugins."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name in COMMANDS:
            command: click.Command = import_module(f"queuekit.cli.{name}").command
            command.name = name  # click has it from the function
            return command
        plugins = ctx.ensure_object(Session).plugins()
        for spec in plugin_commands(plugins):
            if spec.name == cmd_name:
                return command_of(spec)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that *args* begin with.

        Raises:
            NoSuchCommand: There is none; the error says what to install, or suggests similar names.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            plugins = ctx.ensure_object(Session).plugins()
            hint = _hint(error.command_name, [spec.name for spec in plugin_commands(plugins)])
            text = f"No such command {error.command_name!r}.{hint}"
            raise click.NoSuchCommand(error.command_name, text, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands by section."""
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
        """Run a command and exit with its code; a usage error prints a few lines, not a traceback."""
        session = extra.setdefault("obj", Session())
        name = prog_name or "queuekit"
        extra["windows_expand_args"] = windows_expand_args
        if not standalone_mode:
            return super().main(args, name, complete_var, standalone_mode=False, **extra)
        session.forks = args is None
        lost = make_streams_safe()
        try:
            with warnings.catch_warnings():
                _shorten_warnings()
                code = super().main(args, name, complete_var, standalone_mode=False, **extra)
            finish_output(lost)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - unexpected errors are raised again
            code = _exit_code(error, session)
        finally:
            session.close()
        sys.exit(code if isinstance(code, int) else 0)


def _hint(name: str, added: Iterable[str]) -> str:
    """Return what to do if *name* is neither a command of core nor one that plugins have *added*."""
    if name in EXTRAS:
        return f" Install it:  pip install 'queuekit[{EXTRAS[name]}]'"
    near = difflib.get_close_matches(name, [*COMMANDS, *ALIASES, *EXTRAS, *added])
    meant = " or ".join(repr(each) for each in dict.fromkeys(ALIASES.get(each, each) for each in near))
    return f" Did you mean {meant}?" if meant else ""


def _exit_code(error: BaseException, session: Session) -> int:
    """Print *error* and return the exit code of its kind; an unexpected error is raised again."""
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
    """Return the commands that plugins add, without those that have the name of one of core's."""
    return [spec for spec in plugins.collect("queuekit_commands") if spec.name not in {*COMMANDS, *ALIASES}]


def error_lines(error: QueuekitError) -> list[str]:
    """Return *error* as the command line prints it: what is wrong, where, and the fix, in at most six lines."""
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


def command_of(spec: CommandSpec) -> click.Command:
    """Return the command that *spec* names or that its factory makes.

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
        raise PluginError(f"{what}: it is {type(made).__name__}, not a click command", fix=fix)
    return made


def _shorten_warnings() -> None:
    """Print warnings of queuekit as one line each; other warnings as Python prints them."""
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
