"""Making brokers, backends and serializers out of specs: options checked, errors laid to the plugin they belong to."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit.backend import Backend, BackendCapabilities
from queuekit.broker import Broker, Capabilities, Limits
from queuekit.clock import SystemClock
from queuekit.errors import ConfigError, PluginError
from queuekit.hookspecs import BackendSpec, BrokerSpec, ConfigSection, SerializerSpec, hookimpl
from queuekit.plugins.manager import Plugins, section_of
from queuekit.serializer import JsonSerializer, PickleSerializer
from queuekit.urls import EngineURL
from support.plugin_site import (
    FussyBroker,
    MakePlugins,
    NullBroker,
    NullPlugin,
    Options,
    PluginSite,
    installed_site,
    serving,
    url,
)


@pytest.fixture
def plugin_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    """Return a folder to install plugins into."""
    yield from installed_site(tmp_path, monkeypatch)


@pytest.fixture
def make_plugins(plugin_site: PluginSite) -> MakePlugins:
    """Return a function that makes plugins out of the site, in an empty environment."""
    return plugin_site.make_plugins


def made(plugins: Plugins, text: str, *, table: Mapping[str, Any] | None = None) -> Broker:
    """Return the broker for a URL."""
    chance = random.Random(1)
    made: Broker = plugins.make(
        "broker", url(text), table=table or {}, clock=SystemClock(), random=chance, where="q.toml"
    )
    return made


def made_backend(plugins: Plugins, text: str) -> Backend:
    """Return the result backend for a URL."""
    made: Backend = plugins.make("backend", url(text), table={}, clock=SystemClock(), random=random.Random(1))
    return made


def no_types(_name: str) -> type | None:
    """Know no class."""
    return None


def test_makes_a_broker(make_plugins: MakePlugins) -> None:
    """A broker is made with its URL, options, clock and chance."""
    plugins = make_plugins()
    plugins.register(NullPlugin(options=Options))

    broker = made(plugins, "null://h?size=20")

    assert isinstance(broker, NullBroker)
    assert broker.made_with[0].query == {"size": "20"}
    assert broker.made_with[1] == Options(size=20)
    assert [type(part) for part in broker.made_with[2:]] == [SystemClock, random.Random]


def test_dresses_a_broker_with_its_spec(make_plugins: MakePlugins) -> None:
    """A broker has the capabilities and limits of its spec, except those that its class names itself."""
    plugins = make_plugins()
    said = {"capabilities": Capabilities(delay=False), "limits": Limits(max_batch=10)}
    plugins.register(NullPlugin(**said), "plain")
    plugins.register(NullPlugin(**said, schemes="fussy", factory=FussyBroker), "fussy")

    plain, fussy = made(plugins, "null://"), made(plugins, "fussy://")

    assert (plain.capabilities, plain.limits) == (Capabilities(delay=False), Limits(max_batch=10))
    assert (fussy.capabilities, fussy.limits) == (Capabilities(fifo=False), Limits(max_batch=10))
    assert NullBroker.limits == Limits()


def test_lets_a_plugin_wrap_a_broker(make_plugins: MakePlugins) -> None:
    """A plugin may return another broker for a URL, made from the one that core would make."""

    class Wrapper:
        @hookimpl
        def queuekit_make_broker(self, url: EngineURL, make: Callable[[], Broker]) -> Broker | None:
            inner = make()
            return FussyBroker(url, options=inner, clock=None, random=None) if url.query else None

    plugins = make_plugins()
    plugins.register(NullPlugin(options=Options))
    plugins.register(Wrapper())

    wrapped, plain = made(plugins, "null://?lazy=no"), made(plugins, "null://")

    assert isinstance(wrapped, FussyBroker)
    assert isinstance(wrapped.made_with[1], NullBroker)
    assert type(plain) is NullBroker


@pytest.mark.parametrize(
    ("table", "query", "expected"),
    [
        pytest.param({}, "", Options(), id="defaults"),
        pytest.param({"size": 3, "prefix": "a"}, "", Options(size=3, prefix="a"), id="table"),
        pytest.param({"size": 3, "prefix": "a"}, "?size=4", Options(size=4, prefix="a"), id="query-over-table"),
        pytest.param({"size": "3"}, "", Options(size=3), id="text-from-a-variable"),
        pytest.param({}, "?ratio=0.25&lazy=off", Options(ratio=0.25, lazy=False), id="number-and-bool"),
        pytest.param({}, "?timeout=1m&hosts=a,b", Options(timeout=60, hosts=("a", "b")), id="duration-and-list"),
        pytest.param({"timeout": 7}, "?password=90", Options(timeout=7, password="90"), id="text"),  # noqa: S106
        pytest.param({}, "?replicaSet=rs0", Options(), id="left-to-the-client"),
    ],
)
def test_reads_options(make_plugins: MakePlugins, table: dict[str, Any], query: str, expected: Options) -> None:
    """Options come from the table and, above it, from the URL, as the types that the class annotates."""
    plugins = make_plugins()
    plugins.register(NullPlugin(options=Options))

    broker = made(plugins, f"null://h{query}", table=table)

    assert isinstance(broker, NullBroker)
    assert broker.made_with[1] == expected


def test_reports_all_bad_options(make_plugins: MakePlugins) -> None:
    """Unknown options and values that do not fit are one report, which keeps secrets to itself."""
    plugins = make_plugins()
    plugins.register(NullPlugin(options=Options), "acme")

    with pytest.raises(ConfigError) as caught:
        made(plugins, "null://h?sise=20&lazy=perhaps", table={"size": 0, "password": 5})

    assert caught.value.lines() == [
        "4 problems in the options of null://",
        "broker ?sise  unknown option of acme, did you mean 'size'?",
        "size          must be >= 1: 0",
        'broker ?lazy  expected true or false, got "perhaps"',
        "password      expected text",
    ]


def test_shares_a_table_between_broker_and_backend(make_plugins: MakePlugins) -> None:
    """An option that only the backend has is no error for the broker of the same table and URL."""

    @attrs.frozen
    class BackendOptions:
        keep: int = 1

    class Both(NullPlugin):
        @hookimpl
        def queuekit_backends(self) -> list[BackendSpec]:
            return [
                BackendSpec(schemes="null", factory="queuekit.engines.memory:MemoryBackend", options=BackendOptions)
            ]

    plugins = make_plugins()
    plugins.register(Both(options=Options))

    broker = made(plugins, "null://h?keep=3&size=4")

    assert isinstance(broker, NullBroker)
    assert broker.made_with[1] == Options(size=4)


def test_refuses_options_where_there_are_none(make_plugins: MakePlugins) -> None:
    """A broker without options refuses any."""
    plugins = make_plugins()
    plugins.register(NullPlugin(), "acme")

    with pytest.raises(ConfigError, match="unknown option of acme"):
        made(plugins, "null://h?size=1")


def test_reports_what_the_options_class_refuses(make_plugins: MakePlugins) -> None:
    """A check over several options is part of the same kind of report, without the password."""

    @attrs.frozen
    class Strict:
        low: int = 0
        high: int = 0

        def __attrs_post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError(f"low is above high for hunter2: {self.low}")

    plugins = make_plugins()
    plugins.register(NullPlugin(options=Strict))

    with pytest.raises(ConfigError, match=r"broker +low is above high for \*\*\*: 5"):
        made(plugins, "null://u:hunter2@h?low=5")


@pytest.mark.parametrize(
    ("factory", "fix"),
    [
        pytest.param("nosuchclient.broker:Broker", "See:  queuekit plugins", id="module"),
        pytest.param("queuekit.clock:NoSuchName", "", id="name"),
    ],
)
def test_says_that_a_factory_is_missing(make_plugins: MakePlugins, factory: str, fix: str) -> None:
    """A factory that cannot be imported is an error of its plugin."""
    plugins = make_plugins()
    plugins.register(NullPlugin(factory=factory), "acme")

    with pytest.raises(PluginError, match=r"the plugin for null:// \(acme\) ") as caught:
        made(plugins, "null://")

    assert caught.value.fix == fix
    assert caught.value.where == 'broker = "null://" from q.toml'


def test_says_how_a_factory_is_named(make_plugins: MakePlugins) -> None:
    """A factory whose name lacks the part behind the colon is told the form, not that '' is missing."""
    plugins = make_plugins()
    plugins.register(NullPlugin(factory="queuekit.clock"), "acme")

    with pytest.raises(PluginError, match=r"'queuekit\.clock' is not of the form \"package\.module:Name\""):
        made(plugins, "null://")


def test_says_whose_options_are_missing(make_plugins: MakePlugins) -> None:
    """An options class that cannot be imported is an error of its plugin, also where only its table is read."""
    plugins = make_plugins()
    plugins.register(NullPlugin(options="nosuchmodule:Options"), "acme")

    with pytest.raises(PluginError, match=r"the options of acme cannot be imported: ModuleNotFoundError"):
        plugins.check_table("null", {"x": 1})


def test_names_the_extra_that_brings_a_missing_client(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """A first-party scheme whose client library is missing names the extra; another's plugin its distribution."""
    plugin_site.install("queuekit-redis", serving("redis", factory="nosuchclient:Broker"))
    plugin_site.install("acme-nats", serving("nats", factory="nosuchclient:Broker"))
    plugins = make_plugins()

    with pytest.raises(PluginError, match=r"pip install 'queuekit\[redis\]'"):
        made(plugins, "redis://")
    with pytest.raises(PluginError, match="pip install --force-reinstall acme-nats"):
        made(plugins, "nats://")


