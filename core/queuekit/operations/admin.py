"""What an operator does: look, cancel, replay, purge, check. The command line and others only call this."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import attrs

from queuekit.backend import Condition, Record
from queuekit.broker import Place, QueueCounts, Stored
from queuekit.client.codec import Message, decode
from queuekit.client.requirements import unmet_requirements
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sending
from queuekit.errors import CapabilityError, QueuekitError, UnknownIdError, did_you_mean
from queuekit.execution.workflow_cancel import cancel_workflow, report_cancelled
from queuekit.execution.workflow_store import read_graph
from queuekit.hookspecs import Check
from queuekit.ids import is_name, plain
from queuekit.plugins.loading import reason
from queuekit.states import FINAL, State
from queuekit.tasks.registry import Tasks
from queuekit.tasks.resolve import resolve
from queuekit.timelimit import time_limit
from queuekit.wire.presence import LIVE, read_workers
from queuekit.wire.records import (
    CANCEL_TTL,
    Cancellation,
    Info,
    cancel_key,
    cancel_mark,
    cancelled,
    pending,
    read_cancellation,
    read_info,
    read_infos,
    result_key,
    worker_key,
)

__all__ = ["Admin", "MessageView", "QueueView", "QueuedMessage"]


_LOOK = 0.1
"""Seconds between two looks whether a cancelled message has ended."""
_AT_ONCE = 500
"""Records that are deleted in one round trip."""
_ENDED = frozenset({"removed", "dropped", "killed"})
"""What a cancellation can have done, after which the message has ended in any case."""
_PAGE = 100
"""Messages that are held at a time while many are looked at."""
_PART = 500
"""Messages that one step replays or deletes."""
_QUIET = 25.0
"""Seconds without a sign of life after which an operator is told of a worker: two signs are missing."""


@attrs.frozen(kw_only=True)
class QueueView:
    """A queue and who works on it."""

    name: str
    counts: QueueCounts
    workers: int | None = None
    """Live workers that listen on it; ``None`` if there is no backend to know it from."""
    seen_age: float | None = None
    """Seconds that the oldest of the last messages claimed had waited, where the broker does not tell of those left."""


@attrs.frozen(kw_only=True)
class QueuedMessage:
    """A message as it lies in a queue, with what can be read of it."""

    stored: Stored
    task: str
    """Name of the task, or an empty string if the bytes cannot be read."""

    @property
    def id(self) -> str:
        """Id of the message."""
        return self.stored.envelope.id


@attrs.frozen(kw_only=True)
class MessageView:
    """Everything that is known of one id."""

    info: Info
    queued: QueuedMessage | None = None
    """Where the broker has it, if it has."""
    message: Message | None = None
    """Its contents, if they can be read."""
    cancellation: Cancellation | None = None
    """Who wanted it cancelled, and what became of that."""
    holder: str = ""
    """Worker that says it runs it, where the broker does not tell."""
    silent: str = ""
    """Name of the service, where that does not tell of single messages; else empty."""
    now: float = 0.0
    """UTC epoch seconds of the look."""


class Source(Protocol):
    """What :class:`Admin` needs of an app."""

    tasks: Tasks
    declared: dict[str, Any]

    @property
    def runtime(self) -> Runtime:
        """Broker, backend and the rest."""
        ...


class Admin:
    """An operator's view of an app.

    Args:
        app: The app; its config says which engines.
    """

    def __init__(self, app: Source) -> None:
        self._app = app
        self._runtime = app.runtime
        self._broker = app.runtime.broker

    @property
    def untold(self) -> str:
        """Name of the broker's service if it does not tell of single messages; else empty."""
        return "" if self._broker.capabilities.inspect else self._runtime.broker_url.scheme.partition("+")[0].upper()

    # -- looking

    def queue_names(self) -> list[str]:
        """Return all queues: those the broker knows, those of the config, those of tasks."""
        names = {*self._runtime.config.worker.queues, self._runtime.config.default_queue}
        names.update(task.defaults.queue for task in self._app.tasks.values() if task.defaults.queue)
        if self._broker.capabilities.inspect:
            with self._in_time():
                names.update(self._broker.queues())
        return sorted(names)

    def queues(self) -> list[QueueView]:
        """Return counts and workers of all queues."""
        workers = self.workers()
        served = {queue for worker in workers or () for queue in worker["queues"]}
        names = sorted({*self.queue_names(), *served})
        with self._in_time():
            counts = self._broker.counts(names)
        return [
            QueueView(
                name=name,
                counts=counts.get(name, QueueCounts()),
                workers=None if workers is None else sum(name in worker["queues"] for worker in workers),
                seen_age=max(
                    (worker["ages"][name] for worker in workers or () if name in worker["ages"]), default=None
                ),
            )
            for name in names
        ]

    def workers(self) -> list[dict[str, Any]] | None:
        """Return what live workers say of themselves; ``None`` without a backend."""
        found = self._seen_workers()
        return None if found is None else [worker for worker in found if worker["quiet"] <= LIVE]

    def _seen_workers(self) -> list[dict[str, Any]] | None:
        """Return what workers say of themselves, also those that have fallen silent."""
        backend = self._runtime.backend
        with self._in_time():
            return None if backend is None else read_workers(backend.walk(worker_key("")))

    def declared_queues(self) -> dict[str, list[str]]:
        """Return the queues that the app's tasks are sent to, each with the names of those tasks."""
        found: dict[str, list[str]] = {}
        for name, task in sorted(self._app.tasks.items()):
            found.setdefault(task.defaults.queue or self._runtime.config.default_queue, []).append(name)
        return found

    def unserved_by(self, own: Iterable[str]) -> list[str]:
        """Return what to say where a worker of *own* queues starts: which others nobody serves, and what mends it."""
        own, declared_queues = list(own), self.declared_queues()
        unserved = self.unserved(declared_queues, own=own)
        lines = [f"no worker serves {name!r}, the queue of {', '.join(declared_queues[name][:3])}" for name in unserved]
        for name in own:
            near = did_you_mean(name, unserved) if name not in declared_queues else ""
            if near:
                lines.append(f"no task is sent to {name!r}; {near}")
        return [*lines, f"start one for all of them:  queuekit worker -q {','.join(unserved)}"] if unserved else []

    def unserved(self, queues: Iterable[str], *, own: Iterable[str] = ()) -> list[str]:
        """Return those of *queues* that no live worker serves, nor one that serves *own*; none without a backend."""
        workers = self.workers()
        if workers is None:
            return []
        served = {*own, *(queue for worker in workers for queue in worker["queues"])}
        return [queue for queue in queues if queue not in served]

    def show(self, id: str) -> MessageView:
        """Return everything that is known of *id*.

        Raises:
            UnknownIdError: Neither broker nor backend knows it.
        """
        id = plain(id)
        info, cancellation = self._info_and_cancellation(id)
        queued = self._find(id, hint=info.queue) or self._find_dead(id, info)
        if queued is None and info.state is State.UNKNOWN and cancellation is None:
            raise UnknownIdError(
                f"nothing is known of {id!r}",
                fix="It was never sent, ignores its result, or is forgotten: see results_expire",
            )
        untold = queued is None and not self._broker.capabilities.inspect and info.state not in FINAL
        return MessageView(
            info=info,
            queued=queued,
            message=self._read(queued),
            cancellation=cancellation,
            holder=self._holder(id) if untold else "",
            silent=self.untold if untold else "",
            now=self._runtime.clock.time(),
        )

    def dead(self, queue: str | None = None) -> Iterator[QueuedMessage]:
        """Yield the dead letters of *queue*, or of all queues, of each the latest first; a page is held at a time."""
        queues = [plain(queue)] if queue else self.queue_names()
        return (self._queued(stored) for name in queues for stored in self._walk(name, Place.DEAD))

    def dead_count(self, queue: str | None = None) -> int:
        """Return how many dead letters there are in *queue*, or in all queues."""
        queues = [plain(queue)] if queue else self.queue_names()
        with self._in_time():
            return sum(counts.dead for counts in self._broker.counts(queues).values())

    def find_dead(self, ids: Sequence[str], queue: str | None = None) -> dict[str, list[str]]:
        """Return by queue those of *ids* that are dead letters, without reading the others where the broker can."""
        found: dict[str, list[str]] = {}
        wanted = dict.fromkeys(map(plain, ids))
        for name in [plain(queue)] if queue else self.queue_names():
            if not wanted:
                break
            with self._in_time():
                letters = list(self._broker.find(name, list(wanted)))
            for stored in letters:
                if stored.place is Place.DEAD and wanted.pop(stored.envelope.id, self) is None:
                    found.setdefault(name, []).append(stored.envelope.id)
        return found

    def waiting(self, queue: str, place: Place = Place.READY) -> list[QueuedMessage]:
        """Return the messages of *queue* in *place*, next first."""
        return [self._queued(stored) for stored in self._walk(plain(queue), place)]

    # -- acting

    def cancel(self, id: str, *, by: str | None = None) -> bool:
        """Cancel *id*, a message or a workflow: waiting it is removed, running it is stopped by its worker, later.

        Args:
            id: Of the message or workflow.
            by: Who asks, for those who look at it later; default: user and host of this process.

        Returns:
            True if it had not ended. What became of a running one, :meth:`show` tells.

        Raises:
            UnknownIdError: Nothing is known of it.
            NoBackendError: There is no backend to leave the mark in, and the broker cannot remove messages.
        """
        id = plain(id)
        graph = read_graph(self._runtime, id)
        if graph is not None:
            wish = self._wish(by)
            return cancel_workflow(
                self._runtime, graph, self.queue_names(), mark=cancel_mark(id, ttl=CANCEL_TTL, wish=wish)
            )
        info = self._info(id)
        queued = self._find(id, hint=info.queue)
        if info.state in FINAL:
            return False
        if queued is None and info.state is State.UNKNOWN:
            raise UnknownIdError(
                f"nothing is known of {id!r}", fix="It was never sent, or is forgotten: see results_expire"
            )
        wish = self._wish(by)
        if self._remove(id, queued, info):
            if self._runtime.backend is not None:
                removed = attrs.evolve(wish, did="removed")
                with self._in_time():
                    self._runtime.backend.put([cancel_mark(id, ttl=CANCEL_TTL, wish=removed)])
            return True
        backend = self._runtime.need_backend("cancelling a running task")
        with self._in_time():
            # Who asks again is not the one who asked.
            backend.put([cancel_mark(id, ttl=CANCEL_TTL, wish=wish)], condition=Condition.ABSENT)
        # It may have become ready again between the look and the mark; the mark is seen when it is fetched.
        return True

    def is_workflow(self, id: str) -> bool:
        """Return whether *id* is a chain, group or chord that is stored."""
        return read_graph(self._runtime, id) is not None

    def after_cancel(self, id: str, *, patience: float) -> MessageView:
        """Return what is known of *id*, which was cancelled, as soon as it has ended, or after *patience* seconds."""
        clock = self._runtime.clock
        deadline = clock.monotonic() + patience
        while True:
            info, cancellation = self._info_and_cancellation(id)
            view = MessageView(info=info, cancellation=cancellation)
            if cancellation is None or info.state in FINAL or clock.monotonic() >= deadline:
                return view
            if info.state is State.UNKNOWN and cancellation is not None and cancellation.did in _ENDED:
                return view
            clock.sleep(_LOOK)

    def replay(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Put dead letters of *queue* (all, or *ids*) back on it and return their ids; all retries are theirs again."""
        queue, ids = plain(queue), ids and [plain(id) for id in ids]
        if not self._broker.capabilities.inspect:
            return self._replay(queue, ids, list(self.dead(queue)))
        chosen = self._dead_ids(queue)[::-1] if ids is None else list(ids)
        replayed: list[str] = []
        for part in _parts(chosen):
            with self._in_time():
                letters = [self._queued(stored) for stored in self._broker.find(queue, part)]
            replayed += self._replay(queue, part, letters)
        return replayed

    def _replay(self, queue: str, ids: Sequence[str] | None, letters: Iterable[QueuedMessage]) -> list[str]:
        """Put some back, and write that they wait again; of what is not recorded the traces go."""
        known = {queued.id: queued for queued in letters if queued.stored.place is Place.DEAD and is_name(queued.id)}
        unrecorded = {id for id, queued in known.items() if not self._is_stored(queued)}
        backend = self._runtime.backend
        traces = {} if backend is None else backend.get([result_key(id) for id in unrecorded])
        if backend is not None:
            # An old wish that they be cancelled is not meant for what runs anew.
            wishes = [cancel_key(id) for id in known]
            for first in range(0, len(wishes), _AT_ONCE):
                backend.delete(wishes[first : first + _AT_ONCE])
        replayed = self._broker.requeue(queue, ids)
        if backend is None:
            return replayed
        ttl, now = self._runtime.config.results_expire, self._runtime.clock.time()
        stored = [known[id] for id in replayed if id in known and id not in unrecorded]
        records = [_pending_again(queued, queue, ttl=ttl, at=now) for queued in stored]
        backend.put(records, condition=Condition.NEWER)
        for key, record in traces.items():
            # Of this version alone: it may have died again.
            backend.delete([key], expect=record.version)
        return replayed

    def drop(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Delete dead letters of *queue* (all, or *ids*) for good and return their ids."""
        queue = plain(queue)
        chosen = self._dead_ids(queue) if ids is None else [plain(id) for id in ids]
        dropped: list[str] = []
        for part in _parts(chosen) if self._broker.capabilities.inspect else [chosen]:
            with self._in_time():
                dropped += self._broker.remove(queue, part, place=Place.DEAD)
            self._forget_in_time(part)
        return dropped

    def purge(self, queue: str, place: Place = Place.READY) -> int:
        """Delete all messages of *queue* in *place* for good and return how many there were."""
        queue, dropped = plain(queue), 0
        self._ask_broker()
        if place is Place.DEAD and self._broker.capabilities.inspect and self._runtime.backend is not None:
            dropped = len(self.drop(queue))
        return dropped + self._broker.purge(queue, place=place)

    def check(self) -> list[str]:
        """Look for trouble without changing anything; one line per problem.

        Raises:
            UnavailableError: Broker or backend does not answer.
        """
        problems = [
            f"plugin {info.name} ({info.dist}): {info.error}"
            for info in self._runtime.plugins.infos()
            if info.status == "failed"
        ]
        self.ping()
        problems += [f"broker: {line}" for line in self._broker.check()]
        most = self._runtime.config.worker.max_deliveries
        in_use = self._broker.check_queues(self.queue_names(), max_deliveries=most)
        problems += [f"broker: {line}" for line in in_use]
        if self._runtime.backend is not None:
            problems += [f"backend: {line}" for line in self._runtime.backend.check()]
        problems += unmet_requirements(self._runtime, self._app.tasks, self._app.declared)
        problems += [f"workers: {line}" for line in self._silent_workers()]
        problems += [f"queues: {line}" for line in self._unserved_queues()]
        for check in self._runtime.plugins.collect("queuekit_checks", app=self._app):
            problems += [f"{check.name}: {line}" for line in _findings(check)]
        return problems

    # -- parts

    def ping(self) -> None:
        """Ask broker and backend for a sign of life.

        Raises:
            UnavailableError: One of them does not answer.
        """
        self._ask_broker()
        if self._runtime.backend is not None:
            with self._in_time():
                self._runtime.backend.get(["check"])

    def _ask_broker(self) -> None:
        """Ask the broker for a sign of life; so a call that may take long is made of one that answers."""
        with self._in_time():
            self._broker.receive([self._runtime.config.default_queue], limit=0, wait=0, lease=1)

    def _silent_workers(self) -> list[str]:
        """Return what is wrong with those that are there and do nothing."""
        lines = []
        for worker in self._seen_workers() or ():
            quiet = worker["quiet"] if worker["quiet"] > _QUIET else worker["silent"]
            if quiet > _QUIET:
                lines.append(
                    f"{worker['name']} is silent for {quiet:.0f} s: it hangs, was stopped or killed, or is cut off"
                )
        return lines

    def _unserved_queues(self) -> list[str]:
        """Return which queues no worker serves: those where messages wait and, if any worker runs, those of tasks."""
        workers = self.workers()
        if workers is None:
            return []
        declared_queues = self.declared_queues() if workers else {}
        lines = []
        for view in self.queues():
            waiting = view.counts.ready + view.counts.delayed
            if view.workers == 0 and (waiting or view.name in declared_queues):
                whose = (
                    f"{waiting} wait there" if waiting else f"{', '.join(declared_queues[view.name][:3])} is sent there"
                )
                lines.append(f"no worker serves {view.name!r}; {whose}. Start one:  queuekit worker -q {view.name}")
        return lines

    def _dead_ids(self, queue: str) -> list[str]:
        """Return the ids of all dead letters of *queue*, latest first."""
        return [stored.envelope.id for stored in self._walk(queue, Place.DEAD)]

    def _forget_in_time(self, ids: Sequence[str]) -> None:
        """Let what was kept for the sake of dead letters that are gone expire as other results do."""
        backend = self._runtime.backend
        keys = [result_key(id) for id in ids if is_name(id)]
        if backend is None or not keys:
            return
        ttl = self._runtime.config.results_expire
        kept = [record for record in backend.get(keys).values() if record.ttl is None or record.ttl > ttl]
        backend.put([attrs.evolve(record, ttl=ttl) for record in kept if record.final])

    def _find_dead(self, id: str, info: Info) -> QueuedMessage | None:
        """Return the dead letter *id* of a broker that shows no others."""
        if self._broker.capabilities.inspect or info.state not in {State.UNKNOWN, State.FAILURE, State.DEAD}:
            return None
        if not self._broker.capabilities.dead_letters:
            return None
        for queue in [info.queue] if info.queue else self.queue_names():
            with self._in_time():
                found = list(self._broker.find(queue, [id]))
            if found:
                return self._queued(found[0])
        return None

    def _holder(self, id: str) -> str:
        """Return the worker that says it runs *id*."""
        return next((worker["name"] for worker in self.workers() or () if id in worker["begun"]), "")

    def _in_time(self) -> AbstractContextManager[None]:
        """Give one call of an engine ``send_timeout``: as long as a send may take, whatever the engine does."""
        return time_limit(self._runtime.config.send_timeout)

    def _info(self, id: str) -> Info:
        backend = self._runtime.backend
        with self._in_time():
            return Info(id=id) if backend is None else read_infos(backend, [id])[0]

    def _info_and_cancellation(self, id: str) -> tuple[Info, Cancellation | None]:
        backend = self._runtime.backend
        if backend is None:
            return Info(id=id), None
        with self._in_time():
            found = backend.get([result_key(id), cancel_key(id)])
        mark = found.get(cancel_key(id))
        return read_info(id, found.get(result_key(id))), None if mark is None else read_cancellation(mark)

    def _wish(self, by: str | None) -> Cancellation:
        return Cancellation(by=_person() if by is None else by, at=self._runtime.clock.time())

    def _find(self, id: str, *, hint: str) -> QueuedMessage | None:
        """Return where the broker has *id*: in the queue that its record names, or in any."""
        if not self._broker.capabilities.inspect:
            return None
        queues = dict.fromkeys([hint] if hint else []) | dict.fromkeys(self.queue_names())
        for queue in queues:
            with self._in_time():
                found = list(self._broker.find(queue, [id]))
            if found:
                return self._queued(found[0])
        return None

    def _remove(self, id: str, queued: QueuedMessage | None, info: Info) -> bool:
        """Take a waiting message out, and record that; false if it is not waiting or cannot be taken out."""
        if queued is None or not self._broker.capabilities.remove:
            return False
        with self._in_time():
            removed = self._broker.remove(queued.stored.envelope.queue, [id])
        if not removed:
            return False
        backend = self._runtime.backend
        message = self._read(queued)
        if message is not None and message.link is not None and backend is not None:
            sending = Sending(self._runtime, self._app.tasks)
            ttl = self._runtime.config.graphs_expire
            report_cancelled(self._runtime, sending, queued.stored.envelope, message, ttl=ttl)
        elif backend is not None and info.state is not State.UNKNOWN:
            ttl, now = self._runtime.config.results_expire, self._runtime.clock.time()
            backend.put([cancelled(id, task=queued.task, ttl=ttl, at=now, envelope=queued.stored.envelope)])
        return True

    def _walk(self, queue: str, place: Place) -> Iterable[Stored]:
        if not self._broker.capabilities.inspect and place is not Place.DEAD:
            raise CapabilityError(f"{self._runtime.broker_url.scheme}:// shows waiting messages only as counts")
        found = iter(self._broker.walk(queue, place, page_size=_PAGE))
        while True:
            with self._in_time():
                stored = next(found, None)
            if stored is None:
                return
            yield stored

    def _is_stored(self, queued: QueuedMessage) -> bool:
        """Return whether the outcome of a message will be stored."""
        message, task = self._decode(queued.stored), self._app.tasks.get(queued.task)
        return message is None or not resolve(message, task).ignore_result

    def _queued(self, stored: Stored) -> QueuedMessage:
        message = self._decode(stored)
        return QueuedMessage(stored=stored, task=message.task if message else "")

    def _read(self, queued: QueuedMessage | None) -> Message | None:
        return None if queued is None else self._decode(queued.stored)

    def _decode(self, stored: Stored) -> Message | None:
        try:
            return decode(stored.envelope, self._runtime.accepted)
        except (QueuekitError, ValueError, TypeError):
            return None


def _person() -> str:
    """Return who runs this process, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _PART] for start in range(0, len(ids), _PART))


def _pending_again(queued: QueuedMessage, queue: str, *, ttl: float, at: float) -> Record:
    generation = queued.stored.envelope.generation + 1
    return pending(id=queued.id, task=queued.task, queue=queue, ttl=ttl, at=at, generation=generation)


def _findings(check: Check) -> list[str]:
    """Return what a plugin's check complains of, or that it failed: the others are wanted all the same."""
    try:
        return list(check.run())
    except Exception as error:  # noqa: BLE001 - whatever a plugin's code raises
        return [f"the check failed: {reason(error)}"]
