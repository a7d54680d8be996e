"""The command line: ``queuekit`` and its commands. They only call other modules of core.

Data goes to standard output, everything else to standard error. A usage error prints at most six lines and sets the
exit code of its kind; see docs/reference/cli.md.

Import ``main``. Each command is a module.
Imports from: the top of the package, logs, wire, plugins, config, tasks, client, schedules, execution,
operations, worker.
"""

from __future__ import annotations

import click

from queuekit.cli.options import common_options
from queuekit.cli.program import Program
from queuekit.cli.session import Session

__all__ = ["main"]


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click calls it
    if value and not context.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version  # costs 40 ms; only --version needs it

        try:
            click.echo(f"queuekit {version('queuekit')}")
        except PackageNotFoundError:
            click.echo("queuekit, not installed")
        context.exit()


@click.group(
    cls=Program,
    name="queuekit",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-v", "--verbose", is_flag=True, help="Log debug messages too.")
@click.option("-q", "--quiet", is_flag=True, help="Print no hints, and log only warnings and errors.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@common_options
@click.pass_context
def main(context: click.Context, *, verbose: bool, quiet: bool) -> None:
    """A task queue: one process sends a call, another runs it.

    A command finds the app by --app, QUEUEKIT_APP or "app =" in queuekit.toml, or in tasks.py, app.py or main.py in
    this folder. Exit codes: 0 success, 1 failure (of a task or a check), 2 wrong usage, 3 app or settings cannot
    be loaded, 4 broker or backend cannot be reached, 5 a plugin is missing, 6 asked to stop but still running, 130
    interrupted.
    """
    session = context.ensure_object(Session)
    session.quiet = quiet
    if verbose or quiet:
        session.overrides.setdefault("log.level", "DEBUG" if verbose else "WARNING")
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