def test_never_shows_a_password_of_a_failing_factory(make_plugins: MakePlugins) -> None:
    """An error that quotes the URL comes without its password, and without the original that has it."""

    def factory(url: EngineURL, **_: Any) -> Broker:
        raise OSError(f"cannot connect to {url.raw}")

    plugins = make_plugins()
    plugins.register(NullPlugin(factory=factory))

    with pytest.raises(PluginError, match=r"OSError: cannot connect to null://u:\*\*\*@h") as caught:
        made(plugins, "null://u:hunter2@h")

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_refuses_what_is_no_broker(make_plugins: MakePlugins) -> None:
    """A factory that returns something else is an error of its plugin."""
    plugins = make_plugins()
    plugins.register(NullPlugin(factory=lambda *_args, **_options: object()), "acme")

    said = r"the plugin for null:// \(acme\) failed: its factory returned object, not a Broker"
    with pytest.raises(PluginError, match=said) as caught:
        made(plugins, "null://")

    assert caught.value.where == 'broker = "null://" from q.toml'


def test_makes_the_builtin_engines(make_plugins: MakePlugins, tmp_path: Path) -> None:
    """Both engines of core can be made; they open nothing yet."""
    plugins = make_plugins()

    brokers = [made(plugins, "memory://"), made(plugins, f"sqlite:///{tmp_path}/q.db?sync=full&busy_timeout=2")]
    backends = [made_backend(plugins, "memory://"), made_backend(plugins, f"sqlite:///{tmp_path}/q.db")]

    assert [broker.capabilities.commit for broker in brokers] == [True, True]
    assert [backend.capabilities for backend in backends] == [
        BackendCapabilities(notify=True, processes=False, same=True),
        BackendCapabilities(notify=True, same=True),
    ]
    assert not list(tmp_path.glob("q.db*"))


