"""Plugins: found late, loaded one by one, chosen by scheme, called one by one; and every error says what to do."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.plugin_site import HEADER, PluginSite, plugin_site, serving

from queuekit.backend import Backend, BackendCapabilities
from queuekit.broker import Broker, Capabilities, Limits
from queuekit.clock import SystemClock
from queuekit.durations import Seconds
from queuekit.errors import ConfigError, PluginError, SchemeConflictError, UnknownSchemeError
from queuekit.hookspecs import (
    BackendSpec,
    BrokerSpec,
    Check,
    ConfigSection,
    MiddlewareSpec,
    SerializerSpec,
    hookimpl,
)
from queuekit.plugins import Plugins, section_of
from queuekit.serializer import JsonSerializer, PickleSerializer
from queuekit.urls import EngineURL

Make = Callable[..., Plugins]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    """Return a folder to install plugins into."""
    yield from plugin_site(tmp_path, monkeypatch.syspath_prepend)


@pytest.fixture
def make(site: PluginSite) -> Make:
    """Return a function that makes plugins out of the site, in an empty environment."""

    def make_plugins(*, environ: Mapping[str, str] | None = None, **options: Any) -> Plugins:
        return Plugins(entry_points=site.entry_points, environ=environ or {}, **options)

    return make_plugins


def url(text: str) -> EngineURL:
    """Return a parsed URL."""
    return EngineURL.parse(text)


def made(plugins: Plugins, text: str, *, table: Mapping[str, Any] | None = None) -> Broker:
    """Return the broker for a URL."""
    chance = random.Random(1)
    return plugins.make_broker(url(text), table=table or {}, clock=SystemClock(), random=chance, where="q.toml")


def made_backend(plugins: Plugins, text: str) -> Backend:
    """Return the result backend for a URL."""
    return plugins.make_backend(url(text), table={}, clock=SystemClock(), random=random.Random(1))


def no_types(_name: str) -> type | None:
    """Know no class."""
    return None


class NullBroker(Broker):
    """A broker that keeps what it was made with, and nothing else."""

    def __init__(self, url: EngineURL, *, options: Any, clock: Any, random: Any) -> None:
        self.made_with = (url, options, clock, random)

    def send(self, envelopes: Any) -> list[str]:
        """Take nothing."""
        return []

    def receive(self, queues: Any, *, limit: int, wait: float, lease: float) -> list[Any]:
        """Give nothing."""
        return []

    def extend(self, leases: Any, *, lease: float) -> list[Any]:
        """Extend nothing."""
        return []

    def settle(self, settlements: Any) -> list[Any]:
        """Settle nothing."""
        return []


class FussyBroker(NullBroker):
    """A broker whose class says by itself what it can do."""

    capabilities = Capabilities(fifo=False)


@attrs.frozen(kw_only=True)
class Options:
    """Options of an engine, one of each type."""

    size: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    ratio: float = 0.5
    timeout: Seconds = 5.0
    lazy: bool = True
    prefix: str = "qk"
    hosts: tuple[str, ...] = ()
    password: str | None = attrs.field(default=None, repr=False)
    queuekit_passthrough = frozenset({"replicaSet"})


class Plugin:
    """A plugin object with one broker, ``null://``."""

    def __init__(self, **spec: Any) -> None:
        self.spec = BrokerSpec(**{"schemes": ("null",), "factory": NullBroker, **spec})

    @hookimpl
    def queuekit_brokers(self) -> list[BrokerSpec]:
        """Return the broker."""
        return [self.spec]


# --- loading ----------------------------------------------------------------------------------------------------------


def test_scans_at_the_first_selection(site: PluginSite, make: Make) -> None:
    """Making plugins finds and imports nothing; the first question does, and the second asks nobody again."""
    site.install("queuekit-acme", serving("acme"))
    plugins = make()
    before = (site.scans, site.imported())

    plugins.broker_spec(url("acme://"))
    plugins.broker_spec(url("acme://"))

    assert before == (0, [])
    assert site.scans == 1


