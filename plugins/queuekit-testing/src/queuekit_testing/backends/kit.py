"""Helpers for the tests of a backend: clients, records, unique keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from queuekit.backend import Backend, BackendCapabilities, Join, Record
from queuekit.errors import QueuekitError
from queuekit_testing.connections import open_connections
from queuekit_testing.engines import new_backend
from queuekit_testing.kit import Conformance, Span, unique_name

__all__ = ["BackendKit"]


class BackendKit(Conformance):
    """Clients of one server, and helpers."""

    url: Any = None
    """URL of the server, as text or parsed; the installed plugin for its scheme makes the clients."""

    def make_backend(self) -> Backend:
        """Return a new client of the same server at each call. Override this, or set ``url``."""
        if self.url is None:
            hint = 'url = "my://localhost/test", or def make_backend(self): return MyBackend(...)'
            raise NotImplementedError(f"{type(self).__name__} does not name its server. Add {hint}")
        return new_backend(self.url)

    @pytest.fixture
    def backend(self, server: object) -> Iterator[Backend]:
        """Return a client; the records of the test are deleted afterwards."""
        with self.session() as backend:
            yield backend

    @pytest.fixture
    def declared(self, backend: Backend) -> BackendCapabilities:
        """Return the capabilities that the backend declares."""
        return backend.capabilities

    @contextmanager
    def session(self) -> Iterator[Backend]:
        """Yield a client; then delete all keys and close all clients of the test."""
        self._clients: list[Backend] = []
        self._keys: list[str] = []
        self._known = open_connections()
        self._limits = self.make_backend().limits
        backend = self.connect()
        try:
            yield backend
        finally:
            with suppress(QueuekitError, NotImplementedError):
                backend.delete(self._keys)
            for client in self._clients:
                client.close()

    def connect(self) -> Backend:
        """Return a new client, which is closed after the test."""
        client = self.make_backend()
        self._clients.append(client)
        return client

    def new_key(self, kind: str = "kit") -> str:
        """Return a unique key."""
        self._keys.append(unique_name(f"{kind}:"))
        return self._keys[-1]

    def record(self, **fields: Any) -> Record:
        """Return a record that lives long enough, under a unique key unless *fields* name one."""
        key = fields.pop("key", None) or self.new_key()
        return Record(**{"key": key, "body": b"body", "ttl": 600.0, **fields})

    def arrival(self, group: str, member: int, *, size: int = 4, ttl: float = 600.0) -> Join:
        """Return the arrival of *member* in *group*."""
        return Join(group=group, member=member, size=size, ttl=ttl)

    def body(self, backend: Backend, key: str) -> bytes | None:
        """Return the body under *key*, or ``None`` if there is no live record."""
        record = backend.get([key]).get(key)
        return None if record is None else record.body

    @property
    def short(self) -> float:
        """Seconds of a TTL that a test lets end, on this service."""
        return max(self.SHORT, 5 * self._limits.ttl_granularity)

    @property
    def patience(self) -> float:
        """Seconds that a test waits on this service for something that must happen."""
        return max(self.PATIENCE, 40 * self._limits.ttl_granularity)

    @property
    def long(self) -> float:
        """Timeout of a ``wait`` that the test notices if nothing wakes the call earlier."""
        return 3 * self.patience

    def lives(self) -> Iterator[Span]:
        """Yield TTLs for a step that must end before they do; see ``spans``."""
        return self.spans(self.short, self._limits.ttl_granularity)
