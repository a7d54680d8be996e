"""Explain why a message does not run: a table of predicates over what brokers, records and workers report.

The first predicate that holds is the answer. All that hold are listed, each with the command that helps. The facts are
collected with calls whose cost does not grow with the length of a queue, and from the contracts alone, so the answers
are the same for every plugin.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs

from queuekit import durations
from queuekit.broker import Place, QueueCounts, Stored
from queuekit.envelope import Lane
from queuekit.errors import UnknownIdError, did_you_mean
from queuekit.execution.workflow_held import FOLLOW_TASK
from queuekit.limiting.rates import has_turn
from queuekit.operations.admin import Admin, MessageView
from queuekit.operations.lane_places import LanePlace, find_place
from queuekit.operations.pauses import resume_command
from queuekit.operations.slot_lines import SlotWait, find_wait, rates_of
from queuekit.states import FINAL, State
from queuekit.values import frozen
from queuekit.wire.merges import KeyState
from queuekit.wire.pauses import Pause
from queuekit.wire.presence import Presence
from queuekit.wire.records import UNKNOWN_TASK

__all__ = ["PREDICATES", "Facts", "Reason", "collect", "reasons"]

CountsOf = Callable[[str], QueueCounts | None]
"""Returns the counts of a queue; ``None`` if they are not known."""
_NAMED = 3
"""Most workers to name in a sentence."""
_SPREAD = 2.0
"""Seconds after the end of a pause within which messages that it held come back."""


@frozen(kw_only=True)
class Reason:
    """A reason why a message does not run, or what it does instead."""

    code: str
    """One or two words, stable across releases."""
    text: str
    """A sentence without a full stop."""
    since: float | None = None
    """UTC epoch seconds at which it began, if known."""
    until: float | None = None
    """UTC epoch seconds at which it will end, if known."""
    command: str = ""
    """Arguments of the ``queuekit`` command that helps; empty if there is none."""


@frozen(kw_only=True)
class Facts:
    """All that the predicates look at."""

    id: str
    view: MessageView | None = None
    """What broker and records know; ``None`` if that is nothing."""
    counts: QueueCounts | None = None
    """Counts of its queue; ``None`` if its queue is not known or the broker does not count."""
    workers: Sequence[Presence] | None = None
    """All workers, including silent ones; ``None`` without a backend that can list records."""
    pauses: Sequence[Pause] = ()
    """What is paused."""
    wait: SlotWait | None = None
    """What it waits for, if that is a slot of a concurrency limit."""
    in_lane: LanePlace | None = None
    """What comes before it, if it waits for a turn of its lane and the broker shows the order of turns."""
    rates: tuple[str, ...] = ()
    """The rates that apply to it, as ``name`` or ``name/key``."""
    parameters: tuple[str, ...] = ()
    """Names of the parameters of its task, if that is known here."""
    max_deliveries: int = 3
    """Crashes after which a message is dead-lettered."""
    results_expire: float = 3600.0
    """Seconds for which a record is kept."""
    now: float = 0.0
    """UTC epoch seconds."""

    @property
    def stored(self) -> Stored | None:
        """The message in its queue."""
        return self.view.queued.stored if self.view is not None and self.view.queued is not None else None

    @property
    def place(self) -> Place | None:
        """The place of the message, if the broker reports it."""
        return self.stored.place if self.stored is not None else None

    @property
    def state(self) -> State:
        """The state that its record gives."""
        return self.view.info.state if self.view is not None else State.UNKNOWN

    @property
    def queue(self) -> str:
        """Its queue; empty if unknown."""
        if self.stored is not None:
            return self.stored.envelope.queue
        return self.view.info.queue if self.view is not None else ""

    @property
    def task(self) -> str:
        """Its task; empty if unknown."""
        if self.view is None:
            return ""
        return self.view.info.task or (self.view.queued.task if self.view.queued is not None else "")

    @property
    def waits(self) -> bool:
        """Whether it is in its queue and not held by a worker, as far as known."""
        if self.place is not None:
            return self.place in {Place.READY, Place.DELAYED}
        return self.view is not None and bool(self.view.silent) and not self.view.holder

    @property
    def serving(self) -> list[Presence]:
        """The live workers of its queue."""
        return [worker for worker in self.workers or () if worker.live and self.queue in worker.queues]


def collect(admin: Admin, id: str, *, view: MessageView | None = None, counts_of: CountsOf | None = None) -> Facts:
    """Return the facts about message *id*.

    Args:
        admin: Reads them.
        id: Id of the message.
        view: What is known of it, if the caller has read that.
        counts_of: Returns the counts of its queue, if the caller has them.

    Raises:
        InvalidNameError: It is not a valid id.
    """
    if view is None:
        with suppress(UnknownIdError):
            view = admin.show(id)
    settings = admin.config
    facts = Facts(
        id=id,
        view=view,
        workers=admin.seen_workers(),
        pauses=admin.pauses(),
        parameters=() if view is None else admin.parameters_of(view),
        max_deliveries=settings.worker.max_deliveries,
        results_expire=settings.results_expire,
        now=admin.now(),
    )
    message = None if view is None else view.message
    task, keys = admin.app.tasks.get(facts.task), None if message is None else message.limits
    wait = find_wait(admin.runtime, task, keys, id)
    counts = (counts_of or admin.counts_of)(facts.queue) if facts.queue else None
    in_lane = find_place(admin.runtime.broker, facts.stored)
    return attrs.evolve(facts, wait=wait, rates=rates_of(task, keys), counts=counts, in_lane=in_lane)


def reasons(facts: Facts) -> list[Reason]:
    """Return all reasons that hold, the first of which is the answer; at least one."""
    found = [reason for predicate in PREDICATES if (reason := predicate(facts)) is not None]
    return found or [
        Reason(code="unknown", text="nothing that is recorded explains it", command=shlex.join(["show", facts.id]))
    ]


def _never_sent(facts: Facts) -> Reason | None:
    if facts.view is not None:
        return None
    kept = durations.format(facts.results_expire)
    text = f"it was never sent, or it has ended and nothing is left of it: records are kept for {kept} (results_expire)"
    return Reason(code="never_sent", text=text, command="queues")


def _dead(facts: Facts) -> Reason | None:
    stored = facts.stored
    if stored is None or stored.place is not Place.DEAD:
        return None
    error = f": {_first_line(stored.error)}" if stored.error else ""
    text = f"it is a dead letter of {facts.queue!r} ({stored.reason}{error})"
    return Reason(code="dead", text=text, since=stored.died_at, command=shlex.join(["dlq", "retry", facts.id]))


def _cancelled(facts: Facts) -> Reason | None:
    wish = facts.view.cancellation if facts.view is not None else None
    ended = wish is not None and wish.did in {"removed", "dropped", "killed"}
    if facts.state is not State.CANCELLED and not ended:
        return None
    by = f" by {wish.by}" if wish is not None and wish.by else ""
    return Reason(code="cancelled", text=f"it was cancelled{by}", since=wish.at if wish is not None else None)


def _expired(facts: Facts) -> Reason | None:
    if facts.view is None or facts.state is not State.EXPIRED:
        return None
    info = facts.view.info
    text = info.error if info.error_type == UNKNOWN_TASK else "no worker started it before it expired"
    return Reason(code="expired", text=text, since=info.finished)


def _gone(facts: Facts) -> Reason | None:
    if facts.view is None or facts.state not in FINAL - {State.CANCELLED, State.EXPIRED} or facts.place is Place.DEAD:
        return None
    info = facts.view.info
    where = f" on {info.worker}" if info.worker else ""
    return Reason(
        code="gone",
        text=f"it has ended as {info.state.value}{where}",
        since=info.finished,
        command=shlex.join(["show", facts.id]),
    )


def _running(facts: Facts) -> Reason | None:
    if facts.view is None or not facts.view.holder:
        return None
    holder = facts.view.holder
    seconds = next((r.seconds for w in facts.workers or () for r in w.runs if r.id == facts.id), None)
    stored = facts.stored
    return Reason(
        code="running",
        text=f"{holder} runs it",
        since=None if seconds is None else facts.now - seconds,
        until=stored.due if stored is not None and stored.place is Place.LEASED else None,
        command=shlex.join(["cancel", facts.id]),
    )


def _no_slot(facts: Facts) -> Reason | None:
    """Hold if it waits for a slot, which it does under a lease."""
    wait = facts.wait
    if wait is None:
        return None
    named = ", ".join(wait.holders[:_NAMED]) + (" and others" if len(wait.holders) > _NAMED else "")
    text = f"it waits for a slot: Concurrency {wait.limit}: {len(wait.holders)} of {wait.most} held"
    text += f" by {named}, {wait.before:,} before it" if named else f", {wait.before:,} before it"
    return Reason(code="no_slot", text=text, command="limits")


def _leased(facts: Facts) -> Reason | None:
    stored = facts.stored
    if stored is None or stored.place is not Place.LEASED or (facts.view is not None and facts.view.holder):
        return None
    if facts.wait is not None:
        return None
    text = "a worker holds it under a lease and has not reported to run it yet"
    return Reason(code="leased", text=text, until=stored.due, command="workers")


def _cancelling(facts: Facts) -> Reason | None:
    wish = facts.view.cancellation if facts.view is not None else None
    if wish is None or facts.state in FINAL or wish.did in {"removed", "dropped", "killed"}:
        return None
    by = f" by {wish.by}" if wish.by else ""
    text = f"it is to be cancelled{by}: a waiting message ends when its turn comes, a running one when its body stops"
    return Reason(code="cancelling", text=text, since=wish.at, command=shlex.join(["show", facts.id]))


def _paused(facts: Facts) -> Reason | None:
    """Hold if its queue or task is paused until after it is due, or while its delay may be that of a held message."""
    if not facts.waits:
        return None
    stored = facts.stored
    due = (stored.due if stored is not None else None) or 0.0
    for pause in facts.pauses:
        until = None if pause.left is None else facts.now + pause.left
        if not _may_hold(facts, pause) or (until is not None and due > until + _SPREAD):
            continue
        why = f" ({_first_line(pause.why)})" if pause.why else ""
        text = f"{pause.what} is paused by {pause.by}{why}"
        return Reason(code="paused", text=text, since=pause.at, until=until, command=resume_command(pause))
    return None


def _may_hold(facts: Facts, pause: Pause) -> bool:
    """Return whether the message may be one that *pause* selects; its arguments may not be known here."""
    named = pause.queue == facts.queue if pause.queue else bool(facts.task) and pause.names(facts.task)
    if not named:
        return False
    message = facts.view.message if facts.view is not None else None
    if not pause.where or message is None or facts.view is None or facts.view.hidden:
        return True
    return any(pause.fits(values) for values in message.calls(facts.parameters))


def _delayed(facts: Facts) -> Reason | None:
    if facts.view is None or not facts.waits:
        return None
    stored = facts.stored
    due = stored.due if stored is not None else facts.view.info.due
    if due is None or due <= facts.now or (stored is not None and stored.place is not Place.DELAYED):
        return None
    retried = stored is not None and (stored.envelope.attempt > 0 or facts.state is State.RETRY)
    text = "it waits for its next attempt" if retried else "it is delayed"
    return Reason(code="delayed", text=text, until=due)


def _limited(facts: Facts) -> Reason | None:
    stored = facts.stored
    if stored is None or stored.place is not Place.DELAYED or not has_turn(stored.envelope):
        return None
    turn = stored.envelope.not_before or stored.due
    text = f"it waits for its turn: Rate {', '.join(facts.rates)}" if facts.rates else "it waits for its turn by a rate"
    return Reason(code="limited", text=text, until=turn, command="limits") if turn > facts.now else None


def _held_unique(facts: Facts) -> Reason | None:
    message = facts.view.message if facts.view is not None else None
    if message is None or message.task != FOLLOW_TASK or facts.state in FINAL or not message.args:
        return None
    holder = str(message.args[0])
    return Reason(
        code="held_unique",
        text=f"its unique key is held by {holder}, whose outcome it will take",
        command=shlex.join(["why", holder]),
    )


def _waits_to_merge(facts: Facts) -> KeyState | None:
    """Return the record of its unique key if it waits there and takes in newer calls."""
    state = facts.view.key_state if facts.view is not None else None
    waiting = state.waiting if state is not None else None
    return state if waiting is not None and waiting.id == facts.id and facts.state not in FINAL else None


def _latest(facts: Facts) -> Reason | None:
    state = _waits_to_merge(facts)
    if state is None or state.running is None or state.waiting is None:
        return None
    holder = state.running.id
    text = f"it waits until {holder} has ended, which runs with its unique key; a newer call replaces its arguments"
    return Reason(code="latest", text=text, since=state.waiting.since, command=shlex.join(["why", holder]))


def _debounced(facts: Facts) -> Reason | None:
    state = _waits_to_merge(facts)
    if state is None or state.running is not None or state.waiting is None or state.waiting.due <= facts.now:
        return None
    text = "it waits until no call has come for a while; a newer call replaces its arguments"
    return Reason(code="debounced", text=text, since=state.waiting.since, until=state.waiting.due)


def _no_worker(facts: Facts) -> Reason | None:
    if not facts.waits or facts.workers is None or facts.serving or not facts.queue:
        return None
    silent = [worker for worker in facts.workers if facts.queue in worker.queues]
    others = sorted({queue for worker in facts.workers if worker.live for queue in worker.queues})
    more = ""
    if silent:
        last = min(silent, key=lambda worker: worker.quiet)
        more = f"; {last.name} did, and has been silent for {last.quiet:.0f} s"
    elif others:
        more = f"; {did_you_mean(facts.queue, others) or 'workers serve ' + ', '.join(map(repr, others[:_NAMED]))}"
    return Reason(
        code="no_worker",
        text=f"no worker serves its queue {facts.queue!r}{more}",
        command=shlex.join(["worker", "-q", facts.queue]),
    )


def _draining(facts: Facts) -> Reason | None:
    serving = facts.serving
    if not facts.waits or not serving or not all(worker.draining for worker in serving):
        return None
    text = f"all workers of its queue {facts.queue!r} are draining: {_names(serving)}"
    return Reason(code="workers_draining", text=text, command=shlex.join(["worker", "-q", facts.queue]))


def _gated(facts: Facts) -> Reason | None:
    serving = facts.serving
    if not facts.waits or not serving or not all(worker.gate for worker in serving):
        return None
    text = f"all workers of its queue {facts.queue!r} are held back by gate: {_first_line(serving[0].gate)}"
    return Reason(code="held_back", text=text, command="workers")


def _unknown_task(facts: Facts) -> Reason | None:
    without = [worker for worker in facts.serving if facts.task and facts.task in worker.unknown]
    if not facts.waits or not without:
        return None
    text = f"its task {facts.task!r} is not in the code of {_names(without)}"
    return Reason(code="unknown_task", text=text, command="workers")


def _suspect(facts: Facts) -> Reason | None:
    stored = facts.stored
    if stored is None or not stored.crashes or stored.place is Place.DEAD:
        return None
    most = facts.max_deliveries
    times = "once" if stored.crashes == 1 else f"{stored.crashes} times"
    text = f"it is a suspect: its worker process died {times} while it held it; it runs alone, at most {most} crashes"
    return Reason(code="suspect", text=text, command=shlex.join(["show", facts.id]))


def _behind(facts: Facts) -> Reason | None:
    if not facts.waits or not _is_due(facts):
        return None
    rate = sum(worker.rate or 0.0 for worker in facts.serving)
    lane = "" if facts.stored is None else _lane(facts.stored.envelope.lane, facts.in_lane)
    text = f"it waits for its turn{lane}: {_others(facts.counts)} in {facts.queue!r}{_pace(facts, rate)}"
    command = "workers" if facts.workers is not None else "queues"
    return Reason(code="behind", text=text, until=_turn(facts, rate), command=command)


def _is_due(facts: Facts) -> bool:
    stored = facts.stored
    return stored is None or stored.place is Place.READY or (stored.due or 0.0) <= facts.now


def _turn(facts: Facts, rate: float) -> float | None:
    """Return when its turn comes, if so many messages per second end; ``None`` if that cannot be said."""
    counts = facts.counts
    if counts is None or counts.ready <= 1 or not rate or Place.READY in counts.at_least:
        return None
    return facts.now + (counts.ready - 1) / rate


def _lane(lane: Lane | None, place: LanePlace | None) -> str:
    if lane is None:
        return ""
    share = "" if lane.weight == 1 else f" of weight {lane.weight:g}"
    named = f"the lane {lane.key!r}" if lane.key else "the common lane"
    return f" in {named}{share}, {place or 'which takes turns with the others'}"


def _others(counts: QueueCounts | None) -> str:
    if counts is None:
        return "an unknown number of others wait"
    count = max(0, counts.ready - 1)
    text = "no other waits" if not count else "1 other waits" if count == 1 else f"{count:,} others wait"
    return f"at least {text}" if Place.READY in counts.at_least else text


def _pace(facts: Facts, rate: float) -> str:
    if facts.workers is None:
        return "; who serves it is not known without a backend that can list records"
    if not facts.serving:
        return ""
    return f", whose workers finish {rate:,.1f} messages per second" if rate else ", whose workers are busy or slow"


def _lost(facts: Facts) -> Reason | None:
    """Hold if a record says that it waits or runs, and the broker, which reports messages, does not have it."""
    view = facts.view
    if view is None or view.queued is not None or view.silent or view.holder or facts.state in FINAL:
        return None
    if facts.state is State.UNKNOWN or _waits_to_merge(facts) is not None:
        return None
    text = f"its record says {facts.state.value}, but the broker does not have it: it was purged, or has just moved"
    return Reason(code="missing", text=text, command=shlex.join(["show", facts.id]))


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")[:200]


def _names(workers: Sequence[Presence]) -> str:
    shown = [
        f"{worker.name} (version {worker.app_version})" if worker.app_version else worker.name
        for worker in workers[:_NAMED]
    ]
    more = len(workers) - _NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


PREDICATES: tuple[Callable[[Facts], Reason | None], ...] = (
    _never_sent,
    _dead,
    _cancelled,
    _expired,
    _gone,
    _running,
    _no_slot,
    _leased,
    _cancelling,
    _paused,
    _limited,
    _latest,
    _debounced,
    _delayed,
    _held_unique,
    _no_worker,
    _draining,
    _gated,
    _unknown_task,
    _suspect,
    _behind,
    _lost,
)
"""In the order in which they answer."""
