"""``memory://`` against the suites, imported as anybody's plugin would import them."""

import pytest

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.engines.memory import MemoryBackend, MemoryBroker
from queuekit.testing import BackendConformance, BrokerConformance
from queuekit.urls import EngineURL

pytest_plugins = ["queuekit.testing"]

URL = EngineURL.parse("memory://conformance")


class TestMemoryBroker(BrokerConformance):
    """The reference of the broker's contract."""

    SHORT = 0.1
    CLOCK_OF_ITS_OWN = False
    url = URL

    @pytest.fixture
    def server(self) -> MemoryBroker:
        """Keep the engine alive from the first client of a test to the last."""
        return MemoryBroker(URL)

    def make_broker(self) -> Broker:
        """Return one more client of the engine."""
        return MemoryBroker(URL)

    def make_backend(self) -> Backend:
        """Return a backend of the same engine."""
        return MemoryBackend(URL)


class TestMemoryBackend(BackendConformance):
    """The reference of the backend's contract."""

    SHORT = 0.1
    CLOCK_OF_ITS_OWN = False
    url = URL

    @pytest.fixture
    def server(self) -> MemoryBackend:
        """Keep the engine alive from the first client of a test to the last."""
        return MemoryBackend(URL)

    def make_backend(self) -> Backend:
        """Return one more client of the engine."""
        return MemoryBackend(URL)
