"""Lanes in memory."""

from collections.abc import Iterator

import pytest

from queuekit.broker import Broker
from queuekit.engines.memory import MemoryBroker
from queuekit.urls import EngineURL
from queuekit_testing.kit import unique_name
from support.lanes import LaneCases


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    """Return a broker that nobody else uses."""
    made = MemoryBroker(EngineURL.parse(f"memory://{unique_name('lanes')}"))
    yield made
    made.close()


class TestLanes(LaneCases):
    """The cases of all engines."""

    def left(self, broker: Broker) -> int:
        """Return how many lanes are known."""
        assert isinstance(broker, MemoryBroker)
        queue = broker._engine.messages._queues["q"]
        return sum(len(lanes._tails) for lanes in queue._lanes.values())
