"""Middleware: code of an app or a plugin that runs before and after each send and run.

Stages are compiled once: only overridden methods are called, and an empty stage costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from queuekit.context import Context
from queuekit.signature import Signature

__all__ = ["Middleware", "Stages", "compile_stages"]


class Middleware:
    """Base class; override what you need. Methods are called in the order of the config, from several threads."""

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Return the signature to send instead of *signature*. An error makes the send fail."""
        return signature

    def before_run(self, context: Context) -> None:
        """Run before a task's body. An error counts as the task's own."""

    def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
        """Run after a task's body with the state it reached. An error is logged."""


@attrs.frozen
class Stages:
    """The overridden methods of each stage; ``None`` if there are none."""

    before_send: tuple[Callable[[Signature[Any]], Signature[Any]], ...] | None = None
    before_run: tuple[Callable[[Context], None], ...] | None = None
    after_run: tuple[Callable[[Context, str, BaseException | None], None], ...] | None = None


def compile_stages(middlewares: Iterable[Middleware]) -> Stages:
    """Return the overridden methods of *middlewares*, in order."""
    chain = list(middlewares)

    def overridden(name: str) -> tuple[Any, ...] | None:
        base = getattr(Middleware, name)
        return tuple(getattr(one, name) for one in chain if getattr(type(one), name) is not base) or None

    return Stages(*(overridden(field.name) for field in attrs.fields(Stages)))
