"""The tests that every broker, backend, serializer and plugin must pass, for this project and for anybody's plugin.

Subclass a suite, say where the thing is, and run pytest::

    from queuekit.testing import BrokerConformance, PluginConformance

    class TestMyBroker(BrokerConformance):
        url = "my://localhost/test"

    class TestMyPlugin(PluginConformance):
        plugin = "queuekit_my.plugin"

What the thing declares in its ``capabilities`` decides which tests apply: one of a capability that is not declared is
skipped and says so, one of a declared capability that fails is a failure. Timings follow its ``limits``.

All of it is in the distribution ``queuekit-testing``, which ``pip install 'queuekit[testing]'`` brings: this module has
its names. Nothing is registered by being installed; put ``pytest_plugins = ["queuekit.testing"]`` into a
``conftest.py`` to get one closing line for your README, too.

(PYTEST_DONT_REWRITE concerns this file alone, which asserts nothing: it may be imported before pytest hears of it.)
"""

from __future__ import annotations

from queuekit.errors import NotInstalledError

try:
    import pytest

    # Before the suites are imported, so that a failed assert in them shows its values.
    pytest.register_assert_rewrite("queuekit_testing")

    from queuekit_testing import (
        BackendConformance,
        BrokerConformance,
        PluginConformance,
        SerializerConformance,
        VirtualClock,
        eventually,
        scaffold,
    )
    from queuekit_testing.report import pytest_addoption, pytest_sessionfinish
    from queuekit_testing.summary import pytest_terminal_summary
except ModuleNotFoundError as error:
    if error.name not in {"pytest", "queuekit_testing"}:
        raise
    raise NotInstalledError("queuekit-testing is not installed", fix="pip install 'queuekit[testing]'") from None

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
    "scaffold",
]
