"""Compiles a workflow to a graph of numbered nodes, each with its successor; and stores the graph in records.

Every signature becomes a *task node*, every group a *group node*. The node after a group collects the group's results.
If no node follows, in a chain or inside another group, an internal task that returns the list is inserted. Nodes never
change, so a worker reads each part of a graph only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import attrs

from queuekit.backend import Record
from queuekit.durations import LONGEST
from queuekit.envelope import join_frame, split_frame
from queuekit.errors import DecodeError, TooLargeError
from queuekit.serializer import Serializer
from queuekit.signature import Signature
from queuekit.values import frozen
from queuekit.wire.position import (
    POLICIES,
    Gather,
    Policy,
    Position,
    chunk_key,
    graph_key,
    link_id,
    member_id,
    read_gather,
)
from queuekit.workflows.workflow import Chain, Chord, Group, Part, Workflow

__all__ = [
    "GATHER_TASK",
    "Graph",
    "GroupNode",
    "Node",
    "Parent",
    "TaskNode",
    "build",
    "end_id",
    "graph_keys",
    "id_of",
    "is_awaited",
    "position_of",
    "read_chunk",
    "read_head",
    "records_of",
]

GATHER_TASK = "queuekit.gather"
"""Name of the task that returns the list of a group's results."""
_CHUNK = 200_000
"""Most bytes of nodes in one record."""
_MOST_CHUNKS = 10_000
"""Most parts of a graph: 2 GB."""
_LARGEST = 10_000_000
"""Most members of a group at the top level of a workflow."""
_ROOM = 70_000
"""Bytes of a record reserved for its header."""

_Link = Signature[Any] | Group[Any]
IsUnique = Callable[[Signature[Any]], bool]
Parent = tuple[int, int] | None
"""The owner of a chain's result: (group, member), or ``None`` for the whole workflow."""


@frozen(kw_only=True)
class TaskNode:
    """A node for one call."""

    signature: Signature[Any] | None
    """The call; ``None`` if it was sent with the workflow, so that it is not needed again."""
    next: int | None
    """The node that receives its result; ``None`` at the end of its chain."""
    end: Parent
    """Owner of its chain's result."""
    gather: Gather | None = None


@frozen(kw_only=True)
class GroupNode:
    """A node for one group."""

    size: int
    policy: Policy
    at_once: int | None
    callback: int | None
    """The node that collects the results; ``None`` if the group is the whole workflow."""
    feed: int | None = None
    """The node whose result the members receive; ``None`` if they receive none."""
    members: tuple[int, ...] = ()
    """First node of each member; empty if all were sent with the workflow."""


Node = TaskNode | GroupNode


@frozen(kw_only=True)
class Graph:
    """A compiled workflow, ready to be sent."""

    id: str
    kind: str
    """``chain``, ``group`` or ``chord``."""
    nodes: dict[int, Node]
    """Nodes that are needed after the send."""
    entries: tuple[tuple[int, TaskNode], ...]
    """Nodes to send first, with their numbers."""
    top: tuple[tuple[int, int | None], ...]
    """The top-level parts: number of each, and its size if it is a group."""
    flat: bool
    delay: float
    """Longest delay of a call, in seconds."""
    joins: bool
    """Whether it needs a backend that can join."""

    def id_of(self, number: int, step: TaskNode) -> str:
        """Return the id of the message that runs a node."""
        return id_of(self.id, number, step)


def id_of(graph: str, number: int, step: TaskNode) -> str:
    """Return the id of the message that runs a node."""
    if step.next is not None:
        return link_id(graph, number)
    return end_id(graph, step.end)


def end_id(graph: str, end: Parent) -> str:
    """Return the id of the message that ends a chain."""
    return graph if end is None else member_id(graph, *end)


def is_awaited(step: TaskNode, after: Node | None) -> bool:
    """Return whether the result of *step* is read later: at the end of its chain, or by a group with ``at_once``."""
    return step.next is None or (isinstance(after, GroupNode) and after.at_once is not None)


