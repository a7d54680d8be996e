"""A call as plain data: the task's name, the arguments and the options."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import attrs

from queuekit.envelope import Lane, Unique
from queuekit.errors import DecodeError, NotReadHereError
from queuekit.fair import Fair
from queuekit.ids import check_name, is_name, new_id
from queuekit.retry import Backoff, policy_from_dict
from queuekit.unique import UniqueKey
from queuekit.values import frozen, quickly
from queuekit.wire import call_options as options
from queuekit.wire.call_options import Duration, OptionError

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    from queuekit.result import Result

    T_contra = TypeVarWithDefault("T_contra", contravariant=True, default=Any)
else:
    T_contra = TypeVar("T_contra", contravariant=True)

__all__ = ["Sender", "Signature"]

R_co = TypeVar("R_co", covariant=True)
VERSION = 1


class Sender(Protocol):
    """What can send signatures: an app."""

    def send(self, signature: Signature[Any]) -> Result[Any]:
        """Put *signature* on its queue."""
        ...

    async def asend(self, signature: Signature[Any]) -> Result[Any]:
        """Put *signature* on its queue without blocking the event loop."""
        ...


def _delay(value: Duration | None) -> float | None:
    return None if value is None else options.seconds(value, option="delay")


def _expires(value: datetime | Duration | None) -> datetime | float | None:
    if value is None:
        return None
    return _aware(value, option="expires") if isinstance(value, datetime) else options.seconds(value, option="expires")


def _eta(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise OptionError(f"eta must be a datetime, not {value!r:.60}", fix="For seconds from now use delay")
    return _aware(value, option="eta")


def _aware(value: datetime, *, option: str) -> datetime:
    if value.utcoffset() is None:
        raise OptionError(f"{option}: the datetime has no time zone", fix="Use an aware one, e.g. datetime.now(UTC)")
    return value


# Cached, since an app has few tasks and queues, and each message would check their names again.
_is_known_name = functools.lru_cache(maxsize=1024)(is_name)


def signatures(values: Iterable[Signature[Any]]) -> tuple[Signature[Any], ...]:
    """Return follow-ups as a tuple; a single signature counts as a list of one."""
    if not values and isinstance(values, tuple):
        return values
    found = tuple(values) if isinstance(values, Iterable) else (values,)
    for value in found:
        if not isinstance(value, Signature):
            raise OptionError(
                f"on_success and on_error take signatures, not {type(value).__name__}",
                fix="Make one with task.s(...); to send a workflow, do it in a task",
            )
    return found


@frozen
class Signature(Generic[R_co, T_contra]):
    """One call of a task, not yet sent. ``None`` leaves an option to the task or to the app's settings.

    For type checkers, ``Signature[int, str]`` returns an ``int`` and, as a follow-up, takes a ``str`` as its last
    argument; ``Signature[int]`` leaves that argument open.

    :meth:`to_dict` and :meth:`from_dict` convert it to plain data and back, and preserve keys that this version does
    not know.

    Attributes:
        task: Registered name of the task.
        args: Positional arguments.
        kwargs: Arguments by name; default: none.
        id: Id of the message, an idempotency key: sending it twice puts it on the queue once. ``None`` makes a new one.
        queue: Queue that it is sent to.
        priority: 0 (last) to 9 (first).
        delay: Seconds from the send until it may start, on the broker's clock.
        eta: Earliest start; needs a time zone.
        expires: Seconds from the send, or datetime, after which it is not started.
        headers: Text by name that is sent with the message, e.g. trace context; default: none.
        immutable: Whether a parent's result is not appended to the arguments.
        retries: Retries after the first attempt.
        retry: Waits between attempts.
        timeout: Seconds that one attempt may run.
        ignore_result: Whether its result is not stored.
        on_unknown: What a worker does with it that does not know its task: ``"hold"``, the default, puts it off for
            workers that do; ``"drop"`` ends it as EXPIRED; ``"dead"`` makes it a dead letter at once.
        unique: True for one live message per task and arguments, text for your own key, or a ``UniqueKey``, e.g. made
            from some of the arguments.
        fair_by: The lane in which it takes turns with others: its key, e.g. ``"acme"``, or the argument that has the
            key, e.g. ``arg("tenant")``.
        broker: Options of the broker's service by name, e.g. ``{"group": "customer-7"}``; the broker's page lists them.
        on_success: Sent when it succeeds, with its result appended to their arguments unless they are immutable.
        on_error: Sent when it has failed for good, with a failure object appended to their arguments unless they are
            immutable.
        each: Whether the single argument is a list of argument lists; the task runs once for each, in order.
        extra: Keys read by :meth:`from_dict` that this version does not know; default: none.
        sender: App that :meth:`send` uses; not sent with the message.
    """

    task: str
    args: tuple[Any, ...] = attrs.field(default=(), converter=options.arguments)
    kwargs: dict[str, Any] = attrs.field(factory=dict, converter=options.named)
    id: str | None = attrs.field(default=None, kw_only=True)
    queue: str | None = attrs.field(default=None, kw_only=True)
    priority: int | None = attrs.field(default=None, kw_only=True)
    delay: float | None = attrs.field(default=None, kw_only=True, converter=_delay)
    eta: datetime | None = attrs.field(default=None, kw_only=True, converter=_eta)
    expires: datetime | float | None = attrs.field(default=None, kw_only=True, converter=_expires)
    headers: dict[str, str] = attrs.field(factory=dict, converter=options.headers, kw_only=True)
    immutable: bool = attrs.field(default=False, kw_only=True)
    retries: int | None = attrs.field(default=None, kw_only=True)
    retry: Backoff | None = attrs.field(default=None, kw_only=True)
    timeout: float | None = attrs.field(default=None, kw_only=True, converter=options.timeout)
    ignore_result: bool | None = attrs.field(default=None, kw_only=True)
    on_unknown: str | None = attrs.field(default=None, kw_only=True)
    unique: UniqueKey | Unique | bool | str | None = attrs.field(default=None, kw_only=True)
    fair_by: Fair | Lane | str | Any = attrs.field(default=None, kw_only=True)
    broker: dict[str, Any] | None = attrs.field(default=None, kw_only=True)
    on_success: tuple[Signature[Any], ...] = attrs.field(default=(), converter=signatures, kw_only=True)
    on_error: tuple[Signature[Any], ...] = attrs.field(default=(), converter=signatures, kw_only=True)
    each: bool = attrs.field(default=False, kw_only=True)
    extra: dict[str, Any] = attrs.field(factory=dict, kw_only=True, repr=False)
    sender: Sender | None = attrs.field(default=None, kw_only=True, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if type(self.task) is not str or not _is_known_name(self.task):
            object.__setattr__(self, "task", check_name(self.task, what="task"))
        # Guards, since most calls set no options and this runs for every message.
        if self.queue is not None and (type(self.queue) is not str or not _is_known_name(self.queue)):
            object.__setattr__(self, "queue", check_name(self.queue, what="queue"))
        if self.id is not None or self.priority is not None:
            self._check(_PLACED)
        if self.retries is not None or self.retry is not None or self.ignore_result is not None:
            self._check(_TRIED)
        if self.on_unknown is not None or self.fair_by is not None:
            self._check(_RECEIVED)
        if self.unique is not None or self.broker is not None or self.immutable is not False or self.each is not False:
            self._check(_MARKED)

    def _check(self, checks: tuple[tuple[str, Any], ...]) -> None:
        """Validate options and convert them to the form that is sent."""
        for name, check in checks:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(value))

    def send(self) -> Result[R_co]:
        """Put it on its queue and return a handle on its result.

        Raises:
            UnavailableError: The broker did not answer within ``send_timeout``.
            EncodeError: An argument cannot be written; nothing was sent.
        """
        return self._sender().send(self)

    async def asend(self) -> Result[R_co]:
        """Like :meth:`send`, without blocking the event loop."""
        return await self._sender().asend(self)

    if not TYPE_CHECKING:

        @classmethod
        def __class_getitem__(cls, item: Any) -> GenericAlias:
            # Before Python 3.13, typing rejects Signature[R]: it does not support the default of the second variable.
            return GenericAlias(cls, item)

    def options(self, **changes: Any) -> Signature[R_co, T_contra]:
        """Return a copy with other options, named like the fields.

        Raises:
            OptionError: An option does not exist, or its value is not valid.
        """
        options.known(changes, _SETTABLE, of="a signature")
        return attrs.evolve(self, **changes)

    def carrying(self, headers: Mapping[str, str]) -> Signature[R_co, T_contra]:
        """Return a copy with *headers*, which nothing checks, besides its own, and with an id: its own or a new one.

        For a middleware's ``before_send``.
        """
        copied = copy.copy(self)
        object.__setattr__(copied, "headers", {**self.headers, **headers})
        if self.id is None:
            object.__setattr__(copied, "id", new_id())
        return copied

    def placed(self, **valid: Any) -> Signature[R_co, T_contra]:
        """Return a copy with other options, which must be valid and converted: nothing checks them.

        For the parts of workflows, which were checked when the workflow was made, and get ids and results.
        """
        copied = made(*_values(self))
        for name, value in valid.items():
            object.__setattr__(copied, name, value)
        return copied

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: argument values stay as they are, everything else is JSON-able."""
        data: dict[str, Any] = {**self.extra, "v": VERSION, "task": self.task}
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if field.name in _NOT_PLAIN or value in ((), {}) or value is None or value is False:
                continue
            data[field.name] = _PLAIN.get(field.name, _as_is)(value)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, sender: Sender | None = None) -> Signature[Any]:
        """Return the signature that :meth:`to_dict` wrote; *data* may come from a message.

        Raises:
            DecodeError: *data* is not a signature, or has a version that this release cannot read.
        """
        try:
            fields = dict(data)
            _check_version(fields.pop("v", VERSION))
            known = {key: _READ.get(key, _as_is)(fields.pop(key)) for key in _FIELDS if key in fields}
            return cls(**known, extra=fields, sender=sender)
        except NotReadHereError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise DecodeError(f"not a signature: {error}") from error

    def _sender(self) -> Sender:
        if self.sender is None:
            raise OptionError("this signature does not belong to an app", fix="Send it with app.send(signature)")
        return self.sender


