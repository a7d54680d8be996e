"""The subscription of a worker whose broker pushes, sized to what the worker can soon use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from queuekit.broker import Broker, Delivery, Subscription
from queuekit.errors import UnavailableError

__all__ = ["PushSource"]

_MORE, _FEWER = 2, 4
"""The subscription is made anew when the worker can hold so many times more, or fewer, than it lets the broker push:
for more, only when all that was pushed is taken."""


class PushSource:
    """Used by the fetcher's thread alone.

    Args:
        broker: Pushes; ``capabilities.push`` is declared.
        lease: Seconds of a lease.
        capacity: Returns how many messages the worker would hold at this moment.
    """

    def __init__(self, broker: Broker, *, lease: float, capacity: Callable[[], int]) -> None:
        self._broker = broker
        self._lease = lease
        self._capacity = capacity
        self._subscription: Subscription | None = None
        self._prefetch = 0
        self._dry = True
        """Whether the last call got less than it asked for, so that nothing pushed would go back."""

    def next(self, queues: Sequence[str], *, limit: int, wait: float) -> list[Delivery]:
        """Return up to *limit* deliveries; an empty list if none arrives within *wait* seconds."""
        subscription = self._sized(queues)
        try:
            found = subscription.next(limit=limit, wait=wait, queues=queues)
        except BaseException:
            self.close()
            raise
        if limit > 0:
            self._dry = len(found) < limit
        return found

    def close(self) -> None:
        """Give back what was pushed and not returned; the next call subscribes again."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(UnavailableError):  # its connection is gone, and what it held with it
                subscription.close()

    def _sized(self, queues: Sequence[str]) -> Subscription:
        """Return the subscription, made anew if it lets the broker push far too few or far too many."""
        wanted = max(1, min(self._capacity(), self._broker.limits.max_batch))
        if (self._dry and wanted > _MORE * self._prefetch) or _FEWER * wanted < self._prefetch:
            self.close()
        if self._subscription is None:
            self._subscription = self._broker.subscribe(queues, prefetch=wanted, lease=self._lease)
            self._prefetch = wanted
        return self._subscription
