"""What stands before and after each send and run."""

from __future__ import annotations

from typing import Any

from queuekit.context import Context
from queuekit.middleware import Middleware
from queuekit.signature import Signature

__all__ = ["OldMiddlewareMiddleware"]


class OldMiddlewareMiddleware(Middleware):
    """Says what it does, to whom. Delete the methods that it does not need: they cost time on each message."""

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Return the signature to send in place of *signature*. An error makes the send fail."""
        raise _left("before_send")

    def before_run(self, context: Context) -> None:
        """Run before a task's body. An error counts as the task's own."""
        raise _left("before_run")

    def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
        """Run after a task's body with the state it reached. An error is logged."""
        raise _left("after_run")


def _left(method: str) -> NotImplementedError:
    """Return the error of a method that is left to write; delete this when there is none."""
    where = "in src/queuekit_old_middleware/middleware.py; its docstring says what it promises"
    return NotImplementedError(f"OldMiddlewareMiddleware.{method} is yours to write, {where}")
