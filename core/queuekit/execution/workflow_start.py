"""Send a workflow: store its graph once, then send its first messages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs

from queuekit.backend import Condition, Record
from queuekit.client.runtime import Runtime
from queuekit.client.sender import PreparedMessage, Sending
from queuekit.errors import CapabilityError
from queuekit.execution.lost_groups import mark_groups
from queuekit.execution.workflow_held import follower
from queuekit.ids import new_id
from queuekit.wire.call_options import OptionError
from queuekit.wire.position import Position
from queuekit.wire.records import pending
from queuekit.workflows.compile import Graph, GroupNode, TaskNode, build, is_awaited, position_of, records_of
from queuekit.workflows.workflow import Workflow

__all__ = ["start"]

_RECORDS = 8
"""Most records that are put in one round trip; parts of a graph are large."""


def start(runtime: Runtime, sending: Sending, workflow: Workflow[Any]) -> Graph:
    """Send *workflow*. When this returns, its graph is stored and its first messages are on their queues.

    Sending it again under the same id adds nothing.

    Raises:
        NoBackendError: A task follows another, and there is no backend to store the graph.
        CapabilityError: A task follows a group, and the backend cannot join.
        EncodeError: An argument cannot be encoded; nothing was sent.
        TooLargeError: A message or a part of the graph exceeds a limit.
    """
    if not isinstance(workflow, Workflow):
        raise OptionError(
            f"send takes a signature or a workflow, not {type(workflow).__name__}", fix="Make one with task.s(...)"
        )
    graph = build(workflow, workflow.id or new_id(), unique=sending.is_unique)
    for node in graph.nodes.values():
        _check(node, sending)
    records = _records(runtime, graph)
    large = len(records) > _RECORDS
    if large:
        _put(runtime, sending, records)
    if graph.joins:
        mark_groups(runtime, sending, graph, ttl=_ttl(runtime, graph))
    unique: list[tuple[int, PreparedMessage]] = []
    sent = sending.send_ready(_entries(sending, graph, unique), ahead=() if large else records)
    if runtime.backend is not None:
        sending.send_ready(
            attrs.evolve(ready, envelope=follower(runtime, ready.envelope, sent[place].id))
            for place, ready in unique
            if sent[place].duplicate
        )
    return graph


def _check(node: TaskNode | GroupNode, sending: Sending) -> None:
    if isinstance(node, TaskNode) and node.signature is not None:
        sending.check_service_options(node.signature)
        sending.check_follow_up(node.signature)


def _records(runtime: Runtime, graph: Graph) -> list[Record]:
    """Return the records to store before anything is sent."""
    backend = runtime.backend
    if backend is None:
        if graph.kind == "group" and not _is_watched(graph):
            return []
        backend = runtime.need_backend(f"a {graph.kind}")
    if graph.joins and not backend.capabilities.atomic_join:
        raise CapabilityError(
            f"a group with a callback needs a backend that can join; {runtime.backend_url} cannot",
            fix="Use another backend",
        )
    ttl = _ttl(runtime, graph)
    records = records_of(graph, runtime.serializer, ttl=ttl, max_record=backend.limits.max_record)
    if runtime.signing is not None:
        records = [runtime.signing.signed_record(record) for record in records]
    if graph.kind != "group":
        now = runtime.clock.time()
        records.append(pending(id=graph.id, task=f"({graph.kind})", queue="", ttl=ttl, at=now))
    return records


def _ttl(runtime: Runtime, graph: Graph) -> float:
    """Return the seconds that the records of a workflow are kept after each of its steps."""
    return max(runtime.config.graphs_expire, runtime.config.results_expire) + 2 * graph.delay


def _put(runtime: Runtime, sending: Sending, records: list[Record]) -> None:
    """Put the many parts of a large graph; parts that exist come from an earlier send of the same workflow."""
    backend = runtime.need_backend("a workflow")
    for first in range(0, len(records), _RECORDS):
        some = records[first : first + _RECORDS]
        sending.patiently(partial(backend.put, some, condition=Condition.NEWER))


def _is_watched(graph: Graph) -> bool:
    """Return whether something follows from the end of a member."""
    return any(not isinstance(node, GroupNode) or node.at_once is not None for node in graph.nodes.values())


def _entries(sending: Sending, graph: Graph, unique: list[tuple[int, PreparedMessage]]) -> Iterator[PreparedMessage]:
    """Yield the first messages; add those with a unique key to *unique*, with their index."""
    for place, (number, step) in enumerate(graph.entries):
        signature = step.signature
        assert signature is not None  # noqa: S101 - entry nodes always have one
        chosen = signature.placed(id=graph.id_of(number, step))
        awaited = is_awaited(step, None if step.next is None else graph.nodes.get(step.next))
        link = _link(graph, number, step)
        ready = sending.prepare(chosen, link=link, gather=step.gather, awaited=awaited)
        if ready.envelope.unique is not None:
            unique.append((place, ready))
        yield ready


def _link(graph: Graph, number: int, step: TaskNode) -> Position | None:
    """Return the position of an entry; ``None`` if nothing follows from its end."""
    link = position_of(graph.id, number, step)
    if link is not None and link.member is not None:
        group_node = graph.nodes[link.node]
        if isinstance(group_node, GroupNode) and group_node.callback is None and group_node.at_once is None:
            return None
    return link
