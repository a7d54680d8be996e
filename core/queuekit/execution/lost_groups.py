"""Notices groups that a result backend has lost, where it may drop them at any time.

Before a workflow is sent, as many markers as a group has members join the group. So a group that has not been lost
counts more arrivals than it has members. One that was lost starts anew, without markers, and counts at most its
members. Each arrival tells the two apart, without a further round trip, and again after a crash.
"""

from __future__ import annotations

from functools import partial

from queuekit.backend import Join
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sending
from queuekit.workflows.compile import Graph, GroupNode

__all__ = ["arrivals", "has_markers", "mark_groups"]

_LONGEST = 10.0
"""How many times longer than its workflow's records a group may wait for its first member."""


def has_markers(runtime: Runtime) -> bool:
    """Return whether groups have markers: not where the engine itself completes them, in one step with the result."""
    backend = runtime.backend
    return backend is not None and not backend.capabilities.durable and not runtime.shared


def mark_groups(runtime: Runtime, sending: Sending, graph: Graph, *, ttl: float) -> None:
    """Let markers join all groups of *graph* that something waits for; may be repeated.

    Raises:
        UnavailableError: The backend does not answer.
    """
    if not has_markers(runtime):
        return
    joins = [
        Join(group=f"{graph.id}.{number}", member=node.size + index, size=node.size, ttl=_LONGEST * ttl)
        for number, node in graph.nodes.items()
        if isinstance(node, GroupNode) and node.callback is not None
        for index in range(node.size)
    ]
    if joins:
        sending.patiently(partial(runtime.need_backend("a group").join_many, joins))


def arrivals(join: Join, count: int, *, markers: bool) -> int:
    """Return how many members have arrived in a group that counts *count*; 0 or less if it is lost."""
    return count - join.size if markers else count
