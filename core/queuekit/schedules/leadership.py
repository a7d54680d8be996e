"""Elect a leader by a lease: one record with a lifetime, written only if its version has not changed."""

from __future__ import annotations

from queuekit.backend import Backend, Record
from queuekit.clock import Clock

__all__ = ["Leadership"]


class Leadership:
    """Acquires and keeps the leadership under one key.

    Until the lease ends by the backend's clock, no other candidate can acquire it. The holder measures the lease by its
    own monotonic clock, from before it was written, so that a process that was paused notices the end by itself.

    Args:
        backend: Stores the record.
        clock: Measures how much of the lease is left.
        key: Key of the record; all candidates use the same.
        name: Unique name of this candidate.
        ttl: Seconds of the lease. :meth:`seek` renews it; call it several times within that time.
    """

    def __init__(self, backend: Backend, clock: Clock, *, key: str, name: str, ttl: float) -> None:
        self._backend = backend
        self._clock = clock
        self._key = key
        self._mine = Record(key=key, body=name.encode(), ttl=ttl)
        self._ttl = ttl
        self._until = float("-inf")
        self.left = 0.0
        """Seconds left of the current leader's lease, as last seen, if that is another candidate."""

    @property
    def is_leader(self) -> bool:
        """Whether the lease is held now."""
        return self._clock.monotonic() < self._until

    def seek(self) -> bool:
        """Acquire the lease if it is free, or renew it if it is held; return whether it is held now.

        Raises:
            UnavailableError: The backend does not answer. A held lease stays valid until it ends.
        """
        asked = self._clock.monotonic()
        found = self._backend.get([self._key]).get(self._key)
        if found is not None and found.body != self._mine.body:
            self._until, self.left = float("-inf"), found.ttl or 0.0
            return False
        if self._backend.put([self._mine], expect=found.version if found is not None else 0)[0]:
            self._until = asked + self._ttl - self._backend.limits.ttl_granularity
        else:
            self._until, self.left = float("-inf"), self._ttl
        return self.is_leader

    def resign(self) -> None:
        """Release the lease, so that another candidate need not wait for its end."""
        self._until = float("-inf")
        found = self._backend.get([self._key]).get(self._key)
        if found is not None and found.body == self._mine.body:
            self._backend.delete([self._key], expect=found.version)