def test_scans_the_process_once() -> None:
    """All apps of a process share one scan of what is installed, and an import of queuekit makes none."""
    program = """
import sys
from queuekit import loading, plugins
assert "importlib.metadata" not in sys.modules, "scanned at import"
a = plugins.Plugins(environ={}).infos()
import importlib.metadata
importlib.metadata.entry_points = None
b = plugins.Plugins(environ={}).infos()
assert [i.name for i in a] == [i.name for i in b]
print(*[i.name for i in a])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout.split()[:1] == ["builtin"], done.stderr


def test_lists_what_a_plugin_is(site: PluginSite, make: Make) -> None:
    """A loaded plugin is listed with distribution, version, API, schemes and hooks; the built-in one comes first."""
    site.install("queuekit-acme", serving("acme", "acme+tls"), version="3.1")

    core, acme = make().infos()

    assert (core.name, core.dist, core.schemes) == ("builtin", "queuekit", ("memory", "sqlite"))
    assert (acme.name, acme.dist, acme.version, acme.api) == ("acme", "queuekit-acme", "3.1", (1, 0))
    assert (acme.status, acme.error, acme.schemes) == ("ok", "", ("acme", "acme+tls"))
    assert (acme.hooks, acme.load_ms > 0) == (("queuekit_brokers",), True)


BROKEN = {
    "import-fails": ("import nosuchclient", "ModuleNotFoundError: No module named 'nosuchclient'"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "no-api": ("from queuekit.hookspecs import *", "it declares no queuekit_api"),
    "odd-api": ("queuekit_api = 1", "its queuekit_api is 1, not a pair"),
    "newer-major": ("queuekit_api = (2, 0)", "it needs plugin API 2.0, this queuekit offers 1.0"),
    "newer-minor": ("queuekit_api = (1, 9)", "it needs plugin API 1.9, this queuekit offers 1.0"),
    "unknown-hook": (f"{HEADER}\n@hookimpl\ndef queuekit_brokrs(): ...", "unknown hook 'queuekit_brokrs'"),
    "wrong-arguments": (f"{HEADER}\n@hookimpl\ndef queuekit_brokers(sun): ...", "{'sun'}"),
    "async-hook": (f"{HEADER}\n@hookimpl\nasync def queuekit_worker_ready(worker): ...", "is async"),
    "wrapper": (f"{HEADER}\n@hookimpl(wrapper=True)\ndef queuekit_brokers(): return (yield)", "is a wrapper"),
    "unmarked-hook": (f"{HEADER}\ndef queuekit_brokers(): ...", "its function queuekit_brokers lacks @hookimpl"),
    "hook-raises": (f"{HEADER}\n@hookimpl\ndef queuekit_backends(): 1/0", "ZeroDivisionError: division by zero"),
    "wrong-spec": (f"{HEADER}\n@hookimpl\ndef queuekit_brokers(): return [7]", "int where BrokerSpec is expected"),
    "no-schemes": (serving(), "a BrokerSpec without schemes"),
    "bad-scheme": (serving("my_scheme"), "its scheme 'my_scheme' is not"),
    "twice": (serving("acme", "acme"), "it serves acme:// twice"),
}


@pytest.mark.parametrize(("source", "error"), BROKEN.values(), ids=BROKEN.keys())
def test_keeps_a_broken_plugin_to_itself(site: PluginSite, make: Make, source: str, error: str) -> None:
    """A plugin that cannot be used is warned about and listed with its error; the one beside it works."""
    site.install("queuekit-bad", source, version="0.3.1")
    site.install("queuekit-good", serving("good"))
    plugins = make()

    with pytest.warns(RuntimeWarning, match=r"the plugin 'bad' \(queuekit-bad 0\.3\.1\) failed to load"):
        spec = plugins.broker_spec(url("good://"))

    bad = plugins.infos()[1]
    assert spec.schemes == ("good",)
    assert (bad.status, bad.version) == ("failed", "0.3.1")
    assert error in bad.error


def test_takes_a_lone_scheme_for_one(make: Make) -> None:
    """A spec whose schemes are one text serves that scheme, not its letters."""
    assert BrokerSpec(schemes="null", factory=NullBroker).schemes == ("null",)


@pytest.mark.parametrize("strict", [{"strict": True}, {"environ": {"QUEUEKIT_STRICT_PLUGINS": "1"}}])
def test_raises_at_once_when_strict(site: PluginSite, make: Make, strict: dict[str, Any]) -> None:
    """Under strict rules a broken plugin is an error whatever scheme is asked for, again each time."""
    site.install("queuekit-bad", "import nosuchclient")
    plugins = make(**strict)

    for _ in range(2):
        with pytest.raises(PluginError, match="nosuchclient") as caught:
            plugins.broker_spec(url("memory://"))

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("rules", "loaded", "error"),
    [
        pytest.param({}, ["one", "two"], "", id="none"),
        pytest.param({"only": ["one"]}, ["one"], "not listed in plugins.only", id="only"),
        pytest.param({"only": ["queuekit_ONE"]}, ["one"], "not listed in plugins.only", id="only-distribution"),
        pytest.param({"only": []}, [], "not listed in plugins.only", id="only-nothing"),
        pytest.param({"disable": ["two"]}, ["one"], "disabled by plugins.disable", id="disable"),
        pytest.param({"disable": ["*"]}, [], "disabled by plugins.disable", id="disable-all"),
        pytest.param({"environ": {"QUEUEKIT_PLUGINS": "one, "}}, ["one"], "not listed in QUEUEKIT_PLUGINS", id="env"),
        pytest.param({"environ": {"QUEUEKIT_PLUGINS": ""}}, [], "not listed in QUEUEKIT_PLUGINS", id="env-nothing"),
        pytest.param(
            {"environ": {"QUEUEKIT_PLUGINS": "one"}, "only": ["two"]},
            ["one"],
            "not listed in QUEUEKIT_PLUGINS",
            id="env-over-config",
        ),
        pytest.param(
            {"environ": {"QUEUEKIT_DISABLE_PLUGINS": "queuekit-two"}},
            ["one"],
            "disabled by QUEUEKIT_DISABLE_PLUGINS",
            id="env-disable",
        ),
    ],
)
def test_forbids_before_import(
    site: PluginSite, make: Make, rules: dict[str, Any], loaded: list[str], error: str
) -> None:
    """Plugins that a rule leaves out are not imported, and are listed with the rule."""
    site.install("queuekit-one", serving("one"))
    site.install("queuekit-two", serving("two"))

    _, *infos = make(**rules).infos()

    assert site.imported() == [f"queuekit_{name}_{name}_plugin" for name in loaded]
    assert [info.name for info in infos] == ["one", "two"]
    assert infos[1].error == error
    assert [info.name for info in infos if info.status == "ok"] == loaded


def test_scans_nothing_where_nothing_may_load(site: PluginSite, make: Make) -> None:
    """With an empty allow list not even the names of what is installed are read."""
    site.install("queuekit-one", serving("one"))

    make(only=[]).broker_spec(url("memory://"))

    assert site.scans == 0


def test_loads_equal_names_of_two_distributions(site: PluginSite, make: Make) -> None:
    """Two distributions may use one name; the second is listed with its distribution."""
    site.install("acme-one", serving("one"), name="acme")
    site.install("acme-two", serving("two"), name="acme")
    plugins = make()

    specs = [plugins.broker_spec(url("one://")), plugins.broker_spec(url("two://"))]

    assert [spec.schemes for spec in specs] == [("one",), ("two",)]
    assert [info.name for info in plugins.infos()] == ["builtin", "acme", "acme@acme-two"]


def test_loads_a_module_once(site: PluginSite, make: Make) -> None:
    """Two names for one module are one plugin, not two owners of its schemes."""
    site.install("acme-one", serving("acme"), name="a", module="acme_shared")
    site.install("acme-two", serving("acme"), name="b", module="acme_shared")
    plugins = make()

    plugins.broker_spec(url("acme://"))

    assert plugins.infos()[2].error == "the same module as 'a'"


def test_loads_modules_that_the_config_names(site: PluginSite, make: Make) -> None:
    """A module on the path is a plugin without being installed, and need not declare an API version."""
    site.write("my_plugin", serving("mine").replace("queuekit_api", "other"))
    plugins = make(load=["my_plugin"])

    spec = plugins.broker_spec(url("mine://"))

    assert spec.schemes == ("mine",)
    assert plugins.infos()[1].name == "my_plugin"


def test_refuses_a_named_module_that_is_missing(make: Make) -> None:
    """What the config names must load: there is nobody else who could mean it."""
    with pytest.raises(PluginError, match="'no_such_plugin' cannot be used: ModuleNotFoundError"):
        make(load=["no_such_plugin"]).infos()


@pytest.mark.parametrize("first", [True, False], ids=["before-loading", "after-loading"])
def test_registers_an_object(make: Make, first: bool) -> None:  # noqa: FBT001 - a row of the table
    """An object with hooks is a plugin, whether it comes before or after the others are loaded; twice is an error."""
    plugins, plugin = make(), Plugin()
    if not first:
        plugins.infos()

    plugins.register(plugin, "mine")

    assert plugins.broker_spec(url("null://")) is plugin.spec
    assert plugins.infos()[-1].name == "mine"
    with pytest.raises(PluginError, match="is there already"):
        plugins.register(plugin)


def test_loads_once_from_many_threads(site: PluginSite, make: Make) -> None:
    """Threads that ask at the same time share one scan."""
    site.install("queuekit-acme", serving("acme"))
    plugins = make()
    found: list[BrokerSpec] = []
    threads = [threading.Thread(target=lambda: found.append(plugins.broker_spec(url("acme://")))) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert site.scans == 1
    assert len({id(spec) for spec in found}) == 1


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_serves_the_builtin_engines(make: Make, scheme: str) -> None:
    """Both engines of core are brokers and backends, through the same hooks as others."""
    plugins = make()

    specs = (plugins.broker_spec(url(f"{scheme}://")), plugins.backend_spec(url(f"{scheme}://")))

    assert all(spec.schemes == (scheme,) and spec.summary for spec in specs)
    assert (specs[0].capabilities.commit, specs[1].capabilities.notify) == (True, True)
    assert plugins.has_backend(scheme)


def test_says_how_to_install_a_known_scheme(make: Make) -> None:
    """A scheme of ours without its plugin is answered with the command that installs it."""
    with pytest.raises(UnknownSchemeError) as caught:
        make().broker_spec(url("rediss://user:hunter2@cache/0"), where="queuekit.toml")

    assert caught.value.lines() == [
        "no plugin handles 'rediss://'",
        'broker = "rediss://user:***@cache/0" from queuekit.toml',
        "Install it:  pip install 'queuekit[redis]'",
        "Available: memory, sqlite",
    ]
    assert (caught.value.code, caught.value.exit_code) == ("QK501", 5)


@pytest.mark.parametrize(
    ("scheme", "fix"),
    [
        pytest.param("sqllite", "Did you mean 'sqlite'?", id="installed"),
        pytest.param("reddis", "Did you mean 'redis'?\nInstall it:  pip install 'queuekit[redis]'", id="not-installed"),
        pytest.param("xyzzy", "", id="nothing-near"),
    ],
)
def test_guesses_what_was_meant(make: Make, scheme: str, fix: str) -> None:
    """An unknown scheme is answered with the nearest one and, if needed, how to get it."""
    with pytest.raises(UnknownSchemeError) as caught:
        make().broker_spec(url(f"{scheme}://h"))

    assert caught.value.fix == fix
    assert len(caught.value.lines()) <= 6


@pytest.mark.parametrize("name", ["sqs", "queuekit-sqs", "broken"])
def test_says_that_a_plugin_failed(site: PluginSite, make: Make, name: str) -> None:
    """An installed plugin that failed to load is named with its error, which is the cause, and how to mend it."""
    site.install("queuekit-sqs", "import nosuchclient", name=name, version="0.3.1")
    plugins = make()

    with pytest.warns(RuntimeWarning), pytest.raises(PluginError) as caught:
        plugins.broker_spec(url("sqs://eu-west-1/shop"))

    assert caught.value.what == (
        "the plugin for sqs:// (queuekit-sqs 0.3.1) is installed but failed to load: "
        "ModuleNotFoundError: No module named 'nosuchclient'"
    )
    assert caught.value.fix == "Install it:  pip install 'queuekit[sqs]'"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert caught.value.code == "QK502"


@pytest.mark.parametrize(
    ("rules", "text", "fix"),
    [
        pytest.param({"disable": ["*"]}, "disabled by plugins.disable", "Take it off plugins.disable", id="disabled"),
        pytest.param({"only": ["x"]}, "not listed in plugins.only", "Add it to plugins.only", id="not-allowed"),
        pytest.param(
            {"environ": {"QUEUEKIT_PLUGINS": ""}},
            "not listed in QUEUEKIT_PLUGINS",
            "Add it to QUEUEKIT_PLUGINS",
            id="nothing-allowed",
        ),
    ],
)
def test_says_that_a_plugin_is_disabled(
    site: PluginSite, make: Make, rules: dict[str, Any], text: str, fix: str
) -> None:
    """A plugin that a rule leaves out is not reported as missing; the rule is named."""
    site.install("queuekit-redis", serving("redis"))

    with pytest.raises(PluginError, match=rf"\(queuekit-redis 1\.2\) is installed but {text}") as caught:
        make(**rules).broker_spec(url("redis+cluster://h"))

    assert caught.value.fix == fix


def test_refuses_two_owners(site: PluginSite, make: Make) -> None:
    """A scheme that two distributions claim is an error when it is used, with the line that settles it."""
    site.install("queuekit-redis", serving("redis", "redis+tls"))
    site.install("acme-redis", serving("redis", "redis+tls"))
    plugins = make()
    memory = plugins.broker_spec(url("memory://"))

    with pytest.raises(SchemeConflictError) as caught:
        plugins.broker_spec(url("redis://h"))
    with pytest.raises(SchemeConflictError, match=r'plugins\.prefer\."redis\+tls" = "acme-redis"'):
        plugins.broker_spec(url("redis+tls://h"))

    assert memory.schemes == ("memory",)
    assert caught.value.what == "redis:// is claimed by acme-redis and queuekit-redis"
    assert caught.value.fix == 'Pick one:  plugins.prefer.redis = "acme-redis"'
    assert caught.value.code == "QK503"


@pytest.mark.parametrize("wanted", ["acme-redis", "ACME_redis"])
def test_prefers_an_owner(site: PluginSite, make: Make, wanted: str) -> None:
    """The preferred distribution serves the scheme, however its name is spelled."""
    site.install("queuekit-redis", serving("redis", factory="a:A"))
    site.install("acme-redis", serving("redis", factory="b:B"))

    spec = make(prefer={"redis": wanted}).broker_spec(url("redis://h"))

    assert spec.factory == "b:B"


def test_refuses_a_preference_for_nobody(site: PluginSite, make: Make) -> None:
    """To prefer a distribution that does not serve the scheme is an error, even with one owner."""
    site.install("queuekit-redis", serving("redis"))

    with pytest.raises(PluginError, match="names 'acme', which does not provide redis://") as caught:
        make(prefer={"redis": "acme"}).broker_spec(url("redis://h"))

    assert caught.value.available == "queuekit-redis"


def test_refuses_a_broker_as_a_backend(site: PluginSite, make: Make) -> None:
    """A scheme that is a broker only says so when a backend is asked for, and lists the backends."""
    site.install("queuekit-sqs", serving("sqs"))

    with pytest.raises(UnknownSchemeError, match="sqs:// is a broker only, not a result backend") as caught:
        make().backend_spec(url("sqs://eu-west-1/shop"))

    assert caught.value.available == "memory, sqlite"
    assert caught.value.fix == 'Set backend to one of those available, or to "none"'


@pytest.mark.parametrize(("scheme", "side"), [("dynamodb", "result backend"), ("sqs+http", "broker")])
def test_knows_one_sided_schemes_without_their_plugin(make: Make, scheme: str, side: str) -> None:
    """The schemes of ours that serve on one side say so even before their plugin is installed."""
    plugins = make()
    ask: Callable[[EngineURL], object] = plugins.broker_spec if side == "result backend" else plugins.backend_spec

    with pytest.raises(UnknownSchemeError, match=rf"is a {side} only"):
        ask(url(f"{scheme}://r"))


def test_finds_serializers(make: Make) -> None:
    """A serializer is found by its name; an unknown one is answered with the nearest."""
    plugins = make()

    safe = [plugins.serializer_spec(name).safe for name in ("json", "pickle")]
    with pytest.raises(UnknownSchemeError, match="no plugin provides serializer 'jsn'") as caught:
        plugins.serializer_spec("jsn", where="q.toml")

    assert safe == [True, False]
    assert (caught.value.where, caught.value.available) == ('serializer = "jsn" from q.toml', "json, pickle")
    assert caught.value.fix == "Did you mean 'json'?"


# --- making -----------------------------------------------------------------------------------------------------------


def test_makes_a_broker(make: Make) -> None:
    """A broker is made with its URL, options, clock and chance."""
    plugins = make()
    plugins.register(Plugin(options=Options))

    broker = made(plugins, "null://h?size=20")

    assert isinstance(broker, NullBroker)
    assert broker.made_with[0].query == {"size": "20"}
    assert broker.made_with[1] == Options(size=20)
    assert [type(part) for part in broker.made_with[2:]] == [SystemClock, random.Random]


def test_dresses_a_broker_with_its_spec(make: Make) -> None:
    """A broker has the capabilities and limits of its spec, except those that its class names itself."""
    plugins = make()
    said = {"capabilities": Capabilities(delay=False), "limits": Limits(max_batch=10)}
    plugins.register(Plugin(**said), "plain")
    plugins.register(Plugin(**said, schemes="fussy", factory=FussyBroker), "fussy")

    plain, fussy = made(plugins, "null://"), made(plugins, "fussy://")

    assert (plain.capabilities, plain.limits) == (Capabilities(delay=False), Limits(max_batch=10))
    assert (fussy.capabilities, fussy.limits) == (Capabilities(fifo=False), Limits(max_batch=10))
    assert NullBroker.limits == Limits()


def test_lets_a_plugin_wrap_a_broker(make: Make) -> None:
    """A plugin may return another broker for a URL, made from the one that core would make."""

    class Wrapper:
        @hookimpl
        def queuekit_make_broker(self, url: EngineURL, make: Callable[[], Broker]) -> Broker | None:
            inner = make()
            return FussyBroker(url, options=inner, clock=None, random=None) if url.query else None

    plugins = make()
    plugins.register(Plugin(options=Options))
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
def test_reads_options(make: Make, table: dict[str, Any], query: str, expected: Options) -> None:
    """Options come from the table and, above it, from the URL, as the types that the class annotates."""
    plugins = make()
    plugins.register(Plugin(options=Options))

    broker = made(plugins, f"null://h{query}", table=table)

    assert isinstance(broker, NullBroker)
    assert broker.made_with[1] == expected


def test_reports_all_bad_options(make: Make) -> None:
    """Unknown options and values that do not fit are one report, which keeps secrets to itself."""
    plugins = make()
    plugins.register(Plugin(options=Options), "acme")

    with pytest.raises(ConfigError) as caught:
        made(plugins, "null://h?sise=20&lazy=perhaps", table={"size": 0, "password": 5})

    assert caught.value.lines() == [
        "4 problems in the options of null://",
        "broker ?sise  unknown option of acme, did you mean 'size'?",
        "size          must be >= 1: 0",
        'broker ?lazy  expected true or false, got "perhaps"',
        "password      expected text",
    ]


def test_shares_a_table_between_broker_and_backend(make: Make) -> None:
    """An option that only the backend has is no error for the broker of the same table and URL."""

    @attrs.frozen
    class BackendOptions:
        keep: int = 1

    class Both(Plugin):
        @hookimpl
        def queuekit_backends(self) -> list[BackendSpec]:
            return [BackendSpec(schemes="null", factory="queuekit.memory:MemoryBackend", options=BackendOptions)]

    plugins = make()
    plugins.register(Both(options=Options))

    broker = made(plugins, "null://h?keep=3&size=4")

    assert isinstance(broker, NullBroker)
    assert broker.made_with[1] == Options(size=4)


def test_refuses_options_where_there_are_none(make: Make) -> None:
    """A broker without options refuses any."""
    plugins = make()
    plugins.register(Plugin(), "acme")

    with pytest.raises(ConfigError, match="unknown option of acme"):
        made(plugins, "null://h?size=1")


def test_reports_what_the_options_class_refuses(make: Make) -> None:
    """A check over several options is part of the same kind of report, without the password."""

    @attrs.frozen
    class Strict:
        low: int = 0
        high: int = 0

        def __attrs_post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError(f"low is above high for hunter2: {self.low}")

    plugins = make()
    plugins.register(Plugin(options=Strict))

    with pytest.raises(ConfigError, match=r"broker +low is above high for \*\*\*: 5"):
        made(plugins, "null://u:hunter2@h?low=5")


@pytest.mark.parametrize(
    ("factory", "fix"),
    [
        pytest.param("nosuchclient.broker:Broker", "See:  queuekit plugins", id="module"),
        pytest.param("queuekit.clock:NoSuchName", "", id="name"),
    ],
)
def test_says_that_a_factory_is_missing(make: Make, factory: str, fix: str) -> None:
    """A factory that cannot be imported is an error of its plugin."""
    plugins = make()
    plugins.register(Plugin(factory=factory), "acme")

    with pytest.raises(PluginError, match=r"the plugin for null:// \(acme\) ") as caught:
        made(plugins, "null://")

    assert caught.value.fix == fix
    assert caught.value.where == 'broker = "null://" from q.toml'


def test_names_the_extra_that_brings_a_missing_client(site: PluginSite, make: Make) -> None:
    """A first-party scheme whose client library is missing names the extra; another's plugin its distribution."""
    site.install("queuekit-redis", serving("redis", factory="nosuchclient:Broker"))
    site.install("acme-nats", serving("nats", factory="nosuchclient:Broker"))
    plugins = make()

    with pytest.raises(PluginError, match=r"pip install 'queuekit\[redis\]'"):
        made(plugins, "redis://")
    with pytest.raises(PluginError, match="pip install --force-reinstall acme-nats"):
        made(plugins, "nats://")


