"""One worker process: fetcher, run threads, event loop, settler, and the threads that watch them.

::

    fetcher -> admit -> threads / event loop -> settler -> broker and backend
                 |                                 |
                 +---------- renewer <--------------+
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from queuekit.app import Queuekit
from queuekit.backend import Record
from queuekit.broker import Ack, Delivery, Release
from queuekit.client.requirements import require
from queuekit.client.sender import Sending
from queuekit.errors import UnavailableError
from queuekit.events import LeasesLost, MessageDead, WorkerReady, WorkerStopped, WorkerStopping
from queuekit.execution.announce import announce_claimed, announce_settled
from queuekit.execution.executor import Executor
from queuekit.execution.limiter import UPKEEP, Limiter
from queuekit.execution.merging import Merger
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.outcome_hooks import OutcomeHooks
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.ids import worker_name
from queuekit.logs.lines import lines_together
from queuekit.states import State
from queuekit.wire.pauses import PAUSED, drain_key
from queuekit.wire.records import CANCEL
from queuekit.worker.app_ref import AppRef
from queuekit.worker.draining import LEAST_STOP, Draining
from queuekit.worker.fetcher import Fetcher
from queuekit.worker.hand_back import HandBack, RunPool
from queuekit.worker.health import Health
from queuekit.worker.lease_renewer import LeaseRenewer
from queuekit.worker.lease_table import HeldRow, LeaseTable
from queuekit.worker.memory import own_memory
from queuekit.worker.pausing import Pausing
from queuekit.worker.prefetch import LITTLE_BYTES, Prefetch
from queuekit.worker.presence import Report, about_this_process
from queuekit.worker.probes import Moves
from queuekit.worker.recycling import Bounds, Usage
from queuekit.worker.run_table import RunTable
from queuekit.worker.settler import Settler
from queuekit.worker.stack_reports import StackReporter
from queuekit.worker.stuck import StuckFetch
from queuekit.worker.thread_pool import ThreadPool
from queuekit.worker.unwritten_outcomes import UnwrittenOutcomes
from queuekit.worker.watchdog import Watchdog
from queuekit.worker.witness import Witness

if TYPE_CHECKING:
    from queuekit.execution.worker_scope import WorkerScope
    from queuekit.schedules.scheduler import Scheduler
    from queuekit.worker.async_pool import LoopPool
    from queuekit.worker.dead_bounds import DeadBounds
    from queuekit.worker.forkserver import ForkServer
    from queuekit.worker.gates import Gates
    from queuekit.worker.hand_over import HandOver
    from queuekit.worker.isolation import Isolation

__all__ = ["Worker"]

_RAN = ("done", "failed", "retried")
"""Outcomes, as counted, of bodies that have ended."""
_FINAL_SETTLE = 0.5
"""Least seconds to settle the remaining outcomes at the end."""
_CLOSING_STEP = 0.02
"""Seconds between two looks at the bodies that still have resources open."""
_TELLING = 2.0
"""Seconds in which threads may finish that work for coroutines: what they tell, such as a signal, belongs to a run."""
_KILLED_SOON = 1.25
"""Seconds before the end of a stop at which a process that has a supervisor closes its resources under bodies that run
on: it is killed a quarter of a second later."""
_RESERVE = 1.5
"""Seconds of ``drain`` that are reserved for handing back and settling; running tasks get the rest."""


class Worker:
    """Runs an app's tasks in this process until it is told to stop.

    Args:
        app: The app.
        burst: Whether to end when the queues are empty.
        name: Prefix of its name; default: the host's name.
        ref: Reference by which child processes load the app; without it, suspects of a crash run like other messages.
        server: The fork server, if it is already started.
        leases: Lease table for a supervisor that renews the leases; default: a thread of this process renews them. The
            thread also renews them if only the process that claimed can (``portable_leases``).
        run_table: Records what each thread runs; default: memory of this process.
        on_replace: Called with the reason if this process must end for a body that does not, while nothing else in it
            is at fault; its supervisor kills it and starts another. Default: such bodies go on.
        on_drain: Called once when an operator drains the worker.
        on_serve: Called once when the worker takes messages and can run them.
        on_fault: Called with the reason if the worker cannot go on; must end this process, whose supervisor starts
            another. Default: the worker stops at once.
    """

    def __init__(
        self,
        app: Queuekit,
        *,
        burst: bool = False,
        name: str | None = None,
        ref: AppRef | None = None,
        server: ForkServer | None = None,
        leases: LeaseTable | None = None,
        run_table: RunTable | None = None,
        on_replace: Callable[[str], None] | None = None,
        on_drain: Callable[[], None] = lambda: None,
        on_serve: Callable[[], None] = lambda: None,
        on_fault: Callable[[str], None] | None = None,
    ) -> None:
        self.app = app
        self._on_replace, self._on_drain, self._on_serve, self._burst = on_replace, on_drain, on_serve, burst
        self.name = worker_name(name)
        self.stats: Counter[str] = Counter()
        """Number of deliveries by how they ended."""
        self._runtime = runtime = app.runtime
        self._require()
        self._settings = settings = runtime.config.worker
        sending = Sending(runtime, app.tasks)
        self._executor, self._now = Executor(runtime, app.tasks, sending, worker=self.name), sending.now
        self._prefetch = prefetch = Prefetch(concurrency=settings.concurrency, most=settings.prefetch)
        self._unwritten = unwritten = UnwrittenOutcomes(settings.concurrency, pace=lambda: prefetch.mean)
        self._make_limits()
        advancer = WorkflowAdvancer(runtime, sending)
        self._hooks = OutcomeHooks(runtime.stages, worker=self.name) or None
        self._settler = Settler(runtime, advancer, worker=self.name, on_settled=self._written, unwritten=unwritten)
        self._make_pools(run_table, ref, server)
        self._fetcher = Fetcher(runtime, self, burst=burst, on_empty=self._end_burst)
        self._make_orders()
        self._make_upkeep()
        self._leases, self._resources = leases or LeaseTable(), app.resources
        kept_elsewhere = leases is not None and runtime.broker.capabilities.portable_leases
        self._renewer = None if kept_elsewhere else self._start_renewer()
        self._hold_nothing()
        self._health = self._make_health(on_fault)

    def _make_limits(self) -> None:
        backend = self._runtime.backend
        self._lines = lines = (
            None if backend is None else Limiter(self._runtime, backend, self.app.tasks, worker=self.name)
        )
        self._limiter = lines if lines is not None and lines.limits else None
        self._hand_over: HandOver | None = None
        if lines is not None and lines.has_slots:
            from queuekit.worker.hand_over import HandOver

            self._hand_over = HandOver(self._runtime, lines, self, seconds_of=self._prefetch.average)

    def _make_upkeep(self) -> None:
        """Make what looks after schedules, pauses and dead letters."""
        self._scheduler = None if self._burst else self._make_scheduler()
        self._watchdog = self._make_watchdog()
        self._dead_bounds = self._make_dead_bounds()

    def _make_pools(self, run_table: RunTable | None, ref: AppRef | None, server: ForkServer | None) -> None:
        self._run_table = run_table or RunTable(2 * self._settings.concurrency)
        self._isolation = self._isolate(ref, server)
        self._threads = self._make_threads()
        self._loop_pool: LoopPool | None = None

    def _require(self) -> None:
        """Refuse tasks that the engines cannot serve, and have the broker look for cancelled messages if it can."""
        require(self._runtime, self.app.tasks, self.app.declared)
        if self._runtime.shared:
            self._runtime.broker.look_for_marks(CANCEL)

    def _hold_nothing(self) -> None:
        self._merger = Merger(self._runtime, now=self._now, again=lambda one: self._prepare(one, {}))
        self._serials = itertools.count(1)
        self._in_flight: dict[int, Run] = {}
        # Tokens of deliveries that need no run and are not settled yet.
        self._passing: set[str] = set()
        self._ended = 0
        self._changed = threading.Condition()
        self._stop, self._hurry = threading.Event(), threading.Event()
        self._reason = "asked to stop"
        self.recycling = ""
        """Why another process has taken its place; empty if none has."""
        # Threads of the caller that must be alive while the worker works.
        self.others: list[threading.Thread] = []

    def _make_threads(self) -> ThreadPool:
        return ThreadPool(
            self._executor,
            size=self._settings.concurrency,
            run_table=self._run_table,
            isolation=self._isolation,
            deliver=self._deliver(),
            unwritten=self._unwritten,
            seconds_of=self._prefetch.average,
        )

    def _deliver(self) -> Callable[[Outcome], None]:
        """Return what pools call with each outcome."""
        settle, hand_over = self._settler.put, self._hand_over
        if hand_over is None:
            return settle

        def deliver(outcome: Outcome) -> None:
            settle(outcome)
            hand_over.ended(outcome)

        return deliver

    def _make_gates(self) -> Gates | None:
        """Return what asks the gates of the app; ``None`` if it has none."""
        if not self.app.gates:
            return None
        from queuekit.worker.gates import Gates

        return Gates(self.app.gates, clock=self._runtime.clock.monotonic, change=self._pausing.hold)

    def _make_health(self, on_fault: Callable[[str], None] | None) -> Health:
        self._witness = Witness()
        self._gates = self._make_gates()
        fetch = self._fetcher
        stuck = StuckFetch(
            worker=self.name, thread=lambda: fetch.thread, overtime=fetch.overtime, idle=lambda: not self._in_flight
        )
        return Health(
            worker=self.name,
            events=self.app.events,
            run_table=self._run_table,
            parts=self._parts,
            pool=lambda: self._loop_pool,
            begun=lambda: [run.serial for run in list(self._in_flight.values()) if run.started is not None],
            more=[self._witness.check, stuck.check, *([] if self._gates is None else [self._gates.check])],
            loops=self._loops_move,
            usage=self._usage if self._on_replace and Bounds.of(self._settings, lambda: 0.0).measured else None,
            stop=lambda reason: self.stop(reason, at_once=True),
            on_fault=on_fault,
        )

    def _usage(self) -> Usage:
        """Return how many bodies have run in this process, and its memory."""
        ran = sum(self.stats[status] for status in _RAN)
        return Usage(ran - (0 if self._isolation is None else self._isolation.ran), own_memory())

    def _loops_move(self) -> Moves:
        fetch = self._fetcher
        turns = None if self._stop.is_set() else fetch.turns
        return Moves(fetch=turns, late=fetch.late(), settle=self._settler.turns, down=fetch.down)

    def _parts(self) -> Iterator[threading.Thread]:
        """Yield the threads without which the worker would hold messages but not process them."""
        if self._stop.is_set():
            return
        yield from (self._settler.thread, self._watchdog.thread, self._fetcher.thread)
        yield from list(self._threads.threads)
        yield from self.others
        for part in (self._scheduler, self._renewer, self._loop_pool):
            if part is not None:
                yield part.thread

    def _isolate(self, ref: AppRef | None, server: ForkServer | None) -> Isolation | None:
        if ref is None:
            return None
        from queuekit.worker.isolation import Isolation

        return Isolation(
            self._runtime,
            self._executor,
            ref=ref,
            worker=self.name,
            always=self._settings.pool == "process",
            server=server,
            table=self._run_table.fileno,
        )

    def _make_reporter(self) -> StackReporter:
        return StackReporter(
            self._runtime,
            worker=self.name,
            in_threads=lambda: list(self._threads.running.items()),
            thread_of=self._threads.thread_of,
            loop=lambda: self._loop_pool,
            isolation=self._isolation,
            is_apart=self._is_apart,
            running=lambda: len(self._run_table.entered()),
            replaceable=self._on_replace is not None,
        )

    def _make_orders(self) -> None:
        """Create what obeys an operator's records."""
        self._pausing = Pausing(
            self._runtime,
            worker=self.name,
            serve=self._fetcher.serve,
            take_back=self._take_back_paused,
            report=self._report,
        )
        self._draining = Draining(
            self._runtime, worker=self.name, close=lambda _: self._close(), idle=self.idle, stop=self.stop
        )

    def _make_watchdog(self) -> Watchdog:
        return Watchdog(
            self._runtime,
            self._executor,
            in_flight=lambda: list(self._in_flight.values()),
            in_threads=lambda: list(self._threads.running.items()),
            give_up=self._threads.give_up,
            thread_of=self._threads.thread_of,
            is_apart=self._is_apart,
            cancel=self._cancel_coroutine,
            deliver=self._settler.put,
            about={"name": self.name, **about_this_process(self._runtime)},
            hand_back=self._hand_back_looks(),
            facts=Report(
                self._runtime,
                runs=lambda: list(self._in_flight.values()),
                done=lambda: sum(self.stats.values()),
                silence=self._fetcher.silence,
                ages=self._fetcher.ages,
                draining=lambda: self.draining,
                recycling=lambda: self.recycling,
                unknown=self._executor.unknown,
                paused=lambda: self._pausing.marks,
                gate=lambda: self._pausing.gate,
            ),
            bodies=lambda: [run for pool in self._pools() for run in list(pool.running.values())],
            replace=self._on_replace,
            answer=self._make_reporter().answer,
            standing=self._standing(),
            upkeep=None if self._lines is None or self._lines.has_slots else self._lines.look_seldom,
        )

    def _hand_back_looks(self) -> Callable[[float], bool]:
        """Return what looks for messages that cannot begin soon."""
        look = HandBack(
            self._prefetch,
            pools=self._pools,
            done=lambda: sum(self.stats.values()),
            give_back=lambda run: self.hand_back([run]),
        ).look
        hand_over = self._hand_over
        return look if hand_over is None else lambda now: hand_over.look(now) | look(now)

    def _standing(self) -> dict[str, Callable[[Record | None], None]]:
        """Return the records that are read in the same round trip, and what is called with each."""
        standing: dict[str, Callable[[Record | None], None]] = {
            PAUSED: self._pausing.read,
            drain_key(self.name): self._draining.read,
        }
        if self._scheduler is not None:
            from queuekit.schedules.schedule import CHANGES

            standing[CHANGES] = self._scheduler.note_changes
        if self._lines is not None and self._lines.has_slots:
            standing[UPKEEP] = self._lines.look_after
        return standing

    def _report(self) -> None:
        """Write the presence record soon."""
        self._watchdog.report()

    def _close(self) -> None:
        """Take no more messages, since an operator drains this worker."""
        self._on_drain()
        self._pausing.close()

    @property
    def draining(self) -> bool:
        """Whether it takes no more messages."""
        return self._stop.is_set() or self.drained or bool(self.recycling)

    @property
    def drained(self) -> bool:
        """Whether an operator has asked it to drain."""
        return bool(self._draining.reason)

    def _pools(self) -> Iterator[RunPool]:
        yield self._threads
        if self._loop_pool is not None:
            yield self._loop_pool

    def _set_aside(self, queue: str, id: str, why: str) -> None:
        """Emit the event for a message that the broker found malformed, as for one that the worker finds."""
        event = MessageDead(id=id, task="", queue=queue, reason="malformed", error=why, worker=self.name)
        self._runtime.events.emit(event)
        if self._hooks is not None:
            self._hooks.set_aside(queue, id, why)

    def _make_scheduler(self) -> Scheduler | None:
        """Return the scheduler, or ``None`` if this worker sends no ticks."""
        backend = self._runtime.backend
        if not self._settings.schedules or backend is None or not backend.capabilities.scan:
            return None
        from queuekit.schedules.scheduler import Scheduler

        return Scheduler(self.app, name=self.name, is_told=True)

    def _make_dead_bounds(self) -> DeadBounds | None:
        """Return what keeps dead letters within their bounds; ``None`` if they have none."""
        if not self._settings.dead_max_age and not self._settings.dead_max_count:
            return None
        from queuekit.worker.dead_bounds import DeadBounds

        return DeadBounds(self.app, worker=self.name)

    def _start_renewer(self) -> LeaseRenewer:
        renewer = LeaseRenewer(self._runtime, self._leases, lease=self._runtime.lease, on_lost=self.lost)
        renewer.start()
        return renewer

    # -- start and stop

    def run(self) -> int:
        """Work until :meth:`stop`, then hand everything back.

        Returns:
            0, 130 if it was told to stop at once, or 1 after a fault.
        """
        clock = self._runtime.clock
        since = clock.monotonic()
        try:
            self.start()
            self._stop.wait()
            self.finish()
        finally:
            self._end_processes()
        seconds = clock.monotonic() - since
        self.app.events.emit(WorkerStopped(worker=self.name, seconds=seconds, stats=dict(self.stats)))
        self.app.plugins.call("queuekit_worker_stopped", worker=self, stats=dict(self.stats))
        self._health.watch.stop()
        self._witness.close()
        return 1 if self._health.failed else 130 if self._hurry.is_set() else 0

    def start(self) -> None:
        """Start all threads, and return at once."""
        if self._resources is not None:
            self._resources.hold(lambda: self._loops().loop)
        self.app.plugins.call("queuekit_worker_child_init", raising=True, worker=self)
        self._witness.open()
        self._health.watch.start()
        self._runtime.broker.tell_set_aside(self._set_aside)
        if self._isolation is not None and self._isolation.is_usual(self.app.tasks):
            self._isolation.start()
        self._settler.start()
        self._watchdog.start()
        if self._isolation is not None:
            self._isolation.wait(self._stop)
        if self._gates is not None:
            self._gates.start(burst=self._burst)
        self._fetcher.start()
        if self._scheduler is not None:
            self._scheduler.start()
        if self._dead_bounds is not None:
            self._dead_bounds.start()
        self.app.events.emit(WorkerReady(worker=self.name))
        self.app.plugins.call("queuekit_worker_ready", worker=self)
        self._on_serve()

    def stop(self, reason: str = "queues are empty", *, at_once: bool = False) -> None:
        """Start to stop; with *at_once*, do not wait for running tasks. Any thread may call this, and repeatedly."""
        self._reason = reason
        if at_once:
            self._hurry.set()
        self._stop.set()
        if self._gates is not None:
            self._gates.stop()
        with self._changed:
            self._changed.notify_all()

    def has_lost_files(self) -> bool:
        """End this worker if a task has closed its file descriptors, and return whether that is so."""
        reason = self._witness.check()
        if reason:
            self._health.fail(reason)
        return bool(reason)

    def recycle(self, reason: str) -> None:
        """Take no more messages, hand back those that wait, and stop when what runs has ended; returns at once."""
        if not self.draining:
            self.recycling = reason
            self._pausing.close()
            threading.Thread(target=self._end_when_idle, name="queuekit-recycle", daemon=True).start()

    def _end_when_idle(self) -> None:
        with self._changed:
            while not self.idle() and not self._stop.is_set():
                self._runtime.clock.wait(self._changed, 0.5)
        if not self._stop.is_set():
            self.stop(f"recycled: {self.recycling}")

    def _end_burst(self) -> None:
        """Stop, since there is nothing to take, and say why."""
        held = self._draining.reason or self._pausing.gate
        self.stop(held or "queues are empty" + (" but for what is paused" if self._pausing.active else ""))

    def finish(self) -> None:
        """Stop fetching, hand back unstarted messages, wait for running ones, give up on the rest, settle, close.

        This takes at most ``drain`` seconds, or :data:`LEAST_STOP` if that is longer.
        """
        self._health.watch.ease()
        drain = self._settings.drain
        began = self._runtime.clock.monotonic()
        deadline = began + max(drain, LEAST_STOP)
        self.app.plugins.call("queuekit_worker_stopping", worker=self, reason=self._reason)
        if self._scheduler is not None:
            self._scheduler.stop()
        self._fetcher.stop(max(0.5, drain - _RESERVE))
        self.hand_back([*self._behind(), *self._threads.take_waiting(), *self._loop_waiting()])
        running = sum(not run.decided for run in list(self._in_flight.values()))
        event = WorkerStopping(worker=self.name, reason=self._reason, running=running, drain=drain)
        self.app.events.emit(event)
        self._watchdog.report()
        self._drain(min(began + drain, deadline - _RESERVE))
        self._end_processes(deadline - _RESERVE)
        for run in list(self._in_flight.values()):
            # Decide the outcome before the cancel request: the body's reaction to it must not become the outcome.
            self._give_back(run, self._executor.decide.unfinished(run, settles=not run.early))
            self._cancel(run)
        self._settler.stop(max(_FINAL_SETTLE, deadline - _RESERVE - self._runtime.clock.monotonic()))
        self._stop_parts()
        if self._resources is not None:
            self._close_resources(self._resources, deadline)
        if self._loop_pool is not None:
            left = 0.0 if self._hurry.is_set() else deadline - _KILLED_SOON - self._runtime.clock.monotonic()
            self._loop_pool.stop(max(0.0, min(left, _TELLING)))
        self.app.close()

    def _stop_parts(self) -> None:
        """End the threads that nothing needs any more, and the bodies that were asked to stop."""
        if self._dead_bounds is not None:
            self._dead_bounds.stop(_FINAL_SETTLE)
        self._watchdog.stop()
        if self._renewer is not None:
            self._renewer.stop()
        if self._loop_pool is not None:
            self._loop_pool.end_bodies()

    def _close_resources(self, resources: WorkerScope, deadline: float) -> None:
        """Close the resources of this process, once the bodies that were asked to stop have closed theirs."""
        clock = self._runtime.clock
        until = deadline - (_FINAL_SETTLE if self._on_replace is None else _KILLED_SOON)
        while self._threads.holds_resources and clock.monotonic() < until:
            with self._changed:
                clock.wait(self._changed, _CLOSING_STEP)
        resources.release(max(_FINAL_SETTLE, deadline - clock.monotonic()))

    def _end_processes(self, until: float = 0.0) -> None:
        """End the processes of bodies; idle ones may close their resources until *until*, in monotonic seconds."""
        if self._isolation is not None:
            left = 0.0 if self._hurry.is_set() else until - self._runtime.clock.monotonic()
            self._isolation.close(max(_FINAL_SETTLE, left))

    def _drain(self, deadline: float) -> None:
        clock = self._runtime.clock
        with self._changed:
            while self._in_flight and not self._hurry.is_set():
                left = deadline - clock.monotonic()
                if left <= 0:
                    return
                clock.wait(self._changed, min(left, 0.5))

    def _give_back(self, run: Run, outcome: Outcome) -> None:
        """Settle *run* with *outcome* unless its own comes first."""
        if run.claim():
            self._settler.put(outcome)

    def load(self) -> dict[str, int]:
        """Return how many messages are ``running`` here, and how many are ``prefetched`` and wait."""
        runs = list(self._in_flight.values())
        running = sum(run.started is not None and not run.decided for run in runs)
        return {"running": running, "prefetched": len(runs) - running}

    # -- called by the fetcher

    def room(self) -> int:
        """Return how many messages to fetch: none until half of the prefetched ones are used."""
        slots, extra = self._places()
        # Suspects that wait for a process occupy no slot; not counting up to *slots* of them keeps others running.
        # Nor do messages that wait for their turn in a slot of a limit.
        held = len(self._in_flight) - min(self._threads.apart, slots)
        held -= 0 if self._hand_over is None else self._hand_over.waiting
        return 0 if held >= max(slots, slots + extra // 2) else slots + extra - held

    def capacity(self) -> int:
        """Return how many messages it would hold at this moment, including those that it holds."""
        return sum(self._places())

    def _places(self) -> tuple[int, int]:
        """Return how many messages may run, and how many may wait beyond those."""
        slots = min(self._settings.concurrency - self._lost_places(), self._leases.most)
        return slots, min(self._prefetch.size(), self._leases.most - slots)

    def _lost_places(self) -> int:
        """Return how many slots are occupied by bodies that were given up and are still running."""
        loop = self._loop_pool
        return len(self._threads.lost) + (len(loop.lost) if loop is not None else 0)

    def wait_for_room(self, timeout: float) -> bool:
        """Block until there is room; return false after *timeout* seconds, or if the worker is stopping."""
        with self._changed:
            if self.room() <= 0 and not self._stop.is_set():
                self._runtime.clock.wait(self._changed, timeout)
        return self.room() > 0

    def wait_for_end(self, ended: int, timeout: float) -> None:
        """Block until more than *ended* deliveries have ended, or the worker is stopping, or for *timeout* seconds."""
        with self._changed:
            if self._ended <= ended and not self._stop.is_set():
                self._runtime.clock.wait(self._changed, timeout)

    def ended(self) -> int:
        """Return how many deliveries have ended so far."""
        return self._ended

    def idle(self) -> bool:
        """Return whether nothing is in flight."""
        return not self._in_flight and not self._passing

    def admit(self, deliveries: list[Delivery]) -> None:
        """Accept a batch: read its marks and headers, register its leases, and submit it to the pools."""
        # What waits here with a slot would keep it from others.
        self._prefetch.fair = self._hand_over is not None or deliveries[0].envelope.lane is not None
        runs = self._prepared(deliveries)
        changes = self._pausing.changes
        if self._pausing.active:
            runs = self._without_paused(runs)
        if runs:
            runs = self._limited(self._merger, runs)
        if self._limiter is not None and runs:
            runs = self._limited(self._limiter, runs)
        if not runs:
            return
        self._prefetch.saw({run.message.task for run in runs})
        self.dispatch(self._acknowledge_early(self.take_on(runs)))
        if self._pausing.changes != changes:  # what was paused meanwhile was not in a pool yet
            self._take_back_paused()

    def take_on(self, runs: list[Run]) -> list[Run]:
        """Hold the leases of *runs*, and return those that may run."""
        self._in_flight.update({run.serial: run for run in runs})
        runs = self._held(runs)
        self._watchdog.wake()
        announce_claimed(self._runtime.events, runs, worker=self.name)
        self._executor.track([run for run in runs if run.task.defaults.track], State.RECEIVED)
        return runs

    def prepare_all(self, deliveries: list[Delivery]) -> list[Run | Outcome]:
        """Return a run for each delivery, or an outcome if it must not run, which is not settled."""
        marks = self._marks(deliveries)
        return [self._prepare(delivery, marks) for delivery in deliveries]

    def may_take(self, run: Run) -> bool:
        """Return whether *run* may begin now: the worker is not stopping, and the message is not paused."""
        return not self.draining and not (self._pausing.active and self._pausing.holds(run))

    def hand_back(self, runs: Iterable[Run]) -> None:
        """Release those of *runs* whose outcomes are open, uncounted."""
        for run in runs:
            self._give_back(run, self._executor.decide.handed_back(run))

    def _behind(self) -> list[Run]:
        """Take back the runs that wait for their turn in a slot of a limit."""
        return [] if self._hand_over is None else self._hand_over.take_back()

    def _prepared(self, deliveries: list[Delivery]) -> list[Run]:
        """Return the runs of a batch; settle the messages that do not run by their marks or headers."""
        try:
            marks = self._marks(deliveries)
        except UnavailableError:
            # The messages are leased but will not run here: release them when the engine answers again.
            self._put_back(deliveries)
            raise
        runs: list[Run] = []
        for delivery in self._bounded(deliveries):
            prepared = self._prepare(delivery, marks)
            if isinstance(prepared, Run):
                runs.append(prepared)
            else:
                self._pass_on(prepared)
        return runs

    def _prepare(self, delivery: Delivery, marks: Mapping[str, Record]) -> Run | Outcome:
        prepared = self._executor.prepare(delivery, marks)
        if isinstance(prepared, Run):
            prepared.serial = next(self._serials)
        return prepared

    def _without_paused(self, runs: list[Run]) -> list[Run]:
        """Return the runs of a batch that are not paused; release the others, uncounted."""
        kept: list[Run] = []
        for run in runs:
            pause = self._pausing.of_task(run)
            if pause is not None:
                self._pass_on(self._executor.paused(run, lasts=pause.left))
            elif self._pausing.holds(run):
                self._put_back([run.delivery])
            else:
                kept.append(run)
        return kept

    def _take_back_paused(self) -> None:
        """Release the messages that wait here for a slot and are paused by now."""
        self.hand_back(self._behind())
        suspects = [] if self._isolation is None else self._isolation.take_waiting()
        for pool in self._pools():
            waiting = [*pool.take_back(0), *(suspects if pool is self._threads else [])]
            held = {run.serial for run in waiting if self._pausing.holds(run)}
            if len(held) < len(waiting):
                pool.submit([run for run in waiting if run.serial not in held])
            for run in waiting:
                if run.serial in held:
                    self.hand_back([run])

    def _limited(self, limiter: Limiter | Merger, runs: list[Run]) -> list[Run]:
        """Return the runs that may start now by the limits of their tasks, or by their keys; put the others off."""
        try:
            runs, late = limiter.apply(runs)
        except UnavailableError:
            self._put_back([run.delivery for run in runs])
            raise
        for outcome in late:
            self._pass_on(outcome)
        return runs

    def _bounded(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Return the deliveries of a batch whose bodies fit into memory; release the others, uncounted."""
        sizes = [len(delivery.envelope.body) for delivery in deliveries]
        self._prefetch.weigh(sizes)
        if sum(sizes) <= LITTLE_BYTES:
            return deliveries
        runs = list(self._in_flight.values())
        held = sum(len(run.delivery.envelope.body) for run in runs)
        fit = self._prefetch.fitting(sizes, held=held, free=self._settings.concurrency - len(runs))
        self._put_back(deliveries[fit:])
        return deliveries[:fit]

    def _held(self, runs: list[Run]) -> list[Run]:
        """Register the leases of *runs*, and return those that may run; release those that do not fit.

        Runs that are acknowledged early need no lease.
        """
        leased = [run for run in runs if not run.early]
        try:
            kept = self._leases.hold([self._held_lease(run) for run in leased])
        except BaseException:
            self._let_go(leased)
            raise
        if kept < len(leased):
            self._let_go(leased[kept:])
            runs = [run for run in runs if run.serial in self._in_flight]
        return runs

    def _let_go(self, runs: Sequence[Run]) -> None:
        """Release runs whose leases cannot be registered, and so would not be renewed."""
        for run in runs:
            self._in_flight.pop(run.serial, None)
        self._put_back([run.delivery for run in runs])

    def _held_lease(self, run: Run) -> HeldRow:
        delivery, envelope = run.delivery, run.delivery.envelope
        return (
            run.serial,
            envelope.queue,
            envelope.id,
            delivery.token,
            delivery.number,
            run.timeout,
            envelope.generation,
            envelope.attempt,
            self._is_apart(run),
            bool(run.slots),
        )

    def _is_apart(self, run: Run) -> bool:
        """Return whether the body runs in a process of its own."""
        return self._isolation is not None and self._isolation.wants(run)

    def _marks(self, deliveries: Sequence[Delivery]) -> dict[str, Record]:
        """Return the cancel, final and crash marks of a batch, in one round trip."""
        backend = self._runtime.backend
        if backend is None:
            return {}
        keys = [key for delivery in deliveries for key in self._executor.keys(delivery)]
        return backend.get(keys) if keys else {}

    def _put_back(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._pass_on(Outcome(delivery=delivery, settlement=Release(delivery), status="returned"))

    def _pass_on(self, outcome: Outcome) -> None:
        """Settle a delivery that needs no run; a burst waits for it, since it may send more messages."""
        self._passing.add(outcome.delivery.token)
        self._settler.put(outcome)

    def _acknowledge_early(self, runs: list[Run]) -> list[Run]:
        """Acknowledge the runs with early acknowledgement, and return all runs that may run."""
        early = [run for run in runs if run.early]
        if not early:
            return runs
        stale = self._acknowledge(early)
        for run in early:
            if run.delivery.token in stale:
                self._give_back(run, self._executor.decide.unfinished(run))
        return [run for run in runs if run.delivery.token not in stale]

    def _acknowledge(self, runs: list[Run]) -> set[str]:
        """Acknowledge *runs*, and return the tokens of those that must not run."""
        try:
            return {one.token for one in self._runtime.broker.settle([Ack(run.delivery) for run in runs])}
        except UnavailableError:
            # It is unknown whether the broker acknowledged them: to run them now could run them twice.
            return {run.delivery.token for run in runs}

    def dispatch(self, runs: list[Run]) -> None:
        """Hand *runs* to the threads and the event loop."""
        in_threads = [run for run in runs if not run.task.is_async or self._is_apart(run)]
        if len(in_threads) < len(runs):
            self._loops().submit([run for run in runs if run.task.is_async and not self._is_apart(run)])
        if in_threads:
            self._threads.submit(in_threads)

    def _loops(self) -> LoopPool:
        """Return the event loop's pool; asyncio is imported with the first coroutine task."""
        with self._changed:  # threads need it for asynchronous resources
            if self._loop_pool is None:
                from queuekit.worker.async_pool import LoopPool

                size = self._settings.concurrency
                self._loop_pool = LoopPool(
                    self._executor,
                    size=size,
                    run_table=self._run_table,
                    first_row=size,
                    deliver=self._deliver(),
                    unwritten=self._unwritten,
                )
        return self._loop_pool

    def _loop_waiting(self) -> list[Run]:
        return self._loop_pool.take_waiting() if self._loop_pool is not None else []

    # -- notifications

    def keep_leases(self) -> None:
        """Renew the leases in this process from now on: the supervisor is gone."""
        if self._renewer is None:
            self._renewer = self._start_renewer()

    def expect_suspects(self) -> None:
        """Start what suspects of a crash need, before the first of them gets a slot."""
        if self._isolation is not None:
            self._isolation.expect_suspects()

    def lost(self, serials: list[int]) -> None:
        """Handle lost leases: cancel their runs, whose outcomes will be refused (QK4)."""
        # A lease also ends when its outcome is written, so skip decided runs: the settler learns whether it was lost.
        runs = [run for serial in serials if (run := self._in_flight.get(serial)) is not None and not run.decided]
        if not runs:
            return
        ids = tuple(run.message.id for run in runs)
        self.app.events.emit(LeasesLost(count=len(runs), ids=ids, worker=self.name))
        for run in runs:
            run.context.lost = True
            self._cancel(run)
            if run.started is None and run.claim():
                self._settled([Outcome(delivery=run.delivery, settlement=None, status="lost", run=run)])

    def _cancel(self, run: Run) -> None:
        run.context.cancel()
        self._cancel_coroutine(run)

    def _cancel_coroutine(self, run: Run) -> bool:
        """Cancel the body of *run* on the loop; return whether it belongs there."""
        if not run.task.is_async or self._loop_pool is None:
            return False
        self._loop_pool.cancel(run)
        return True

    def _free_slots(self, outcomes: list[Outcome]) -> None:
        """Free slots, before the runs count as done: a burst waits for the messages that get them."""
        if self._hand_over is not None:
            self._hand_over.settled(outcomes)

    def _written(self, outcomes: list[Outcome]) -> None:
        self._settled(outcomes, seconds=self._settler.seconds)

    def _settled(self, outcomes: list[Outcome], *, seconds: float = 0.0) -> None:
        """Handle outcomes, written in *seconds*: update statistics, remove their runs and leases, and emit events."""
        serials = [outcome.run.serial for outcome in outcomes if outcome.run is not None]
        self._free_slots(outcomes)
        for outcome in outcomes:
            self.stats[outcome.status] += 1
            run = outcome.run
            if run is None:
                self._passing.discard(outcome.delivery.token)
            else:
                self._in_flight.pop(run.serial, None)
                if run.started is not None:
                    self._prefetch.observe(run.message.task, run.ended - run.started)
        self._announce(outcomes)
        announce_settled(self._runtime.events, outcomes, worker=self.name, seconds=seconds)
        if serials:
            self._leases.done(serials)
        with self._changed:
            self._ended += len(outcomes)
            self._changed.notify_all()
        if self._hooks is not None:
            self._hooks.call(outcomes)

    def _announce(self, outcomes: list[Outcome]) -> None:
        """Emit the event of each outcome, and end this process if that was waiting for one of them."""
        with lines_together():
            for outcome in outcomes:
                if outcome.event is not None and outcome.status != "lost":
                    self.app.events.emit(outcome.event)
        for outcome in outcomes:
            run = outcome.run
            if run is not None and run.ends_process and self._on_replace is not None:
                self._on_replace(run.ends_process)
