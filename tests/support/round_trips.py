"""Count what goes to a server, on each engine."""

from functools import partial
from typing import Any

import pytest

__all__ = ["RoundTrips"]


class RoundTrips:
    """Counts the calls to the server of an engine: each is a round trip, or a transaction of SQLite."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._patch = monkeypatch

    def on(self, engine: str) -> None:
        """Count what clients of *engine* do that are made from now on."""
        getattr(self, f"_on_{engine}")()

    def _on_sqlite(self) -> None:
        from queuekit.engines.sqlite.database import Database

        for name in ("transaction", "read", "write"):
            self._count(Database, name)

    def _on_redis(self) -> None:
        server = pytest.importorskip("queuekit_redis.server")
        for name in ("call", "one", "call_node", "lent"):
            self._count(server.SingleServer, name)

    def _on_mongo(self) -> None:
        engine = pytest.importorskip("queuekit_mongo.engine")
        from pymongo import MongoClient, monitoring

        trips = self

        class Listener(monitoring.CommandListener):
            def started(self, event: monitoring.CommandStartedEvent) -> None:
                trips.count += event.command_name not in ("hello", "ping")

            def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
                """Nothing more."""

            def failed(self, event: monitoring.CommandFailedEvent) -> None:
                """Nothing more."""

        self._patch.setattr(engine, "MongoClient", partial(MongoClient, event_listeners=[Listener()]))

    def _count(self, kind: type, name: str) -> None:
        call = getattr(kind, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            return call(*args, **options)

        self._patch.setattr(kind, name, counted)