def test_never_shows_a_password_of_a_failing_factory(make: Make) -> None:
    """An error that quotes the URL comes without its password, and without the original that has it."""

    def factory(url: EngineURL, **_: Any) -> Broker:
        raise OSError(f"cannot connect to {url.raw}")

    plugins = make()
    plugins.register(Plugin(factory=factory))

    with pytest.raises(PluginError, match=r"OSError: cannot connect to null://u:\*\*\*@h") as caught:
        made(plugins, "null://u:hunter2@h")

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_refuses_what_is_no_broker(make: Make) -> None:
    """A factory that returns something else is an error of its plugin."""
    plugins = make()
    plugins.register(Plugin(factory=lambda *_args, **_options: object()))

    with pytest.raises(PluginError, match="its factory returned object, which is no Broker") as caught:
        made(plugins, "null://")

    assert caught.value.where == 'broker = "null://" from q.toml'


def test_makes_the_builtin_engines(make: Make, tmp_path: Path) -> None:
    """Both engines of core can be made; they open nothing yet."""
    plugins = make()

    brokers = [made(plugins, "memory://"), made(plugins, f"sqlite:///{tmp_path}/q.db?sync=full&busy_timeout=2")]
    backends = [made_backend(plugins, "memory://"), made_backend(plugins, f"sqlite:///{tmp_path}/q.db")]

    assert [broker.capabilities.commit for broker in brokers] == [True, True]
    assert [backend.capabilities for backend in backends] == [
        BackendCapabilities(notify=True, processes=False),
        BackendCapabilities(notify=True),
    ]
    assert not list(tmp_path.glob("q.db*"))


