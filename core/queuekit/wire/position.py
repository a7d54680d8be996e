"""Where a message stands in a workflow: what its header says of that, and the ids and keys that follow from it.

A workflow has an id; that of its last link is the same, so that who waits for the workflow waits for that message.
Inside, link number 7 has the id ``<workflow>.7``, and member 3 of group number 2 ``<workflow>.2.3``: known up front,
never stored, and with the workflow readable in them. So ids of workflows have no dot.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from queuekit.errors import DecodeError
from queuekit.ids import is_name

__all__ = [
    "Gather",
    "Policy",
    "Position",
    "chunk_key",
    "graph_key",
    "graph_of",
    "is_own",
    "link_id",
    "member_id",
    "read_gather",
    "read_position",
]

OWN = "queuekit."
"""What the names of our own tasks begin with."""
Policy = Literal["fail", "skip", "continue"]
POLICIES: tuple[Policy, ...] = ("fail", "skip", "continue")
_LINK, _MEMBER = 2, 3
_MOST = 2**31 - 1
"""Largest number of a node or a member that is read."""
_LARGEST = 10_000_000
"""Members of a group whose results can be gathered."""


class Position(NamedTuple):
    """What is to be done when a message ends: go on after node *node*, or arrive as a member of that group."""

    graph: str
    """Id of the workflow."""
    node: int
    """Number of the node; with *member*, that of the group."""
    member: int | None = None
    """Index in the group, if the message is what the group waits for."""

    def header(self) -> list[str | int]:
        """Return it as it stands in a message's header."""
        return [self.graph, self.node] if self.member is None else [self.graph, self.node, self.member]


class Gather(NamedTuple):
    """Whose results a message gets as its last argument."""

    graph: str
    group: int
    """Number of the group."""
    size: int
    policy: Policy = "fail"
    flat: bool = False
    """Whether each result is a list of results, of which one list is made."""


def is_own(task: str) -> bool:
    """Return whether *task* is one of our own, which every worker knows."""
    return task.startswith(OWN)


def graph_of(id: str) -> str | None:
    """Return the workflow that message *id* belongs to; ``None`` if it stands for itself, or for the workflow."""
    head, dot, _ = id.partition(".")
    return head if dot else None


def link_id(graph: str, node: int) -> str:
    """Return the id of the message that runs node *node*."""
    return f"{graph}.{node}"


def member_id(graph: str, group: int, index: int) -> str:
    """Return the id of the message whose outcome is that of member *index* of a group."""
    return f"{graph}.{group}.{index}"


def graph_key(graph: str) -> str:
    """Return the key of the record that describes a workflow."""
    return "graph:" + graph


def chunk_key(graph: str, chunk: int) -> str:
    """Return the key of a further part of a large workflow; part 0 is in the record itself."""
    return f"graph:{graph}:{chunk}" if chunk else graph_key(graph)


def read_position(value: Any) -> Position | None:
    """Return the link in a header that may hold anything.

    Raises:
        DecodeError: It is none.
    """
    if value is None:
        return None
    if type(value) is not list or len(value) not in {_LINK, _MEMBER} or not _is_graph(value[0]):
        raise DecodeError("flow in the header is not a place in a workflow")
    if not all(type(number) is int and 0 <= number <= _MOST for number in value[1:]):
        raise DecodeError("flow in the header does not hold numbers")
    return Position(*value)


def read_gather(value: Any) -> Gather | None:
    """Return whose results to gather, out of a header that may hold anything.

    Raises:
        DecodeError: It says no such thing.
    """
    if value is None:
        return None
    kinds = [str, int, int, str, bool]
    if type(value) is not list or [type(item) for item in value] != kinds or value[3] not in POLICIES:
        raise DecodeError("gather in the header is not a group")
    graph, group, size = value[:3]
    if not _is_graph(graph) or not 0 <= group <= _MOST or not 0 <= size <= _LARGEST:
        raise DecodeError("gather in the header names no group")
    return Gather(*value)


def _is_graph(value: object) -> bool:
    """Return whether *value* can be the id of a workflow: those of its messages have a dot, its own has none."""
    return isinstance(value, str) and is_name(value) and "." not in value
