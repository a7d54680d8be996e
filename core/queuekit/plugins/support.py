"""What an engine does by itself, what core makes up for, and what it refuses: by capability, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from queuekit.backend import BackendCapabilities
from queuekit.broker import Capabilities

__all__ = ["BACKEND_PLAN", "BROKER_PLAN", "Support", "steps"]


@attrs.frozen
class Support:
    """What becomes of one capability."""

    how: Literal["native", "emulated", "refused", "without"]
    """``native``: the service does it. ``emulated``: core does. ``refused``: whoever asks for it is told so.
    ``without``: it is not there, and work goes on."""
    text: str
    """What that means, in a few words."""


BROKER_PLAN: Mapping[str, Support] = {
    "fenced_ack": Support(
        "emulated", "a worker takes a lease for lost at its own deadline; results are guarded by rank"
    ),
    "delay": Support("without", "what is delayed may run early"),
    "priority": Support("refused", "a task that asks for a priority is refused when the app or worker starts"),
    "dedup": Support(
        "emulated",
        "a message whose result is stored is not run again; follow-ups take a record of the backend before they run",
    ),
    "unique": Support("emulated", "keys are records of the result backend; without one, tasks that ask are refused"),
    "fifo": Support("without", "the order within a queue is not kept"),
    "blocking_receive": Support("without", "the broker looks again and again instead of being woken"),
    "inspect": Support(
        "refused", "no command shows single messages; what waits is counted where the broker has counts"
    ),
    "remove": Support("emulated", "a cancelled message is dropped when its turn comes"),
    "dead_letters": Support(
        "without", "dead letters leave the queue; who wants them back looks where the broker puts them"
    ),
    "commit": Support("emulated", "result, follow-ups and settlement go one after the other, each idempotent"),
    "processes": Support("refused", "commands and several worker processes are refused: one process sees the queues"),
}
"""What happens to a capability that a broker does not declare."""
BACKEND_PLAN: Mapping[str, Support] = {
    "atomic_join": Support("without", "a group may complete twice; its callback is sent once all the same, by its id"),
    "notify": Support("without", "who waits for a result looks again and again"),
    "scan": Support("refused", "lists of results and workers are refused"),
    "processes": Support("refused", "commands and several worker processes are refused: one process sees the results"),
}
"""What happens to a capability that a result backend does not declare."""


def steps(capabilities: Capabilities | BackendCapabilities) -> dict[str, Support]:
    """Return what becomes of each capability with an engine that has *capabilities*."""
    plan = BROKER_PLAN if isinstance(capabilities, Capabilities) else BACKEND_PLAN
    able: dict[str, Any] = attrs.asdict(capabilities, recurse=False)
    return {name: Support("native", "") if able[name] else step for name, step in plan.items()}