def test_makes_serializers(make: Make) -> None:
    """JSON is made as it is, pickle only where it is allowed by name."""
    plugins = make()

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
def test_refuses_a_serializer_unlike_its_spec(make: Make, spec: dict[str, Any], error: str) -> None:
    """A serializer that writes another format, or is less safe than its spec says, is an error of its plugin."""

    class Lying:
        @hookimpl
        def queuekit_serializers(self) -> list[SerializerSpec]:
            return [SerializerSpec(**{"factory": PickleSerializer, **spec})]

    plugins = make(prefer={"pickle": "lying"})
    plugins.register(Lying(), "lying")

    with pytest.raises(PluginError, match=error):
        plugins.make_serializer(spec["name"], no_types)


# --- config tables ----------------------------------------------------------------------------------------------------


def test_names_the_table_of_a_spec() -> None:
    """Options stand in the table that the spec names, or in that of its first scheme."""
    named = BrokerSpec(schemes=("dynamodb",), factory="a:B", section="sqs")
    plain = BrokerSpec(schemes=("redis", "rediss"), factory="a:B")

    assert (section_of(named), section_of(plain)) == ("sqs", "redis")


def test_checks_tables(site: PluginSite, make: Make) -> None:
    """A plugin's table is checked by its classes; a table of nobody, or of a failed plugin, is a problem by itself."""

    class Sections(Plugin):
        @hookimpl
        def queuekit_config_sections(self) -> list[ConfigSection]:
            return [ConfigSection(name="acme", options=Options)]

    site.install("queuekit-sqs", "import nosuchclient")
    site.install("queuekit-off", serving("off"))
    plugins = make(disable=["off"])
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
    assert plugins.check_table("wroker", {"a": 1}, others=["worker"]) == {
        "": "unknown table, did you mean 'worker'?"
    }


