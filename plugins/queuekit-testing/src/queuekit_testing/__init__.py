"""Tools to test queuekit's plugins and applications; :mod:`queuekit.testing` exports the public names.

Importing it imports pytest. Hypothesis is imported only by the tests that use it
(``pip install 'queuekit-testing[kit]'``).

(PYTEST_DONT_REWRITE applies only to this file, which has no assert: it may be imported before pytest registers it.)
"""

import pytest

# Must run before the suites are imported, so that a failed assert in them shows its values.
pytest.register_assert_rewrite("queuekit_testing")

from queuekit.clock import VirtualClock  # noqa: E402 - see above
from queuekit_testing.backends import BackendConformance  # noqa: E402
from queuekit_testing.brokers import BrokerConformance  # noqa: E402
from queuekit_testing.brokers.restarts import RestartConformance  # noqa: E402
from queuekit_testing.kit import eventually  # noqa: E402
from queuekit_testing.plugins import PluginConformance  # noqa: E402
from queuekit_testing.serializers import SerializerConformance  # noqa: E402

__all__ = [
    "BackendConformance",
    "BrokerConformance",
    "PluginConformance",
    "RestartConformance",
    "SerializerConformance",
    "VirtualClock",
    "eventually",
]

pytest_plugins = ["queuekit.testing"]
"""As a pytest plugin, this package loads ``queuekit.testing``. Loaded under both names, the plugin runs once."""
