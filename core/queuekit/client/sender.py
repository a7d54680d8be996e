"""The sender: resolves options, writes bodies, sends batches, and records PENDING."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Literal, TypeVar

import attrs

from queuekit.backend import Condition, Record
from queuekit.broker import CommitItem
from queuekit.client.codec import encode, signing_encoder
from queuekit.client.merging import Mergeable, Merging
from queuekit.client.runtime import Runtime
from queuekit.client.service_options import ServiceOptions
from queuekit.envelope import DEFAULT_PRIORITY, Envelope, Lane, Unique
from queuekit.errors import CapabilityError, EncodeError, TooLargeError, UnavailableError, UniqueConflictError
from queuekit.events import MessageFacts, MessagesSent
from queuekit.fair import Fair
from queuekit.ids import new_id
from queuekit.logs.errors import log_error
from queuekit.middleware import SentMessage
from queuekit.signature import Signature
from queuekit.tasks.enum_members import plain_call
from queuekit.tasks.lanes import COMMON, lane_of
from queuekit.tasks.limit_keys import keys_at_send
from queuekit.tasks.registry import Tasks
from queuekit.tasks.resolve import DEFAULTS, CallOptions, resolve
from queuekit.tasks.task import Task, TaskOptions
from queuekit.tasks.unique_keys import key_by, key_of
from queuekit.timelimit import LIMITS, time_left, time_limit
from queuekit.trace import carries, trace_headers
from queuekit.unique import UniqueKey
from queuekit.values import quick_frozen, quickly
from queuekit.wire.batches import in_batches
from queuekit.wire.call_options import OptionError
from queuekit.wire.merges import Merge, merge_key
from queuekit.wire.position import Gather, Position, is_own
from queuekit.wire.records import pending

__all__ = ["PreparedMessage", "Sending", "Sent", "conflict_in"]

_logger = logging.getLogger("queuekit.middleware")
T = TypeVar("T")
_BATCH = 500
"""Most messages per round trip."""
_ASK_AGAIN = 60.0
"""Seconds between two reads of the engine's clock."""
_LONGEST_ASK = 1.0
"""Seconds that such a read may take; if it fails, this machine's clock is used."""
_MAY_IGNORE = TaskOptions(ignore_result=True)
"""Options assumed for a task that is not known here: it may ignore its results."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


@quick_frozen(kw_only=True)
class Sent:
    """The outcome of sending one signature."""

    id: str
    """Id of the message, or of the one that holds its unique key."""
    stored: bool
    """Whether its outcome will be stored."""
    duplicate: bool = False
    merged: ClassVar[bool] = False
    """Whether the message with the id has taken in the arguments of the call."""
    rejected: ClassVar[bool] = False
    """Whether the caller is to get an error, since another message holds its unique key."""


class _Merged(Sent):
    """The outcome of sending a signature that a waiting message has taken in."""

    merged: ClassVar[bool] = True


class _Rejected(Sent):
    """The outcome of sending a signature that may not be a duplicate, and is one."""

    rejected: ClassVar[bool] = True


@quick_frozen
class PreparedMessage:
    """A signature that is ready to be sent."""

    envelope: Envelope
    record: Record | None


@quick_frozen
class _WatchedMessage(PreparedMessage):
    """One whose call a middleware's ``after_send`` or a subscriber will see."""

    signature: Signature[Any]


@quick_frozen
class _KeyedMessage(_WatchedMessage):
    """One that is not to be sent if another message holds its unique key, and whose caller is to get an error then."""


@quick_frozen
class _MergingMessage(_WatchedMessage):
    """One that a waiting message of its key may take in. Its envelope is sent only if none does."""

    call: Mergeable


_envelope, _item, _sent = quickly(Envelope), quickly(CommitItem), quickly(Sent)


