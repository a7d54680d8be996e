"""``queuekit worker``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from queuekit.cli.development import reload_dirs_option, run_reloading
from queuekit.cli.options import common_options, duration_option, engine_options, pass_session, store
from queuekit.cli.session import Session, need_shared
from queuekit.config import sizes
from queuekit.config.settings import parse_queues
from queuekit.worker.log_setup import configure_logging
from queuekit.worker.prefork import preforked
from queuekit.worker.service_manager import ServiceManager
from queuekit.worker.supervisor import WAIT_FOR, Supervisor

__all__ = ["command"]


def _queues(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> None:
    if not values:
        return
    joined = ",".join(values)
    try:
        parse_queues(joined)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=context, param=parameter) from None
    context.ensure_object(Session).overrides["worker.queues"] = joined


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    try:
        context.ensure_object(Session).overrides["worker.max_rss"] = sizes.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=context, param=parameter) from None


@click.command()
@click.argument("target", metavar="[APP]", required=False)
@click.option(
    "-q",
    "--queues",
    metavar="NAME[:WEIGHT],...",
    multiple=True,
    expose_value=False,
    callback=_queues,
    help="Queues and their weights, e.g. high:8,default:4.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1),
    expose_value=False,
    callback=store("worker.concurrency"),
    help="Tasks that each process runs at once.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    expose_value=False,
    callback=store("worker.processes"),
    help="Worker processes.",
)
@click.option(
    "--pool",
    type=click.Choice(["thread", "process"]),
    expose_value=False,
    callback=store("worker.pool"),
    help="Where plain functions run: in threads, or in processes that can be killed.",
)
@duration_option(
    "--wait-for", help="How long to wait at startup for engines that are down. Default: 30s; 0 exits at once."
)
@click.option("--burst", is_flag=True, help="Exit when no message is due and none runs here.")
@duration_option(
    "--drain", setting="worker.drain", help="How long running tasks may take to finish when the worker stops."
)
@click.option(
    "--health-port",
    metavar="[HOST:]PORT",
    expose_value=False,
    callback=store("worker.health_port"),
    help="Answer health probes here; on 127.0.0.1 unless a host is named.",
)
@click.option(
    "--max-tasks",
    type=click.IntRange(1),
    expose_value=False,
    callback=store("worker.max_tasks"),
    help="Replace a process that has run this many tasks.",
)
@click.option(
    "--max-rss",
    metavar="SIZE",
    expose_value=False,
    callback=_size,
    help="Replace a process that occupies more memory than this, e.g. 500MB.",
)
@duration_option("--max-age", setting="worker.max_age", help="Replace a process that is older than this.")
@duration_option(
    "--lease", setting="worker.lease", help="How long a silent worker keeps its messages before others get them."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    expose_value=False,
    callback=store("log.level"),
    help="Lowest level to log.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    expose_value=False,
    callback=store("log.format"),
    help="Lines for people, or one JSON object per line.",
)
@click.option(
    "--reload", "reloads", is_flag=True, help="Restart when source files change; for development, not production."
)
@reload_dirs_option
@engine_options
@common_options
@pass_session
def command(
    session: Session,
    *,
    target: str | None,
    burst: bool,
    wait_for: float | None,
    reloads: bool,
    folders: tuple[Path, ...],
) -> int:
    """Run tasks of APP until told to stop.

    The first SIGTERM, Ctrl-C or SIGHUP stops fetching and lets running tasks finish within --drain. The second
    stops at once. Messages that have not started go back to their queues.
    """
    session.target = target or session.target
    if reloads:
        if burst:
            raise click.UsageError("--reload waits for changes, and --burst ends: use one of them")
        return run_reloading(session, wait_for=wait_for, folders=folders)
    with preforked(session.prepare_fork()) as prefork:
        app, ref = session.app()
        need_shared(app)
        configure_logging(level=app.config.log.level, style=app.config.log.format)
        if session.guessed:
            session.say(f'Found the app in {ref.target}.py. To name it, write to queuekit.toml:  app = "{ref.target}"')
        patience, manager = WAIT_FOR if wait_for is None else wait_for, ServiceManager(os.environ)
        code = Supervisor(app, ref, burst=burst, wait_for=patience, manager=manager, prefork=prefork).run()
    session.opened.remove(app)  # the supervisor closed it
    return code
