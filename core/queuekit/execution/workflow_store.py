"""Read the graphs of workflows, part by part, and each part once."""

from __future__ import annotations

import bisect
import contextlib
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
from queuekit.values import define
from queuekit.wire.batches import in_batches
from queuekit.wire.position import chunk_key, graph_key
from queuekit.wire.signing import Signing
from queuekit.workflows.compile import Node, graph_keys, read_chunk, read_head

__all__ = ["GoneError", "Kept", "Missing", "Reads", "StoredGraph", "load_graph", "read_graph"]

_MOST_NODES = 200_000
"""Most nodes that one worker keeps in memory, about 100 MB."""


class Missing(Exception):
    """A record must be read first; then the work starts again.

    Args:
        key: Key of the record.
        graph: The graph that the record is a part of, if any.
    """

    def __init__(self, key: str, graph: StoredGraph | None = None) -> None:
        super().__init__(key)
        self.key = key
        self.graph = graph


class GoneError(Exception):
    """The workflow's records have expired."""


@define
class StoredGraph:
    """The parts of a graph that have been read."""

    id: str
    ttl: float
    """Seconds that its records are kept after a step."""
    flat: bool
    kind: str
    starts: list[int]
    """Number of the first node of each part."""
    renew_at: float
    """Monotonic time at which its records must be renewed."""
    serializer: Serializer
    signing: Signing | None = None
    """Checks the parts as they are added."""
    nodes: dict[int, Any] = attrs.field(factory=dict)
    callbacks: dict[tuple[int, int], Envelope] = attrs.field(factory=dict)
    """Callbacks of groups, by number of the group and generation."""
    loaded: set[int] = attrs.field(factory=set)

    def node(self, number: int) -> Node:
        """Return a node.

        Raises:
            Missing: Its part must be read first.
            DecodeError: The graph has no node of that number.
        """
        node: Node | None = self.nodes.get(number)
        if node is not None:
            return node
        chunk = bisect.bisect_right(self.starts, number) - 1
        if chunk in self.loaded or chunk < 0:
            raise DecodeError(f"workflow {self.id} has no node {number}")
        raise Missing(chunk_key(self.id, chunk), self)

    def add(self, chunk: int, record: Record | None) -> None:
        """Add a part; *record* is ``None`` if it has expired."""
        self.loaded.add(chunk)
        if record is not None:
            if self.signing is not None:
                self.signing.check_record(record)
            self.nodes.update(read_chunk(record, self.serializer, start=self.starts[chunk]))

    @property
    def size(self) -> int:
        """Approximate number of nodes in all parts."""
        return self.starts[-1] + 10

    @property
    def top(self) -> list[list[Any]]:
        """The parts of the workflow: the node's number, and its size if it is a group."""
        found: list[list[Any]] = self.nodes[-1]
        return found


def read_graph(runtime: Runtime, id: str) -> StoredGraph | None:
    """Return the stored graph of workflow *id*, or ``None``; one round trip."""
    backend = runtime.backend
    with time_limit(runtime.config.send_timeout):
        record = None if backend is None else backend.get([graph_key(id)]).get(graph_key(id))
    return None if record is None else load_graph(runtime, record, id)


def load_graph(runtime: Runtime, record: Record, id: str) -> StoredGraph:
    """Return the graph that its first record describes.

    Raises:
        DecodeError: It was not written by this release, or by a serializer that is not accepted here.
        UnsignedError: It is not signed as required.
    """
    if runtime.signing is not None:
        runtime.signing.check_record(record)
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
        signing=runtime.signing,
    )
    graph.add(0, record)
    return graph


class Kept:
    """The graphs that a worker keeps in memory; drops the least recently used."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[str, StoredGraph] = OrderedDict()
        self._count = 0

    def get(self, id: str) -> StoredGraph | None:
        """Return a graph, or ``None`` if it is not kept."""
        graph = self._graphs.get(id)
        if graph is not None:
            self._graphs.move_to_end(id)
        return graph

    def add(self, graph: StoredGraph) -> None:
        """Keep *graph*, and drop others if there are too many nodes."""
        old = self._graphs.pop(graph.id, None)
        self._count -= 0 if old is None else old.size
        self._graphs[graph.id] = graph
        self._count += graph.size
        while self._count > _MOST_NODES and len(self._graphs) > 1:
            self._count -= self._graphs.popitem(last=False)[1].size


class Reads:
    """The reads of one batch: graphs, which are kept for later batches, and records, which are not.

    Args:
        runtime: Its backend is read.
        graphs: Graphs kept from earlier batches.
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
            GoneError: It has expired.
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
        """Return the current record; ``None`` if there is none.

        Raises:
            Missing: It must be read first.
        """
        if key not in self._records:
            raise Missing(key)
        return self._records[key]

    def overlay(self, records: Iterable[Record]) -> None:
        """Show *records*, which are not yet written, to the later outcomes of the batch."""
        for record in records:
            if record.key in self._records:
                known = self._records[record.key]
                if known is None or known.rank < record.rank:
                    self._records[record.key] = record

    def want(self, missing: Missing) -> None:
        """Add a record to the next :meth:`fetch`."""
        self._wanted[missing.key] = missing.graph

    def fetch(self) -> None:
        """Read all missing records in one round trip."""
        found = self._runtime.need_backend("a workflow").get(list(self._wanted))
        for key, graph in self._wanted.items():
            if graph is None:
                self._records[key] = found.get(key)
            else:
                # A part that cannot be read, or that nobody signed, has no nodes: its workflow cannot go on.
                with contextlib.suppress(DecodeError):
                    graph.add(int(key.rpartition(":")[2]), found.get(key))
        self._wanted.clear()

    def _renew(self, graph: StoredGraph, now: float) -> None:
        """Renew the lifetime of all parts of a graph."""
        backend = self._runtime.need_backend("a workflow")
        records = backend.get(graph_keys(graph.id, len(graph.starts)))
        renewed = (attrs.evolve(record, ttl=graph.ttl) for record in records.values())
        limits = self._runtime.broker.limits
        for some in in_batches(
            renewed, lambda record: len(record.body), most=limits.max_batch, most_bytes=limits.batch_bytes
        ):
            backend.put(some)
        graph.renew_at = now + graph.ttl / 2