def position_of(graph: str, number: int, step: TaskNode) -> Position | None:
    """Return the position of the message that runs a node; ``None`` if nothing follows."""
    if step.next is not None:
        return Position(graph, number)
    return None if step.end is None else Position(graph, *step.end)


class _Builder:
    """Numbers the parts of one workflow."""

    def __init__(self, id: str, unique: IsUnique) -> None:
        self.id = id
        self._unique = unique
        self.nodes: dict[int, Node] = {}
        self.entries: list[tuple[int, TaskNode]] = []
        self._count = 0

    def reserve(self) -> int:
        """Return the next free number."""
        self._count += 1
        return self._count - 1

    def chain(self, parts: Sequence[Signature[Any] | Group[Any]], end: Parent) -> tuple[int, list[int]]:
        """Add a chain that ends in a signature and return the number of its first node, and all numbers."""
        numbers = [self.reserve() for _ in parts]
        gather: Gather | None = None
        for index, (number, part) in enumerate(zip(numbers, parts, strict=True)):
            after = numbers[index + 1] if index + 1 < len(numbers) else None
            if isinstance(part, Group):
                self.group(number, part, callback=after, feed=numbers[index - 1] if index else None)
                gather = Gather(self.id, number, len(part), part.policy, part.flat)
                continue
            needed = None if part.immutable else gather
            self.nodes[number] = TaskNode(signature=part, next=after, end=end, gather=needed)
            gather = None
        return numbers[0], numbers

    def group(self, number: int, group: Group[Any], *, callback: int | None, feed: int | None = None) -> None:
        """Add a group."""
        members = []
        for index, member in enumerate(group.members):
            parts = [member] if isinstance(member, Signature) else _closed(_flat(member, self._unique), self._unique)
            members.append(self.chain(parts, (number, index))[0])
        self.nodes[number] = GroupNode(
            size=len(group),
            policy=group.policy,
            at_once=group.at_once,
            callback=callback,
            feed=feed,
            members=tuple(members),
        )

    def enter(self, number: int) -> None:
        """Start the workflow with node *number*; nodes that are sent now need not be stored."""
        node = self.nodes[number]
        if isinstance(node, TaskNode):
            self.entries.append((number, node))
            self._sent(number, node)
            return
        if node.size == 0 and node.callback is not None:
            self.enter(node.callback)
        for member in node.members[: node.at_once]:
            self.enter(member)
        if node.at_once is None:
            self.nodes[number] = attrs.evolve(node, members=())

    def _sent(self, number: int, step: TaskNode) -> None:
        if step.next is None:
            del self.nodes[number]
        else:
            self.nodes[number] = attrs.evolve(step, signature=None, gather=None)


def build(workflow: Workflow[Any], id: str, *, unique: IsUnique) -> Graph:
    """Return the graph of *workflow* with this *id*; *unique* returns whether a call asks for a unique key."""
    builder = _Builder(id, unique)
    parts = _flat(workflow, unique)
    group = parts[0] if len(parts) == 1 and isinstance(parts[0], Group) else None
    if group is not None:
        number = builder.reserve()
        builder.group(number, group, callback=None)
        numbers = [number]
    else:
        number, numbers = builder.chain(_closed(parts, unique), None)
    whole = list(builder.nodes.values())  # before enter(), which drops the nodes that are sent at once
    top = tuple((n, _size(builder.nodes[n])) for n in numbers)
    builder.enter(number)
    return Graph(
        id=id,
        kind=_kind_of(workflow, group),
        nodes=builder.nodes,
        entries=tuple(builder.entries),
        top=top,
        flat=group is not None and group.flat,
        delay=_longest_delay(whole),
        joins=any(isinstance(node, GroupNode) and node.callback is not None for node in whole),
    )


def _size(node: Node) -> int | None:
    """Return the size of a group node; ``None`` for a task node."""
    return node.size if isinstance(node, GroupNode) else None


def _longest_delay(nodes: Iterable[Node]) -> float:
    return max((_delay(node.signature) for node in nodes if isinstance(node, TaskNode) and node.signature), default=0.0)


def _delay(signature: Signature[Any]) -> float:
    from time import time

    moment = signature.eta.timestamp() - time() if signature.eta is not None else 0.0
    return max(signature.delay or 0.0, moment)


