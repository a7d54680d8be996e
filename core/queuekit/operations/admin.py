"""The operator's interface: show, cancel, replay, purge, check. The command line only calls this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from itertools import islice
from typing import Any, Protocol

import attrs

from queuekit.backend import Backend, Condition, Page, Record
from queuekit.broker import Place, QueueCounts, Stored
from queuekit.client.codec import Message, decode, outline
from queuekit.client.requirements import unmet_requirements
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sending
from queuekit.config.settings import Config, queue_list
from queuekit.envelope import Envelope
from queuekit.errors import CapabilityError, ConfigError, QueuekitError, UnknownIdError, did_you_mean
from queuekit.execution.workflow_cancel import cancel_workflow, report_cancelled
from queuekit.execution.workflow_store import read_graph
from queuekit.hookspecs import Check
from queuekit.ids import is_name, plain
from queuekit.logs.plaintext import clean
from queuekit.operations.actions import ACTION, Action, named, read_action, record_action
from queuekit.operations.merges import leave, merge_of, newest, overdue, state_of
from queuekit.operations.redaction import redacted
from queuekit.operations.signatures import doubt_of, schedule_doubts, signed_again
from queuekit.operations.slot_lines import leave_line
from queuekit.plugins.loading import reason
from queuekit.serializer import Serializer
from queuekit.states import FINAL, State
from queuekit.tasks.registry import Tasks
from queuekit.tasks.resolve import resolve
from queuekit.timelimit import made_progress, progress_limit, time_limit
from queuekit.values import frozen
from queuekit.wire.batches import alike, in_batches
from queuekit.wire.merges import KeyState
from queuekit.wire.pauses import PAUSED, Pause, read_pauses
from queuekit.wire.presence import Presence, read_workers
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

__all__ = ["HELD", "HELD_BYTES", "Admin", "MessageView", "QueueView", "QueuedMessage", "held_bytes"]


_OWN = "queuekit."
"""Beginning of the names of queuekit's own tasks, whose arguments hold no secrets."""
_LOOK = 0.1
"""Seconds between two checks whether a cancelled message has ended."""
_ENDED = frozenset({"removed", "dropped", "killed"})
"""Effects of a cancellation after which the message has ended in any case."""
_PAGE = 100
"""Most messages to hold in memory while many are read."""
_FIRST_PART, _PART = 20, 500
"""Messages to replay in the first step, when their size is not known yet, and the most to replay or delete in any."""
HELD, HELD_BYTES = 100, 1_000_000
"""Dead letters, and bytes of their bodies, that a broker reaches without a search while it yields them."""
_COUNTED = 10_000
"""Most dead letters to count one by one."""
_LOOKED_AT = 100
"""Most messages of a place that a check looks at."""
_SHOWN = 10
"""Most queues without workers that are named."""
_QUIET = 25.0
"""Seconds of silence after which a worker is reported: it missed two presence records."""


@frozen(kw_only=True)
class QueueView:
    """A queue, its counts and its workers."""

    name: str
    counts: QueueCounts
    workers: int | None = None
    """Number of live workers that serve it; ``None`` without a backend that can list records."""
    seen_age: float | None = None
    """Seconds that the oldest of the last claimed messages waited, if the broker does not report waiting messages."""


@frozen(kw_only=True)
class QueuedMessage:
    """A message in a queue, with the parts that can be read."""

    stored: Stored
    task: str
    """Name of the task, or an empty string if the bytes cannot be read."""

    @property
    def id(self) -> str:
        """Id of the message."""
        return self.stored.envelope.id


@frozen(kw_only=True)
class MessageView:
    """Everything that is known about one id."""

    info: Info
    queued: QueuedMessage | None = None
    """The message in its queue; ``None`` if the broker does not have it."""
    message: Message | None = None
    """Its contents, if they can be read, without arguments that operators must not see."""
    hidden: bool = False
    """Whether arguments are hidden."""
    cancellation: Cancellation | None = None
    """The request to cancel it, and its effect."""
    holder: str = ""
    """Worker that reports to run it; empty if none does."""
    silent: str = ""
    """Name of the broker's service if that does not report single messages; else empty."""
    now: float = 0.0
    """UTC epoch seconds at which this view was made."""
    key_state: KeyState | None = None
    """The record of its unique key, if that lets the newest arguments win."""


class Source(Protocol):
    """The part of an app that :class:`Admin` uses."""

    tasks: Tasks
    declared: dict[str, Any]

    @property
    def runtime(self) -> Runtime:
        """Broker, backend and the rest."""
        ...


