"""The tests that every broker, backend, serializer and plugin must pass, for this project and for anybody's plugin.

Subclass a suite, say where the thing is, and run pytest::

    from queuekit.testing import BrokerConformance, PluginConformance

    class TestMyBroker(BrokerConformance):
        url = "my://localhost/test"

    class TestMyPlugin(PluginConformance):
        plugin = "queuekit_my.plugin"

What the thing declares in its ``capabilities`` decides which tests apply: one of a capability that is not declared is
skipped and says so, one of a declared capability that fails is a failure. Timings follow its ``limits``.

Needs pytest (``pip install 'queuekit[testing]'``). Nothing is registered by being installed; put
``pytest_plugins = ["queuekit.testing"]`` into a ``conftest.py`` to get one closing line for your README, too.

(PYTEST_DONT_REWRITE concerns this file alone, which asserts nothing: it may be imported before pytest hears of it.)
"""

import pytest

# Before the suites are imported, so that a failed assert in them shows its values.
pytest.register_assert_rewrite("queuekit.testing")

from queuekit.testing.backends import BackendConformance  # noqa: E402 - see above
from queuekit.testing.brokers import BrokerConformance  # noqa: E402
from queuekit.testing.clock import VirtualClock  # noqa: E402
from queuekit.testing.kit import eventually  # noqa: E402
from queuekit.testing.plugins import PluginConformance  # noqa: E402
from queuekit.testing.report import pytest_addoption, pytest_sessionfinish  # noqa: E402
from queuekit.testing.serializers import SerializerConformance  # noqa: E402
from queuekit.testing.summary import pytest_terminal_summary  # noqa: E402

__all__ = [
    "BackendConformance",
    "BrokerConformance",
    "PluginConformance",
    "SerializerConformance",
    "VirtualClock",
    "eventually",
    "pytest_addoption",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]