def _kind_of(workflow: Workflow[Any], group: Group[Any] | None) -> str:
    """Return the kind of handle on *workflow*; *group* is all that is left of it, if that is one group."""
    if group is not None:
        return "group"
    return "chord" if isinstance(workflow, Chord) else "chain"


def _callback(chord: Chord[Any], unique: IsUnique) -> list[_Link]:
    """Return the callback of a chord as one chain; a failure of its first link is one of the chord."""
    callback = _flat(chord.callback, unique)
    if chord.on_error:
        callback = [Signature(GATHER_TASK), *callback] if isinstance(callback[0], Group) else callback
        callback[0] = _watched(callback[0], chord.on_error)
    return callback


def _flat(part: Part, unique: IsUnique) -> list[_Link]:
    """Return a workflow as one chain; a chord becomes a group and its callback."""
    if isinstance(part, Signature | Group):
        return [part]
    if isinstance(part, Chord):
        return [part.group, *_callback(part, unique)]
    assert isinstance(part, Chain)  # noqa: S101 - there are no other kinds
    parts = [inner for link in part.links for inner in _flat(link, unique)]
    if not part.on_error:
        return parts
    return [_watched(inner, part.on_error) for inner in _closed(parts, unique)]


def _watched(part: Signature[Any] | Group[Any], on_error: Sequence[Signature[Any]]) -> Signature[Any] | Group[Any]:
    """Add *on_error* to a signature; the failure of a group is reported by the node that collects its results."""
    if isinstance(part, Group):
        return part
    return attrs.evolve(part, on_error=(*on_error, *part.on_error))


def _separated(parts: Iterable[_Link], unique: IsUnique) -> list[_Link]:
    """Insert a collecting task between two groups, and between a group and a call with a unique key.

    The engine itself sends what follows a group, so no worker would notice that the unique key is held.
    """
    found: list[_Link] = []
    for part in parts:
        if found and isinstance(found[-1], Group):
            if isinstance(part, Group):
                found.append(Signature(GATHER_TASK))
            elif unique(part):
                found.append(Signature(GATHER_TASK, on_error=part.on_error))
        found.append(part)
    return found


def _closed(parts: Iterable[_Link], unique: IsUnique) -> list[_Link]:
    """Return a chain that ends in a signature and has one after each group."""
    found = _separated(parts, unique)
    return [*found, Signature(GATHER_TASK)] if isinstance(found[-1], Group) else found


# -- as records


def records_of(graph: Graph, serializer: Serializer, *, ttl: float, max_record: int) -> list[Record]:
    """Return the records that store *graph*.

    Raises:
        TooLargeError: A single node exceeds the size of a record.
        EncodeError: An argument cannot be written.
    """
    rows: list[Any] = [[-1, {"top": [list(part) for part in graph.top]}]]
    rows += [[number, _node_to_dict(node)] for number, node in sorted(graph.nodes.items())]
    chunks = list(_cut(rows, serializer, min(_CHUNK, max_record - _ROOM)))
    head = {
        "v": 1,
        "kind": graph.kind,
        "ct": serializer.content_type,
        "ttl": ttl,
        "starts": [start for start, _ in chunks],
        "flat": graph.flat,
    }
    bodies = [join_frame(head if not index else {"v": 1}, data) for index, (_, data) in enumerate(chunks)]
    if any(len(body) > max_record for body in bodies):
        raise TooLargeError(f"a part of workflow {graph.id} exceeds the {max_record:,} bytes of a record")
    return [
        Record(key=chunk_key(graph.id, index), body=body, ttl=ttl, task=f"({graph.kind})")
        for index, body in enumerate(bodies)
    ]


