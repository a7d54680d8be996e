"""Finds the parameters of tasks and resources that resources fill, and declares resources."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    overload,
)

from queuekit.context import Context
from queuekit.errors import OptionError
from queuekit.resources import Opener, Resource, Scope, Use
from queuekit.tasks.annotations import Names, names, names_of
from queuekit.tasks.callables import DeclarationError, body_of, is_coroutine_function, place_of, signature_of

if TYPE_CHECKING:
    # What @contextmanager and @asynccontextmanager return has no public name.
    from contextlib import (
        _AsyncGeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
        _GeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
    )

__all__ = ["Injection", "ResourceDecorator", "declare_resource"]

T = TypeVar("T")
_DEEPEST = 20
"""Most aliases to follow, so that one of itself ends."""

_SCOPES = ("worker", "task")
_FILLABLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class ResourceDecorator(Protocol):
    """The decorator that ``app.resource(...)`` returns."""

    @overload
    def __call__(self, function: Callable[..., _GeneratorContextManager[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, function: Callable[..., _AsyncGeneratorContextManager[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, function: Callable[..., AsyncIterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, function: Callable[..., Iterator[T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, function: Callable[..., Coroutine[Any, Any, T]], /) -> Resource[T]: ...
    @overload
    def __call__(self, function: Callable[..., T], /) -> Resource[T]: ...


class Injection:
    """The parameters of a function that resources fill.

    Args:
        function: The function.
        parameters: Its parameters, without the context.
        app: The app that declares the function.

    Raises:
        DeclarationError: A resource cannot fill a parameter that names it.
    """

    def __init__(self, function: Callable[..., Any], parameters: list[inspect.Parameter], *, app: object) -> None:
        found = {each.name: _resource_of(each, function) for each in parameters}
        self.resources: Mapping[str, Resource[Any]] = {name: one for name, one in found.items() if one is not None}
        """The resources by parameter."""
        self._places = [
            (place if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else None, parameter.name)
            for place, parameter in enumerate(parameters)
            if parameter.name in self.resources
        ]
        self._given = {each.name for each in parameters if each.default not in (each.empty, Use.injected)}
        for parameter in parameters:
            if parameter.name in self.resources:
                _check(parameter, self.resources[parameter.name], of=place_of(function), app=app)

    def fill(
        self, args: list[Any], kwargs: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a call with *values* in the places of their parameters."""
        named = dict(kwargs)
        for place, name in self._places:
            if place is not None and len(args) > place:
                args = [*args[:place], values[name], *args[place:]]
            else:
                named[name] = values[name]
        return args, named

    def missing(self, bound: Mapping[str, Any]) -> list[str]:
        """Return the parameters that a plain call leaves out: it must pass the resources itself."""
        absent = [name for name in self.resources if bound.get(name, Use.injected) is Use.injected]
        return [name for name in absent if name in bound or name not in self._given]


def declare_resource(function: Callable[..., Any], *, app: Opener, scope: Scope) -> Resource[Any]:
    """Return *function* as a resource.

    Raises:
        DeclarationError: It cannot be one; says why.
        OptionError: *scope* is not a scope.
    """
    if scope not in _SCOPES:
        raise OptionError(f'scope: expected "worker" or "task", got {scope!r:.60}')
    if isinstance(function, Resource) or not callable(function):
        raise DeclarationError(f"{function!r:.80} is not a function", fix="Declare a function, once")
    name = place_of(function)
    parameters = list(signature_of(function).parameters.values())
    context = next((each.name for each in parameters if _is_context(each, function)), None)
    others = [each for each in parameters if each.name != context]
    needs = Injection(function, others, app=app).resources
    for each in others:
        if each.name not in needs and each.default is each.empty and each.kind in _FILLABLE:
            raise DeclarationError(
                f"{name}: nothing fills the parameter {each.name!r}",
                fix=f"Give it a default, or name a resource: {each.name}: Annotated[..., Use(...)]",
            )
    if scope == "worker":
        _check_worker_scope(name, needs, context)
    kind, is_async = _kind(function)
    return Resource(
        name=name,
        function=function,
        app=app,
        scope=scope,
        kind=kind,
        is_async=is_async,
        needs=needs,
        takes_context=context,
    )


