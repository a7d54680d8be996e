"""A message's position in a workflow, as its header stores it; and the ids and keys derived from it.

The last link of a workflow has the workflow's own id, so waiting for the workflow is waiting for that message. Link 7
has the id ``<workflow>.7``, and member 3 of group 2 has ``<workflow>.2.3``: these ids are known in advance, are not
stored, and name their workflow. So the id of a workflow must not contain a dot.
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
"""Prefix of the names of queuekit's internal tasks."""
Policy = Literal["fail", "skip", "continue"]
POLICIES: tuple[Policy, ...] = ("fail", "skip", "continue")
_LINK, _MEMBER = 2, 3
"""Items in a stored position, without and with a member."""
_MOST = 2**31 - 1
"""Largest valid number of a node or a member."""
_LARGEST = 10_000_000
"""Most members of a group whose results can be collected."""


class Position(NamedTuple):
    """The next step when a message ends: continue after node *node*, or arrive as a member of that group."""

    graph: str
    """Id of the workflow."""
    node: int
    """Number of the node; with *member*, of the group."""
    member: int | None = None
    """Index in the group, if the group waits for this message."""

    def header(self) -> list[str | int]:
        """Return the form stored in a message's header."""
        return [self.graph, self.node] if self.member is None else [self.graph, self.node, self.member]


class Gather(NamedTuple):
    """The group whose results a message receives as its last argument."""

    graph: str
    group: int
    """Number of the group."""
    size: int
    policy: Policy = "fail"
    flat: bool = False
    """Whether each result is a list of results, to be joined into one list."""


def is_own(task: str) -> bool:
    """Return whether *task* is an internal task, which every worker knows."""
    return task.startswith(OWN)


def graph_of(id: str) -> str | None:
    """Return the workflow that message *id* is a part of; ``None`` for a single message or a workflow's own id."""
    head, dot, _ = id.partition(".")
    return head if dot else None


def link_id(graph: str, node: int) -> str:
    """Return the id of the message that runs node *node*."""
    return f"{graph}.{node}"


def member_id(graph: str, group: int, index: int) -> str:
    """Return the id of the message whose outcome is the outcome of member *index* of a group."""
    return f"{graph}.{group}.{index}"


def graph_key(graph: str) -> str:
    """Return the key of the record that describes a workflow."""
    return "graph:" + graph


def chunk_key(graph: str, chunk: int) -> str:
    """Return the key of part *chunk* of a large workflow; part 0 is in the workflow's own record."""
    return f"graph:{graph}:{chunk}" if chunk else graph_key(graph)


def read_position(value: Any) -> Position | None:
    """Return the position from an untrusted header.

    Raises:
        DecodeError: *value* is not a valid position.
    """
    if value is None:
        return None
    if type(value) is not list or len(value) not in {_LINK, _MEMBER} or not _is_graph(value[0]):
        raise DecodeError("flow in the header is not a position in a workflow")
    if not all(type(number) is int and 0 <= number <= _MOST for number in value[1:]):
        raise DecodeError("flow in the header does not hold numbers")
    return Position(*value)


def read_gather(value: Any) -> Gather | None:
    """Return the group whose results to collect, from an untrusted header.

    Raises:
        DecodeError: *value* is not a valid group.
    """
    if value is None:
        return None
    kinds = [str, int, int, str, bool]
    if type(value) is not list or [type(item) for item in value] != kinds or value[3] not in POLICIES:
        raise DecodeError("gather in the header is not a group")
    graph, group, size = value[:3]
    if not _is_graph(graph) or not 0 <= group <= _MOST or not 0 <= size <= _LARGEST:
        raise DecodeError("gather in the header is not a valid group")
    return Gather(*value)


def _is_graph(value: object) -> bool:
    """Return whether *value* is a valid id of a workflow; only ids of its messages have a dot."""
    return isinstance(value, str) and is_name(value) and "." not in value