def _cut(rows: list[Any], serializer: Serializer, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield the rows in parts of at most *most* bytes, each with the number of its first row."""
    data = serializer.dumps(rows)
    if len(data) <= most or len(rows) == 1:
        yield rows[0][0], data
        return
    middle = len(rows) // 2
    yield from _cut(rows[:middle], serializer, most)
    yield from _cut(rows[middle:], serializer, most)


def _node_to_dict(node: Node) -> dict[str, Any]:
    if isinstance(node, GroupNode):
        group_node = {"size": node.size, "policy": node.policy, "at_once": node.at_once}
        group_node |= {"callback": node.callback, "feed": node.feed}
        return {"fan": group_node, "members": list(node.members)}
    data: dict[str, Any] = {"next": node.next, "end": list(node.end) if node.end is not None else None}
    data |= {"gather": list(node.gather) if node.gather is not None else None}
    return {"step": data, "call": node.signature.to_dict() if node.signature is not None else None}


def _read_node(data: dict[str, Any]) -> Node:
    if "fan" in data:
        group_node = GroupNode(**data["fan"], members=tuple(data["members"]))
        _check(
            group_node.policy in POLICIES,
            [group_node.size, *group_node.members],
            [group_node.callback, group_node.feed],
        )
        _check(group_node.at_once is None or group_node.at_once >= 1, [], [group_node.at_once])
        return group_node
    step, call = data["step"], data["call"]
    end = step["end"]
    _check(end is None or len(end) == 2, end or [], [step["next"]])  # noqa: PLR2004 - group and member
    return TaskNode(
        signature=None if call is None else Signature.from_dict(call),
        next=step["next"],
        end=None if end is None else (end[0], end[1]),
        gather=read_gather(step["gather"]),
    )


def _read_top(top: Any) -> list[list[Any]]:
    """Return the top-level parts: number of each, and its size if it is a group."""
    _check(type(top) is list and len(top) > 0 and all(type(part) is list for part in top), [], [])
    parts: list[list[Any]] = top
    for number, size in parts:
        _check(size is None or size <= _LARGEST, [number], [size])
    return parts


def _check(right: bool, numbers: Sequence[Any], optional: Sequence[Any]) -> None:  # noqa: FBT001 - private; callers pass three checks together
    """Raise unless *right* is set and *numbers*, and *optional* unless None, are non-negative ints."""
    found = [*numbers, *(number for number in optional if number is not None)]
    if not right or not all(type(number) is int and number >= 0 for number in found):
        raise ValueError("the node is not valid")


def read_head(record: Record) -> dict[str, Any]:
    """Return the header of a graph's first record.

    Raises:
        DecodeError: The record is not a valid graph.
    """
    head, _ = split_frame(record.body)
    named = type(head.get("kind")) is str and type(head.get("flat", False)) is bool
    if head.get("v") != 1 or not named or not _are_starts(head.get("starts")) or not _is_span(head.get("ttl")):
        raise DecodeError(f"record {record.key!r} is not a workflow that this release reads")
    return head


def _are_starts(value: Any) -> bool:
    """Return whether *value* is a valid list of the first node of each part; the first part begins with -1."""
    if type(value) is not list or not 0 < len(value) <= _MOST_CHUNKS or not all(type(start) is int for start in value):
        return False
    return value[0] == -1 and all(before < start for before, start in pairwise(value))


def _is_span(value: Any) -> bool:
    """Return whether *value* is a valid time to live, in seconds."""
    return type(value) in {int, float} and 0 < value <= LONGEST


def read_chunk(record: Record, serializer: Serializer, *, start: int) -> dict[int, Any]:
    """Return the nodes in one record of a graph, by number; -1 holds the top-level parts.

    Args:
        record: The record.
        serializer: Wrote the nodes.
        start: Number of the first node, as the graph's first record has it.

    Raises:
        DecodeError: The record has other nodes, or none.
    """
    _, payload = split_frame(record.body)
    try:
        nodes = {
            number: _read_top(data["top"]) if number == -1 else _read_node(data)
            for number, data in serializer.loads(payload)
        }
        _check(min(nodes) == start, [number + 1 for number in nodes], [])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError(f"record {record.key!r} is not a part of a workflow") from error
    return nodes


def graph_keys(graph: str, chunks: int) -> list[str]:
    """Return the keys of all records of a graph."""
    return [graph_key(graph), *(chunk_key(graph, index) for index in range(1, chunks))]
