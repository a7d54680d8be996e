"""Sending a workflow: what it consists of is stored once, then what it begins with is sent."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs

from queuekit.backend import Condition, Record
from queuekit.client.runtime import Runtime
from queuekit.client.sender import PreparedMessage, Sending
from queuekit.errors import CapabilityError
from queuekit.execution.workflow_held import follower
from queuekit.ids import new_id
from queuekit.wire.call_options import OptionError
from queuekit.wire.position import Position
from queuekit.wire.records import pending
from queuekit.workflows.compile import Graph, GroupNode, TaskNode, build, is_awaited, position_of, records_of
from queuekit.workflows.workflow import Workflow

__all__ = ["start"]

_RECORDS = 8
"""Records that are put in one round trip: parts of a graph are large."""


def start(runtime: Runtime, sending: Sending, workflow: Workflow[Any]) -> Graph:
    """Send *workflow*; it is stored, and all that it begins with is on its queues, when this returns.

    Sending it again under the same id adds nothing.

    Raises:
        NoBackendError: Something follows something, and there is nowhere to store what.
        CapabilityError: The backend cannot join, and a group is followed by something.
        EncodeError: An argument cannot be written; nothing was sent.
        TooLargeError: A message or a part of the workflow is above a limit.
    """
    if not isinstance(workflow, Workflow):
        raise OptionError(
            f"send takes a signature or a workflow, not {type(workflow).__name__}", fix="Make one with task.s(...)"
        )
    graph = build(workflow, workflow.id or new_id(), unique=sending.is_unique)
    records = _records(runtime, graph)
    large = len(records) > _RECORDS
    if large:
        _put(runtime, sending, records)
    unique: list[tuple[int, PreparedMessage]] = []
    sent = sending.send_ready(_entries(sending, graph, unique), ahead=() if large else records)
    followers = [
        attrs.evolve(ready, envelope=follower(runtime, ready.envelope, sent[place].id))
        for place, ready in unique
        if sent[place].duplicate and runtime.backend is not None
    ]
    if followers:
        sending.send_ready(followers)
    return graph


def _records(runtime: Runtime, graph: Graph) -> list[Record]:
    """Return what is to be stored before anything is sent."""
    backend = runtime.backend
    if backend is None:
        if graph.kind == "group" and not _is_watched(graph):
            return []
        backend = runtime.need_backend(f"a {graph.kind}")
    if graph.joins and not backend.capabilities.atomic_join:
        raise CapabilityError(
            f"a group that is followed by something needs a backend that can join, which {runtime.backend_url} cannot",
            fix="Use another backend",
        )
    config = runtime.config
    ttl = max(config.graphs_expire, config.results_expire) + 2 * graph.delay
    records = records_of(graph, runtime.serializer, ttl=ttl, max_record=backend.limits.max_record)
    if graph.kind != "group":
        now = runtime.clock.time()
        records.append(pending(id=graph.id, task=f"({graph.kind})", queue="", ttl=ttl, at=now))
    return records


def _put(runtime: Runtime, sending: Sending, records: list[Record]) -> None:
    """Put the many parts of a large graph; what is there already is that of an earlier send of the same."""
    backend = runtime.need_backend("a workflow")
    for first in range(0, len(records), _RECORDS):
        some = records[first : first + _RECORDS]
        sending.patiently(partial(backend.put, some, condition=Condition.NEWER))


def _is_watched(graph: Graph) -> bool:
    """Return whether the ends of members matter to the group."""
    return any(not isinstance(node, GroupNode) or node.at_once is not None for node in graph.nodes.values())


def _entries(sending: Sending, graph: Graph, unique: list[tuple[int, PreparedMessage]]) -> Iterator[PreparedMessage]:
    """Yield what is sent first; what asks for a unique key is put into *unique* too, with its place."""
    for place, (number, step) in enumerate(graph.entries):
        signature = step.signature
        assert signature is not None  # noqa: S101 - entries have theirs
        chosen = attrs.evolve(signature, id=graph.id_of(number, step))
        awaited = is_awaited(step, None if step.next is None else graph.nodes.get(step.next))
        link = _link(graph, number, step)
        ready = sending.prepare(chosen, link=link, gather=step.gather, awaited=awaited)
        if ready.envelope.unique is not None:
            unique.append((place, ready))
        yield ready


def _link(graph: Graph, number: int, step: TaskNode) -> Position | None:
    """Return the place of an entry; none if nobody is to be told of its end."""
    link = position_of(graph.id, number, step)
    if link is not None and link.member is not None:
        group_node = graph.nodes[link.node]
        if isinstance(group_node, GroupNode) and group_node.callback is None and group_node.at_once is None:
            return None
    return link
