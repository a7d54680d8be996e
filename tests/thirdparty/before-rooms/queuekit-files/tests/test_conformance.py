"""The plugin and its broker against queuekit's own suites."""

from pathlib import Path

import pytest
from queuekit.testing import BrokerConformance, PluginConformance


class TestPlugin(PluginConformance):
    """What pip installs, and the module that queuekit imports."""

    plugin = "queuekit_files.plugin"
    URLS = {"files": "files:///dev/null/jobs"}  # noqa: RUF012


class TestBroker(BrokerConformance):
    """The queues, for each test in a new folder."""

    CLOCK_OF_ITS_OWN = False  # files know no time but that of the processes that use them

    @pytest.fixture
    def server(self, tmp_path: Path) -> None:
        """Choose the folder."""
        self.url = f"files://{tmp_path}"
