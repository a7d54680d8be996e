"""What an app runs on, made from its config."""

from typing import Any

import pytest

from queuekit.engines.memory import MemoryBackend
from queuekit.errors import ConfigError, NoBackendError, PluginError
from queuekit.events import Event, WorkerReady
from queuekit.hookspecs import MiddlewareSpec, hookimpl
from queuekit.middleware import Middleware
from queuekit.serializer import JsonSerializer, PickleSerializer
from support.working import flaky_app, make_app


@pytest.mark.parametrize(
    ("backend", "shown"),
    [
        pytest.param(None, "the-brokers", id="the-brokers-own"),
        pytest.param("memory://results", "memory://results", id="another"),
        pytest.param("none", None, id="none"),
    ],
)
def test_the_backend_is_as_set_or_the_brokers_engine(backend: str | None, shown: str | None) -> None:
    """Where nothing is set and the broker's engine has a backend, that is taken."""
    app = make_app(broker="memory://the-brokers", backend=backend)

    runtime = app.runtime

    assert str(runtime.backend_url) == {"the-brokers": "memory://the-brokers"}.get(str(shown), str(shown))
    assert (runtime.backend is None) is (backend == "none")


def test_knows_whether_broker_and_backend_are_one_engine() -> None:
    """Only then an outcome is one commit."""
    assert make_app().runtime.shared is True
    assert make_app(backend="memory://another").runtime.shared is False
    assert make_app(backend="none").runtime.shared is False
    assert flaky_app().runtime.shared is False


def test_asking_for_a_backend_that_is_not_there() -> None:
    """The error says what needs it, what is configured, and what to write."""
    runtime = make_app(broker="memory://x", backend="none").runtime

    with pytest.raises(NoBackendError, match="a workflow needs a result backend") as caught:
        runtime.need_backend("a workflow")

    assert caught.value.where == "  broker = 'memory://x', backend = 'none'"


def test_pickle_must_be_allowed_by_name() -> None:
    """A serializer that can run what a message brings is refused until the config says so."""
    with pytest.raises((ConfigError, PluginError), match="pickle"):
        _ = make_app(serializer="pickle").runtime

    runtime = make_app(serializer="pickle", allow_unsafe=["pickle"]).runtime
    assert isinstance(runtime.serializer, PickleSerializer)
    assert list(runtime.accepted) == ["pickle"]


def test_reads_what_it_writes_and_what_is_accepted() -> None:
    """The list of accepted serializers does not leave out the one that writes."""
    runtime = make_app(accept=["pickle"], allow_unsafe=["pickle"]).runtime

    assert isinstance(runtime.serializer, JsonSerializer)
    assert sorted(runtime.accepted) == ["json", "pickle"]


class Loud(Middleware):
    """A middleware of a plugin."""

    def before_run(self, context: Any) -> None:
        """Do nothing."""


class Plugin:
    """A plugin with a middleware and a subscriber."""

    queuekit_api = (1, 0)

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def queuekit_middlewares(self, config: Any) -> list[MiddlewareSpec]:
        """Return one."""
        return [MiddlewareSpec(name="loud", factory=Loud)]

    @hookimpl
    def queuekit_subscribers(self) -> list[Any]:
        """Return one."""
        return [self.events.append]


def test_plugins_bring_middleware_and_subscribers() -> None:
    """Both take part as if the app had named them."""
    app, plugin = make_app(), Plugin()
    app.plugins.register(plugin)

    runtime = app.runtime
    runtime.events.emit(WorkerReady(worker="w"))

    assert runtime.stages.before_run is not None
    assert plugin.events == [WorkerReady(worker="w")]


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        pytest.param(
            "nosuchmodule:Guard", "cannot be created: ModuleNotFoundError: No module named 'nosuchmodule'", id="gone"
        ),
        pytest.param(dict, "is dict, not a Middleware", id="other"),
    ],
)
def test_an_app_does_not_go_on_without_a_middleware(factory: Any, text: str) -> None:
    """It may be what guards the app, so one that cannot be made is told of by name."""

    class Guarding:
        @hookimpl
        def queuekit_middlewares(self, config: Any) -> list[MiddlewareSpec]:
            return [MiddlewareSpec(name="guard", factory=factory)]

    app = make_app()
    app.plugins.register(Guarding())

    with pytest.raises(PluginError, match=f"the plugin middleware 'guard' {text}"):
        _ = app.runtime


def test_bad_plugin_tables_are_one_report() -> None:
    """What the settings of core leave open is checked before anything is made."""
    with pytest.raises(ConfigError, match="nosuch"):
        _ = make_app(nosuch={"a": 1}).runtime


def test_closes_both_engines() -> None:
    """Closing twice is fine, and without a backend, too."""
    runtime = make_app(backend="none").runtime
    other = make_app(backend="memory://another").runtime

    runtime.close()
    other.close()
    other.close()

    assert isinstance(other.backend, MemoryBackend)
