"""The plugin and its middleware against queuekit's own suites."""

from queuekit import Queuekit
from queuekit.testing import PluginConformance


class TestPlugin(PluginConformance):
    """What pip installs, and the module that queuekit imports."""

    plugin = "queuekit_old_middleware.plugin"


def double(x: int) -> int:
    """Return twice as much."""
    return 2 * x


def test_lets_a_task_run() -> None:
    """A task that is sent runs, and its result comes back; assert here what the middleware adds to that."""
    app = Queuekit(broker="memory://test", eager=True)
    task = app.task(double)

    assert task.send(4).get(timeout=5) == 8

    app.close()
