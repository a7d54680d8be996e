"""The tests that every broker, backend, serializer and plugin must pass, in this project or any other.

Subclass a suite, set its URL or module, and run pytest::

    from queuekit.testing import BrokerConformance, PluginConformance

    class TestMyBroker(BrokerConformance):
        url = "my://localhost/test"

    class TestMyPlugin(PluginConformance):
        plugin = "queuekit_my.plugin"

The declared ``capabilities`` decide which tests apply: tests of undeclared capabilities are skipped and say so. Timings
follow the ``limits``.

The tests are in the distribution ``queuekit-testing``; install it with ``pip install 'queuekit[testing]'``. This module
re-exports its names. Installing it registers nothing with pytest. Put ``pytest_plugins = ["queuekit.testing"]`` into a
``conftest.py`` to get a summary line for your README.

(PYTEST_DONT_REWRITE applies to this file only, which has no asserts and may be imported before pytest can rewrite it.)
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