_PLACED = (("id", functools.partial(check_name, what="message")), ("priority", options.priority))
_RECEIVED = (("on_unknown", options.on_unknown), ("fair_by", options.fair_by))
_TRIED = (
    ("retries", options.retries),
    ("retry", options.backoff),
    ("ignore_result", functools.partial(options.flag, option="ignore_result")),
)
_MARKED = (
    ("broker", options.service),
    ("unique", options.unique),
    ("immutable", functools.partial(options.flag, option="immutable")),
    ("each", functools.partial(options.flag, option="each")),
)


def _check_version(version: object) -> None:
    text = f"the signature has version {str(version)[:20]!r}; this release reads {VERSION}"
    if type(version) is int and version > VERSION:
        raise NotReadHereError(text)
    if version != VERSION:
        raise DecodeError(text)


def _as_is(value: Any) -> Any:
    return value


def _write_unique(value: UniqueKey | Unique | Literal[True] | str) -> Any:
    return attrs.asdict(value) if isinstance(value, UniqueKey | Unique) else value


def _read_unique(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return UniqueKey(**value) if "on_conflict" in value else Unique(**value)


def _read_fair(value: Any) -> Fair | Lane:
    return Fair(**value) if "by" in value else Lane(**value)


def _write_moment(value: datetime | float) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _read_moment(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _write_links(value: tuple[Signature[Any], ...]) -> list[dict[str, Any]]:
    return [link.to_dict() for link in value]


def _read_links(value: Any) -> tuple[Signature[Any], ...]:
    return tuple(Signature.from_dict(link) for link in value)


_NOT_PLAIN = frozenset({"task", "extra", "sender"})
_PLAIN: dict[str, Any] = {
    "args": list,
    "eta": _write_moment,
    "expires": _write_moment,
    "retry": Backoff.to_dict,
    "unique": _write_unique,
    "fair_by": attrs.asdict,
    "on_success": _write_links,
    "on_error": _write_links,
}
_READ: dict[str, Any] = {
    "eta": _read_moment,
    "expires": _read_moment,
    "retry": policy_from_dict,
    "unique": _read_unique,
    "fair_by": _read_fair,
    "on_success": _read_links,
    "on_error": _read_links,
}
_FIELDS = tuple(field.name for field in attrs.fields(Signature) if field.name not in ("extra", "sender"))
_SETTABLE = (*_FIELDS, "extra", "sender")
_fill: Any = Signature.__init__
made: Callable[..., Signature[Any]] = quickly(Signature, trusted=True)
"""Creates a signature like ``Signature(...)`` from values that one has already checked and converted."""
_values: Callable[[Signature[Any]], tuple[Any, ...]] = attrgetter(*(field.name for field in attrs.fields(Signature)))


@functools.wraps(_fill)
def _checked(self: Signature[Any], *args: Any, **kwargs: Any) -> None:
    try:
        _fill(self, *args, **kwargs)
    except OptionError:
        raise
    except TypeError:
        options.known(kwargs, _SETTABLE, of="a signature")
        raise
    if self.sender is not None:
        options.sender(self.sender)
    if type(self.extra) is not dict:
        object.__setattr__(self, "extra", options.further(self.extra))


Signature.__init__ = _checked  # type: ignore[method-assign]
