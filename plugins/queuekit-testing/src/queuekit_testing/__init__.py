"""Tools to test queuekit's plugins and applications; :mod:`queuekit.testing` exports the public names.

Importing it imports pytest. A suite is imported when it is asked for, and Hypothesis only by the tests that use it
(``pip install 'queuekit-testing[kit]'``).

(PYTEST_DONT_REWRITE applies only to this file, which has no assert: it may be imported before pytest registers it.)
"""

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

# Must run before the suites are imported, so that a failed assert in them shows its values.
pytest.register_assert_rewrite("queuekit_testing")

from queuekit.clock import VirtualClock  # noqa: E402 - see above

if TYPE_CHECKING:
    from queuekit_testing.backends import BackendConformance
    from queuekit_testing.brokers import BrokerConformance
    from queuekit_testing.brokers.restarts import RestartConformance
    from queuekit_testing.kit import eventually
    from queuekit_testing.plugins import PluginConformance
    from queuekit_testing.serializers import SerializerConformance
else:
    _SUITES = {
        "BackendConformance": "queuekit_testing.backends",
        "BrokerConformance": "queuekit_testing.brokers",
        "PluginConformance": "queuekit_testing.plugins",
        "RestartConformance": "queuekit_testing.brokers.restarts",
        "SerializerConformance": "queuekit_testing.serializers",
        "eventually": "queuekit_testing.kit",
    }

    def __getattr__(name: str) -> object:
        """Import a suite, or a tool of theirs, when it is asked for: tests of applications need none."""
        if name not in _SUITES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_SUITES[name]), name)


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
