"""A lease on being the one who leads: one record, written by its version, forgotten when its holder falls silent."""

from __future__ import annotations

from queuekit.backend import Backend, Record
from queuekit.clock import Clock

__all__ = ["Leadership"]


class Leadership:
    """Seeks and keeps the lead among all who do so under one key.

    Until the lease is over nobody else can have it, by the backend's clock; and whoever holds it counts it as over by
    its own monotonic clock, from before it was written, so that a process that stood still finds out by itself.

    Args:
        backend: Keeps the record.
        clock: Tells how much of the lease is left.
        key: What is led.
        name: Unlike that of any other who seeks it.
        ttl: Seconds of the lease; :meth:`seek` renews it and is to be called several times within them.
    """

    def __init__(self, backend: Backend, clock: Clock, *, key: str, name: str, ttl: float) -> None:
        self._backend = backend
        self._clock = clock
        self._key = key
        self._mine = Record(key=key, body=name.encode(), ttl=ttl)
        self._ttl = ttl
        self._until = float("-inf")
        self.left = 0.0
        """Seconds that are left of the lease of the other one, as last seen."""

    @property
    def is_leader(self) -> bool:
        """Whether the lease is held now."""
        return self._clock.monotonic() < self._until

    def seek(self) -> bool:
        """Take the lease if nobody has it, renew it if it is ours; return whether it is held now.

        Raises:
            UnavailableError: The backend does not answer; a lease that is held goes on until its time is over.
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
        """Give the lease back, so that another need not wait for its end."""
        self._until = float("-inf")
        found = self._backend.get([self._key]).get(self._key)
        if found is not None and found.body == self._mine.body:
            self._backend.delete([self._key], expect=found.version)
