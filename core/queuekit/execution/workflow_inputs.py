"""The arguments of a message of a workflow: the results of a group, or one list of arguments after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from queuekit.client.runtime import Runtime
from queuekit.context import Context
from queuekit.errors import DecodeError, TaskFailed, UnknownIdError
from queuekit.execution.outcome import Run
from queuekit.execution.workflow_held import FOLLOW_TASK, follow
from queuekit.execution.workflow_store import Missing, load_graph
from queuekit.failure import Failure
from queuekit.signature import Sender
from queuekit.states import State
from queuekit.tasks.task import Task, TaskOptions
from queuekit.wire.batches import alike
from queuekit.wire.position import Gather, graph_key, member_id
from queuekit.wire.records import Info, read_info, result_key
from queuekit.workflows.compile import GATHER_TASK, GroupNode

__all__ = ["MisfitError", "gather", "own_tasks"]

_FIRST, _AT_ONCE = 100, 2_000
"""Records to read in the first round trip, when their size is not known yet, and the most in any."""
_SHOWN = 3


class MisfitError(DecodeError):
    """A message names a group that its workflow does not have, so queuekit did not write it."""

    code = "QK220"


def gather(runtime: Runtime, run: Run) -> list[Any] | Info:
    """Return the results of the group that *run* collects, in order; or the state of *run* if it has already ended.

    Reading stops at the first batch that lacks a result.

    Raises:
        UnavailableError: The backend does not answer.
        UnknownIdError: Results have expired.
        MisfitError: The workflow has no such group.
        TaskFailed: A member failed, and the policy of the group is ``fail``.
        DecodeError: A result cannot be read here.
    """
    wanted = run.message.gather
    assert wanted is not None  # noqa: S101 - the caller checked it
    backend = runtime.need_backend("the results of a group")
    own = result_key(run.message.id)
    infos: list[Info] = []
    first, count = 0, _FIRST
    while first < max(1, wanted.size):
        ids = [member_id(wanted.graph, wanted.group, index) for index in range(wanted.size)[first : first + count]]
        found = backend.get([*([own] if not first else []), *map(result_key, ids)])
        first += count
        count = alike([len(record.body) for record in found.values()], most=_AT_ONCE)
        ended = found.get(own)
        if ended is not None and ended.final:
            info = read_info(run.message.id, ended)
            if info.generation >= run.delivery.envelope.generation:
                return info
        part = [read_info(id, found.get(result_key(id))) for id in ids]
        _need_all(runtime, wanted, part)
        infos += part
    return _values(runtime, wanted, infos)


def _need_all(runtime: Runtime, wanted: Gather, infos: list[Info]) -> None:
    """Raise an error if a result is missing."""
    gone = [info.id for info in infos if not info.done]
    if not gone:
        return
    _need_group(runtime, wanted)
    more = f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else ""
    raise UnknownIdError(
        f"the results of {', '.join(gone[:_SHOWN])}{more} have expired",
        fix="They expired before the callback ran: raise graphs_expire",
    )


def _need_group(runtime: Runtime, wanted: Gather) -> None:
    """Raise an error if the workflow is still stored and has no such group."""
    backend = runtime.need_backend("a workflow")
    record = backend.get([graph_key(wanted.graph)]).get(graph_key(wanted.graph))
    if record is None:
        return
    graph = load_graph(runtime, record, wanted.graph)
    try:
        node = graph.node(wanted.group)
    except Missing as missing:
        chunk = int(missing.key.rpartition(":")[2])
        graph.add(chunk, backend.get([missing.key]).get(missing.key))
        node = graph.node(wanted.group)
    if not isinstance(node, GroupNode) or (node.size, node.policy) != (wanted.size, wanted.policy):
        raise MisfitError(f"workflow {wanted.graph} has no group {wanted.group} of {wanted.size:,} members")


def _values(runtime: Runtime, wanted: Gather, infos: list[Info]) -> list[Any]:
    values: list[Any] = []
    for info in infos:
        if info.state is State.SUCCESS:
            value = info.value(runtime.accepted)
            if not wanted.flat:
                values.append(value)
            elif isinstance(value, list):
                values += value
            else:
                raise DecodeError(f"the result of {info.id} is not a list of results")
        elif wanted.policy == "fail":
            raise TaskFailed(f"{info.task} {info.origin or info.id} failed: {info.error_type}: {info.error}")
        elif wanted.policy == "continue":
            values.append(failure_of(info))
    return values


def failure_of(info: Info) -> Failure:
    """Return the failure that stands in for a failed member's result."""
    return Failure(
        id=info.origin or info.id,
        task=info.task,
        error_type=info.error_type,
        error=info.error,
        traceback=info.traceback,
        attempt=info.attempt,
    )


def _gathered(results: list[Any]) -> list[Any]:
    return results


def own_tasks(runtime: Runtime) -> Mapping[str, Task[..., Any]]:
    """Return the tasks of queuekit's own, which every worker knows."""
    nobody = cast("Sender", None)

    def following(context: Context, holder: str) -> Any:
        return follow(runtime, context, holder)

    own: dict[str, Callable[..., Any]] = {GATHER_TASK: _gathered, FOLLOW_TASK: following}
    return {name: Task(function, app=nobody, name=name, options=TaskOptions()) for name, function in own.items()}
