"""``queuekit queues``."""

from __future__ import annotations

from collections.abc import Mapping

import click

from queuekit.broker import Place
from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, counted, one_line, print_json
from queuekit.cli.pauses import document_of, line_of
from queuekit.cli.session import Session
from queuekit.logs.plaintext import clean
from queuekit.operations.admin import QueueView
from queuekit.operations.lane_counts import LOOKED_AT, LaneCounts, count_lanes

__all__ = ["command"]

LANE_HEADER = ("QUEUE", "LANE", "WAITING")
HEADER = ("QUEUE", "WAITING", "RUNNING", "DELAYED", "DEAD", "OLDEST", "WORKERS")
_STATES = {Place.READY: "waiting", Place.LEASED: "running", Place.DELAYED: "delayed", Place.DEAD: "dead"}
_NAMED = 10
"""Most queues without workers that are named."""


@click.command()
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List the queues: messages by state, the age of the oldest waiting one, and the number of workers.

    If tasks have fair_by, also the lanes in which most messages wait.
    """
    admin = session.admin()
    views, pauses = admin.queues(), admin.pauses()
    lanes = {view.name: counts for view in views if (counts := count_lanes(admin, view)) is not None}
    if as_json:
        now = admin.now()
        found = {pause.queue: document_of(pause, now) for pause in pauses if pause.queue}
        print_json([_document(view, lanes.get(view.name)) | {"paused": found.get(view.name)} for view in views])
        return
    click.echo(columns(HEADER, [_row(view, admin.untold) for view in views], right=HEADER[1:]))
    _print_lanes(session, lanes)
    for pause in pauses:
        session.say(line_of(pause, admin.now()))
    _print_hints(session, views)


def _print_lanes(session: Session, lanes: Mapping[str, LaneCounts]) -> None:
    rows = [
        [queue, one_line(lane, width=40) if lane else "(common)", str(count) if counts.whole else f">={count}"]
        for queue, counts in lanes.items()
        for lane, count in counts.waiting.items()
    ]
    if not rows:
        return
    click.echo()
    click.echo(columns(LANE_HEADER, rows, right=("WAITING",)))
    for queue, counts in lanes.items():
        if counts.more:
            session.say(f"{clean(queue)} has {counts.more} lanes more")
    if not all(counts.whole for counts in lanes.values()):
        session.say(f"lanes are counted among the first {LOOKED_AT} messages that wait")


def _print_hints(session: Session, views: list[QueueView]) -> None:
    if any(view.counts.at_least for view in views):
        session.say("counting all would take too long: >= is a lower bound, ? is not counted")
    if any(view.counts.dead for view in views):
        session.say(f"next  {session.command('dlq ls')}")
    unserved = [view for view in views if view.workers == 0 and _waiting(view)]
    if unserved:
        names = [view.name for view in sorted(unserved, key=_waiting, reverse=True)[:_NAMED]]
        more = len(unserved) - len(names)
        session.say(
            f"no worker serves {', '.join(map(clean, names))}{f', and {more} more' if more else ''}; start one:"
        )
        session.say(f"next  {session.worker_command(names)}")


def _waiting(view: QueueView) -> int:
    return view.counts.ready + view.counts.delayed


def _row(view: QueueView, untold: str) -> list[str]:
    numbers = [counted(view.counts, place) for place in _STATES]
    workers = "-" if view.workers is None else str(view.workers)
    return [view.name, *numbers, _oldest(view, untold), workers]


def _oldest(view: QueueView, untold: str) -> str:
    """Return how long the oldest message has waited: as the broker reports it, else the least that workers saw."""
    if view.counts.oldest_age is not None or not untold or not view.counts.ready:
        return age(view.counts.oldest_age)
    return f"not reported by {untold}" if view.seen_age is None else f">={age(view.seen_age)}"


def _document(view: QueueView, lanes: LaneCounts | None) -> dict[str, object]:
    counts = view.counts
    return {
        "queue": view.name,
        **{state: getattr(counts, place) for place, state in _STATES.items()},
        "at_least": [state for place, state in _STATES.items() if place in counts.at_least],
        "oldest_seconds": counts.oldest_age,
        "oldest_seconds_at_least": view.seen_age if counts.oldest_age is None and counts.ready else None,
        "workers": view.workers,
        "lanes": None if lanes is None else [{"lane": key, "waiting": count} for key, count in lanes.waiting.items()],
        "lanes_complete": None if lanes is None else lanes.whole and not lanes.more,
    }