def test_makes_serializers(make_plugins: MakePlugins) -> None:
    """JSON is made as it is, pickle only where it is allowed by name."""
    plugins = make_plugins()

    json = plugins.make_serializer("json", no_types)
    pickle = plugins.make_serializer("pickle", no_types, allow_unsafe=["pickle"])
    with pytest.raises(ConfigError, match="'pickle' can execute") as caught:
        plugins.make_serializer("pickle", no_types)

    assert (type(json), type(pickle)) == (JsonSerializer, PickleSerializer)
    assert caught.value.fix.endswith('allow_unsafe = ["pickle"]')


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        pytest.param({"name": "pickle2"}, "its content type is 'pickle'", id="name"),
        pytest.param({"name": "pickle"}, "it is not safe", id="safety"),
        pytest.param({"name": "x", "factory": "nosuchclient:S"}, "cannot be used", id="import"),
    ],
)
def test_refuses_a_serializer_unlike_its_spec(make_plugins: MakePlugins, spec: dict[str, Any], error: str) -> None:
    """A serializer that writes another format, or is less safe than its spec says, is an error of its plugin."""

    class Lying:
        @hookimpl
        def queuekit_serializers(self) -> list[SerializerSpec]:
            return [SerializerSpec(**{"factory": PickleSerializer, **spec})]

    plugins = make_plugins(prefer={"pickle": "lying"})
    plugins.register(Lying(), "lying")

    with pytest.raises(PluginError, match=error):
        plugins.make_serializer(spec["name"], no_types)


def test_names_the_table_of_a_spec() -> None:
    """Options stand in the table that the spec names, or in that of its first scheme."""
    named = BrokerSpec(schemes=("dynamodb",), factory="a:B", section="sqs")
    plain = BrokerSpec(schemes=("redis", "rediss"), factory="a:B")

    assert (section_of(named), section_of(plain)) == ("sqs", "redis")


def test_checks_tables(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """A plugin's table is checked by its classes; a table of nobody, or of a failed plugin, is a problem by itself."""

    class Sections(NullPlugin):
        @hookimpl
        def queuekit_config_sections(self) -> list[ConfigSection]:
            return [ConfigSection(name="acme", options=Options)]

    plugin_site.install("queuekit-sqs", "import nosuchclient")
    plugin_site.install("queuekit-off", serving("off"))
    plugins = make_plugins(disable=["off"])
    plugins.register(Sections(options=Options), "mine")

    with pytest.warns(RuntimeWarning):
        fine = [plugins.check_table(name, {"size": 2}) for name in ("null", "acme", "off")]

    assert fine == [{}, {}, {}]
    assert plugins.check_table("null", {"sise": 2, "lazy": 7}) == {
        "sise": "unknown option of mine, did you mean 'size'?",
        "lazy": "expected true or false, got 7",
    }
    assert plugins.check_table("sqs", {"a": 1}) == {"": "belongs to queuekit-sqs 1.2, which failed to load"}
    assert plugins.check_table("redis", {"a": 1}) == {
        "": "no plugin owns this table. Install it:  pip install 'queuekit[redis]'"
    }
    assert "queuekit[mongo]" in plugins.check_table("mongo", {"a": 1})[""]
    assert plugins.check_table("wroker", {"a": 1}, others=["worker"]) == {"": "unknown table, did you mean 'worker'?"}
