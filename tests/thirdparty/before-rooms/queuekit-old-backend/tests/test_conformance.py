"""The plugin and its backend against queuekit's own suites."""

from queuekit.testing import BackendConformance, PluginConformance


class TestPlugin(PluginConformance):
    """What pip installs, and the module that queuekit imports."""

    plugin = "queuekit_old_backend.plugin"


class TestBackend(BackendConformance):
    """The records; override the fixture ``server`` to start a service for the tests."""

    url = "old-backend://localhost/test"
