"""What tests of queuekit's plugins and applications are made with; :mod:`queuekit.testing` has its public names.

Importing it brings pytest, and Hypothesis only where a test asks for that (``pip install 'queuekit-testing[kit]'``).

(PYTEST_DONT_REWRITE concerns this file alone, which asserts nothing: it may be imported before pytest hears of it.)
"""

import pytest

# Before the suites are imported, so that a failed assert in them shows its values.
pytest.register_assert_rewrite("queuekit_testing")

from queuekit.clock import VirtualClock  # noqa: E402 - see above
from queuekit_testing.backends import BackendConformance  # noqa: E402
from queuekit_testing.brokers import BrokerConformance  # noqa: E402
from queuekit_testing.kit import eventually  # noqa: E402
from queuekit_testing.plugins import PluginConformance  # noqa: E402
from queuekit_testing.serializers import SerializerConformance  # noqa: E402

__all__ = [
    "BackendConformance",
    "BrokerConformance",
    "PluginConformance",
    "SerializerConformance",
    "VirtualClock",
    "eventually",
]

pytest_plugins = ["queuekit.testing"]
"""As a plugin of pytest it is that one, whichever of the two names it is loaded by, and once if by both."""
