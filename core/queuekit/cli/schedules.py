"""``queuekit schedules``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Any

import click
from click.core import ParameterSource

from queuekit.app import Queuekit
from queuekit.cli.arguments import CallCommand, typed_call, unchecked_option
from queuekit.cli.options import common_options, duration_option, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, echo, fields, moment, one_line, print_json, when
from queuekit.cli.session import Session, need_shared
from queuekit.schedules.due import MISFIRES, OVERLAPS
from queuekit.schedules.manager import ScheduleView
from queuekit.schedules.triggers import When, when_from_text
from queuekit.states import State
from queuekit.wire.records import Info

__all__ = ["command"]

HEADER = ("NAME", "WHEN", "CALLS", "LAST", "OUTCOME", "NEXT", "STATE")
_ASIDE = "set aside"
"""State of a schedule whose record cannot be read."""
SHOWN = 5
"""Number of next ticks that ``show`` prints."""

_when_option = click.option("--when", "when_text", metavar="WHEN", help='E.g. "every 30s", "@daily" or "0 3 1 1-6 0".')
_rules: tuple[Callable[[Any], Any], ...] = (
    click.option("--tz", metavar="ZONE", default="UTC", show_default=True, help="Time zone of a cron expression."),
    click.option("--misfire", type=click.Choice(MISFIRES), help="What to do with missed ticks."),
    click.option(
        "--overlap", type=click.Choice(OVERLAPS), help="What to do with a tick while an earlier call still runs."
    ),
    duration_option("--grace", help="How late a tick may be before it counts as missed."),
)


def _rule_options(function: Any) -> Any:
    for option in reversed(_rules):
        function = option(function)
    return function


@click.group(invoke_without_command=True)
@json_option
@engine_options
@common_options
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """List, add, change, pause, resume, run or remove schedules."""
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Session), as_json=as_json)


@command.command("ls")
@json_option
@engine_options
@common_options
@pass_session
def ls(session: Session, *, as_json: bool) -> None:
    """List the schedules with their last and next ticks."""
    _list(session, as_json=as_json)


@command.command("show")
@click.argument("name")
@json_option
@engine_options
@common_options
@pass_session
def show(session: Session, *, name: str, as_json: bool) -> None:
    """Show one schedule in full, with its next five ticks."""
    app = session.shared_app()
    view = app.schedules.get(name)
    coming = app.schedules.upcoming(name, SHOWN)
    if as_json:
        print_json(_document(view) | {"upcoming": [moment(tick) for tick in coming]})
        return
    click.echo(_in_full(view, coming, now=app.runtime.now()))
    if view.progress.id:
        session.say(f"next  {session.command(f'show {view.progress.id}')}")


@command.command("next")
@click.argument("when_text", metavar="WHEN")
@click.option("--tz", metavar="ZONE", default="UTC", show_default=True, help="Time zone of a cron expression.")
@click.option(
    "-n", "count", type=click.IntRange(1, 1000), default=SHOWN, show_default=True, help="How many ticks to print."
)
@click.option("--after", type=click.DateTime(), help="Start at this time, in that time zone, instead of now.")
@json_option
def upcoming(*, when_text: str, tz: str, count: int, after: datetime | None, as_json: bool) -> None:
    """Print the next ticks of an interval or a cron expression.

    WHEN is "every 30s" or "0 3 1 1-6 0", for example. Nothing is stored.
    """
    chosen = when_from_text(when_text, tz=tz)
    start = datetime.now(chosen.zone()) if after is None else after.replace(tzinfo=chosen.zone())
    ticks = list(islice(chosen.ticks(start.timestamp()), count))
    if as_json:
        print_json({"when": str(chosen), "words": chosen.words(), "upcoming": [moment(tick) for tick in ticks]})
        return
    click.echo(chosen.words())
    for tick in ticks:
        click.echo(_local(tick, chosen))


@command.command("add", cls=CallCommand)
@click.argument("name")
@click.argument("when_text", metavar="WHEN")
@click.argument("task")
@click.argument("arguments", metavar="[ARGS]... [NAME=VALUE]...", nargs=-1)
@click.option("--queue", metavar="NAME", help="Queue to use instead of the task's own.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 runs first.")
@unchecked_option
@_rule_options
@json_option
@engine_options
@common_options
@pass_session
def add(
    session: Session,
    /,
    *,
    name: str,
    when_text: str,
    task: str,
    arguments: tuple[str, ...],
    queue: str | None,
    priority: int | None,
    unchecked: bool,
    as_json: bool,
    **rules: Any,
) -> None:
    """Add the schedule NAME, which sends TASK at each tick of WHEN.

    WHEN is an interval (30s, or "every 30s"), a cron expression ("0 3 1 1-6 0") or one of @yearly, @monthly, @weekly,
    @daily and @hourly. TASK and its arguments are written as for queuekit send.
    """
    chosen = when_from_text(when_text, tz=rules.pop("tz"))
    app, _ = session.app()
    need_shared(app)
    chosen_task, usage = app.tasks.find(task), f"queuekit schedules add NAME WHEN {task}"
    args, kwargs = typed_call(chosen_task, arguments, usage=usage, unchecked=unchecked)
    call = chosen_task.si(*args, **kwargs).options(queue=queue, priority=priority)
    view = app.schedules.add(name, chosen, call, **_given(rules))
    _report(session, app, view, as_json=as_json)


@command.command("change")
@click.argument("name")
@_when_option
@_rule_options
@json_option
@engine_options
@common_options
@pass_session
def change(session: Session, /, *, name: str, when_text: str | None, tz: str, as_json: bool, **rules: Any) -> None:
    """Change the schedule NAME. To change a schedule that is declared in code, change the code."""
    given = _given(rules)
    if when_text is not None:
        given["when"] = when_from_text(when_text, tz=tz)
    elif click.get_current_context().get_parameter_source("tz") is not ParameterSource.DEFAULT:
        raise click.UsageError("--tz needs --when: repeat the cron expression with its new time zone")
    if not given:
        raise click.UsageError("nothing to change: give --when, --misfire, --overlap or --grace")
    app = session.shared_app()
    _report(session, app, app.schedules.change(name, **given), as_json=as_json)


@command.command("pause")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@engine_options
@common_options
@pass_session
def pause(session: Session, *, names: tuple[str, ...]) -> None:
    """Pause schedules: send no ticks until they are resumed."""
    app = session.shared_app()
    for name in names:
        app.schedules.pause(name)
        session.say(f"paused  {name}")


@command.command("resume")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@engine_options
@common_options
@pass_session
def resume(session: Session, *, names: tuple[str, ...]) -> None:
    """Resume schedules, from now on."""
    app = session.shared_app()
    for name in names:
        view = app.schedules.resume(name)
        session.say(f"resumed  {name}, next {when(view.next, now=app.runtime.now())}")


@command.command("sign", short_help="Sign stored schedules.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@engine_options
@common_options
@pass_session
def sign(session: Session, *, names: tuple[str, ...]) -> None:
    """Sign stored schedules with the first of signing_keys, and print what they call.

    For schedules that were added before there were keys, and for a new key. Remove one that you do not want.
    """
    app = session.shared_app()
    for name in names:
        app.schedules.sign(name)
        entry = app.schedules.get(name).entry
        session.say(f"signed  {name}: {one_line(entry.when.words())}: {one_line(entry.about)}")


@command.command("run")
@click.argument("name")
@engine_options
@common_options
@pass_session
def run(session: Session, *, name: str) -> None:
    """Send the call of a schedule now, and print its id.

    The ticks of the schedule NAME go on as before.
    """
    click.echo(session.shared_app().schedules.run(name).id)


@command.command("remove")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@engine_options
@common_options
@pass_session
def remove(session: Session, *, names: tuple[str, ...]) -> None:
    """Remove schedules.

    You can remove a schedule that was added, or one that no running worker declares any more.
    """
    app = session.shared_app()
    for name in names:
        app.schedules.remove(name)
        session.say(f"removed  {name}")


def _given(rules: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rules.items() if value is not None}


def _report(session: Session, app: Queuekit, view: ScheduleView, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(view))
        return
    echo(f"{view.entry.when.words()}: {one_line(view.entry.about)}")
    session.say(f"next  {when(view.next, now=app.runtime.now()) or 'never'}")


def _list(session: Session, *, as_json: bool) -> None:
    app = session.shared_app()
    views, aside = app.schedules.all(), app.schedules.set_aside()
    if as_json:
        broken = [{"name": name, "state": _ASIDE, "error": why} for name, why in aside.items()]
        print_json([*(_document(view) for view in views), *broken])
    elif views or aside:
        _print_table(session, views, aside, now=app.runtime.now())
    else:
        session.say("No schedules. Declare one with @app.periodic(...), or:  queuekit schedules add NAME WHEN TASK")


def _print_table(session: Session, views: list[ScheduleView], aside: dict[str, str], *, now: float) -> None:
    rows = [[one_line(name), *["-"] * (len(HEADER) - 2), _ASIDE] for name in aside]
    click.echo(columns(HEADER, [*(_row(view, now) for view in views), *rows]))
    for name, why in aside.items():
        session.say(f"set aside: {one_line(name)}: {one_line(why)}")
    asleep = [view.entry.name for view in views if view.state == "asleep"]
    if asleep:
        session.say(f"asleep: the code of no live worker declares {', '.join(asleep)}")


def _row(view: ScheduleView, now: float) -> list[str]:
    entry, progress = view.entry, view.progress
    last = "-" if progress.last is None else f"{age(now - progress.last)} ago"
    coming = "-" if view.next is None else f"in {age(view.next - now)}"
    return [entry.name, entry.when.words(), entry.about, last, _outcome(view), coming, view.state]


def _outcome(view: ScheduleView) -> str:
    """Return the state of the call that the last tick sent, or ``NOT SENT``."""
    if view.progress.error:
        return "NOT SENT"
    return "-" if view.outcome.state is State.UNKNOWN else view.outcome.state.value


def _error(outcome: Info) -> str:
    return f"{outcome.error_type}: {outcome.error}" if outcome.error else ""


def _in_full(view: ScheduleView, coming: list[float], *, now: float) -> str:
    entry, progress = view.entry, view.progress
    counts = {name: getattr(progress, name) for name in ("sent", "missed", "skipped", "failed")}
    rows = {
        "name": entry.name,
        "state": view.state,
        "when": entry.when.words(),
        "expression": str(entry.when),
        "calls": entry.about,
        "from": "code" if entry.source == "code" else "added by hand",
        "rules": f"misfire {entry.misfire}, overlap {entry.overlap}, grace {age(entry.grace)}",
        "ticks": ", ".join(f"{count} {name}" for name, count in counts.items()),
        "last": when(progress.last, now=now),
        "id": progress.id,
        "outcome": "" if _outcome(view) == "-" else _outcome(view),
        "error": one_line(progress.error or _error(view.outcome)),
    }
    listed = "\n".join(f"  {_local(tick, entry.when)}" for tick in coming)
    return f"{fields(rows)}\nupcoming{'' if not entry.paused else ' if it were resumed'}\n{listed or '  never'}"


def _local(tick: float, chosen: When) -> str:
    """Return a tick in the time zone of its schedule."""
    at = datetime.fromtimestamp(tick, chosen.zone())
    return at.isoformat(sep=" ", timespec="milliseconds" if at.microsecond else "seconds")


def _document(view: ScheduleView) -> dict[str, Any]:
    entry, progress, outcome = view.entry, view.progress, view.outcome
    return {
        "name": entry.name,
        "state": view.state,
        "when": str(entry.when),
        "words": entry.when.words(),
        "calls": entry.about,
        "source": entry.source,
        "misfire": entry.misfire,
        "overlap": entry.overlap,
        "grace_seconds": entry.grace,
        "next": moment(view.next),
        "last": moment(progress.last),
        "last_id": progress.id or None,
        "last_state": None if outcome.state is State.UNKNOWN else outcome.state.value,
        "error": progress.error or None,
        **{name: getattr(progress, name) for name in ("sent", "missed", "skipped", "failed")},
    }