# --- calling ----------------------------------------------------------------------------------------------------------


class Listener:
    """A plugin that keeps what it hears, and may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.heard: list[Any] = []
        self.error = error

    @hookimpl
    def queuekit_task_registered(self, task: Any) -> None:
        """Hear of a task."""
        self._hear(task)

    @hookimpl
    def queuekit_worker_ready(self, worker: Any) -> None:
        """Hear of a worker."""
        self._hear(worker)

    @hookimpl
    def queuekit_worker_boot(self, worker: Any) -> None:
        """Hear of a start."""
        self._hear(worker)

    @hookimpl
    def queuekit_checks(self, app: Any) -> Iterator[Check]:
        """Offer a check, then fail."""
        yield Check(name=str(app), run=list)
        self._hear(app)

    def _hear(self, what: Any) -> None:
        if self.error is not None:
            raise self.error
        self.heard.append(what)


def test_calls_each_plugin_by_itself(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """One plugin's error is logged once with its name, and the others hear of the call all the same."""
    plugins, deaf, good = make(), Listener(OSError("no ears")), Listener()
    for name, listener in {"a": good, "deaf": deaf, "b": Listener()}.items():
        plugins.register(listener, name)

    plugins.call("queuekit_worker_ready", worker="w")

    assert good.heard == ["w"]
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("queuekit.plugins", "ERROR", "the plugin deaf failed in queuekit_worker_ready: OSError: no ears")
    ]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(OSError("no ears"), "the plugin deaf failed in queuekit_worker_boot: OSError: no ears", id="other"),
        pytest.param(ConfigError("no port"), "^no port$", id="ours"),
    ],
)
def test_raises_where_asked(make: Make, error: Exception, text: str) -> None:
    """A call may end with the first error: ours as it is, another's with the plugin's name."""
    plugins = make()
    plugins.register(Listener(error), "deaf")

    with pytest.raises((PluginError, ConfigError), match=text):
        plugins.call("queuekit_worker_boot", raising=True, worker="w")


