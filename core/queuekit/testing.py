"""The fixture ``queue`` for tests of applications, and the suites that every plugin must pass.

With ``pytest_plugins = ["queuekit.testing"]`` in a ``conftest.py``, a test that asks for ``queue`` runs the tasks of
its app in memory, on a clock that it moves itself. :class:`QueueTestCase` and :class:`QueueMixin` do the same for
``unittest`` and Django.

For a broker, backend, serializer or plugin, subclass a suite, set its URL or module, and run pytest::

    from queuekit.testing import BrokerConformance, PluginConformance

    class TestMyBroker(BrokerConformance):
        url = "my://localhost/test"

    class TestMyPlugin(PluginConformance):
        plugin = "queuekit_my.plugin"

The declared ``capabilities`` decide which tests apply: tests of undeclared capabilities are skipped and say so. Timings
follow the ``limits``.

All this is in the distribution ``queuekit-testing``; install it with ``pip install 'queuekit[testing]'``, or without
Hypothesis, which only the suites use, with ``pip install queuekit-testing``. This module re-exports its names.
Installing it registers nothing with pytest. The line in ``conftest.py`` also gives authors of plugins a line for their
README.

(PYTEST_DONT_REWRITE applies to this file only, which has no asserts and may be imported before pytest can rewrite it.)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from queuekit.errors import NotInstalledError

try:
    import pytest

    # Before the suites are imported, so that a failed assert in them shows its values.
    pytest.register_assert_rewrite("queuekit_testing")

    import queuekit_testing
    from queuekit_testing import VirtualClock
    from queuekit_testing.application.calls import SentCall
    from queuekit_testing.application.cases import QueueMixin, QueueTestCase
    from queuekit_testing.application.queue import AppQueue, Tally
    from queuekit_testing.application.swap import queue_of
    from queuekit_testing.choice import pytest_collection_modifyitems, pytest_runtest_makereport
    from queuekit_testing.report import pytest_addoption, pytest_sessionfinish
    from queuekit_testing.summary import pytest_terminal_summary
except ModuleNotFoundError as error:
    if error.name not in {"pytest", "queuekit_testing"}:
        raise
    raise NotInstalledError("queuekit-testing is not installed", fix="pip install 'queuekit[testing]'") from None

if TYPE_CHECKING:
    from queuekit_testing import (
        BackendConformance,
        BrokerConformance,
        PluginConformance,
        RestartConformance,
        SerializerConformance,
        eventually,
        scaffold,
    )
else:

    def __getattr__(name: str) -> object:
        """Import a suite, ``eventually``, or ``scaffold``, when it is asked for: tests of applications need none."""
        if name == "scaffold":
            return import_module("queuekit_testing.scaffold")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(queuekit_testing, name)


pytest_plugins = ["queuekit_testing.application.fixtures"]
"""The fixtures for tests of applications."""

__all__ = [
    "AppQueue",
    "BackendConformance",
    "BrokerConformance",
    "PluginConformance",
    "QueueMixin",
    "QueueTestCase",
    "RestartConformance",
    "SentCall",
    "SerializerConformance",
    "Tally",
    "VirtualClock",
    "eventually",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "queue_of",
    "scaffold",
]
