"""What an engine does by itself, what core makes up for, and what it refuses: by capability, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from queuekit.backend import BackendCapabilities
from queuekit.broker import Capabilities

__all__ = ["BACKEND_PLAN", "BROKER_PLAN", "Step", "steps"]


@attrs.frozen
class Step:
    """What becomes of one capability."""

    how: Literal["native", "emulated", "refused", "without"]
    """``native``: the service does it. ``emulated``: core does. ``refused``: whoever asks for it is told so.
    ``without``: it is not there, and work goes on."""
    text: str
    """What that means, in a few words."""


BROKER_PLAN: Mapping[str, Step] = {
    "fenced_ack": Step("emulated", "a worker takes a lease for lost at its own deadline; results are guarded by rank"),
    "delay": Step("without", "what is delayed may run early"),
    "priority": Step("refused", "a task that asks for a priority is refused when the app or worker starts"),
    "dedup": Step(
        "emulated",
        "a message whose result is stored is not run again; follow-ups take a record of the backend before they run",
    ),
    "unique": Step("emulated", "keys are records of the result backend; without one, tasks that ask are refused"),
    "fifo": Step("without", "the order within a queue is not kept"),
    "blocking_receive": Step("without", "the broker looks again and again instead of being woken"),
    "inspect": Step("refused", "no command shows single messages; what waits is counted where the broker has counts"),
    "remove": Step("emulated", "a cancelled message is dropped when its turn comes"),
    "dead_letters": Step(
        "without", "dead letters leave the queue; who wants them back looks where the broker puts them"
    ),
    "commit": Step("emulated", "result, follow-ups and settlement go one after the other, each idempotent"),
    "processes": Step("refused", "commands and several worker processes are refused: one process sees the queues"),
}
"""What happens to a capability that a broker does not declare."""
BACKEND_PLAN: Mapping[str, Step] = {
    "atomic_join": Step("without", "a group may complete twice; its callback is sent once all the same, by its id"),
    "notify": Step("without", "who waits for a result looks again and again"),
    "scan": Step("refused", "lists of results and workers are refused"),
    "processes": Step("refused", "commands and several worker processes are refused: one process sees the results"),
}
"""What happens to a capability that a result backend does not declare."""


def steps(capabilities: Capabilities | BackendCapabilities) -> dict[str, Step]:
    """Return what becomes of each capability with an engine that has *capabilities*."""
    plan = BROKER_PLAN if isinstance(capabilities, Capabilities) else BACKEND_PLAN
    able: dict[str, Any] = attrs.asdict(capabilities, recurse=False)
    return {name: Step("native", "") if able[name] else step for name, step in plan.items()}
