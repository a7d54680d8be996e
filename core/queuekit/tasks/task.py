"""A registered function and its options; creates signatures and checks their arguments at the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Concatenate, Generic, Literal, Never, ParamSpec, Protocol, TypeVar, cast, overload

import attrs

from queuekit.context import Context
from queuekit.envelope import Lane, Unique
from queuekit.errors import ArgumentsError, OptionError, did_you_mean
from queuekit.failure import Failure
from queuekit.fair import Fair
from queuekit.ids import check_name
from queuekit.limits import Argument, Concurrency, Limit, limits_of
from queuekit.result import Result
from queuekit.retry import Backoff, Exponential
from queuekit.signature import Sender, Signature, made
from queuekit.tasks.annotations import names
from queuekit.tasks.argument_types import ArgumentTypes
from queuekit.tasks.callables import DeclarationError, body_of, is_coroutine_function, place_of, signature_of
from queuekit.tasks.injection import Injection
from queuekit.unique import UniqueKey
from queuekit.values import frozen
from queuekit.wire import call_options as options
from queuekit.wire.call_options import Duration
from queuekit.wire.position import Policy
from queuekit.workflows.workflow import Group

__all__ = ["AsyncTask", "Bound", "Task", "TaskDecorator", "TaskOptions"]

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Anything:
    """For type checkers: a parameter that accepts this otherwise unused class accepts anything, even a context."""


def _retry_on(value: type | Iterable[type]) -> tuple[type, ...]:
    return options.classes(value, option="retry_on")


def _dont_retry(value: type | Iterable[type]) -> tuple[type, ...]:
    return options.classes(value, option="dont_retry")


def _expires(value: Duration | None) -> float | None:
    return options.seconds(value, option="expires")


def _queue(value: str | None) -> str | None:
    return options.optional_name(value, what="queue")


def _retries(value: int) -> int:
    return options.retries(value) or 0


def _policy(value: Backoff | None) -> Backoff:
    return options.backoff(value) or Exponential()


def _ignore_result(value: bool) -> bool:  # noqa: FBT001 - attrs passes it by position
    return bool(options.flag(value, option="ignore_result"))


def _coerce(value: bool) -> bool:  # noqa: FBT001 - attrs passes it by position
    return bool(options.flag(value, option="coerce"))


def _track(value: bool) -> bool:  # noqa: FBT001 - attrs passes it by position
    return bool(options.flag(value, option="track"))


@frozen(kw_only=True)
class TaskOptions:
    """How a task's messages are treated unless a call says otherwise.

    Attributes:
        queue: Its queue; default: the setting ``default_queue``.
        priority: 0 (last) to 9 (first); default: 4.
        retries: Number of retries after failed attempts.
        retry: Wait before each retry; default: ``Exponential()``.
        retry_on: Exceptions that are retried.
        dont_retry: Exceptions that are not retried, even if ``retry_on`` includes their base.
        timeout: Seconds that one attempt may run before it is interrupted.
        time_limit: Seconds that one attempt may run before it is ended with its process, whatever it does.
        pool: ``"process"`` runs each body in a process of its own, ``"thread"`` in the worker's; default: the setting
            ``worker.pool``.
        expires: Seconds from the send after which it is not started.
        on_unknown: What a worker does that does not know the task, see :class:`~queuekit.signature.Signature`; it goes
            with each message that is sent by who knows the task.
        ignore_result: Whether to store no results, except for messages that a workflow waits for and for dead letters.
        unique: One live message per task and arguments, or per key.
        fair_by: The argument whose values take turns, e.g. ``arg("tenant")``, or a
            :class:`~queuekit.fair.Fair` with weights.
        broker: Options of the broker's service for each message; those given with a call replace them one by one.
        track: Whether to record RECEIVED and STARTED; costs a round trip each.
        ack: ``"early"`` acknowledges before the body runs (at most once), ``"late"`` after it (at least once).
        limits: Limits on how often its messages start, and on how many run at the same time.
        coerce: Whether arguments are converted to what the annotations say, as for web input: ``"5"`` to a number.
    """

    queue: str | None = attrs.field(default=None, converter=_queue)
    priority: int | None = attrs.field(default=None, converter=options.priority)
    retries: int = attrs.field(default=0, converter=_retries)
    retry: Backoff = attrs.field(factory=Exponential, converter=_policy)
    retry_on: tuple[type, ...] = attrs.field(default=(Exception,), converter=_retry_on)
    dont_retry: tuple[type, ...] = attrs.field(default=(), converter=_dont_retry)
    timeout: float | None = attrs.field(default=None, converter=options.timeout)
    time_limit: float | None = attrs.field(default=None, converter=options.time_limit)
    pool: str | None = attrs.field(default=None, converter=options.pool)
    expires: float | None = attrs.field(default=None, converter=_expires)
    on_unknown: str | None = attrs.field(default=None, converter=options.on_unknown)
    ignore_result: bool = attrs.field(default=False, converter=_ignore_result)
    unique: UniqueKey | Unique | bool | str | None = attrs.field(default=None, converter=options.unique)
    fair_by: Fair | None = attrs.field(default=None, converter=options.fair_by_argument)
    broker: dict[str, Any] | None = attrs.field(default=None, converter=options.service, hash=False)
    track: bool = attrs.field(default=False, converter=_track)
    ack: str = attrs.field(default="late", converter=options.acknowledgement)
    limits: tuple[Limit, ...] = attrs.field(default=(), converter=limits_of)
    coerce: bool = attrs.field(default=False, converter=_coerce)


OPTIONS = tuple(field.name for field in attrs.fields(TaskOptions))
"""Options of a task, besides its name."""


def options_of(chosen: Mapping[str, Any]) -> TaskOptions:
    """Return the options given to the decorator.

    Raises:
        OptionError: An option does not exist, or its value is not valid.
    """
    options.known(chosen, ("name", "aliases", *OPTIONS), of="@app.task")
    return TaskOptions(**{name: value for name, value in chosen.items() if name in OPTIONS})


def aliases_of(chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the earlier names of a task that are given to the decorator.

    Raises:
        InvalidNameError: One of them cannot name a task.
        OptionError: They are not an iterable of names.
    """
    aliases = chosen.get("aliases", ())
    if isinstance(aliases, str) or not isinstance(aliases, Iterable):
        raise OptionError(f"aliases is {aliases!r:.60}, not a list of names", fix='Write  aliases=["old.name"]')
    return tuple(check_name(alias, what="task") for alias in aliases)


