"""Resources: what tasks use but no caller sends, such as a connection pool, a session or a client.

A resource is a function that an app declares with ``@app.resource``. A task names it in the annotation of a parameter,
``db: Annotated[Session, Use(session)]``, and each run receives what the function makes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import attrs

from queuekit.errors import OptionError
from queuekit.values import frozen

__all__ = ["Opener", "Resource", "Scope", "Use"]

T = TypeVar("T")
Scope = Literal["worker", "task"]


class Opener(Protocol):
    """The app that declares a resource."""

    def open(self, resource: Resource[T], /) -> AbstractAsyncContextManager[T]:
        """Return a context manager that opens *resource* and closes it."""
        ...


@frozen(eq=False, kw_only=True)
class Resource(Generic[T]):
    """A declared resource; ``@app.resource`` makes it.

    Attributes:
        name: Module and qualified name of its function.
        function: The function that was declared.
        app: The app that declares it.
        scope: ``"task"``: opened for each run; ``"worker"``: opened once in a process, when a task first needs it.
        kind: Whether the function makes the value itself, a context manager that gives it, or a generator that yields
            it.
        is_async: Whether an event loop opens and closes it.
        needs: The resources that its function takes, by parameter.
        takes_context: The parameter that receives the context of the run, if any.
    """

    name: str
    function: Callable[..., Any] = attrs.field(repr=False)
    app: Opener = attrs.field(repr=False)
    scope: Scope
    kind: Literal["value", "manager", "generator"] = attrs.field(repr=False)
    is_async: bool = attrs.field(repr=False)
    needs: Mapping[str, Resource[Any]] = attrs.field(repr=False)
    takes_context: str | None = attrs.field(default=None, repr=False)

    async def __call__(self) -> AsyncIterator[T]:
        """Open the resource and close it afterwards, so that ``Depends(resource)`` of FastAPI gives its value."""
        async with self.app.open(self) as value:
            yield value


class Use:
    """Marks a parameter that a worker fills: ``db: Annotated[Session, Use(session)]``.

    Args:
        resource: Resource that gives the value.

    Raises:
        OptionError: *resource* is not a resource.
    """

    __slots__ = ("resource",)

    injected: ClassVar[Any]
    """A default for such parameters, ``= Use.injected``: type checkers then accept calls without them."""

    def __init__(self, resource: Resource[Any]) -> None:
        if not isinstance(resource, Resource):
            raise OptionError(f"Use: expected a resource, got {resource!r:.60}", fix="Declare it with @app.resource")
        self.resource = resource

    def __repr__(self) -> str:
        return f"Use({self.resource.name})"


class _Injected:
    """The type of :attr:`Use.injected`."""

    def __repr__(self) -> str:
        return "Use.injected"


Use.injected = _Injected()
