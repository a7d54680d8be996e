"""Advance workflows: when a message ends, send the next task or group members, count an arrival, or record a failure.

Outcomes are expanded in batches, just before they are written, so that everything happens in the step that records
the result (QK12). This module keeps only parts of graphs, which never change. All ids are derived, so a repetition
after a crash adds nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import attrs

from queuekit.backend import Join, Record
from queuekit.broker import Dead
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sending
from queuekit.envelope import Envelope
from queuekit.errors import DecodeError, UnavailableError
from queuekit.execution.ending import Ended
from queuekit.execution.outcome import Outcome
from queuekit.execution.workflow_store import GoneError, Kept, Missing, Reads, StoredGraph
from queuekit.failure import Failure, describe, in_words
from queuekit.ids import check_name, derived_id
from queuekit.logs.errors import log_error
from queuekit.signature import Signature
from queuekit.states import State, rank
from queuekit.values import define
from queuekit.wire.records import cancel_key, never_ran, read_info, result_key
from queuekit.workflows.compile import (
    GATHER_TASK,
    GroupNode,
    Node,
    Parent,
    TaskNode,
    end_id,
    id_of,
    is_awaited,
    position_of,
)

__all__ = ["WorkflowAdvancer"]

_logger = logging.getLogger("queuekit.workflow")
_ROUNDS = 50
"""Most reads in sequence for one batch."""


class WorkflowAdvancer:
    """Expands the outcomes of messages that belong to workflows. Not thread-safe.

    Args:
        runtime: Its backend stores the graphs.
        sending: Prepares the next messages.
    """

    def __init__(self, runtime: Runtime, sending: Sending) -> None:
        self._runtime = runtime
        self._sending = sending
        self._graphs = Kept()

    def expand(self, outcomes: Sequence[Outcome]) -> None:
        """Add the records, joins and sends that follow to *outcomes*, in place; usually without a round trip.

        Raises:
            UnavailableError: The backend does not answer; call again to expand the remaining outcomes.
        """
        waiting = [outcome for outcome in outcomes if outcome.ended is not None and not outcome.expanded]
        if not waiting:
            return
        reads = Reads(self._runtime, self._graphs)
        for _ in range(_ROUNDS):
            waiting = [outcome for outcome in waiting if not self._expand(outcome, reads)]
            if not waiting:
                return
            reads.fetch()
        for outcome in waiting:
            self._give_up(outcome, RuntimeError("its workflow cannot be read"))

    def lose(self, outcome: Outcome, join: Join) -> Outcome:
        """Return what follows for a workflow whose backend has lost the group that *outcome* joins: its chord fails.

        Raises:
            UnavailableError: The backend does not answer.
        """
        number = int(join.group.rpartition(".")[2])
        _logger.error("the result backend has lost group %s: what waits for it ends as failed", join.group)
        lost = attrs.evolve(
            outcome, settlement=None, records=(), joins=(), sends=(), expanded=False, lost_group=number, event=None
        )
        self.expand([lost])
        return lost

    def _expand(self, outcome: Outcome, reads: Reads) -> bool:
        """Expand one outcome; return false if something must be read first."""
        assert outcome.ended is not None  # noqa: S101 - the caller checked it
        plan = _Plan(self._runtime, self._sending, reads, outcome, outcome.ended)
        try:
            plan.make()
        except Missing as missing:
            reads.want(missing)
            return False
        except UnavailableError:
            raise
        except BaseException as error:  # noqa: BLE001 - one workflow that cannot go on must not stop the others (QK8)
            self._give_up(outcome, error)
            return True
        plan.carry_over()
        return True

    def _why_gone(self) -> str:
        backend = self._runtime.backend
        if backend is not None and not backend.capabilities.durable:
            return "is gone: it has expired, or the result backend has dropped it"
        return "has expired: two steps were longer apart than graphs_expire"

    def _give_up(self, outcome: Outcome, error: BaseException) -> None:
        """Record that a workflow cannot go on, so that callers do not wait for it in vain."""
        ended = outcome.ended
        assert ended is not None  # noqa: S101 - the caller checked it
        outcome.expanded = True
        text = f"the workflow {ended.link.graph} cannot go on: {in_words(error)}"
        if isinstance(error, GoneError):
            text = f"the workflow {ended.link.graph} {self._why_gone()}"
        if isinstance(error, GoneError):
            _logger.error("%s", text)
        else:
            log_error(_logger, "%s", text, error=error)
        task = outcome.run.message.task if outcome.run else ""
        failure = ended.failure or Failure(id=outcome.delivery.id, task=task, error_type="WorkflowError", error=text)
        if ended.link.graph != outcome.delivery.id:
            outcome.records = (*outcome.records, _never(self._runtime, ended.link.graph, failure, outcome, None))
        if outcome.settlement is not None:
            outcome.settlement = Dead(outcome.delivery, reason="failed", error=text[:2000])


@define
class _Plan:
    """The changes that follow from the end of one message."""

    runtime: Runtime
    sending: Sending
    reads: Reads
    outcome: Outcome
    ended: Ended
    id: str = attrs.field(init=False)
    generation: int = attrs.field(init=False)
    graph: StoredGraph = attrs.field(init=False)
    records: list[Record] = attrs.field(factory=list)
    joins: list[Join] = attrs.field(factory=list)
    sends: list[Envelope] = attrs.field(factory=list)
    entered: set[int] = attrs.field(factory=set)
    """Nodes that were started. In a valid graph none is started twice, so the stored graph bounds the work."""

    def __attrs_post_init__(self) -> None:
        self.id = self.ended.link.graph
        self.generation = self.outcome.delivery.envelope.generation

    def make(self) -> None:
        """Compute everything that follows.

        Raises:
            Missing: Something must be read first.
            GoneError: The workflow's records have expired.
        """
        self.graph = self.reads.graph(self.id)
        if self.outcome.lost_group is not None:
            self._lost(self.outcome.lost_group)
            return
        link, failure = self.ended.link, self.ended.failure
        if failure is None:
            self._succeeded()
        elif link.member is None:
            self._never(self._step(link.node).end, failure)
        else:
            self._member_failed((link.node, link.member), failure)

    def carry_over(self) -> None:
        """Add the planned changes to the outcome."""
        outcome = self.outcome
        outcome.records = (*outcome.records, *self.records)
        outcome.joins = (*outcome.joins, *self.joins)
        outcome.sends = (*outcome.sends, *self.sends)
        outcome.expanded = True
        self.reads.overlay(self.records)

    # -- success

    def _succeeded(self) -> None:
        link = self.ended.link
        if link.member is None:
            after = self._step(link.node).next
            if after is None:
                raise DecodeError(f"nothing follows node {link.node} of workflow {self.id}")
            self._enter(after, (self.ended.value,))
            return
        group_node = self._group_node(link.node)
        self._start_another(group_node, link.member)
        if group_node.callback is not None:
            self._arrive(link.node, link.member, group_node)

    def _enter(self, number: int, value: tuple[Any, ...]) -> None:
        """Send the first messages of node *number*; *value* holds the previous result, if there is one."""
        if number in self.entered:
            raise DecodeError(f"node {number} of workflow {self.id} follows itself, or two others")
        self.entered.add(number)
        node = self.graph.node(number)
        if isinstance(node, TaskNode):
            self._send(number, node, value)
            return
        if not node.size and node.callback is not None:
            self._enter(node.callback, ())
        for member in node.members[: node.at_once]:
            self._enter(member, value)

    def _send(self, number: int, step: TaskNode, value: tuple[Any, ...]) -> None:
        try:
            ready = self._prepare(number, step, value)
        except (Missing, UnavailableError):
            raise
        except BaseException as error:  # noqa: BLE001 - a message that cannot be sent, e.g. a too large one, has failed
            self._unsendable(number, step, error)
            return
        envelope, record = ready.envelope, ready.record
        if self.generation:
            # Messages that follow a replay may overwrite the records of the first failure.
            envelope = attrs.evolve(envelope, generation=self.generation)
            record = record and attrs.evolve(record, rank=rank(State.PENDING, generation=self.generation))
        self.sends.append(envelope)
        if record is not None:
            self.records.append(record)

    def _prepare(self, number: int, step: TaskNode, value: tuple[Any, ...]) -> Any:
        signature = step.signature
        if signature is None:  # as those have that were sent at the start
            raise DecodeError(f"node {number} of workflow {self.id} was sent at the start")
        args = signature.args if signature.immutable or step.gather is not None else (*signature.args, *value)
        chosen = signature.placed(
            id=check_name(id_of(self.id, number, step), what="message"),
            args=args,
            queue=self.outcome.delivery.queue if signature.task == GATHER_TASK else signature.queue,
        )
        chosen = self._inherit(chosen)
        link = position_of(self.id, number, step)
        parent = self.outcome.delivery.id
        awaited = self.sending.ignores(chosen) and is_awaited(step, self._after(step))
        return self.sending.prepare(chosen, parent=parent, link=link, gather=step.gather, awaited=awaited)

    def _after(self, step: TaskNode) -> Node | None:
        return None if step.next is None else self.graph.node(step.next)

    def _inherit(self, signature: Signature[Any]) -> Signature[Any]:
        priority = self.outcome.delivery.envelope.priority
        return self.sending.inherit(signature, headers=self.ended.headers, priority=priority)

    def _unsendable(self, number: int, step: TaskNode, error: BaseException) -> None:
        """Treat a task that cannot be sent as failed."""
        id = id_of(self.id, number, step)
        task = step.signature.task if step.signature else ""
        log_error(_logger, "cannot send %s %s", task, id, error=error)
        what = describe(error)
        failure = Failure(id=id, task=task, error_type=what["type"], error=what["text"])
        self._record(id, failure)
        if step.next is not None:
            self._never(step.end, failure)
        elif step.end is not None:
            self._member_failed(step.end, failure)

    def _start_another(self, group_node: GroupNode, member: int) -> None:
        """If the group limits how many members are sent at a time, send the next one."""
        if group_node.at_once is None or member + group_node.at_once >= group_node.size:
            return
        if member + group_node.at_once >= len(group_node.members):
            raise DecodeError(f"a group of workflow {self.id} has no member {member + group_node.at_once}")
        value: tuple[Any, ...] = ()
        if group_node.feed is not None:
            id = id_of(self.id, group_node.feed, self._step(group_node.feed))
            value = (read_info(id, self.reads.record(result_key(id))).value(self.runtime.accepted),)
        self._enter(group_node.members[member + group_node.at_once], value)

    def _arrive(self, group: int, member: int, group_node: GroupNode) -> None:
        if member >= group_node.size:
            raise DecodeError(f"group {group} of workflow {self.id} has no member {member}")
        key = (group, self.generation)
        then = self.graph.callbacks.get(key)
        if then is None:
            assert group_node.callback is not None  # noqa: S101 - the caller checked it
            envelope: Envelope = self._prepare(group_node.callback, self._step(group_node.callback), ()).envelope
            # A sender that knows that the callback is unique puts a task of queuekit's own before it. If only the
            # worker knows, the callback runs without its key: to run twice is better than never.
            then = self.graph.callbacks[key] = attrs.evolve(envelope, generation=self.generation, unique=None)
        name = f"{self.id}.{group}"
        self.joins.append(Join(group=name, member=member, size=group_node.size, then=(then,), ttl=self.graph.ttl))

    # -- failure

    def _never(self, end: Parent, failure: Failure) -> None:
        """Record that a chain does not reach its end."""
        self._record(end_id(self.id, end), failure)
        if end is not None:
            self._member_failed(end, failure)

    def _lost(self, group: int) -> None:
        """Record that a group that has been lost never completes, whatever its policy is."""
        callback = self._group_node(group).callback
        if callback is not None:
            id, text = self.outcome.delivery.id, "the result backend has dropped the count of the group's members"
            self._group_failed(callback, Failure(id=id, task="", error_type="GroupLost", error=text))

    def _record(self, id: str, failure: Failure) -> None:
        if id != self.outcome.delivery.id:
            self.records.append(_never(self.runtime, id, failure, self.outcome, self.graph.ttl))

    def _member_failed(self, place: tuple[int, int], failure: Failure) -> None:
        group, member = place
        group_node = self._group_node(group)
        self._start_another(group_node, member)
        if group_node.callback is None:
            return
        if group_node.policy == "fail":
            self._group_failed(group_node.callback, failure)
        else:
            self._arrive(group, member, group_node)

    def _group_failed(self, number: int, failure: Failure) -> None:
        """Record, once, that a callback never runs, notify its error callbacks, and do the same for outer groups."""
        callback = self._step(number)
        id = id_of(self.id, number, callback)
        if self._is_told(id, failure):
            return
        self._record(id, failure)
        if self.reads.record(cancel_key(self.id)) is None:
            self._tell(id, callback, failure)
        if callback.next is not None:
            self._never(callback.end, failure)
        elif callback.end is not None:
            self._member_failed(callback.end, failure)

    def _is_told(self, id: str, failure: Failure) -> bool:
        """Return whether another failure already ended the callback; its own, after a crash, does not count."""
        known = self.reads.record(result_key(id))
        if known is None or not known.final or known.rank < rank(State.FAILURE, generation=self.generation):
            return False
        return read_info(id, known).origin != failure.id

    def _tell(self, id: str, callback: TaskNode, failure: Failure) -> None:
        listeners = callback.signature.on_error if callback.signature is not None else ()
        for index, listener in enumerate(listeners):
            args = listener.args if listener.immutable else (*listener.args, failure)
            chosen = attrs.evolve(listener, id=listener.id or derived_id(id, "error", index), args=args)
            try:
                ready = self.sending.prepare(self._inherit(chosen), parent=failure.id)
            except BaseException:  # noqa: BLE001 - also SystemExit, from user code that converts a value
                log_error(_logger, "cannot send %s, the on_error callback of %s", listener.task, id)
                continue
            self.sends.append(ready.envelope)
            if ready.record is not None:
                self.records.append(ready.record)

    # -- lookup

    def _step(self, number: int) -> TaskNode:
        node = self.graph.node(number)
        if not isinstance(node, TaskNode):
            raise DecodeError(f"node {number} of workflow {self.id} is a group")
        return node

    def _group_node(self, number: int) -> GroupNode:
        node = self.graph.node(number)
        if not isinstance(node, GroupNode):
            raise DecodeError(f"node {number} of workflow {self.id} is not a group")
        return node


def _never(runtime: Runtime, id: str, failure: Failure, outcome: Outcome, ttl: float | None) -> Record:
    config = runtime.config
    return never_ran(
        id,
        task=failure.task,
        failure=failure,
        ttl=ttl or max(config.graphs_expire, config.results_expire),
        generation=outcome.delivery.envelope.generation,
        at=round(outcome.delivery.claimed_at, 6),
    )
