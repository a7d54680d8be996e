"""A call as plain data: what to run, with what, and how it is to be treated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import attrs

from queuekit.durations import parse as parse_duration
from queuekit.envelope import Unique
from queuekit.errors import DecodeError
from queuekit.names import check_name, is_name
from queuekit.retry import Backoff, policy_from_dict

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    from queuekit.result import Result

    T_contra = TypeVarWithDefault("T_contra", contravariant=True, default=Any)
else:
    T_contra = TypeVar("T_contra", contravariant=True)

__all__ = ["Sender", "Signature"]

R_co = TypeVar("R_co", covariant=True)
VERSION = 1

Duration = float | int | str | timedelta


class Sender(Protocol):
    """What can send signatures: an app."""

    def send(self, signature: Signature[Any]) -> Result[Any]:
        """Put *signature* on its queue."""
        ...

    async def asend(self, signature: Signature[Any]) -> Result[Any]:
        """Put *signature* on its queue without blocking the event loop."""
        ...


def _seconds(value: Duration | None) -> float | None:
    return None if value is None else parse_duration(value)


def _moment(value: datetime | Duration | None) -> datetime | float | None:
    if value is None or not isinstance(value, datetime):
        return _seconds(value)
    if value.tzinfo is None:
        raise ValueError("a time needs a time zone, e.g. datetime.now(UTC)")
    return value


def _eta(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise TypeError(f"eta is a moment, not {value!r}; for seconds from now use delay")
    _moment(value)
    return value


_is_known_name = lru_cache(maxsize=1024)(is_name)


def _name(what: str) -> Any:
    def check(_self: Any, _attribute: Any, value: str | None) -> None:
        # Tasks and queues are few, so that their names need not be looked at each time.
        if value is not None and not (type(value) is str and _is_known_name(value)):
            check_name(value, what=what)

    return check


def _id(_self: Any, _attribute: Any, value: str | None) -> None:
    if value is not None:
        check_name(value, what="message")


_between_0_and_9 = attrs.validators.optional(attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(9)))


def _arguments(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(values)


def _texts(values: Mapping[str, str]) -> dict[str, str]:
    return dict(values)


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(values)


def _signatures(values: Iterable[Signature[Any]]) -> tuple[Signature[Any], ...]:
    return tuple(values)


@attrs.frozen
class Signature(Generic[R_co, T_contra]):
    """One call of a task, not yet sent. ``None`` leaves an option to the task, or to the app's settings.

    To type checkers ``Signature[int, str]`` returns an ``int``, and takes a ``str`` as its last argument when it
    follows something; ``Signature[int]`` says nothing of what it takes.

    Round-trips through plain data with :meth:`to_dict` and :meth:`from_dict`; keys that this version does not know
    are kept.
    """

    task: str = attrs.field(validator=_name("task"))
    """Registered name of the task."""
    args: tuple[Any, ...] = attrs.field(default=(), converter=_arguments)
    kwargs: dict[str, Any] = attrs.field(factory=dict, converter=_named)
    id: str | None = attrs.field(default=None, kw_only=True, validator=_id)
    """Id of the message, an idempotency key: sending it twice puts it on the queue once. ``None`` makes a new one."""
    queue: str | None = attrs.field(default=None, kw_only=True, validator=_name("queue"))
    priority: int | None = attrs.field(default=None, kw_only=True, validator=_between_0_and_9)
    """0 (last) to 9 (first)."""
    delay: float | None = attrs.field(default=None, kw_only=True, converter=_seconds)
    """Seconds from the send until it may start, on the broker's clock."""
    eta: datetime | None = attrs.field(default=None, kw_only=True, converter=_eta)
    """Moment before which it may not start; needs a time zone."""
    expires: datetime | float | None = attrs.field(default=None, kw_only=True, converter=_moment)
    """Seconds from the send, or moment, after which it is not started any more."""
    headers: dict[str, str] = attrs.field(factory=dict, converter=_texts, kw_only=True)
    """Text that travels with the message: trace context and the like."""
    immutable: bool = attrs.field(default=False, kw_only=True)
    """Whether a parent's result is kept out of the arguments."""
    retries: int | None = attrs.field(default=None, kw_only=True)
    retry: Backoff | None = attrs.field(default=None, kw_only=True)
    timeout: float | None = attrs.field(default=None, kw_only=True, converter=_seconds)
    """Seconds that one attempt may run."""
    ignore_result: bool | None = attrs.field(default=None, kw_only=True)
    unique: Unique | bool | str | None = attrs.field(default=None, kw_only=True)
    """True for one live message per task and arguments, text for a key of your own, or :class:`Unique`."""
    on_success: tuple[Signature[Any], ...] = attrs.field(default=(), converter=_signatures, kw_only=True)
    """Sent when it succeeds, with its result appended to their arguments unless they are immutable."""
    on_error: tuple[Signature[Any], ...] = attrs.field(default=(), converter=_signatures, kw_only=True)
    """Sent when it has failed for good, with one failure object appended unless they are immutable."""
    each: bool = attrs.field(default=False, kw_only=True)
    """Whether the one argument is a list of argument lists: the task runs once for each, one after the other."""
    extra: dict[str, Any] = attrs.field(factory=dict, kw_only=True, repr=False)
    """Keys read by :meth:`from_dict` that this version does not know."""
    sender: Sender | None = attrs.field(default=None, kw_only=True, eq=False, repr=False)
    """App that :meth:`send` uses; does not travel."""

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
            # typing itself knows no type variable with a default before Python 3.13.
            return GenericAlias(cls, item)

    def options(self, **changes: Any) -> Signature[R_co, T_contra]:
        """Return a copy with other options; names and meaning are those of the fields."""
        return attrs.evolve(self, **changes)

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
            DecodeError: It is not one, or of a version that this release cannot read.
        """
        try:
            fields = dict(data)
            if fields.pop("v", VERSION) != VERSION:
                raise DecodeError(f"a signature of version {data['v']!r}; this release reads {VERSION}")
            known = {key: _READ.get(key, _as_is)(fields.pop(key)) for key in _FIELDS if key in fields}
            return cls(**known, extra=fields, sender=sender)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise DecodeError(f"not a signature: {error}") from error

    def _sender(self) -> Sender:
        if self.sender is None:
            raise TypeError("this signature belongs to no app: use app.send(signature)")
        return self.sender


def _as_is(value: Any) -> Any:
    return value


def _write_unique(value: Unique | Literal[True] | str) -> Any:
    return attrs.asdict(value) if isinstance(value, Unique) else value


def _read_unique(value: Any) -> Any:
    return Unique(**value) if isinstance(value, dict) else value


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
    "on_success": _write_links,
    "on_error": _write_links,
}
_READ: dict[str, Any] = {
    "eta": _read_moment,
    "expires": _read_moment,
    "retry": policy_from_dict,
    "unique": _read_unique,
    "on_success": _read_links,
    "on_error": _read_links,
}
_FIELDS = tuple(field.name for field in attrs.fields(Signature) if field.name not in ("extra", "sender"))
