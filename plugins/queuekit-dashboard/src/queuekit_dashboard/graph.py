"""The workflow that a message belongs to: its parts in their order, each with the state of its message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from queuekit.errors import DecodeError
from queuekit.execution.workflow_store import read_graph
from queuekit.operations.admin import Admin
from queuekit.wire.position import graph_of, link_id, member_id
from queuekit.wire.records import Info, read_infos

__all__ = ["WorkflowPart", "WorkflowView", "workflow_of"]

_PARTS = 50
"""Most parts of a workflow that a page shows, and most members of each group."""


@attrs.frozen(kw_only=True)
class WorkflowPart:
    """A call, or a group of calls that run side by side."""

    members: tuple[Info, ...]
    """What is known of its messages."""
    size: int | None = None
    """Number of members of a group; ``None`` for a single call."""


@attrs.frozen(kw_only=True)
class WorkflowView:
    """A workflow as far as a page shows it."""

    id: str
    kind: str
    parts: tuple[WorkflowPart, ...]
    more: int = 0
    """Parts that are left out."""


def workflow_of(admin: Admin, id: str) -> WorkflowView | None:
    """Return the workflow that message *id* is a part of, or ends; ``None`` if there is none, or it has expired."""
    backend = admin.runtime.backend
    try:
        stored = read_graph(admin.runtime, graph_of(id) or id)
    except DecodeError:
        return None
    if stored is None or backend is None:
        return None
    top = list(_top(stored.id, stored.top))
    shown = top[:_PARTS]
    ids = [one for _, members in shown for one in members]
    with admin.in_time():
        known = {info.id: info for info in read_infos(backend, ids)}
    parts = tuple(WorkflowPart(members=tuple(known[one] for one in members), size=size) for size, members in shown)
    return WorkflowView(id=stored.id, kind=stored.kind, parts=parts, more=len(top) - len(shown))


def _top(id: str, top: list[list[Any]]) -> Iterator[tuple[int | None, list[str]]]:
    """Yield the size of each part, and the ids of its messages; the last call has the id of the workflow."""
    for place, (number, size) in enumerate(top):
        if size is None:
            yield None, [id if place == len(top) - 1 else link_id(id, number)]
        else:
            yield size, [member_id(id, number, index) for index in range(min(size, _PARTS))]