# Protocols that match a task by its ``send``, so that type checkers can infer which parameter comes next.


class _None(Protocol[R_co]):
    def send(self) -> Result[R_co]: ...


class _One(Protocol[A_contra, R_co]):
    def send(self, _1: A_contra, /) -> Result[R_co]: ...


class _Two(Protocol[A_contra, B_contra, R_co]):
    def send(self, _1: A_contra, _2: B_contra, /) -> Result[R_co]: ...


class _Three(Protocol[A_contra, B_contra, C_contra, R_co]):
    def send(self, _1: A_contra, _2: B_contra, _3: C_contra, /) -> Result[R_co]: ...


class Parameters:
    """The parameters of a task that callers fill.

    Args:
        function: The task's function. If it takes a context, the worker passes that, so it is not included.
        of: The task's name.
        app: The app that registers it.
        coerce: Whether arguments are converted to what the annotations say.

    Raises:
        DeclarationError: The context is not the first parameter.
    """

    def __init__(self, function: Callable[..., Any], *, of: str, app: object, coerce: bool = False) -> None:
        signature = signature_of(function)
        self.have_context = _takes_context(function, signature)
        """Whether the function takes a context before them."""
        parameters = list(signature.parameters.values())[1 if self.have_context else 0 :]
        self.injection = Injection(function, parameters, app=app)
        """The parameters that resources fill, and that callers cannot."""
        self.injected = self.injection.resources
        """The resources by parameter."""
        self.plain = not self.have_context and not self.injected
        """Whether the function takes the arguments of its callers and nothing else."""
        parameters = [parameter for parameter in parameters if parameter.name not in self.injected]
        self.names = tuple(parameter.name for parameter in parameters)
        self._task = of
        self._signature = signature.replace(parameters=parameters)
        simple = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
        required = sum(parameter.default is parameter.empty for parameter in parameters)
        self._counts = (required, len(parameters)) if simple else None
        self.all_types = ArgumentTypes(function, parameters, coerce=coerce, of=of)
        """The types of their values."""
        self.types: ArgumentTypes | None = self.all_types
        """The same, ``None`` once it is known that no argument needs a check."""

    def __str__(self) -> str:
        return str(self._signature)

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, partial: bool = False) -> None:
        """Raise if the function would reject the arguments.

        Raises:
            ArgumentsError: The arguments do not match; names the task and the parameter.
        """
        if self._counts is not None and not kwargs and self._counts[0] <= len(args) <= self._counts[1]:
            return
        if self.injected and not self.injected.keys().isdisjoint(kwargs):
            name = next(name for name in kwargs if name in self.injected)
            raise ArgumentsError(f"{self._task}{self}: a resource fills {name!r}, callers cannot send it")
        try:
            bind = self._signature.bind_partial if partial else self._signature.bind
            bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentsError(f"{self._task}{self}: {error}") from None

    def check_plain_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], function: Callable[..., Any]) -> None:
        """Raise if a plain call of *function* leaves out a resource, which only workers fill.

        Raises:
            ArgumentsError: It does; names the parameter.
        """
        try:
            bound = signature_of(function).bind_partial(*args, **kwargs)
        except TypeError:
            return  # the call itself says why
        missing = self.injection.missing(bound.arguments)
        if missing:
            raise ArgumentsError(
                f"{self._task}(): a plain call fills no resources, and leaves out {missing[0]!r}",
                fix=f"Pass it: {missing[0]}=...",
            )

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments | None:
        """Return the arguments bound to the parameters; ``None`` if they do not match."""
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError:
            return None

    def filled(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Mapping[str, Any] | None
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments of a call together with the *values* of the resources."""
        return (args, kwargs) if values is None else self.injection.fill([*args], kwargs, values)

    def fitting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call as they are sent.

        Raises:
            ArgumentsError: An argument does not fit its annotation; names it and the path inside it.
        """
        types = self._needed_types()
        return (args, kwargs) if types is None else types.at_send(args, kwargs)

    def arrived(self, args: list[Any], kwargs: dict[str, Any], *, each: bool) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a message as the annotations name them.

        Args:
            args: The positional arguments.
            kwargs: The others.
            each: Whether the first argument is a list of argument lists.

        Raises:
            ArgumentsError: An argument does not fit its annotation; names it and the path inside it.
        """
        types = self._needed_types()
        if types is None:
            return args, kwargs
        if not each:
            return types.on_arrival(args, kwargs)
        _, named = types.on_arrival((), kwargs)
        count = [len(one) for one in args[0]]
        whole = [types.on_arrival([*one, *args[1:]], {})[0] for one in args[0]]
        calls = [made[:length] for made, length in zip(whole, count, strict=True)]
        return [calls, *(whole[0][count[0] :] if whole else args[1:])], named

    def by_name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by the names of the parameters, with defaults; empty if they do not match."""
        try:
            bound = self._signature.bind_partial(*args, **kwargs)
        except TypeError:
            return {}
        bound.apply_defaults()
        return {**bound.arguments, **bound.kwargs}

    def have(self, name: str) -> bool:
        """Return whether a call may pass *name*."""
        kinds = {parameter.kind for parameter in self._signature.parameters.values()}
        return name in self.names or inspect.Parameter.VAR_KEYWORD in kinds

    def check_names(self, names: Iterable[str], *, of: str) -> None:
        """Raise if one of *names* is not a parameter; *of* says what it is named for.

        Raises:
            OptionError: It is not; suggests a similar one.
        """
        for name in names:
            if not self.have(name):
                near = did_you_mean(name, self.names)
                what = f"{self._task}{self} has no parameter {name!r} {of}"
                raise OptionError(
                    what, fix=near[:1].upper() + near[1:] or f"Parameters: {', '.join(self.names) or 'none'}"
                )

    def _needed_types(self) -> ArgumentTypes | None:
        if self.types is not None and self.types.idle:
            self.types = None
        return self.types


class Bound(Generic[P, R_co]):
    """A task with options for its calls; returned by ``task.options(...)``."""

    def __init__(self, task: Task[P, Any], options: dict[str, Any]) -> None:
        self._task = task
        self._options = options

    def send(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R_co]:
        """Put a call on the queue and return a handle on its result.

        The message is stored when this returns (at-least-once).

        Raises:
            ArgumentsError: The arguments do not match the function; names the parameter.
            EncodeError: An argument cannot be written; nothing was sent.
            UnavailableError: The broker did not answer within ``send_timeout``.
        """
        return self._task.app.send(self._make(args, kwargs))

    async def asend(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R_co]:
        """Like :meth:`send`, without blocking the event loop."""
        return await self._task.app.asend(self._make(args, kwargs))

    # The last argument of a follow-up is the first parameter that the call leaves out.
    @overload
    def s(self: _One[T, R], /) -> Signature[R, T]: ...
    @overload
    def s(self: _Two[A, T, R], _1: A, /) -> Signature[R, T]: ...
    @overload
    def s(self: _Three[A, B, T, R], _1: A, _2: B, /) -> Signature[R, T]: ...
    @overload
    def s(self: _None[R], /) -> Signature[R, Never]: ...
    @overload
    def s(self: _One[A, R], _1: A, /) -> Signature[R, Never]: ...
    @overload
    def s(self: _Two[A, B, R], _1: A, _2: B, /) -> Signature[R, Never]: ...
    @overload
    def s(self, /, *args: Any, **kwargs: Any) -> Signature[R_co]: ...
    def s(self, /, *args: Any, **kwargs: Any) -> Signature[Any, Any]:
        """Return the call as a signature. A follow-up may omit its last argument, which is the result it follows.

        Type checkers know the type of that argument if at most two arguments are given, all by position.
        """
        return self._make(args, kwargs, partial=True)

    def si(self, /, *args: P.args, **kwargs: P.kwargs) -> Signature[R_co, object]:
        """Return the call as an immutable signature: a parent's result is not appended."""
        return attrs.evolve(self._make(args, kwargs), immutable=True)

    def map(self, values: Iterable[Any], **chosen: Any) -> Group[list[R_co]]:
        """Return a group that calls the task once with each of *values*; takes the options of :meth:`starmap`."""
        options.known(chosen, _OF_GROUPS, of=f"{self._task.name}.map()")
        return self.starmap(((value,) for value in options.argument_lists(values, option="values")), **chosen)

    def starmap(
        self,
        arguments: Iterable[Iterable[Any]],
        *,
        chunk: int = 1,
        policy: Policy = "fail",
        at_once: int | None = None,
        id: str | None = None,
    ) -> Group[list[R_co]]:
        """Return a group that calls the task once with each of *arguments*; the result is the list of results.

        Args:
            arguments: The positional arguments of each call.
            chunk: Number of calls per message. They run one after the other, and a failure fails them all.
            policy: Effect of a failed message on what follows the group; see
                :func:`~queuekit.workflows.canvas.group`.
            at_once: Most messages that wait or run at a time.
            id: Id of the group, an idempotency key.

        Raises:
            ArgumentsError: Some arguments do not match the function.
            OptionError: *arguments* is not a list of lists, or the value of an option is not valid.
        """
        calls = [options.arguments(args) for args in options.argument_lists(arguments)]
        chunk = options.at_least_one(chunk, option="chunk")
        if chunk == 1:
            members = [self._make(args, {}, partial=True) for args in calls]
            return Group(members, policy=policy, at_once=at_once, id=id)
        for place, args in enumerate(calls):
            self._task.parameters.check(args, {}, partial=True)
            calls[place], _ = self._task.parameters.fitting(args, {})
        parts = [[list(args) for args in calls[first : first + chunk]] for first in range(0, len(calls), chunk)]
        chosen: dict[str, Any] = {**self._options, "sender": self._task.app, "each": True}
        several = [Signature[Any](self._task.name, (part,), **chosen) for part in parts]
        return Group(several, policy=policy, at_once=at_once, id=id, flat=True)

    def _make(self, args: Any, kwargs: Any, *, partial: bool = False) -> Signature[Any]:
        self._task.parameters.check(args, kwargs, partial=partial)
        if self._task.parameters.types is not None:
            args, kwargs = self._task.parameters.fitting(args, kwargs)
        if kwargs:
            kwargs = options.named(kwargs)
        if not self._options:  # the usual call
            return made(task=self._task.name, args=args, kwargs=kwargs, sender=self._task.app)
        own = {name: dict(value) if type(value) is dict else value for name, value in self._options.items()}
        return made(task=self._task.name, args=args, kwargs=kwargs, sender=self._task.app, **own)


class Task(Bound[P, R_co]):
    """A registered function. Calling it stays a plain call; :meth:`~Bound.send` puts a call on its queue."""

    def __init__(self, function: Callable[..., Any], *, app: Sender, name: str, options: TaskOptions) -> None:
        super().__init__(self, {})
        self.function = function
        """The plain function."""
        self.app = app
        self.name = check_name(name, what="task")
        """Registered name; default: module and qualified name."""
        self.defaults = options
        """Options of the task."""
        self.is_async = is_coroutine_function(function)
        """Whether it is a coroutine function."""
        self.parameters = Parameters(function, of=self.name, app=app, coerce=options.coerce)
        """The parameters that callers fill."""
        self._check_lease(options)
        self.parameters.check_names(
            (limit.key.path[0] for limit in options.limits if limit.key), of="for the key of a limit"
        )
        if isinstance(options.unique, UniqueKey):
            self.parameters.check_names(
                (path.partition(".")[0] for path in options.unique.by or ()), of="to be unique by"
            )
        if options.fair_by is not None:
            self.parameters.check_names([options.fair_by.by.partition(".")[0]], of="to be fair by")
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", name)
        self.__wrapped__ = function

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the plain function directly; a task that takes a context receives an empty one."""
        context = (Context(id="", task=self.name, queue=""),) if self.parameters.have_context else ()
        if self.parameters.injected:
            self.parameters.check_plain_call((*context, *args), kwargs, self.function)
        result: R_co = self.function(*context, *args, **kwargs)
        return result

    def result(self, id: str) -> Result[R_co]:
        """Return a handle on the result of the call that was sent as message *id*; no round trip."""
        app: Any = self.app
        found: Result[R_co] = app.result(id, self)
        return found

    def _check_lease(self, options: TaskOptions) -> None:
        """Raise if a run would need a slot, which lasts as long as its lease, and holds no lease."""
        if options.ack == "early" and any(isinstance(limit, Concurrency) for limit in options.limits):
            what = f"{self.name}: a message that is acknowledged early holds no lease, and Concurrency needs one"
            raise OptionError(what, fix='Leave out  ack="early"')

    def __repr__(self) -> str:
        return f"<task {self.name}{self.parameters}>"

    def options(
        self,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
        eta: datetime | None = None,
        expires: datetime | Duration | None = None,
        headers: Mapping[str, str] | None = None,
        retries: int | None = None,
        retry: Backoff | None = None,
        timeout: Duration | None = None,
        on_unknown: Literal["hold", "drop", "dead"] | None = None,
        ignore_result: bool | None = None,
        unique: UniqueKey | bool | str | None = None,
        fair_by: Argument | Fair | Lane | str | None = None,
        broker: Mapping[str, Any] | None = None,
        on_success: Iterable[Signature[Any, R_co]] | None = None,
        on_error: Iterable[Signature[Any, Failure]] | None = None,
        **unknown: Never,
    ) -> Bound[P, R_co]:
        """Return the task with other options for its calls; the names are those of the fields of a signature.

        Args:
            id: Id of the message, an idempotency key.
            queue: Queue to send to.
            priority: 0 (last) to 9 (first).
            delay: Seconds, or text such as ``"10m"``, until it may start.
            eta: Earliest start; needs a time zone.
            expires: Seconds from the send, or datetime, after which it is not started.
            headers: Text by name that is sent with the message.
            retries: Number of retries after failed attempts.
            retry: Wait before each retry.
            timeout: Seconds that one attempt may run.
            on_unknown: What a worker does that does not know the task: hold, drop, or dead-letter the message.
            ignore_result: Whether to store no result.
            unique: True for one live message per task and arguments, text for your own key.
            fair_by: The lane in which it takes turns: its key, or the argument that has the key.
            broker: Options of the broker's service by name; they replace those of the task one by one.
            on_success: Sent when it succeeds, with its result appended to their arguments.
            on_error: Sent when it has failed for good, with a :class:`~queuekit.failure.Failure` appended.
            **unknown: Collects misspelt names, to suggest the right one.

        Raises:
            OptionError: An option does not exist, or its value is not valid.
        """
        # locals() avoids a second list of the parameters, which are spelled out for type checkers and editors.
        chosen = {name: value for name, value in locals().items() if name not in _NO_OPTIONS and value is not None}
        options.known(unknown, _CALL_OPTIONS, of=f"{self.name}.options()")
        valid = Signature[Any](self.name, **chosen)
        return Bound(self, {name: getattr(valid, name) for name in chosen})


class AsyncTask(Task[P, R_co]):
    """A registered coroutine function; its result is the value of the awaited coroutine."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """Call the plain function; the caller awaits it."""
        return cast("Coroutine[Any, Any, R_co]", super().__call__(*args, **kwargs))


class TaskDecorator(Protocol):
    """The decorator that ``app.task(...)`` returns: turns a function into a task with the same parameters and result.

    A first parameter that accepts anything (``Any``, ``object``) could be a context or an argument, so type checkers do
    not check the arguments of such a task.
    """

    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, ...], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Anything, ...], R], /) -> Task[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


def _takes_context(function: Callable[..., Any], signature: inspect.Signature) -> bool:
    """Return whether the first parameter is annotated with :class:`Context`, in any form.

    Raises:
        DeclarationError: Another parameter is, and callers could not fill it.
    """
    first, *others = signature.parameters.values() or (None,)
    for other in others:
        needed = other.default is other.empty and other.kind not in (other.VAR_POSITIONAL, other.VAR_KEYWORD)
        if needed and _is_context(other, function):
            raise DeclarationError(
                f"{place_of(function)}: the context {other.name!r} is not the first parameter",
                fix=f"Put {other.name!r} first: a worker passes the context there, and callers cannot send one",
            )
    return first is not None and _is_context(first, function)


def _is_context(parameter: inspect.Parameter, function: Callable[..., Any]) -> bool:
    annotation = parameter.annotation
    if annotation is Context or annotation is parameter.empty:
        return annotation is Context
    return names(annotation, body_of(function), kind=Context, package="queuekit")


_NO_OPTIONS = frozenset({"self", "unknown"})
_CALL_OPTIONS = tuple(name for name in inspect.signature(Task.options).parameters if name not in _NO_OPTIONS)
_OF_GROUPS = tuple(inspect.signature(Bound.starmap).parameters)[2:]
