"""One message: what happened to it, why it does not run, where it is, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from queuekit.broker import Place
from queuekit.cli.message_view import as_document, timeline
from queuekit.cli.stack import no_answer, not_running
from queuekit.ids import check_id, check_name
from queuekit.operations.admin import Admin, MessageView
from queuekit.operations.stacks import ask_stack
from queuekit.operations.why import collect, reasons
from queuekit.states import FINAL, State
from queuekit.wire.stacks import StackReport
from queuekit_dashboard.calls import Go, HtmlPage, PageRequest, link
from queuekit_dashboard.graph import workflow_of

__all__ = ["cancel_it", "drop_it", "retry_it", "show", "stack_of"]

_PATIENCE = 4.0
"""Seconds to wait for the stack of a body."""


def show(call: PageRequest) -> HtmlPage:
    """Return what is known of the message ``id``."""
    return _page(call, check_id(call.query.get("id", "").strip()))


def cancel_it(call: PageRequest) -> Go:
    """Cancel a message, or a workflow."""
    id = check_id(call.need("id"))
    if not call.admin.cancel(id, by=call.by):
        return Go(link("/message", id=id), "It had ended already.")
    call.admin.acted("cancel", by=call.by, ids=[id])
    return Go(link("/message", id=id), "Cancelled. A running body is stopped by its worker, if it can be.")


def retry_it(call: PageRequest) -> Go:
    """Put a dead letter back on its queue."""
    id, queue = check_id(call.need("id")), check_name(call.need("queue"), what="queue")
    done = call.admin.replay(queue, [id])
    if not done:
        return Go(link("/message", id=id), "It is not a dead letter any more.")
    call.admin.acted("dlq retry", by=call.by, ids=done)
    return Go(link("/message", id=id), "It is back on its queue, with all retries.")


def drop_it(call: PageRequest) -> Go:
    """Delete a dead letter."""
    id, queue = check_id(call.need("id")), check_name(call.need("queue"), what="queue")
    call.need_consent()
    done = call.admin.drop(queue, [id])
    if not done:
        return Go(link("/message", id=id), "It is not a dead letter any more.")
    call.admin.acted("dlq drop", by=call.by, ids=done)
    return Go(link("/dead", queue=queue), f"{id} is deleted.")


def stack_of(call: PageRequest) -> HtmlPage:
    """Ask the worker that runs a message where its body is."""
    id = check_id(call.need("id"))
    view = call.admin.show(id)
    idle = not_running(view)
    report = None if idle else ask_stack(call.admin.runtime, id, patience=_PATIENCE)
    note = f"It does not run: {idle}." if idle else no_answer(call.admin, id, _PATIENCE) if report is None else ""
    return _page(call, id, report=report, note=note)


def _page(call: PageRequest, id: str, *, report: StackReport | None = None, note: str = "") -> HtmlPage:
    view = call.admin.show(id)
    facts = collect(call.admin, id, view=view, counts_of=call.counts_of)
    document = as_document(view, call.app.runtime.accepted)
    place = view.queued.stored.place if view.queued is not None else None
    ended = view.info.state in FINAL
    return HtmlPage(
        template="message.html",
        values={
            "title": id,
            "id": id,
            "document": document,
            "arguments": list(_arguments(call.admin, view)),
            "hidden": view.hidden,
            "unread": view.queued is not None and view.message is None,
            "timeline": timeline(view),
            "reasons": reasons(facts),
            "done": view.info.state is State.SUCCESS,
            "workflow": workflow_of(call.admin, id),
            "dead": place is Place.DEAD,
            "waits": place in {Place.READY, Place.DELAYED},
            "runs": not not_running(view),
            "cancels": place is not Place.DEAD and not ended,
            "report": report,
            "note": note,
        },
    )


def _arguments(admin: Admin, view: MessageView) -> Iterator[tuple[str, Any]]:
    """Yield the arguments with the names of their parameters, as far as known."""
    message = view.message
    if message is None:
        return
    names = admin.parameters_of(view)
    for number, value in enumerate(message.args):
        yield names[number] if number < len(names) and not message.each else f"#{number + 1}", value
    yield from message.kwargs.items()
