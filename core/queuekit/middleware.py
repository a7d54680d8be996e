"""Middleware: code of an app or a plugin that runs at each send and run, and when a message ends.

Stages are compiled once: only overridden methods are called, and an empty stage costs nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs

from queuekit.context import Context
from queuekit.signature import Signature
from queuekit.values import frozen
from queuekit.wire.call_options import OptionError

__all__ = ["Middleware", "SentMessage", "Stages", "check_methods", "compile_stages"]


@frozen(kw_only=True)
class SentMessage:
    """A message that a send has stored.

    Attributes:
        id: Id of the message, or of the one that holds its unique key.
        signature: The call, as ``before_send`` returned it. Its own ``id`` is ``None`` unless the caller set one.
        duplicate: Whether another message holds its unique key, so that nothing was stored.
    """

    id: str
    signature: Signature[Any]
    duplicate: bool = False


class Middleware:
    """Base class; override what you need.

    One object serves the whole process: its methods are called from several threads, so what belongs to one run must
    live in the run's context variables, or in local variables of :meth:`around_run`, never in ``threading.local``.
    Methods are called in the order of the config; :meth:`around_run` nests, the first one outermost.
    """

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Return the signature to send instead of *signature*. An error makes the send fail."""
        return signature

    def around_send(self, calls: Sequence[Signature[Any]], *, batch: bool) -> Iterator[None]:
        """Run around a send: a generator that yields exactly once, while the messages are stored.

        ``yield`` raises what the send raises. What the generator raises itself makes the send fail. It runs in the
        sender's context, and not for what a worker stores with the outcome of a task, like :meth:`after_send`.

        Args:
            calls: For ``send``, the one call as the caller made it: the generator begins before :meth:`before_send`.
                For ``send_many`` and workflows the calls of one batch, as :meth:`before_send` returned them.
            batch: Whether the calls come from ``send_many`` or a workflow.
        """
        yield

    def after_send(self, sent: Sequence[SentMessage]) -> None:
        """Run after a round trip has stored the messages *sent*, in the sender's context. An error is logged.

        Called once for ``send``, and once per batch for ``send_many`` and workflows. Messages that a worker stores with
        the outcome of a task (retries, callbacks, members that follow) are not sent this way.
        """

    def before_run(self, context: Context) -> None:
        """Run before a task's body. An error counts as the task's own."""

    def around_run(self, context: Context) -> Iterator[None]:
        """Run around a task's body: a generator that yields exactly once, while the body runs.

        ``yield`` returns the value that the body returned, or raises what the body raised. What the generator raises
        counts as the task's own error; if it swallows the body's error, the task returns ``None``. It runs in the
        body's thread, with its context variables and within its time limit, for ``async def`` tasks on the event loop.
        """
        yield

    async def around_async_run(self, context: Context) -> AsyncIterator[None]:
        """Run around the body of an ``async def`` task, in place of :meth:`around_run`: an asynchronous generator.

        It runs in the body's ``asyncio`` task: it may await, and sees ``asyncio.CancelledError`` at its ``yield``.
        """
        yield

    def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
        """Run after a task's body with the state it reached. An error is logged.

        For a coroutine function it runs on the event loop. Give what blocks to ``loop.run_in_executor(None, ...)``: a
        worker that stops waits two seconds for such threads.
        """

    def on_retry(self, context: Context, error: str, delay: float) -> None:
        """Run after it was stored that a task runs again, in *delay* seconds, since it raised *error*.

        Like :meth:`on_skip` and :meth:`on_dead` it runs in the thread that stores outcomes, which waits for it, and
        without the run's context variables. An error is logged.
        """

    def on_skip(self, context: Context, reason: str) -> None:
        """Run after a message was removed from its queue without running.

        Args:
            context: Whose message it is; its headers are empty if they were not read.
            reason: ``cancelled``, ``expired``, or ``done``: it was delivered again after its outcome was stored.
        """

    def on_dead(self, context: Context, reason: str, error: str) -> None:
        """Run after a message became a dead letter, whether its body ran or not.

        Args:
            context: Whose message it is; ``task`` is empty if it could not be read.
            reason: As ``queuekit dlq ls`` shows it: ``failed``, ``rejected``, ``crashed``, ``malformed``, ``unknown``,
                ``unsigned``.
            error: Type and text of the error.
        """


AroundRun = Callable[[Context], Iterator[None] | AsyncIterator[None]]
"""An ``around_run`` or ``around_async_run`` of a middleware."""


@frozen
class Stages:
    """The overridden methods of each stage; ``None`` if there are none.

    Attributes:
        before_send: Called with each call before it is encoded.
        around_send: Called around each send and each batch.
        after_send: Called with each batch that the broker accepted.
        before_run: Called before a task's body.
        around_run: The methods around plain tasks.
        around_async_run: The methods around ``async def`` tasks: of each middleware the asynchronous one if overridden,
            else the other.
        after_run: Called after a run that ended for good.
        on_retry: Called after a run that will be repeated.
        on_skip: Called for a message whose task does not run.
        on_dead: Called for a message that becomes a dead letter.
    """

    before_send: tuple[Callable[[Signature[Any]], Signature[Any]], ...] | None = None
    around_send: tuple[Callable[..., Iterator[None]], ...] | None = None
    after_send: tuple[Callable[[Sequence[SentMessage]], None], ...] | None = None
    before_run: tuple[Callable[[Context], None], ...] | None = None
    around_run: tuple[AroundRun, ...] | None = None
    around_async_run: tuple[AroundRun, ...] | None = None
    after_run: tuple[Callable[[Context, str, BaseException | None], None], ...] | None = None
    on_retry: tuple[Callable[[Context, str, float], None], ...] | None = None
    on_skip: tuple[Callable[[Context, str], None], ...] | None = None
    on_dead: tuple[Callable[[Context, str, str], None], ...] | None = None

    @property
    def at_send(self) -> bool:
        """Whether any method runs in the context of a send."""
        return bool(self.before_send or self.around_send or self.after_send)


def compile_stages(middlewares: Iterable[Middleware]) -> Stages:
    """Return the overridden methods of *middlewares*, in order."""
    chain = list(middlewares)

    def overridden(name: str) -> tuple[Any, ...] | None:
        choices = ("around_async_run", "around_run") if name == "around_async_run" else (name,)
        found = (next((method for choice in choices if (method := _method(one, choice))), None) for one in chain)
        return tuple(method for method in found if method is not None) or None

    return Stages(**{field.name: overridden(field.name) for field in attrs.fields(Stages)})


def check_methods(middleware: Middleware) -> None:
    """Check that the methods of *middleware* are of the kind that core calls.

    Raises:
        OptionError: A method is ``async def``, so that calling it would run nothing.
    """
    for field in attrs.fields(Stages):
        method = _method(middleware, field.name)
        if field.name == "around_async_run" or not (
            inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
        ):
            continue
        advice = "Write around_async_run, which" if field.name == "around_run" else "Write a def; around_async_run"
        raise OptionError(
            f"middlewares: {type(middleware).__name__}.{field.name} is async def, and would never run",
            fix=f"{advice} may await",
        )


def _method(middleware: Middleware, name: str) -> Any:
    """Return the bound method *name* if *middleware* overrides it, else ``None``."""
    overrides = getattr(type(middleware), name) is not getattr(Middleware, name)
    return getattr(middleware, name) if overrides else None
