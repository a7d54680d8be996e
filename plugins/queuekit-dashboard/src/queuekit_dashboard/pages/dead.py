"""Dead letters by fault, and what is done with many of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from queuekit.ids import check_name
from queuekit.operations.admin import QueuedMessage
from queuekit.operations.dead_letters import grouped, walk
from queuekit.operations.filters import Filter
from queuekit_dashboard.bulk import BulkTarget
from queuekit_dashboard.calls import Go, HtmlPage, PageRequest, link
from queuekit_dashboard.figures import total_of
from queuekit_dashboard.pages.queue import filter_of, rate_of_form

__all__ = ["drop_all", "retry_all", "show", "stop"]

_LOOKED_AT = 1_000
"""Most dead letters that one page looks at."""
_RATE = "50/s"


def show(call: PageRequest) -> HtmlPage:
    """Return the dead letters in groups; ``queue`` and ``filter`` select some."""
    queue, text = call.query.get("queue", "").strip(), call.query.get("filter", "").strip()
    name, wanted = _queue(queue), filter_of(text)
    views = [view for view in call.site.figures.look().queues if view.counts.dead]
    counts = {view.name: view.counts.dead for view in views}
    total = total_of([view for view in views if not name or view.name == name])
    return HtmlPage(
        template="dead.html",
        values={
            "title": "Dead letters",
            "groups": grouped(_letters(call, name, wanted, counts)),
            "looked": min(total.dead, _LOOKED_AT),
            "total": total,
            "queue": queue,
            "filter": text,
            "queues": list(counts),
            "bulks": [bulk for bulk in call.site.bulk.all() if bulk.what != "move"],
            "rate": _RATE,
        },
    )


def retry_all(call: PageRequest) -> Go:
    """Begin to put the dead letters of a group back on their queues."""
    return _begin(call, "retry", rate_of_form(call))


def drop_all(call: PageRequest) -> Go:
    """Begin to delete the dead letters of a group."""
    call.need_consent()
    return _begin(call, "drop", None)


def stop(call: PageRequest) -> Go:
    """Stop what changes many messages."""
    call.site.bulk.stop(call.need("id"))
    name = call.given("name")
    return Go(link("/queue", name=name) if name else "/dead", "It stops after its present step.")


def _begin(call: PageRequest, what: Literal["retry", "drop"], rate: float | None) -> Go:
    queue, text, kind = call.given("queue"), call.given("filter"), call.given("fingerprint")
    choice = BulkTarget(queue=_queue(queue), wanted=filter_of(text), fingerprint=kind)
    bulk = call.site.bulk.begin(what, choice, by=call.by, rate=rate)
    return Go(link("/dead", queue=queue, filter=text), f"{what} of {bulk.on} has begun; its progress is shown here.")


def _queue(name: str) -> str | None:
    return check_name(name, what="queue") if name else None


def _letters(
    call: PageRequest, queue: str | None, wanted: Filter, counts: Mapping[str, int]
) -> Iterator[QueuedMessage]:
    """Yield dead letters, the newest of each queue first; of a limited number that are looked at."""
    left = _LOOKED_AT
    for name in [queue] if queue else counts:
        if left > 0:
            yield from walk(call.admin, name, wanted, most=left)
        left -= counts.get(name, 0)