def test_tells_latecomers_of_historic_calls(site: PluginSite, make: Make) -> None:
    """A task that registers loads no plugins; they hear of it when they come, and of later ones at once."""
    plugins, early, late = make(), Listener(), Listener()
    plugins.register(early, "early")

    plugins.call("queuekit_task_registered", app=None, task="first")
    scans = site.scans
    plugins.infos()
    plugins.call("queuekit_task_registered", app=None, task="second")
    plugins.register(late, "late")

    assert scans == 0
    assert early.heard == ["first", "second"]
    assert late.heard == ["first", "second"]


def test_survives_a_latecomer_that_fails(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that fails over what it missed is logged, and stays."""
    plugins = make()
    plugins.call("queuekit_task_registered", app=None, task="first")

    plugins.register(Listener(OSError("no ears")), "deaf")
    status = plugins.infos()[-1].status

    assert status == "ok"
    assert "the plugin deaf failed in queuekit_task_registered" in caplog.text


def test_collects_from_each_plugin_by_itself(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What all plugins return is one list; one that fails, even half-way, adds nothing and is listed as failed."""
    plugins = make()
    plugins.register(Listener(), "good")
    plugins.register(Listener(OSError("no ears")), "deaf")

    checks = plugins.collect("queuekit_checks", app="shop")

    assert [check.name for check in checks] == ["shop"]
    assert [(info.name, info.error) for info in plugins.infos() if info.status == "failed"] == [
        ("deaf", "OSError: no ears")
    ]
    assert "the plugin deaf failed in queuekit_checks" in caplog.text


def test_collects_in_the_order_of_the_plugins(make: Make) -> None:
    """``tryfirst`` and the like decide the order, as pluggy does."""

    class First:
        @hookimpl(tryfirst=True)
        def queuekit_middlewares(self) -> list[MiddlewareSpec]:
            return [MiddlewareSpec(name="first", factory=dict)]

    class Second:
        @hookimpl
        def queuekit_middlewares(self, config: Any) -> list[MiddlewareSpec] | None:
            return [MiddlewareSpec(name=str(config), factory=dict)]

    plugins = make()
    plugins.register(First())
    plugins.register(Second())

    specs = plugins.collect("queuekit_middlewares", config="second")

    assert [spec.name for spec in specs] == ["first", "second"]
