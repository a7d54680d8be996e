"""The plugin, its broker and its result backend against queuekit's own suites."""

import pytest
from queuekit.testing import BackendConformance, BrokerConformance, PluginConformance


class TestPlugin(PluginConformance):
    """What pip installs, and the module that queuekit imports."""

    plugin = "queuekit_postgres.plugin"


class OnPostgres:
    """Clients of the tests' own server."""

    @pytest.fixture
    def server(self, postgres: str) -> None:
        """Start the server, once for all tests."""
        self.url = postgres


class TestBroker(OnPostgres, BrokerConformance):
    """Queues in tables."""


class TestBackend(OnPostgres, BackendConformance):
    """Records in a table."""
