"""One queue: its figures, its messages by state, and pause, resume, purge and move."""

from __future__ import annotations

import shlex

from queuekit import durations
from queuekit.broker import Place, QueueCounts
from queuekit.errors import OptionError, QueuekitError
from queuekit.ids import check_name
from queuekit.operations.admin import QueueView
from queuekit.operations.dead_letters import parse_rate
from queuekit.operations.filters import Filter, parse_filter
from queuekit.operations.lane_counts import LaneCounts, count_lanes
from queuekit.operations.listing import Listing, list_messages
from queuekit.operations.pauses import pause, resume
from queuekit_dashboard.bulk import MoveTarget
from queuekit_dashboard.calls import Go, HtmlPage, PageRequest, link
from queuekit_dashboard.figures import rate_of

__all__ = ["filter_of", "move_it", "pause_it", "purge_it", "rate_of_form", "resume_it", "show"]

_SHOWN = 50
"""Messages on a page."""
_LOOKED_AT = 1_000
"""Messages that a page with a filter looks at."""
PLACES = {Place.READY: "Waiting", Place.LEASED: "Running", Place.DELAYED: "Delayed", Place.DEAD: "Dead"}


def show(call: PageRequest) -> HtmlPage:
    """Return a page of the messages of a queue; ``place`` says which, ``filter`` selects, ``cursor`` continues."""
    name = check_name(call.query.get("name", ""), what="queue")
    place = _place(call.query.get("place", Place.READY.value))
    text = call.query.get("filter", "").strip()
    cursor = call.query.get("cursor") or None
    listing, problem = _listing(call, name, place, text, cursor)
    sample = call.site.figures.look()
    counts = call.counts_of(name) or QueueCounts()
    return HtmlPage(
        template="queue.html",
        values={
            "title": name,
            "name": name,
            "place": place.value,
            "places": [(one.value, words) for one, words in PLACES.items()],
            "counts": counts,
            "sample": sample,
            "pause": next((one for one in call.admin.pauses() if one.queue == name), None),
            "workers": [worker for worker in sample.live if name in worker.queues],
            "known": sample.workers is not None,
            "rate": rate_of(sample, name),
            "history": call.site.figures.history(name),
            "lanes": _lanes(call, name, counts),
            "listing": listing,
            "problem": problem,
            "filter": text,
            "cursor": cursor,
            "bulks": [bulk for bulk in call.site.bulk.all() if bulk.what == "move"],
            "others": [view.name for view in sample.queues if view.name != name],
        },
    )


def pause_it(call: PageRequest) -> Go:
    """Pause a queue, for a time or until it is resumed."""
    name, lasts = call.need("name"), call.given("lasts")
    pause(call.admin, queue=name, lasts=durations.parse(lasts) if lasts else None, by=call.by, why=call.given("why"))
    return Go(link("/queue", name=name), f"{name} is paused. Workers obey within two seconds; what runs goes on.")


def resume_it(call: PageRequest) -> Go:
    """End the pause of a queue."""
    name = call.need("name")
    resume(call.admin, queue=name, by=call.by)
    return Go(link("/queue", name=name), f"{name} is resumed.")


def purge_it(call: PageRequest) -> Go:
    """Delete all messages of a queue in one state."""
    name, place = check_name(call.need("name"), what="queue"), _place(call.need("place"))
    call.need_consent()
    count = call.admin.purge(name, place)
    call.admin.acted(f"purge --place {place.value}", by=call.by, on=name, count=count)
    return Go(link("/queue", name=name, place=place.value), f"Messages deleted: {count:,}.")


def move_it(call: PageRequest) -> Go:
    """Begin to move what waits in a queue to another one."""
    name, to = check_name(call.need("name"), what="queue"), call.given("to")
    if to == name:
        raise OptionError(f"the messages are on {name!r} already", fix="Go back and name another queue")
    if not to and name not in call.admin.strays():
        raise OptionError("the form has no queue to move to", fix="Go back and fill it")
    target = MoveTarget(queue=name, to=check_name(to, what="queue") if to else None)
    bulk = call.site.bulk.begin("move", target, by=call.by, rate=rate_of_form(call))
    return Go(link("/queue", name=name), f"The move of {bulk.on} has begun; its progress is shown here.")


def rate_of_form(call: PageRequest) -> float | None:
    """Return the rate that a form asks for; ``None`` for no limit.

    Raises:
        OptionError: It cannot be read.
    """
    text = call.given("rate")
    try:
        return parse_rate(text) if text else None
    except ValueError as error:
        raise OptionError(str(error), fix="Go back and change it") from None


def filter_of(text: str) -> Filter:
    """Return the filter that somebody has typed.

    Raises:
        OptionError: It cannot be read.
    """
    try:
        return parse_filter(shlex.split(text))
    except ValueError as error:
        raise OptionError(
            f"the filter cannot be read: {error}", fix="E.g.  task:mail.* error:Timeout age:>1h"
        ) from None


def _listing(call: PageRequest, name: str, place: Place, text: str, cursor: str | None) -> tuple[Listing | None, str]:
    """Return the messages, or why they cannot be listed: the rest of the page is shown all the same."""
    try:
        wanted = filter_of(text)
        found = list_messages(call.admin, name, place, wanted=wanted, limit=_SHOWN, cursor=cursor, most=_LOOKED_AT)
    except QueuekitError as error:
        return None, " ".join(error.lines())
    return found, ""


def _lanes(call: PageRequest, name: str, counts: QueueCounts) -> LaneCounts | None:
    """Return the lanes of a queue; ``None`` if there are none, or they cannot be read: the page says why below."""
    try:
        return count_lanes(call.admin, QueueView(name=name, counts=counts))
    except QueuekitError:
        return None


def _place(text: str) -> Place:
    try:
        return Place(text)
    except ValueError:
        names = ", ".join(place.value for place in Place)
        raise OptionError(f"{text[:60]!r} is not a state of a message in a queue", fix=f"There are {names}") from None
