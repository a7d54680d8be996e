"""Choosing a plugin by scheme or name; and what the user is told where none, or more than one, would do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from queuekit.errors import PluginError, SchemeConflictError, UnknownSchemeError
from queuekit.urls import EngineURL
from support.plugin_site import MakePlugins, PluginSite, installed_site, serving, url


@pytest.fixture
def plugin_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    """Return a folder to install plugins into."""
    yield from installed_site(tmp_path, monkeypatch)


@pytest.fixture
def make_plugins(plugin_site: PluginSite) -> MakePlugins:
    """Return a function that makes plugins out of the site, in an empty environment."""
    return plugin_site.make_plugins


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_serves_the_builtin_engines(make_plugins: MakePlugins, scheme: str) -> None:
    """Both engines of core are brokers and backends, through the same hooks as others."""
    plugins = make_plugins()

    specs = (plugins.offer("broker", url(f"{scheme}://")).spec, plugins.offer("backend", url(f"{scheme}://")).spec)

    assert all(spec.schemes == (scheme,) and spec.summary for spec in specs)
    assert (specs[0].capabilities.commit, specs[1].capabilities.notify) == (True, True)
    assert plugins.has_backend(scheme)


def test_says_how_to_install_a_known_scheme(make_plugins: MakePlugins) -> None:
    """A scheme of ours without its plugin is answered with the command that installs it."""
    with pytest.raises(UnknownSchemeError) as caught:
        make_plugins().offer("broker", url("rediss://user:hunter2@cache/0"), where="queuekit.toml")

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
def test_guesses_what_was_meant(make_plugins: MakePlugins, scheme: str, fix: str) -> None:
    """An unknown scheme is answered with the nearest one and, if needed, how to get it."""
    with pytest.raises(UnknownSchemeError) as caught:
        make_plugins().offer("broker", url(f"{scheme}://h"))

    assert caught.value.fix == fix
    assert len(caught.value.lines()) <= 6


@pytest.mark.parametrize("name", ["sqs", "queuekit-sqs", "broken"])
def test_says_that_a_plugin_failed(plugin_site: PluginSite, make_plugins: MakePlugins, name: str) -> None:
    """An installed plugin that failed to load is named with its error, which is the cause, and how to mend it."""
    plugin_site.install("queuekit-sqs", "import nosuchclient", name=name, version="0.3.1")
    plugins = make_plugins()

    with pytest.warns(RuntimeWarning), pytest.raises(PluginError) as caught:
        plugins.offer("broker", url("sqs://eu-west-1/shop"))

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
        pytest.param({"disable": ["*"]}, "disabled by plugins.disable", "Remove it from plugins.disable", id="off"),
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
    plugin_site: PluginSite, make_plugins: MakePlugins, rules: dict[str, Any], text: str, fix: str
) -> None:
    """A plugin that a rule leaves out is not reported as missing; the rule is named."""
    plugin_site.install("queuekit-redis", serving("redis"))

    with pytest.raises(PluginError, match=rf"\(queuekit-redis 1\.2\) is installed but {text}") as caught:
        make_plugins(**rules).offer("broker", url("redis+cluster://h"))

    assert caught.value.fix == fix


def test_refuses_two_owners(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """A scheme that two distributions claim is an error when it is used, with the line that settles it."""
    plugin_site.install("queuekit-redis", serving("redis", "redis+tls"))
    plugin_site.install("acme-redis", serving("redis", "redis+tls"))
    plugins = make_plugins()
    memory = plugins.offer("broker", url("memory://")).spec

    with pytest.raises(SchemeConflictError) as caught:
        plugins.offer("broker", url("redis://h"))
    with pytest.raises(SchemeConflictError, match=r'plugins\.prefer\."redis\+tls" = "acme-redis"'):
        plugins.offer("broker", url("redis+tls://h"))

    assert memory.schemes == ("memory",)
    assert caught.value.what == "redis:// is claimed by acme-redis and queuekit-redis"
    assert caught.value.fix == 'Pick one:  plugins.prefer.redis = "acme-redis"'
    assert caught.value.code == "QK503"


@pytest.mark.parametrize("wanted", ["acme-redis", "ACME_redis"])
def test_prefers_an_owner(plugin_site: PluginSite, make_plugins: MakePlugins, wanted: str) -> None:
    """The preferred distribution serves the scheme, however its name is spelled."""
    plugin_site.install("queuekit-redis", serving("redis", factory="a:A"))
    plugin_site.install("acme-redis", serving("redis", factory="b:B"))

    spec = make_plugins(prefer={"redis": wanted}).offer("broker", url("redis://h")).spec

    assert spec.factory == "b:B"


def test_refuses_a_preference_for_nobody(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """To prefer a distribution that does not serve the scheme is an error, even with one owner."""
    plugin_site.install("queuekit-redis", serving("redis"))

    with pytest.raises(PluginError, match="names 'acme', which does not provide redis://") as caught:
        make_plugins(prefer={"redis": "acme"}).offer("broker", url("redis://h"))

    assert caught.value.available == "queuekit-redis"


def test_refuses_a_broker_as_a_backend(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """A scheme that is a broker only says so when a backend is asked for, and lists the backends."""
    plugin_site.install("queuekit-sqs", serving("sqs"))

    with pytest.raises(UnknownSchemeError, match="sqs:// is a broker only, not a result backend") as caught:
        make_plugins().offer("backend", url("sqs://eu-west-1/shop"))

    assert caught.value.available == "memory, sqlite"
    assert caught.value.fix == 'Set backend to an available one, or to "none"'


@pytest.mark.parametrize(
    ("scheme", "only", "side"), [("dynamodb", "result backend", "broker"), ("sqs+http", "broker", "backend")]
)
def test_knows_one_sided_schemes_without_their_plugin(
    make_plugins: MakePlugins, scheme: str, only: str, side: Literal["broker", "backend"]
) -> None:
    """The schemes of ours that serve on one side say so even before their plugin is installed."""
    plugins = make_plugins()

    with pytest.raises(UnknownSchemeError, match=rf"is a {only} only"):
        plugins.offer(side, url(f"{scheme}://r"))


def test_finds_serializers(make_plugins: MakePlugins) -> None:
    """A serializer is found by its name; an unknown one is answered with the nearest."""
    plugins = make_plugins()

    safe = [plugins.offer("serializer", name).spec.safe for name in ("json", "pickle")]
    with pytest.raises(UnknownSchemeError, match="no plugin provides serializer 'jsn'") as caught:
        plugins.offer("serializer", "jsn", where="q.toml")

    assert safe == [True, False]
    assert (caught.value.where, caught.value.available) == ('serializer = "jsn" from q.toml', "json, pickle")
    assert caught.value.fix == "Did you mean 'json'?"


@pytest.mark.parametrize(
    ("raw", "side", "fix"),
    [
        ("https://dynamodb.eu-west-1.amazonaws.com", "backend", "Write dynamodb://eu-west-1/PREFIX"),
        ("https://dynamodb.eu-west-1.amazonaws.com", "broker", 'DynamoDB keeps results: set  backend = "dynamodb'),
        ("https://sqs.us-gov-west-1.amazonaws.com/123/q", "broker", "Write sqs://us-gov-west-1/PREFIX"),
        ("https://eu-west-1.queue.amazonaws.com/123/q", "broker", "Write sqs://eu-west-1/PREFIX"),
        ("http://localhost:4566", "broker", "sqs+http://localhost:4566/PREFIX"),
        ("http://localhost:8000", "backend", "dynamodb+http://localhost:8000/PREFIX"),
        ("redis+socket:///run/redis.sock", "broker", "Write redis+unix:// here"),
        ("valkeys://h:6379/0", "backend", "Write rediss:// here"),
        ("pyamqp://guest:guest@h:5672/", "broker", "Write amqp:// here"),
        ("cache+memcached://h:11211", "backend", "Write memcache:// here"),
        ("postgres://u:p@h/d", "backend", "no plugin for PostgreSQL"),
        ("null://", "backend", '"none" for no results'),
        ("eager://", "broker", "eager = true"),
    ],
)
def test_reads_the_urls_of_other_projects(
    make_plugins: MakePlugins, raw: str, side: Literal["broker", "backend"], fix: str
) -> None:
    """A URL as another project writes it is answered with ours, or with the service that nobody serves."""
    plugins = make_plugins()

    with pytest.raises(UnknownSchemeError) as caught:
        plugins.offer(side, EngineURL.parse(raw))

    assert fix in caught.value.fix
    assert "guest:guest" not in str(caught.value)