class Admin:
    """The operator's interface to an app.

    Args:
        app: The app; its config names the engines.
    """

    def __init__(self, app: Source) -> None:
        self.app = self._app = app
        """The app."""
        self._runtime = app.runtime
        self._broker = app.runtime.broker

    @property
    def untold(self) -> str:
        """Name of the broker's service if that does not report single messages; else empty."""
        return "" if self._broker.capabilities.inspect else self._runtime.broker_url.scheme.partition("+")[0].upper()

    # -- reading

    def queue_names(self) -> list[str]:
        """Return all queues: those of the broker, of the config, and of tasks."""
        names = {*self._runtime.config.worker.queues, self._runtime.config.default_queue}
        names.update(task.defaults.queue for task in self._app.tasks.values() if task.defaults.queue)
        if self._broker.capabilities.inspect:
            with self.in_time():
                names.update(self._broker.queues())
        return sorted(names)

    def strays(self) -> list[str]:
        """Return the queues to which the service itself has moved messages; see :meth:`Broker.strays`."""
        with self.in_time():
            return self._broker.strays()

    def queues(self) -> list[QueueView]:
        """Return the counts and workers of all queues."""
        workers = self.workers()
        served = {queue for worker in workers or () for queue in worker.queues}
        names = sorted({*self.queue_names(), *served, *self.strays()})
        with self.in_time():
            counts = self._broker.counts(names)
        return [_queue_view(name, counts.get(name, QueueCounts()), workers) for name in names]

    def fleet(self) -> list[Presence]:
        """Return all workers that left a presence record, including silent ones, sorted by name.

        Raises:
            NoBackendError: None is configured.
            CapabilityError: The backend cannot list records.
        """
        self.listing("listing workers")
        return sorted(self.seen_workers() or (), key=lambda worker: worker.name)

    def listing(self, what: str) -> Backend:
        """Return the backend, which can list records.

        Raises:
            NoBackendError: There is none.
            CapabilityError: It cannot list records.
        """
        return self._runtime.need_listing(what)

    def pauses(self) -> list[Pause]:
        """Return what is paused, oldest first; empty without a backend."""
        backend = self._runtime.backend
        if backend is None:
            return []
        with self.in_time():
            record = backend.get([PAUSED]).get(PAUSED)
        return list(read_pauses(record, now=self.now()))

    def need_backend(self, why: str) -> Backend:
        """Return the backend.

        Raises:
            NoBackendError: None is configured; *why* says what needs one.
        """
        return self._runtime.need_backend(why)

    def workers(self) -> list[Presence] | None:
        """Return the presence records of live workers; ``None`` without a backend that can list records."""
        found = self.seen_workers()
        return None if found is None else [worker for worker in found if worker.live]

    def seen_workers(self) -> list[Presence] | None:
        """Return all workers, including silent ones; ``None`` without a backend that can list records."""
        backend = self._runtime.backend
        with self.in_time():
            if backend is None or not backend.capabilities.scan:
                return None
            return read_workers(backend.walk(worker_key("")))

    def declared_queues(self) -> dict[str, list[str]]:
        """Return the queues of the app's tasks, each with the names of those tasks."""
        found: dict[str, list[str]] = {}
        for name, task in sorted(self._app.tasks.items()):
            found.setdefault(task.defaults.queue or self._runtime.config.default_queue, []).append(name)
        return found

    def unserved_by(self, own: Iterable[str]) -> list[str]:
        """Return warnings for the start of a worker of *own* queues: queues that no worker serves, and the fix."""
        own, declared_queues = list(own), self.declared_queues()
        unserved = self.unserved(declared_queues, own=own)
        named, more = unserved[:_SHOWN], len(unserved[_SHOWN:])
        lines = [f"no worker serves {name!r}, the queue of {', '.join(declared_queues[name][:3])}" for name in named]
        lines += [f"{more} more queues have no worker"] if more else []
        for name in own:
            near = did_you_mean(name, unserved) if name not in declared_queues else ""
            if near:
                lines.append(f"no task is sent to {name!r}; {near}")
        which = "the ones that are named" if more else "all of them"
        return [*lines, f"start one for {which}:  queuekit worker -q {queue_list(named)}"] if unserved else []

    def unserved(self, queues: Iterable[str], *, own: Iterable[str] = ()) -> list[str]:
        """Return those of *queues* that no live worker serves and that are not in *own*; none without a backend."""
        workers = self.workers()
        if workers is None:
            return []
        served = {*own, *(queue for worker in workers for queue in worker.queues)}
        return [queue for queue in queues if queue not in served]

    def show(self, id: str) -> MessageView:
        """Return everything that is known about *id*.

        Raises:
            UnknownIdError: Neither broker nor backend knows it.
        """
        id = plain(id)
        info, cancellation = self._info_and_cancellation(id)
        queued = self._find(id, hint=info.queue) or self._find_dead(id, info)
        if queued is None and info.state is State.UNKNOWN and cancellation is None:
            raise UnknownIdError(
                f"unknown id {id!r}",
                fix="It was never sent, ignores its result, or has expired: see results_expire",
            )
        untold = queued is None and not self._broker.capabilities.inspect and info.state not in FINAL
        held = queued is not None and queued.stored.place is Place.LEASED
        with self.in_time():
            state = state_of(self._runtime, merge_of(None if queued is None else queued.stored, info))
        return MessageView(
            info=info,
            queued=queued,
            **self._message_of(queued if queued is None else attrs.evolve(queued, stored=newest(queued.stored, state))),
            key_state=state,
            cancellation=cancellation,
            holder=self._holder(id) if untold or held else "",
            silent=self.untold if untold else "",
            now=self._runtime.clock.time(),
        )

    @property
    def runtime(self) -> Runtime:
        """Engines, config and clock of the app."""
        return self._runtime

    @property
    def config(self) -> Config:
        """The settings of the app."""
        return self._runtime.config

    def counts_of(self, queue: str) -> QueueCounts | None:
        """Return the counts of *queue*; ``None`` if the broker does not count."""
        if not self._broker.capabilities.counts:
            return None
        with self.in_time():
            return self._broker.counts([queue]).get(queue, QueueCounts())

    def now(self) -> float:
        """Return UTC epoch seconds on the clock of the app."""
        return self._runtime.clock.time()

    def reports(self, place: Place) -> bool:
        """Return whether the broker reports single messages in *place*."""
        able = self._broker.capabilities
        return able.dead_letters if place is Place.DEAD else able.inspect

    def _need_place(self, place: Place) -> None:
        """Raise if *place* is that of the dead letters, and nobody keeps any."""
        if place is Place.DEAD and not self._broker.capabilities.dead_letters:
            raise CapabilityError(
                f"{self._runtime.broker_url.scheme}:// keeps no dead letters: without a result backend that can list "
                "records, they are deleted",
                fix="Set backend to one that can, e.g. redis://",
            )

    def peek(self, queue: str, place: Place, *, limit: int, cursor: str | None) -> Page[Stored]:
        """Return a page of the messages of *queue* in *place*; see :meth:`queuekit.broker.Broker.peek`."""
        with self.in_time():
            return self._broker.peek(plain(queue), place=place, limit=limit, cursor=cursor)

    def task_of(self, stored: Stored) -> str:
        """Return the task of a message without reading its arguments; empty if its header cannot be read."""
        return outline(stored.envelope).task

    def parameters_of(self, view: MessageView) -> tuple[str, ...]:
        """Return the names of the parameters of a message's task; empty if this app does not have the task."""
        task = None if view.message is None else self._app.tasks.get(view.message.task)
        return () if task is None else task.parameters.names

    def dead(self, queue: str | None = None) -> Iterator[QueuedMessage]:
        """Yield the dead letters of *queue*, or of all queues, newest first in each; hold one page in memory."""
        queues = [plain(queue)] if queue else self.queue_names()
        return (self._queued(stored) for name in queues for stored in self._walk(name, Place.DEAD))

    def dead_stored(self, queue: str | None = None) -> Iterator[Stored]:
        """Yield the dead letters of *queue*, or of all queues, as the broker keeps them, newest first in each."""
        queues = [plain(queue)] if queue else self.queue_names()
        return (stored for name in queues for stored in self._walk(name, Place.DEAD))

    def stored(self, queue: str, place: Place) -> Iterable[Stored]:
        """Yield the messages of *queue* in *place* as the broker keeps them; hold one page in memory."""
        return self._walk(plain(queue), place)

    def read(self, queued: QueuedMessage) -> Message | None:
        """Return the contents of a message without arguments that operators must not see; ``None`` if unreadable."""
        message = self._decode(queued.stored)
        return None if message is None else self.redacted(message)[0]

    def redacted(self, message: Message) -> tuple[Message, bool]:
        """Return *message* without the arguments that operators must not see, and whether there are any."""
        task = self._app.tasks.get(message.task)
        if task is None and message.task.startswith(_OWN):
            return message, False
        return redacted(message, task, self._runtime.config.redact)

    def acted(self, what: str, *, by: str | None, **about: Any) -> None:
        """Record an action; see :func:`queuekit.operations.actions.record_action`."""
        record_action(self._runtime, what, by=by, **about)

    def actions(self) -> list[Action]:
        """Return the recorded actions of operators, newest first.

        Raises:
            NoBackendError: None is configured.
            CapabilityError: The backend cannot list records.
        """
        with self.in_time():
            found = map(read_action, self.listing("listing actions").walk(ACTION))
            return sorted(filter(None, found), key=lambda action: action.at, reverse=True)

    def dead_count(self, queue: str | None = None) -> QueueCounts:
        """Return the number of dead letters in *queue*, or in all queues; perhaps a lower bound, of 0 too."""
        queues = [plain(queue)] if queue else self.queue_names()
        if not self._broker.capabilities.counts:
            dead = sum(1 for _ in islice(self.dead_stored(queue), _COUNTED))
            return QueueCounts(dead=dead, at_least=frozenset({Place.DEAD} if dead == _COUNTED else ()))
        with self.in_time():
            found = self._broker.counts(queues).values()
        at_least = frozenset({Place.DEAD} if any(Place.DEAD in counts.at_least for counts in found) else ())
        return QueueCounts(dead=sum(counts.dead for counts in found), at_least=at_least)

    @property
    def searches_dead(self) -> bool:
        """Whether the broker must look for a dead letter among others, since it shows them only by handing them out."""
        return self._broker.limits.dead_searched is not None

    @property
    def dead_in_order(self) -> int | None:
        """Dead letters of a queue that are listed in order; ``None`` for all."""
        return self._broker.limits.dead_in_order

    def seek_dead(self, queue: str, ids: Sequence[str] | None = None) -> Generator[Stored, None, None]:
        """Yield dead letters (all, or *ids*); see :meth:`queuekit.broker.Broker.seek_dead`."""
        self._need_place(Place.DEAD)
        found = self._broker.seek_dead(plain(queue), ids)
        return _closing(found, self._in_parts)

    def dead_queues(self, ids: Sequence[str]) -> list[str]:
        """Return the queues in which the records of *ids* say that these are dead letters; all, if one is not known."""
        backend = self._runtime.backend
        if backend is None:
            return self.queue_names()
        with self.in_time():
            queues = {info.queue for info in read_infos(backend, list(ids))}
        return sorted(queues) if all(queues) else self.queue_names()

    def find_dead(self, ids: Sequence[str], queue: str | None = None) -> dict[str, list[str]]:
        """Return those of *ids* that are dead letters, by queue; if the broker can, without reading the others."""
        found: dict[str, list[str]] = {}
        wanted = dict.fromkeys(map(plain, ids))
        self._need_place(Place.DEAD)
        for name in [plain(queue)] if queue else self.queue_names():
            if not wanted:
                break
            with self.in_time():
                letters = list(self._broker.find(name, list(wanted)))
            for stored in letters:
                if stored.place is Place.DEAD and wanted.pop(stored.envelope.id, self) is None:
                    found.setdefault(name, []).append(stored.envelope.id)
        return found

    def waiting(self, queue: str, place: Place = Place.READY) -> list[QueuedMessage]:
        """Return the messages of *queue* in *place*, in the order of delivery."""
        return [self._queued(stored) for stored in self._walk(plain(queue), place)]

    # -- changing

    def cancel(self, id: str, *, by: str | None = None) -> bool:
        """Cancel *id*, a message or a workflow. A waiting message is removed; the worker later stops a running one.

        Args:
            id: Id of the message or workflow.
            by: Name of the requester, for :meth:`show`; default: user and host of this process.

        Returns:
            Whether it had not ended yet. :meth:`show` returns what became of a running one.

        Raises:
            UnknownIdError: Neither broker nor backend knows it.
            NoBackendError: The broker cannot remove messages, and there is no backend for the cancel mark.
            OptionError: *by* is longer than 200 characters.
        """
        id = plain(id)
        graph = read_graph(self._runtime, id)
        if graph is None:
            return self._cancel_message(id, by)
        mark, queues = cancel_mark(id, ttl=CANCEL_TTL, wish=self._wish(by)), self.queue_names()
        with self._in_parts():
            return cancel_workflow(self._runtime, graph, queues, mark=mark)

    def _cancel_message(self, id: str, by: str | None) -> bool:
        """Remove a message that waits, or ask its worker to stop it; return whether it had not ended yet."""
        info = self._info(id)
        queued = self._find(id, hint=info.queue)
        if info.state in FINAL:
            return False
        if queued is None and info.state is State.UNKNOWN:
            raise UnknownIdError(f"unknown id {id!r}", fix="It was never sent, or has expired: see results_expire")
        wish = self._wish(by)
        if self._take_out(id, queued, info):
            self._put_removed(id, wish)
        else:
            self._ask_to_cancel(id, queued, info, wish)
        return True

    def _take_out(self, id: str, queued: QueuedMessage | None, info: Info) -> bool:
        """Remove a message, also from the record of those that share its unique key; return whether it waited."""
        gone = self._remove(id, queued, info)
        with self.in_time():
            merge = merge_of(None if queued is None else queued.stored, info)
            left, looked = leave(self._runtime, merge, id, removed=gone), self._broker.capabilities.inspect
        if left is not None and queued is None and (looked or left.blocked):  # it was waiting for another one's end
            self._put_cancelled(id, info.task, None)
            return looked
        return gone

    def _ask_to_cancel(self, id: str, queued: QueuedMessage | None, info: Info, wish: Cancellation) -> None:
        """Write the mark that a worker sees, and let the message through if it waits for a slot."""
        backend = self._runtime.need_backend("cancelling a running task")
        with self.in_time():
            # A repeated request must not replace the name of the first requester.
            backend.put([cancel_mark(id, ttl=CANCEL_TTL, wish=wish)], condition=Condition.ABSENT)
            task = self._app.tasks.get(info.task if queued is None else queued.task)
            waited = leave_line(self._runtime, task, id)  # for a slot: it is ready now
        # The message may have become ready again before the mark was written; a worker sees the mark on delivery.
        if waited and self._remove(id, queued, info):
            self._put_removed(id, wish)

    def _put_removed(self, id: str, wish: Cancellation) -> None:
        """Record that a message was cancelled and removed while it was waiting."""
        if self._runtime.backend is not None:
            removed = attrs.evolve(wish, did="removed")
            with self.in_time():
                self._runtime.backend.put([cancel_mark(id, ttl=CANCEL_TTL, wish=removed)])

    def is_workflow(self, id: str) -> bool:
        """Return whether *id* is a stored chain, group or chord."""
        return read_graph(self._runtime, id) is not None

    def after_cancel(self, id: str, *, patience: float) -> MessageView:
        """Return what is known about the cancelled *id* once it has ended, or after *patience* seconds."""
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
        """Put dead letters of *queue* (all, or *ids*) back on it and return their ids; they get all retries again."""
        queue, ids = plain(queue), ids and [plain(id) for id in ids]
        if ids is None and self.searches_dead:
            return [id for part in self._sought(queue) for id in self.replay(queue, part)]
        chosen = self._dead_ids(queue)[::-1] if ids is None else list(ids)
        replayed: list[str] = []
        first, count = 0, _PART if self.searches_dead else _FIRST_PART
        while part := chosen[first : first + count]:
            with self.in_time():
                letters = [self._queued(stored) for stored in self._broker.find(queue, part)]
            replayed += self._replay(queue, part, letters)
            first += count
            count = alike([len(one.stored.envelope.body) for one in letters], most=_PART)
        return replayed

    def _replay(self, queue: str, ids: Sequence[str] | None, letters: Iterable[QueuedMessage]) -> list[str]:
        """Put dead letters back and record them as pending; delete the records of those that ignore results."""
        backend = self._runtime.backend
        if backend is None:
            with self._in_parts():
                return self._broker.requeue(queue, ids)
        dead = {queued.id: queued for queued in letters if queued.stored.place is Place.DEAD and is_name(queued.id)}
        recorded = {id: queued for id, queued in dead.items() if self._is_stored(queued)}
        with self._in_parts():
            traces = backend.get([result_key(id) for id in dead.keys() - recorded.keys()])
            made_progress()
            # A cancel request for the first run must not apply to the replay.
            for part in _parts([cancel_key(id) for id in dead]):
                backend.delete(part)
                made_progress()
            replayed = self._broker.requeue(queue, ids)
        records = [self._pending_again(recorded[id], queue) for id in replayed if id in recorded]
        with self._in_parts():
            backend.put(records, condition=Condition.NEWER)
            for key, record in traces.items():
                made_progress()
                # Only if it is unchanged: the message may have died again.
                backend.delete([key], expect=record.version)
        return replayed

    def replay_signed(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Sign the dead letters of *queue* (all, or *ids*) that nobody had signed, put them back, and return their ids.

        The operator vouches for what they call: look at them first.

        Raises:
            ConfigError: No key is set.
        """
        signing, queue = self._runtime.signing, plain(queue)
        if signing is None:
            raise ConfigError("signing needs a key, and none is set", fix="Set signing_keys")
        chosen, replayed = self._dead_ids(queue) if ids is None else [plain(id) for id in ids], list[str]()
        for id in chosen:
            for stored in self._unsigned(queue, id):
                # A crash between the two steps leaves both; sent once more, the message is one with that id.
                envelope = signed_again(signing, stored.envelope)
                with self.in_time():
                    sent = envelope is not None and self._broker.send([envelope]) == [id]
                if sent:
                    self._put_pending(stored, queue)
                    with self.in_time():
                        self._broker.remove(queue, [id], place=Place.DEAD)
                    replayed.append(id)
        return replayed

    def unsigned(self, queue: str, ids: Iterable[str]) -> list[str]:
        """Return those of *ids* that are dead letters because of their signature."""
        return [id for id in ids if self._unsigned(plain(queue), plain(id))]

    def _unsigned(self, queue: str, id: str) -> list[Stored]:
        """Return the dead letter *id* if it is one because of its signature."""
        with self.in_time():
            found = list(self._broker.find(queue, [id]))
        return [one for one in found if one.place is Place.DEAD and one.reason == "unsigned"]

    def _put_pending(self, stored: Stored, queue: str) -> None:
        queued, backend = self._queued(stored), self._runtime.backend
        if backend is not None and is_name(queued.id) and self._is_stored(queued):
            with self.in_time():
                backend.delete([cancel_key(queued.id)])
                backend.put([self._pending_again(queued, queue)], condition=Condition.NEWER)

    def _pending_again(self, queued: QueuedMessage, queue: str) -> Record:
        ttl, now = self._runtime.config.results_expire, self._runtime.clock.time()
        generation = queued.stored.envelope.generation + 1
        return pending(id=queued.id, task=queued.task, queue=queue, ttl=ttl, at=now, generation=generation)

    def drop(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Permanently delete dead letters of *queue* (all, or *ids*) and return their ids."""
        queue = plain(queue)
        if ids is None and self.searches_dead:
            return [id for part in self._sought(queue) for id in self.drop(queue, part)]
        chosen = self._dead_ids(queue) if ids is None else [plain(id) for id in ids]
        dropped: list[str] = []
        for part in _parts(chosen) if self._broker.capabilities.inspect else [chosen]:
            with self.in_time():
                dropped += self._broker.remove(queue, part, place=Place.DEAD)
            with self._in_parts():
                self._forget_in_time(part)
        return dropped

    def purge(self, queue: str, place: Place = Place.READY) -> int:
        """Permanently delete all messages of *queue* in *place* and return how many there were."""
        queue, dropped = plain(queue), 0
        self._ask_broker()
        if place is Place.DEAD and self._broker.capabilities.inspect and self._runtime.backend is not None:
            dropped = len(self.drop(queue))
        with self._in_parts():
            return dropped + self._broker.purge(queue, place=place)

    def check(self) -> list[str]:
        """Check for problems without changing anything; return one line per problem.

        Raises:
            UnavailableError: Broker or backend does not answer.
        """
        problems = [
            f"plugin {info.name} ({info.dist}): {info.error}"
            for info in self._runtime.plugins.infos()
            if info.status == "failed"
        ]
        self.ping()
        problems += self._engine_problems()
        problems += unmet_requirements(self._runtime, self._app.tasks, self._app.declared)
        problems += [f"signing: {line}" for line in self._signing_problems()]
        problems += [f"workers: {line}" for line in self._silent_workers()]
        unserved = self._unserved_queues()
        problems += [f"queues: {line}" for line in unserved[:_SHOWN]]
        if len(unserved) > _SHOWN:
            problems.append(f"queues: {len(unserved) - _SHOWN} more have no worker. See them:  queuekit queues")
        problems += [f"unique keys: {line}" for line in overdue(self._runtime)]
        for check in self._runtime.plugins.collect("queuekit_checks", app=self._app):
            problems += [f"{check.name}: {line}" for line in _findings(check)]
        return problems

    # -- parts

    def ping(self) -> None:
        """Check that broker and backend answer.

        Raises:
            UnavailableError: One of them does not answer.
        """
        self._ask_broker()
        if self._runtime.backend is not None:
            with self.in_time():
                self._runtime.backend.get(["check"])

    def _ask_broker(self) -> None:
        """Check that the broker answers, within the time limit, before a call that may take long."""
        with self.in_time():
            self._broker.receive([self._runtime.config.default_queue], limit=0, wait=0, lease=1)

    def _signing_problems(self) -> Iterator[str]:
        """Yield which waiting messages and schedules workers would refuse, or run without a check."""
        signing, broker = self._runtime.signing, self._broker
        for name in self.queue_names() if broker.capabilities.inspect else ():
            found: Counter[str] = Counter()
            for place in (Place.READY, Place.DELAYED):
                with self.in_time():
                    page = broker.peek(name, place=place, limit=_LOOKED_AT)
                found.update(doubt_of(signing, one.envelope.body) for one in page.items)
            yield from (
                f"{count} of the next messages of {clean(name)} {text}" for text, count in found.items() if text
            )
        backend = self._runtime.backend
        if signing is not None and backend is not None and backend.capabilities.scan:
            for name, text in schedule_doubts(self._runtime, signing):
                yield f"the schedule {name} {text}; see it, then:  queuekit schedules sign {name}"

    def _engine_problems(self) -> Iterator[str]:
        """Yield what broker and backend report, a line each."""
        yield from (f"broker: {line}" for line in self._broker.check())
        most = self._runtime.config.worker.max_deliveries
        yield from (f"broker: {line}" for line in self._broker.check_queues(self.queue_names(), max_deliveries=most))
        if self._runtime.backend is not None:
            yield from (f"backend: {line}" for line in self._runtime.backend.check())

    def _silent_workers(self) -> list[str]:
        """Return one line for each worker that is silent."""
        lines = []
        for worker in self.seen_workers() or ():
            quiet = worker.quiet if worker.quiet > _QUIET else worker.silent
            if quiet > _QUIET:
                lines.append(
                    f"{worker.name} has been silent for {quiet:.0f} s: it hangs, was killed, or is disconnected"
                )
        return lines

    def _unserved_queues(self) -> list[str]:
        """Return one line for each queue without a worker: with waiting messages or, if any worker runs, with tasks."""
        workers = self.workers()
        if workers is None:
            return []
        declared_queues = self.declared_queues() if workers else {}
        if not self._broker.capabilities.counts:
            return [
                f"no worker serves {name!r}; {', '.join(declared_queues[name][:3])} is sent there. "
                f"Start one:  queuekit worker -q {queue_list([name])}"
                for name in self.unserved(declared_queues)
            ]
        lines = []
        for view in self.queues():
            waiting = view.counts.ready + view.counts.delayed
            if view.workers == 0 and (waiting or view.name in declared_queues):
                name = clean(view.name)
                least = "at least " if view.counts.at_least & {Place.READY, Place.DELAYED} else ""
                sent = ", ".join(declared_queues.get(view.name, [])[:3])
                whose = f"{least}{waiting} wait there" if waiting else f"{sent} is sent there"
                lines.append(f"no worker serves {name!r}; {whose}. Start one:  queuekit worker -q {queue_list([name])}")
        return lines

    def _sought(self, queue: str) -> Iterator[list[str]]:
        """Yield the ids of all dead letters of *queue* in parts, which the broker reaches without a search."""
        with closing(self.seek_dead(queue)) as found:
            for part in in_batches(found, held_bytes, most=HELD, most_bytes=HELD_BYTES):
                yield [stored.envelope.id for stored in part]

    def _dead_ids(self, queue: str) -> list[str]:
        """Return the ids of all dead letters of *queue*, newest first."""
        return [stored.envelope.id for stored in self._walk(queue, Place.DEAD)]

    def _forget_in_time(self, ids: Sequence[str]) -> None:
        """Let the records of deleted dead letters expire like other results."""
        backend = self._runtime.backend
        keys = [result_key(id) for id in ids if is_name(id)]
        if backend is None or not keys:
            return
        ttl = self._runtime.config.results_expire
        kept = [record for record in backend.get(keys).values() if record.ttl is None or record.ttl > ttl]
        shorter = (attrs.evolve(record, ttl=ttl) for record in kept if record.final)
        limits = self._broker.limits
        for some in in_batches(shorter, lambda one: len(one.body), most=_PART, most_bytes=limits.batch_bytes):
            made_progress()
            backend.put(some)

    def _find_dead(self, id: str, info: Info) -> QueuedMessage | None:
        """Return the dead letter *id* of a broker that shows no other messages."""
        if self._broker.capabilities.inspect or info.state not in {State.UNKNOWN, State.FAILURE, State.DEAD}:
            return None
        if not self._broker.capabilities.dead_letters:
            return None
        for queue in [info.queue] if info.queue else self.queue_names():
            with self.in_time():
                found = list(self._broker.find(queue, [id]))
            if found:
                return self._queued(found[0])
        return None

    def _holder(self, id: str) -> str:
        """Return the worker that reports to run *id*."""
        return next((worker.name for worker in self.workers() or () if id in worker.begun), "")

    def in_time(self) -> AbstractContextManager[None]:
        """Limit one call of an engine to ``send_timeout``, whatever the engine does."""
        return time_limit(self._runtime.config.send_timeout)

    def _in_parts(self) -> AbstractContextManager[None]:
        """Give each part of what may take long ``send_timeout``: it must get on, however much there is to do."""
        return progress_limit(self._runtime.config.send_timeout)

    def _info(self, id: str) -> Info:
        backend = self._runtime.backend
        with self.in_time():
            return Info(id=id) if backend is None else read_infos(backend, [id])[0]

    def _info_and_cancellation(self, id: str) -> tuple[Info, Cancellation | None]:
        backend = self._runtime.backend
        if backend is None:
            return Info(id=id), None
        with self.in_time():
            found = backend.get([result_key(id), cancel_key(id)])
        mark = found.get(cancel_key(id))
        return read_info(id, found.get(result_key(id))), None if mark is None else read_cancellation(mark)

    def _wish(self, by: str | None) -> Cancellation:
        return Cancellation(by=named(by), at=self._runtime.clock.time())

    def _find(self, id: str, *, hint: str) -> QueuedMessage | None:
        """Return the message *id* from the queue that its record names, or from any other."""
        if not self._broker.capabilities.inspect:
            return None
        if hint:
            with self.in_time():
                found = list(self._broker.find(hint, [id]))
            if found:
                return self._queued(found[0])
        queues = [queue for queue in self.queue_names() if queue != hint]
        with self._in_parts():
            stored = self._broker.search(queues, id)
        return None if stored is None else self._queued(stored)

    def _remove(self, id: str, queued: QueuedMessage | None, info: Info) -> bool:
        """Remove a waiting message, and record that; return false if it is not waiting or cannot be removed."""
        if queued is None or not self._broker.capabilities.remove:
            return False
        with self.in_time():
            removed = self._broker.remove(queued.stored.envelope.queue, [id])
        if not removed:
            return False
        backend = self._runtime.backend
        message = self._read(queued)
        if message is not None and message.link is not None and backend is not None:
            sending = Sending(self._runtime, self._app.tasks)
            ttl = self._runtime.config.graphs_expire
            with self._in_parts():
                report_cancelled(self._runtime, sending, queued.stored.envelope, message, ttl=ttl)
        elif info.state is not State.UNKNOWN:
            self._put_cancelled(id, queued.task, queued.stored.envelope)
        return True

    def _put_cancelled(self, id: str, task: str, envelope: Envelope | None) -> None:
        """Record that a message was cancelled while it was waiting."""
        if self._runtime.backend is not None:
            ttl, now = self._runtime.config.results_expire, self._runtime.clock.time()
            with self.in_time():
                self._runtime.backend.put([cancelled(id, task=task, ttl=ttl, at=now, envelope=envelope)])

    def _walk(self, queue: str, place: Place) -> Iterator[Stored]:
        if not self._broker.capabilities.inspect and place is not Place.DEAD:
            raise CapabilityError(f"{self._runtime.broker_url.scheme}:// reports waiting messages only as counts")
        self._need_place(place)
        yield from _closing(self._broker.walk(queue, place, page_size=_PAGE), self.in_time)

    def _is_stored(self, queued: QueuedMessage) -> bool:
        """Return whether the outcome of a message will be stored."""
        message, task = self._decode(queued.stored), self._app.tasks.get(queued.task)
        return message is None or not resolve(message, task).ignore_result

    def _queued(self, stored: Stored) -> QueuedMessage:
        message = self._decode(stored)
        return QueuedMessage(stored=stored, task=message.task if message else "")

    def _read(self, queued: QueuedMessage | None) -> Message | None:
        return None if queued is None else self._decode(queued.stored)

    def _message_of(self, queued: QueuedMessage | None) -> dict[str, Any]:
        """Return the contents of a message without hidden arguments, and whether there are any, for a view."""
        message = self._read(queued)
        shown, hidden = (None, False) if message is None else self.redacted(message)
        return {"message": shown, "hidden": hidden}

    def accepted_of(self, stored: Stored) -> Mapping[str, Serializer]:
        """Return the serializers with which a message may be read, by content type: a look must not run its code."""
        signing, accepted = self._runtime.signing, self._runtime.accepted
        if signing is None or not doubt_of(signing, stored.envelope.body):
            return accepted
        return {name: one for name, one in accepted.items() if one.safe}

    def _decode(self, stored: Stored) -> Message | None:
        try:
            return decode(stored.envelope, self.accepted_of(stored))
        except (QueuekitError, ValueError, TypeError):
            return None


def _closing(
    found: Iterator[Stored], limit: Callable[[], AbstractContextManager[None]]
) -> Generator[Stored, None, None]:
    """Yield what is *found*, each within a *limit* of time, and close it."""
    try:
        while True:
            with limit():
                stored = next(found, None)
            if stored is None:
                return
            yield stored
    finally:
        if isinstance(found, Generator):
            found.close()


def held_bytes(stored: Stored) -> int:
    """Return the bytes of a dead letter in a part of :data:`HELD_BYTES`."""
    return len(stored.envelope.body)


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _PART] for start in range(0, len(ids), _PART))


def _queue_view(name: str, counts: QueueCounts, workers: Sequence[Presence] | None) -> QueueView:
    """Return a queue with its *counts*; ``None`` for *workers* if nothing is known of them."""
    ages = [worker.ages[name] for worker in workers or () if name in worker.ages]
    serving = None if workers is None else sum(name in worker.queues for worker in workers)
    return QueueView(name=name, counts=counts, workers=serving, seen_age=max(ages, default=None))


def _findings(check: Check) -> list[str]:
    """Return the problems that a plugin's check finds, or that the check failed; other checks still run."""
    try:
        return list(check.run())
    except Exception as error:  # noqa: BLE001 - whatever a plugin's code raises
        return [f"the check failed: {reason(error)}"]