class Sending:
    """Sends signatures for one app, in batches.

    Args:
        runtime: Engines to send through.
        tasks: The registered tasks.
        spent: Seconds that the first send has already spent on creating the runtime.
    """

    def __init__(self, runtime: Runtime, tasks: Tasks, *, spent: float = 0.0) -> None:
        self._runtime = runtime
        self._tasks = tasks
        self._encode = encode if runtime.signing is None else signing_encoder(runtime.signing)
        self._before_send = runtime.stages.before_send or ()
        self._serializer, self._default_queue = runtime.serializer, runtime.config.default_queue
        self._service = ServiceOptions(runtime, tasks)
        self._after, self._events = runtime.stages.after_send, runtime.events
        self._around = tuple(map(contextmanager, runtime.stages.around_send or ()))
        self._commits = runtime.shared
        self._stores = runtime.backend is not None
        limits = runtime.broker.limits
        self._batch, self._batch_bytes = min(_BATCH, limits.max_batch), limits.batch_bytes
        self._timeout, self._ttl = runtime.config.send_timeout, runtime.config.results_expire
        self._time = runtime.clock.time
        self._spent = spent
        """Seconds already spent of the next batch's time."""
        self._reported = (0.0, float("-inf"))
        """Last reading of the engine's clock, and its time in monotonic seconds."""
        self._tells_time: bool | None = runtime.broker.capabilities.tells_time or None
        """Whether the broker or the backend has a clock, so that messages may carry times; ``None`` until known."""
        self._checks_types = runtime.config.check_types
        self.joins = runtime.broker.capabilities.dedup and not runtime.stages.at_send
        """Whether sends of several callers may share a batch: a repetition adds nothing, and no middleware sees it."""
        self._largest = min(runtime.config.max_message_bytes, runtime.broker.limits.max_body)

    def send(self, signatures: Iterable[Signature[Any]]) -> list[Sent]:
        """Put *signatures* on their queues, in order, in batches; they are stored when this returns."""
        return self.send_ready(self.prepare(signature) for signature in signatures)

    def send_one(self, signature: Signature[Any]) -> Sent:
        """Put *signature* on its queue; it is stored when this returns."""
        if self._around:
            with self._inside((signature,), batch=False):
                (sent,) = self._send_batch((self.prepare(signature),), ())
            return sent
        (sent,) = self._send_batch((self.prepare(signature),), ())
        return sent

    def _inside(self, calls: Sequence[Signature[Any]], *, batch: bool) -> ExitStack:
        """Return what stands around the send of *calls*, entered."""
        with ExitStack() as stack:
            for stage in self._around:
                entered = stage(calls, batch=batch)
                entered.__enter__()
                stack.push(partial(_left, entered))
            return stack.pop_all()

    def send_ready(self, some: Iterable[PreparedMessage], *, ahead: Sequence[Record] = ()) -> list[Sent]:
        """Put prepared messages on their queues, in order, in batches; they are stored when this returns.

        Each batch has its own ``send_timeout``, and is limited in bytes and in number.

        Args:
            some: The messages.
            ahead: Records to write before the messages, if newer than the stored ones; in the same step if possible.
        """
        sent: list[Sent] = []
        for batch in in_batches(some, _bytes_of, most=self._batch, most_bytes=self._batch_bytes):
            sent += self._send_batch_inside(batch, ahead) if self._around else self._send_batch(batch, ahead)
            ahead = ()
        self._put(ahead)
        return sent

    def inherit(self, signature: Signature[Any], *, headers: Mapping[str, str], priority: int) -> Signature[Any]:
        """Return *signature* with the parent's headers and priority, where it sets none itself."""
        task = self._tasks.get(signature.task)
        settled = resolve(signature, task).priority is not None
        if not headers and (settled or priority == DEFAULT_PRIORITY):
            return signature
        both, sender = {**headers, **signature.headers}, signature.sender if task is None else task.app
        own = signature.priority if settled else priority
        return attrs.evolve(signature, headers=both, priority=own, sender=sender)

    def ignores(self, signature: Signature[Any]) -> bool:
        """Return whether the result of *signature* may be ignored; assumed for a task that is not known here."""
        otherwise = DEFAULTS if is_own(signature.task) else _MAY_IGNORE
        return resolve(signature, self._tasks.get(signature.task), otherwise=otherwise).ignore_result

    def is_unique(self, signature: Signature[Any]) -> bool:
        """Return whether *signature*, or its task if known here, asks for a unique key."""
        return bool(resolve(signature, self._tasks.get(signature.task)).unique)

    def prepare(
        self,
        signature: Signature[Any],
        *,
        parent: str | None = None,
        link: Position | None = None,
        gather: Gather | None = None,
        awaited: bool = False,
    ) -> PreparedMessage:
        """Return the envelope for *signature* and its PENDING record.

        Args:
            signature: The call.
            parent: Id of the message that this one follows.
            link: Its position in a workflow.
            gather: The group whose results it receives.
            awaited: Whether its result is needed, and so is stored even if the task ignores its results.

        Raises:
            EncodeError: An argument cannot be written.
            TooLargeError: The message exceeds the limit.
            CapabilityError: The broker does not support an option.
            ArgumentsError: With ``check_types``, an argument is not what its annotation says.
        """
        signature, task = self._ready(signature, is_new=parent is None, awaited=awaited)
        id, options = signature.id or new_id(), resolve(signature, task)
        limits = None if task is None or not task.defaults.limits else keys_at_send(signature, task)
        follows = parent is not None or link is not None or gather is not None
        merge = None if follows else self._merge_of(options.unique, signature)
        write = partial(
            self._encode,
            id=id,
            serializer=self._serializer,
            parameters=task.parameters.names if task else (),
            parent=parent,
            link=link,
            gather=gather,
            limits=limits,
            merge=merge,
        )
        signature, body = self._written(signature, task, write)
        envelope = self._envelope(signature, options, id, body)
        record = None if options.ignore_result or not self._stores else self._pending(envelope, signature.task)
        if merge is not None:
            return self._mergeable(merge, envelope, signature, partial(write, signature), stores=record is not None)
        if envelope.unique is not None and parent is None and _raises(options.unique):
            return _KeyedMessage(envelope, record, signature)
        watched = self._after or self._around or self._events.wants_sends
        return _WatchedMessage(envelope, record, signature) if watched else PreparedMessage(envelope, record)

    def _written(
        self, signature: Signature[Any], task: Task[..., Any] | None, write: Callable[[Signature[Any]], bytes]
    ) -> tuple[Signature[Any], bytes]:
        """Return *signature*, in plain values if it cannot be written as it is, and the body of its message."""
        try:
            return signature, write(signature)
        except EncodeError:
            pass  # a later error must not have this one as its context
        if task is not None:
            signature = plain_call(signature, task, self._serializer.dumps)
        return signature, write(signature)

    def _merge_of(self, unique: object, signature: Signature[Any]) -> Merge | None:
        """Return the key of a call that lets the newest arguments win; ``None`` if it has none."""
        if not isinstance(unique, UniqueKey) or not unique.merges:
            return None
        mode: Any = unique.on_conflict
        what = f'{signature.task} asks for on_conflict="{unique.on_conflict}"'
        if self._runtime.backend is None:
            raise CapabilityError(f"{what}, which needs a result backend", fix="Set a backend, or leave it out")
        if unique.on_conflict == "debounce" and (signature.delay or signature.eta):
            raise OptionError(f"{what}, which delays it, and for a delay", fix="Leave out delay and eta")
        ttl: Any = unique.ttl  # in seconds, since the option was checked
        key = self._key(unique, signature)
        return None if key is None else Merge(mode=mode, key=merge_key(mode, key), ttl=ttl)

    def _mergeable(
        self,
        merge: Merge,
        envelope: Envelope,
        signature: Signature[Any],
        body_as: Callable[..., bytes],
        *,
        stores: bool,
    ) -> PreparedMessage:
        """Return a message that a waiting one may take in, and its PENDING record."""
        unique: Any = resolve(signature, self._tasks.get(signature.task)).unique
        delay = max(envelope.delay, (envelope.not_before or 0.0) - self.now() if envelope.not_before else 0.0)
        delay = unique.quiet or delay
        envelope = attrs.evolve(envelope, delay=delay, not_before=None, unique=Unique(key=merge.key, ttl=merge.ttl))
        record = self._pending(envelope, signature.task, merge) if stores else None
        call = Mergeable(
            merge=merge,
            task=signature.task,
            envelope=envelope,
            body_as=lambda id: body_as(id=id),
            own_id=signature.id is not None,
            delay=delay,
            max_wait=unique.max_wait,
            record=record,
        )
        return _MergingMessage(envelope, record, signature, call)

    def _ready(
        self, signature: Signature[Any], *, is_new: bool, awaited: bool
    ) -> tuple[Signature[Any], Task[..., Any] | None]:
        """Return *signature* with what its message carries besides the caller's own, and its task; both are checked."""
        if self._before_send or (is_new and carries()):
            signature = self._staged(signature, is_new=is_new)
        if awaited and self.ignores(signature):
            signature = attrs.evolve(signature, ignore_result=False)
        task = self._tasks.get(signature.task)
        defaults = DEFAULTS if task is None else task.defaults
        if signature.broker is not None or defaults.broker is not None or defaults.on_unknown is not None:
            signature = self._with_defaults(signature, defaults)
        if signature.on_success or signature.on_error:
            self._check_follow_ups(signature, is_new=is_new)
        if self._checks_types and is_new:
            _check_types(signature, task)
        return signature, task

    def _staged(self, signature: Signature[Any], *, is_new: bool) -> Signature[Any]:
        """Return *signature* with the trace context in effect unless it follows a message, as middlewares leave it."""
        if is_new and (carried := trace_headers()):
            signature = attrs.evolve(signature, headers={**carried, **signature.headers})
        for stage in self._before_send:
            signature = stage(signature)
        return signature

    def check_service_options(self, signature: Signature[Any]) -> None:
        """Raise if *signature*, or a follow-up of it, has options that the broker's service does not know."""
        self._service.check(signature)

    def _check_follow_ups(self, signature: Signature[Any], *, is_new: bool) -> None:
        self.check_service_options(signature)
        for link in (*signature.on_success, *signature.on_error) if is_new else ():
            self.check_follow_up(link)

    def check_follow_up(self, signature: Signature[Any]) -> None:
        """Raise if *signature*, a follow-up or a part of a workflow, could not be sent when its turn comes.

        Raises:
            CapabilityError: The broker does not support one of its options.
            OptionError: Another message could take it in: what follows it would then follow another call.
        """
        options = resolve(signature, self._tasks.get(signature.task))
        unique = options.unique
        if isinstance(unique, UniqueKey) and unique.merges:
            raise OptionError(
                f'{signature.task} asks for on_conflict="{unique.on_conflict}", which no follow-up and no part of a '
                "workflow can have",
                fix="Send it in the body of a task, or set unique=False for this call",
            )
        self._check_carried(signature, options)
        for link in (*signature.on_success, *signature.on_error):
            self.check_follow_up(link)

    def _check_carried(self, signature: Signature[Any], options: TaskOptions | CallOptions) -> None:
        """Raise if the broker cannot carry the message of a later call, whose arguments are not complete yet."""
        fair, able, due = options.fair_by, self._runtime.broker.capabilities, signature.delay or signature.eta
        self._reject(signature.task, priority=options.priority, unique=options.unique, delay=due)
        if not self._tells_time and (due or options.expires is not None):
            self._reject_moments(signature, options.expires)
        if isinstance(fair, Lane):
            self._lane(fair, signature)
        elif fair is not None and not able.lanes and (fair.weights or not able.approximate_lanes):
            raise self._unsupported(signature.task, "weights of fair_by" if able.approximate_lanes else "fair_by")

    def _with_defaults(self, signature: Signature[Any], defaults: TaskOptions) -> Signature[Any]:
        """Return *signature* with the options of its task that its message carries."""
        if signature.broker is not None or defaults.broker is not None:
            signature = self._with_service_options(signature)
        if defaults.on_unknown is not None and signature.on_unknown is None:
            signature = attrs.evolve(signature, on_unknown=defaults.on_unknown)
        return signature

    def _with_service_options(self, signature: Signature[Any]) -> Signature[Any]:
        """Return *signature* with all options of the broker's service that its message carries."""
        return self._service.applied(signature)

    def _envelope(
        self, signature: Signature[Any], options: TaskOptions | CallOptions, id: str, body: bytes
    ) -> Envelope:
        queue = options.queue or self._default_queue
        most = self._largest
        if len(body) > most:
            raise TooLargeError(
                f"{signature.task}(): the message has {len(body):,} bytes, the limit is {most:,}",
                fix="Send a reference to the data, or raise max_message_bytes",
            )
        priority = DEFAULT_PRIORITY if options.priority is None else options.priority
        unique, expires = options.unique, options.expires
        immediate = signature.delay is None and signature.eta is None and expires is None
        lane = None if options.fair_by is None and not self._tasks.fair else self._lane(options.fair_by, signature)
        if priority == DEFAULT_PRIORITY and not unique and immediate:
            return _envelope(id=id, queue=queue, body=body, lane=lane)
        self._reject(signature.task, priority=priority, unique=unique, delay=signature.delay or signature.eta)
        if not self._tells_time:
            self._reject_moments(signature, expires)
        delay, not_before = self._due(signature)
        return Envelope(
            id=id,
            queue=queue,
            body=body,
            priority=priority,
            delay=delay,
            not_before=not_before,
            expires=self._moment(expires),
            unique=self._unique(unique, signature) if unique else None,
            lane=lane,
        )

    def _lane(self, fair: Fair | Lane | None, signature: Signature[Any]) -> Lane | None:
        """Return the lane of a call; the common one for a task without ``fair_by``, where others have it."""
        able = self._runtime.broker.capabilities
        if not able.lanes and not able.approximate_lanes:
            if fair is not None:
                raise self._unsupported(signature.task, "fair_by")
            return None
        lane = lane_of(fair, signature, self._tasks.get(signature.task)) if isinstance(fair, Fair) else fair or COMMON
        if lane.weight != 1 and not able.lanes:
            raise self._unsupported(signature.task, "a weight in fair_by")
        return lane

    def _due(self, signature: Signature[Any]) -> tuple[float, float | None]:
        """Return delay and not_before; a delay beyond the broker's longest becomes a not_before, reached by hops."""
        delay = signature.delay or 0.0
        eta = signature.eta.timestamp() if signature.eta else None
        longest = self._runtime.broker.limits.max_delay
        if longest is None:
            return delay, eta
        now = self.now()
        moment = max(now + delay, eta or 0.0)
        left = moment - now
        return (delay, None) if left <= longest and eta is None else (max(0.0, min(left, longest)), moment)

    def _moment(self, expires: datetime | float | None) -> float | None:
        if expires is None:
            return None
        return expires.timestamp() if isinstance(expires, datetime) else self.now() + expires

    def now(self) -> float:
        """Return UTC epoch seconds on the engine's clock, read once a minute, since ours may be wrong (QK11)."""
        at = self._runtime.clock.monotonic()
        reported, since = self._reported
        if not 0.0 <= at - since < _ASK_AGAIN:
            reported = self._ask()
            at = since = self._runtime.clock.monotonic()  # after the answer: the first one may include a connection
            self._reported = reported, since
        return reported + (at - since)

    def _ask(self) -> float:
        begun = monotonic()
        try:
            with time_limit(min(_LONGEST_ASK, self._timeout / 2)):
                return self._runtime.now()
        except UnavailableError:
            self._spent = monotonic() - begun
            return self._runtime.clock.time()

    def _unique(self, unique: UniqueKey | Unique | Literal[True] | str, signature: Signature[Any]) -> Unique | None:
        """Return the key: as given, or derived from task and arguments; ``None`` if those give none."""
        if isinstance(unique, UniqueKey):
            text = None if unique.merges else self._key(unique, signature)
            ttl: Any = unique.ttl  # in seconds, since the option was checked
            return None if text is None else Unique(key=text, until=unique.until, ttl=ttl)
        if unique is True:
            return Unique(key=key_of(signature, self._tasks.get(signature.task), self._runtime.serializer.dumps))
        key = unique if isinstance(unique, Unique) else Unique(key=unique)
        _check_text(key.key, signature)
        return key

    def _key(self, unique: UniqueKey, signature: Signature[Any]) -> str | None:
        """Return the text of a key; ``None`` if the arguments give none."""
        if unique.by is None:
            _check_text(unique.key or "", signature)
            return unique.key
        return key_by(unique.by, signature, self._tasks.get(signature.task), self._runtime.serializer.dumps)

    def _reject(self, task: str, *, priority: int | None, unique: Any, delay: Any) -> None:
        """Raise if the broker does not support an option; name task and option."""
        able = self._runtime.broker.capabilities
        wanted = {"priority": priority not in (None, DEFAULT_PRIORITY), "unique": unique, "delay": delay}
        for option, wish in wanted.items():
            if wish and not getattr(able, option):
                raise self._unsupported(task, option)

    def _unsupported(self, task: str, option: str) -> CapabilityError:
        return CapabilityError(
            f"{task} asks for {option}, which {self._runtime.broker_url.scheme}:// does not support",
            fix=f"Leave {option} out, or use another broker",
        )

    def _reject_moments(self, signature: Signature[Any], expires: datetime | float | None) -> None:
        """Raise if *signature* needs a time and neither the broker nor the backend has a clock."""
        if self._tells_time is None:
            self._tells_time = self._runtime.tells_time
        longest, delay = self._runtime.broker.limits.max_delay, signature.delay or 0.0
        asked = {
            "expires": expires is not None,
            "eta": signature.eta is not None,
            f"a delay above {longest or 0:g} s": longest is not None and delay > longest,
        }
        for option, wish in asked.items():
            if wish and not self._tells_time:
                without = f"neither {self._runtime.broker_url.scheme}:// nor the result backend has a clock"
                raise CapabilityError(
                    f"{signature.task} asks for {option}, but {without}",
                    fix="Use a result backend with a clock, e.g. redis://, or leave the option out",
                )

    def _pending(self, envelope: Envelope, task: str, merge: Merge | None = None) -> Record:
        ttl, delay = self._ttl, envelope.delay
        # A delayed message is due on the engine's clock; to ask for the time of each other message would take a trip.
        now = self.now() if delay > 0 or envelope.not_before is not None else self._time()
        if envelope.not_before is not None:
            delay = max(0.0, delay, envelope.not_before - now)
        if delay <= 0 and merge is None:
            return pending(id=envelope.id, task=task, queue=envelope.queue, ttl=ttl, at=now)
        return pending(
            id=envelope.id, task=task, queue=envelope.queue, ttl=ttl + delay, at=now, due=now + delay, merge=merge
        )

    def _send_batch(self, ready: Sequence[PreparedMessage], ahead: Sequence[Record]) -> list[Sent]:
        """Send one batch, within ``send_timeout``."""
        spent, self._spent = self._spent, 0.0
        # Leaves the engine at least half of the timeout, so that a slow start alone does not make the send fail.
        limit, end = LIMITS.here, monotonic() + self._timeout - (min(spent, self._timeout / 2) if spent else 0.0)
        before = limit.end
        limit.end = end if before is None or end < before else before
        try:
            # A commit cannot return the id that holds a unique key, so messages with keys are sent.
            store = self._store_at_once if self._commits and not _any_unique(ready) else self._store_in_turn
            sent = store(ready, ahead)
        finally:
            limit.end = before
        if self._events.wants_sends:
            self._announce(ready, sent)
        if self._after:
            self._stage_after(ready, sent)
        return sent

    def _send_batch_inside(self, ready: Sequence[PreparedMessage], ahead: Sequence[Record]) -> list[Sent]:
        """Send one batch within its middlewares."""
        calls = tuple(message.signature for message in ready if isinstance(message, _WatchedMessage))
        with self._inside(calls, batch=True):
            return self._send_batch(ready, ahead)

    def _announce(self, ready: Sequence[PreparedMessage], sent: Sequence[Sent]) -> None:
        """Emit the event for a batch that is stored."""
        messages = [
            MessageFacts(one.id, message.signature.task, message.envelope.queue, 0, one.duplicate)
            for message, one in zip(ready, sent, strict=True)
            if isinstance(message, _WatchedMessage)
        ]
        self._events.emit(MessagesSent(messages=tuple(messages)))

    def _stage_after(self, ready: Sequence[PreparedMessage], sent: Sequence[Sent]) -> None:
        """Show middlewares what was stored. An error must not look as if the send had failed."""
        stored = tuple(
            SentMessage(id=one.id, signature=message.signature, duplicate=one.duplicate)
            for message, one in zip(ready, sent, strict=True)
            if isinstance(message, _WatchedMessage)
        )
        for stage in self._after or ():
            try:
                stage(stored)
            except (Exception, SystemExit):  # noqa: BLE001 - but neither Ctrl-C nor the time limit of a task that sends
                log_error(_logger, "a middleware failed after %d messages were sent", len(stored))

    def _store_at_once(self, ready: Sequence[PreparedMessage], ahead: Sequence[Record]) -> list[Sent]:
        """Store one batch, messages and records in one step."""
        items = [_item(records=(one.record,) if one.record else (), sends=(one.envelope,)) for one in ready]
        if ahead:
            items.insert(0, CommitItem(records=tuple(ahead)))
        self._repeated(lambda: self._runtime.broker.commit(items))
        return [_sent(id=one.envelope.id, stored=one.record is not None) for one in ready]

    def _store_in_turn(self, ready: Sequence[PreparedMessage], ahead: Sequence[Record]) -> list[Sent]:
        """Store one batch, the messages before their records."""
        self._put(ahead)
        if _any_unique(ready) and any(isinstance(one, _MergingMessage) for one in ready):
            return self._store_merged(ready)
        envelopes = [one.envelope for one in ready]
        holders = self.patiently(lambda: self._runtime.broker.send(envelopes))
        self._put(
            [one.record for one, holder in zip(ready, holders, strict=True) if one.record and holder == one.envelope.id]
        )
        return [_stored(one, holder) for one, holder in zip(ready, holders, strict=True)]

    def _store_merged(self, ready: Sequence[PreparedMessage]) -> list[Sent]:
        """Store one batch in which waiting messages may take in some calls."""
        others = [one for one in ready if not isinstance(one, _MergingMessage)]
        stored = iter(self._store_in_turn(others, ()) if others else ())
        merging = Merging(self._runtime, now=self.now, patiently=self.patiently)
        merged = iter(merging.send([one.call for one in ready if isinstance(one, _MergingMessage)]))
        sent: list[Sent] = []
        for one in ready:
            if isinstance(one, _MergingMessage):
                call = next(merged)
                kind = Sent if call.is_new else _Merged
                sent.append(kind(id=call.id, stored=one.record is not None, duplicate=not call.is_new))
            else:
                sent.append(next(stored))
        return sent

    def _put(self, records: Sequence[Record]) -> None:
        backend = self._runtime.backend
        if records and backend is not None:
            self.patiently(lambda: backend.put(records, condition=Condition.NEWER))

    def patiently(self, call: Callable[[], T]) -> T:
        """Retry *call* while the engine does not answer, for ``send_timeout`` seconds; it may take effect twice (QK13).

        Engines bound each call by the time left.
        """
        if LIMITS.here.end is None:
            with time_limit(self._timeout):
                return self._repeated(call)
        return self._repeated(call)

    def _repeated(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except UnavailableError as error:
            problem = error
        return self._again(call, problem)

    def _again(self, call: Callable[[], T], error: UnavailableError) -> T:
        clock, chance = self._runtime.clock, self._runtime.random
        deadline = clock.monotonic() + time_left(self._timeout)
        pause = _FIRST_PAUSE
        while error.passing and clock.monotonic() + pause < deadline:
            clock.sleep(pause * (0.5 + chance.random() / 2))
            pause = min(_LONGEST_PAUSE, pause * 2)
            try:
                return call()
            except UnavailableError as again:
                error = again
        # The traceback through the engine does not help users whose engine is down.
        raise error.with_traceback(None)


def _stored(one: PreparedMessage, holder: str) -> Sent:
    """Return the outcome of a send after which *holder* is the id of its message, or of the one that has its key."""
    duplicate = holder != one.envelope.id
    kind = _Rejected if duplicate and isinstance(one, _KeyedMessage) else Sent
    return kind(id=holder, stored=one.record is not None, duplicate=duplicate)


def _check_text(key: str, signature: Signature[Any]) -> None:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(f"the unique key of {signature.task} is not valid UTF-8: {key!r}") from error


def _raises(unique: UniqueKey | Unique | bool | str | None) -> bool:  # noqa: FBT001 - the option of a call
    return isinstance(unique, UniqueKey) and unique.on_conflict == "raise"


def conflict_in(sent: Sequence[Sent], look_up: Callable[[str], str]) -> UniqueConflictError | None:
    """Return the error to raise for the calls that may not be duplicates, and are; ``None`` without any.

    Args:
        sent: What became of the calls.
        look_up: Returns how to learn why a message waits.
    """
    holders = {place: one.id for place, one in enumerate(sent) if one.rejected}
    if not holders:
        return None
    first, *others = holders.values()
    more = f" ({len(others)} more calls of {len(sent)} were not sent)" if others else ""
    error = UniqueConflictError(f"not sent: {first} holds its unique key{more}", fix=look_up(first))
    error.id, error.holders = first, holders
    return error


def _left(entered: AbstractContextManager[None], *error: Any) -> bool:
    """Leave *entered*, and let the error of a send pass even if *entered* swallows it: there is nothing to return."""
    entered.__exit__(*error)
    return False


def _bytes_of(ready: PreparedMessage) -> int:
    return len(ready.envelope.body)


def _any_unique(ready: Sequence[PreparedMessage]) -> bool:
    for one in ready:  # noqa: SIM110 - takes half the time of any(), and runs for every message
        if one.envelope.unique is not None:
            return True
    return False


def _check_types(signature: Signature[Any], task: Task[..., Any] | None) -> None:
    if task is not None and not signature.each:
        task.parameters.all_types.check(signature.args, signature.kwargs)