def _check_worker_scope(name: str, needs: Mapping[str, Resource[Any]], context: str | None) -> None:
    """Raise if a resource that outlives the runs takes something of one run."""
    wrong = next((one for one in needs.values() if one.scope == "task"), None)
    if wrong is not None:
        what = f"uses {wrong.name}, which is opened for each run"
    elif context is not None:
        what = f"takes the context {context!r}, and each run has its own"
    else:
        return
    raise DeclarationError(f"{name} is opened once in a process, but {what}", fix='Declare it with scope="task"')


def _kind(function: Any) -> tuple[Literal["value", "manager", "generator"], bool]:
    """Return how *function* makes its value, and whether an event loop has to do it."""
    body = body_of(function)
    if inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(body):
        return "generator", True
    if inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(body):
        return "generator", False
    if isinstance(function, type):
        plain, awaited = hasattr(function, "__enter__"), hasattr(function, "__aenter__")
        return ("manager" if plain or awaited else "value"), awaited and not plain
    wrapped = inspect.unwrap(function)
    if inspect.isasyncgenfunction(wrapped):  # made by @asynccontextmanager
        return "manager", True
    return "value", is_coroutine_function(function)


def _check(parameter: inspect.Parameter, resource: Resource[Any], *, of: str, app: object) -> None:
    if parameter.kind not in _FILLABLE:
        raise DeclarationError(
            f"{of}: the resource {resource.name} cannot fill {str(parameter).partition(':')[0]!r}",
            fix=f"Write a parameter that can be passed by name: {parameter.name}: Annotated[..., Use(...)]",
        )
    if resource.app is not app:
        raise DeclarationError(
            f"{of}: the resource {resource.name} belongs to another app",
            fix="Declare it with the app that declares what uses it",
        )


def _resource_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> Resource[Any] | None:
    """Return the resource that the annotation of *parameter* names, if any.

    Raises:
        DeclarationError: It names two, or something that is not a resource.
    """
    if parameter.annotation is parameter.empty:
        return None
    owner = inspect.unwrap(body_of(function))
    where = f"{place_of(function)}: the annotation of {parameter.name!r}"
    try:
        uses = list(_uses(parameter.annotation, names_of(owner)))
    except OptionError as error:
        raise DeclarationError(
            f"{where} names no resource: {error.what}", fix="Declare the resource above, at the top of the module"
        ) from None
    if len({id(use.resource) for use in uses}) > 1:
        raise DeclarationError(f"{where} names two resources", fix="Name one")
    return uses[0].resource if uses else None


def _uses(annotation: Any, known: Names, depth: int = 0) -> Iterator[Use]:
    """Yield the marks in *annotation*: also in source form, by an alias, or in a union.

    Raises:
        OptionError: A mark names something that is not a resource, or that does not exist yet.
    """
    found = _read(annotation, known)
    for mark in getattr(found, "__metadata__", ()):
        if mark is Use:
            raise OptionError("Use comes without a resource")
        if isinstance(mark, Use):
            yield mark
    if depth < _DEEPEST:
        for part in _parts(found):
            yield from _uses(part, known, depth + 1)


def _read(annotation: Any, known: Names) -> Any:
    """Return the type that *annotation* means; an annotation that cannot be resolved names no resource."""
    text = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
    if not isinstance(text, str):
        return text
    try:
        return eval(text, {"__builtins__": {}}, known)  # noqa: S307 - the annotation is part of the user's own code
    except OptionError:
        raise
    except Exception:  # noqa: BLE001
        return None


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return what may hold a mark inside *annotation*: members of a union, the type of an alias."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return (get_args(annotation)[0],)
    if origin in {Union, UnionType}:
        return get_args(annotation)
    if isinstance(annotation, str):
        return (annotation,)
    alias = None if isinstance(annotation, type) else getattr(annotation, "__value__", None)
    return () if alias is None else (alias,)


def _is_context(parameter: inspect.Parameter, function: Callable[..., Any]) -> bool:
    if parameter.annotation is parameter.empty:
        return False
    return names(parameter.annotation, body_of(function), kind=Context, package="queuekit")
