"""Graphs as workers read them: part by part, each once."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import attrs

from queuekit.backend import Record
from queuekit.client.runtime import Runtime
from queuekit.envelope import Envelope
from queuekit.errors import DecodeError
from queuekit.serializer import Serializer
from queuekit.timelimit import time_limit
from queuekit.wire.position import chunk_key, graph_key
from queuekit.workflows.compile import Node, graph_keys, read_chunk, read_head

__all__ = ["GoneError", "Kept", "Missing", "Reads", "StoredGraph", "load_graph", "read_graph"]

_MOST_NODES = 200_000
"""Nodes that one worker keeps, about 100 MB."""


class Missing(Exception):
    """Something must be read first, and then the work begun again.

    Args:
        key: The record.
        graph: The graph that it is a part of, if it is one.
    """

    def __init__(self, key: str, graph: StoredGraph | None = None) -> None:
        super().__init__(key)
        self.key = key
        self.graph = graph


class GoneError(Exception):
    """Nobody knows the workflow any more."""


@attrs.define
class StoredGraph:
    """As much of a graph as has been read."""

    id: str
    ttl: float
    """Seconds that it is kept after a step."""
    flat: bool
    kind: str
    starts: list[int]
    """Number of the first node of each part."""
    renew_at: float
    """Monotonic seconds after which it must be kept longer."""
    serializer: Serializer
    nodes: dict[int, Any] = attrs.field(factory=dict)
    callbacks: dict[tuple[int, int], Envelope] = attrs.field(factory=dict)
    """What groups send when they are complete, by number of the group and generation."""
    loaded: set[int] = attrs.field(factory=set)

    def node(self, number: int) -> Node:
        """Return a node.

        Raises:
            Missing: Its part must be read first.
            DecodeError: There is none of that number.
        """
        node: Node | None = self.nodes.get(number)
        if node is not None:
            return node
        chunk = bisect.bisect_right(self.starts, number) - 1
        if chunk in self.loaded or chunk < 0:
            raise DecodeError(f"workflow {self.id} has no node {number}")
        raise Missing(chunk_key(self.id, chunk), self)

    def add(self, chunk: int, record: Record | None) -> None:
        """Take in a part; ``None`` if it is gone."""
        self.loaded.add(chunk)
        if record is not None:
            self.nodes.update(read_chunk(record, self.serializer))

    @property
    def size(self) -> int:
        """About how many nodes there are in all parts."""
        return self.starts[-1] + 10

    @property
    def top(self) -> list[list[Any]]:
        """The parts of the whole: number, and size if it is a group."""
        found: list[list[Any]] = self.nodes[-1]
        return found


def read_graph(runtime: Runtime, id: str) -> StoredGraph | None:
    """Return what is stored of workflow *id*, if it is. One round trip."""
    backend = runtime.backend
    with time_limit(runtime.config.send_timeout):
        record = None if backend is None else backend.get([graph_key(id)]).get(graph_key(id))
    return None if record is None else load_graph(runtime, record, id)


def load_graph(runtime: Runtime, record: Record, id: str) -> StoredGraph:
    """Return what the first record of a graph tells.

    Raises:
        DecodeError: It was not written by this release, or by a serializer that is not accepted here.
    """
    head = read_head(record)
    serializer = runtime.accepted.get(str(head.get("ct")))
    if serializer is None:
        raise DecodeError(f"workflow {id} is {str(head.get('ct'))[:40]!r}, which is not accepted here")
    ttl = float(head["ttl"])
    left = ttl if record.ttl is None else record.ttl
    graph = StoredGraph(
        id=id,
        ttl=ttl,
        flat=bool(head.get("flat")),
        kind=str(head.get("kind")),
        starts=head["starts"],
        renew_at=runtime.clock.monotonic() + left - ttl / 2,
        serializer=serializer,
    )
    graph.add(0, record)
    return graph


class Kept:
    """The graphs that a worker keeps; the longest unused go first."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[str, StoredGraph] = OrderedDict()
        self._count = 0

    def get(self, id: str) -> StoredGraph | None:
        """Return a graph that is kept."""
        graph = self._graphs.get(id)
        if graph is not None:
            self._graphs.move_to_end(id)
        return graph

    def add(self, graph: StoredGraph) -> None:
        """Keep *graph*, and let others go if there are too many."""
        old = self._graphs.pop(graph.id, None)
        self._count -= 0 if old is None else old.size
        self._graphs[graph.id] = graph
        self._count += graph.size
        while self._count > _MOST_NODES and len(self._graphs) > 1:
            self._count -= self._graphs.popitem(last=False)[1].size


class Reads:
    """What one batch reads: graphs, which are kept for the next ones, and records, which are not.

    Args:
        runtime: The backend.
        graphs: Those kept, longest unused first.
    """

    def __init__(self, runtime: Runtime, graphs: Kept) -> None:
        self._runtime = runtime
        self._graphs = graphs
        self._records: dict[str, Record | None] = {}
        self._wanted: dict[str, StoredGraph | None] = {}

    def graph(self, id: str) -> StoredGraph:
        """Return a graph.

        Raises:
            Missing: It must be read first.
            GoneError: It is not there.
        """
        graph = self._graphs.get(id)
        now = self._runtime.clock.monotonic()
        if graph is not None and now < graph.renew_at:
            return graph
        record = self.record(graph_key(id))
        if record is None:
            raise GoneError(id)
        graph = load_graph(self._runtime, record, id)
        if graph.renew_at <= now:
            self._renew(graph, now)
        self._graphs.add(graph)
        return graph

    def record(self, key: str) -> Record | None:
        """Return a record as it is now; ``None`` if there is none.

        Raises:
            Missing: It must be read first.
        """
        if key not in self._records:
            raise Missing(key)
        return self._records[key]

    def overlay(self, records: Iterable[Record]) -> None:
        """Let those that come after in the batch see what will be written."""
        for record in records:
            if record.key in self._records:
                known = self._records[record.key]
                if known is None or known.rank < record.rank:
                    self._records[record.key] = record

    def want(self, missing: Missing) -> None:
        """Note what must be read first."""
        self._wanted[missing.key] = missing.graph

    def fetch(self) -> None:
        """Read all that was missing, in one round trip."""
        found = self._runtime.need_backend("a workflow").get(list(self._wanted))
        for key, graph in self._wanted.items():
            if graph is None:
                self._records[key] = found.get(key)
            else:
                graph.add(int(key.rpartition(":")[2]), found.get(key))
        self._wanted.clear()

    def _renew(self, graph: StoredGraph, now: float) -> None:
        """Keep a graph for as long again; all its parts."""
        backend = self._runtime.need_backend("a workflow")
        records = backend.get(graph_keys(graph.id, len(graph.starts)))
        backend.put([attrs.evolve(record, ttl=graph.ttl) for record in records.values()])
        graph.renew_at = now + graph.ttl / 2
