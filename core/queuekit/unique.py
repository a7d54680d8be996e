"""Unique keys, as options of a task or a call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from queuekit.values import frozen

__all__ = ["Conflict", "UniqueKey"]

Conflict = Literal["skip", "raise", "latest", "debounce"]
"""What a send does whose key is held; see :class:`UniqueKey`."""


@frozen(kw_only=True)
class UniqueKey:
    """A key that at most one live message may hold; a value of the option ``unique``, which validates it.

    Give either ``key`` or ``by``.

    Attributes:
        key: Unique across all queues of the broker, or within its queue if queues are spread over servers (Redis
            Cluster).
        by: The arguments that make the key, together with the task's name: ``"customer"``, ``arg("customer")``, or a
            list of them. Dots lead into an argument: ``"order.customer.id"``. A call in which one of the values is
            missing or ``None`` has no key.
        until: What frees the key: the start of the task, its end (a retry does not count), or only time.
        ttl: Seconds, or text such as ``"1h"``, after which the key is free in any case.
        on_conflict: What a send does whose key is held. ``"skip"`` sends nothing and returns the handle of the message
            that holds the key, with ``duplicate`` true. ``"raise"`` raises
            :class:`~queuekit.errors.UniqueConflictError`, which names that message. ``"latest"`` lets at most one
            message run and one wait, and gives the one that waits the arguments of the newest call. ``"debounce"``
            starts one message with the arguments of the last call, once no call has come for ``quiet``. With the last
            two, the handle is that of the message which takes the call in, ``until`` is ``"done"``, and the key needs a
            result backend.
        quiet: Seconds, or text, without a call after which a debounced message starts.
        max_wait: Seconds, or text, after the first call at which a debounced message starts in any case; default: ten
            times ``quiet``.
    """

    key: str | None = None
    by: str | Any | Sequence[str | Any] | None = None
    until: Literal["start", "done", "ttl"] = "done"
    ttl: float | str | timedelta = 86_400.0
    on_conflict: Conflict = "skip"
    quiet: float | str | timedelta | None = None
    max_wait: float | str | timedelta | None = None

    @property
    def merges(self) -> bool:
        """Whether a message that waits takes in the arguments of newer calls."""
        return self.on_conflict in ("latest", "debounce")
