"""How each capability is supported, as data: native to the engine, emulated by core, refused, or missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from queuekit.backend import BackendCapabilities
from queuekit.broker import Capabilities
from queuekit.values import frozen

__all__ = ["BACKEND_PLAN", "BROKER_PLAN", "Support", "caveats", "steps"]

_CAVEATS = ("portable_leases", "tells_time", "dead_letters")
"""Capabilities of a broker that operators should know are missing, although this is not an error."""


@frozen
class Support:
    """How one capability is supported."""

    how: Literal["native", "emulated", "refused", "without"]
    """``native``: the service does it. ``emulated``: core does it. ``refused``: asking for it is an error.
    ``without``: it is missing, and work continues."""
    text: str
    """The consequence, in a few words."""


BROKER_PLAN: Mapping[str, Support] = {
    "fenced_ack": Support(
        "emulated", "a worker treats a lease as lost at its own deadline; results are guarded by rank"
    ),
    "delay": Support("without", "a delayed message may run early"),
    "priority": Support("refused", "the app or worker does not start if a task asks for a priority"),
    "dedup": Support(
        "emulated",
        "a message whose result is stored is not run again; follow-ups take a record of the backend before they run",
    ),
    "unique": Support("emulated", "keys are records of the result backend; without one, tasks with a key are refused"),
    "fifo": Support("without", "the order within a queue is not kept"),
    "blocking_receive": Support("without", "a receive that waits polls; so do workers, unless push is declared"),
    "inspect": Support(
        "refused", "no command shows single messages; waiting ones are counted if the broker has counts"
    ),
    "remove": Support("emulated", "a cancelled message is dropped when its turn comes"),
    "dead_letters": Support(
        "emulated", "they are records of the result backend; without one that can scan, they are deleted"
    ),
    "commit": Support("emulated", "result, follow-ups and settlement go one after the other, each idempotent"),
    "processes": Support("refused", "commands and multiple workers are refused: only one process sees the queues"),
    "portable_leases": Support(
        "emulated",
        "the worker process renews its leases itself; a task that holds the interpreter for longer loses its lease",
    ),
    "tells_time": Support(
        "emulated", "moments are on the result backend's clock; where that tells none, expires and eta are refused"
    ),
    "counts": Support("refused", "the command queues is refused; check and dlq work without it"),
    "push": Support("without", "workers fetch messages"),
    "lanes": Support("refused", "the app or worker does not start if a task asks for fair_by, or for its weights"),
    "approximate_lanes": Support("without", "fair shares are exact, where the broker has lanes, or refused"),
}
"""Support of a capability that a broker does not declare."""
BACKEND_PLAN: Mapping[str, Support] = {
    "atomic_join": Support("refused", "a group with a callback or a next link is refused when it is sent"),
    "notify": Support("without", "waiting for a result polls"),
    "scan": Support("refused", "workers cannot be listed, and schedules are refused"),
    "processes": Support("refused", "commands and multiple workers are refused: only one process sees the results"),
    "same": Support("emulated", "records with expected versions are written one at a time"),
    "durable": Support("emulated", "results may be lost; a chord whose group is lost ends as failed"),
}
"""Support of a capability that a result backend does not declare."""


def steps(capabilities: Capabilities | BackendCapabilities) -> dict[str, Support]:
    """Return how each capability is supported for an engine with *capabilities*."""
    plan = BROKER_PLAN if isinstance(capabilities, Capabilities) else BACKEND_PLAN
    able: dict[str, Any] = attrs.asdict(capabilities, recurse=False)
    return {name: Support("native", "") if able[name] else step for name, step in plan.items()}


def caveats(capabilities: Capabilities) -> list[str]:
    """Return a line for each thing that tasks lose on a broker with *capabilities*, for ``queuekit check``."""
    able: dict[str, Any] = attrs.asdict(capabilities, recurse=False)
    return [f"{name} is not declared: {BROKER_PLAN[name].text}" for name in _CAVEATS if not able[name]]
