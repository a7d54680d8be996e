"""Cancel workflows, and messages that belong to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from queuekit.backend import Backend, Condition, Record
from queuekit.broker import Delivery
from queuekit.client.codec import Message
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sending
from queuekit.envelope import Envelope
from queuekit.execution.commit import write
from queuekit.execution.ending import ended_by
from queuekit.execution.outcome import Outcome
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.execution.workflow_store import StoredGraph
from queuekit.failure import Failure
from queuekit.states import FINAL, State
from queuekit.timelimit import made_progress
from queuekit.wire.position import link_id, member_id
from queuekit.wire.records import cancelled, read_infos
from queuekit.workflows.compile import GroupNode, Node, graph_keys, id_of

__all__ = ["cancel_workflow", "report_cancelled"]

_AT_ONCE = 500
"""Most ids that are removed, or read, in one round trip."""


def cancel_workflow(runtime: Runtime, graph: StoredGraph, queues: Sequence[str], *, mark: Record) -> bool:
    """Cancel a whole workflow: remove its waiting messages, ask running ones to stop, and never send the rest.

    Returns:
        Whether it had not ended yet.
    """
    backend = runtime.need_backend("cancelling")
    ids = _all_ids(backend, graph)
    states = _states(backend, ids)
    ends = [graph.id] if graph.kind != "group" else list(ids)
    if all(states[id] in FINAL for id in ends):
        return False
    backend.put([mark])
    removed = _remove(runtime, ids, queues)
    never_sent = [id for id in ends if states[id] is State.UNKNOWN]
    _record(runtime, backend, graph, [*removed, *never_sent, *(() if graph.kind == "group" else ends)])
    return True


def _record(runtime: Runtime, backend: Backend, graph: StoredGraph, ids: Sequence[str]) -> None:
    """Record that *ids* are cancelled; duplicates are allowed."""
    now, task = runtime.clock.time(), f"({graph.kind})"
    records = [cancelled(id, task=task, ttl=graph.ttl, at=now) for id in dict.fromkeys(ids)]
    for first in range(0, len(records), _AT_ONCE):
        made_progress()
        backend.put(records[first : first + _AT_ONCE], condition=Condition.NEWER)


def _states(backend: Backend, ids: Sequence[str]) -> dict[str, State]:
    """Return the state of each message."""
    parts = (ids[first : first + _AT_ONCE] for first in range(0, len(ids), _AT_ONCE))
    states: dict[str, State] = {}
    for part in parts:
        made_progress()
        states |= {info.id: info.state for info in read_infos(backend, part)}
    return states


def _all_ids(backend: Backend, graph: StoredGraph) -> list[str]:
    """Return the ids of all messages of a workflow."""
    keys = graph_keys(graph.id, len(graph.starts))[1:]
    for index, (_, record) in enumerate(sorted(backend.get(keys).items()) if keys else (), start=1):
        graph.add(index, record)
    ids = {} if graph.kind == "group" else {graph.id: None}
    for number, size in graph.top:
        ids.update(dict.fromkeys(_members(graph.id, number, size) if size is not None else [link_id(graph.id, number)]))
    for number, node in graph.nodes.items():
        if number >= 0:
            ids.update(dict.fromkeys(_ids_of(graph.id, number, node)))
    return list(ids)


def _ids_of(graph: str, number: int, node: Node) -> list[str]:
    return _members(graph, number, node.size) if isinstance(node, GroupNode) else [id_of(graph, number, node)]


def _members(graph: str, number: int, size: int) -> list[str]:
    return [member_id(graph, number, index) for index in range(size)]


def _remove(runtime: Runtime, ids: Sequence[str], queues: Iterable[str]) -> list[str]:
    """Remove waiting messages and return their ids. If the broker cannot, workers drop them when they see the mark."""
    broker = runtime.broker
    if not broker.capabilities.remove:
        return []
    removed: list[str] = []
    for queue in queues:
        for first in range(0, len(ids), _AT_ONCE):
            made_progress()
            removed += broker.remove(queue, ids[first : first + _AT_ONCE])
    return removed


def report_cancelled(runtime: Runtime, sending: Sending, envelope: Envelope, message: Message, *, ttl: float) -> None:
    """Record the end of a message of a workflow that was removed from the broker, as a worker does that drops one."""
    now = runtime.clock.time()
    delivery = Delivery(envelope=envelope, token="", number=1, claimed_at=now)
    failure = Failure(id=message.id, task=message.task, error_type="Cancelled", error="cancelled")
    record = cancelled(message.id, task=message.task, ttl=ttl, at=now, envelope=envelope)
    outcome = Outcome(delivery=delivery, settlement=None, records=(record,), ended=ended_by(message, failure))
    workflows = WorkflowAdvancer(runtime, sending)
    workflows.expand([outcome])
    write(runtime, [outcome], lose=workflows.lose)
