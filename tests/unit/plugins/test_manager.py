"""Plugins: found late, loaded one by one so that a broken one harms nobody, and called one by one."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit.errors import ConfigError, PluginError
from queuekit.hookspecs import BrokerSpec, Check, MiddlewareSpec, hookimpl
from support.plugin_site import HEADER, MakePlugins, NullBroker, NullPlugin, PluginSite, installed_site, serving, url


@pytest.fixture
def plugin_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    """Return a folder to install plugins into."""
    yield from installed_site(tmp_path, monkeypatch)


@pytest.fixture
def make_plugins(plugin_site: PluginSite) -> MakePlugins:
    """Return a function that makes plugins out of the site, in an empty environment."""
    return plugin_site.make_plugins


def test_scans_at_the_first_selection(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """Making plugins finds and imports nothing; the first question does, and the second asks nobody again."""
    plugin_site.install("queuekit-acme", serving("acme"))
    plugins = make_plugins()
    before = (plugin_site.scans, plugin_site.imported())

    plugins.offer("broker", url("acme://"))
    plugins.offer("broker", url("acme://"))

    assert before == (0, [])
    assert plugin_site.scans == 1


def test_scans_the_process_once() -> None:
    """All apps of a process share one scan of what is installed, and an import of queuekit makes none."""
    program = """
import sys
from queuekit.plugins import loading
from queuekit.plugins import manager as plugins
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


def test_lists_what_a_plugin_is(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """A loaded plugin is listed with distribution, version, API, schemes and hooks; the built-in one comes first."""
    plugin_site.install("queuekit-acme", serving("acme", "acme+tls"), version="3.1")

    core, acme = make_plugins().infos()

    assert (core.name, core.dist, core.schemes) == ("builtin", "queuekit", ("memory", "sqlite"))
    assert (acme.name, acme.dist, acme.version, acme.api) == ("acme", "queuekit-acme", "3.1", (1, 0))
    assert (acme.status, acme.error, acme.schemes) == ("ok", "", ("acme", "acme+tls"))
    assert (acme.hooks, acme.load_ms > 0) == (("queuekit_brokers",), True)


BROKEN = {
    "import-fails": ("import nosuchclient", "ModuleNotFoundError: No module named 'nosuchclient'"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "no-api": ("from queuekit.hookspecs import *", "it does not declare queuekit_api"),
    "odd-api": ("queuekit_api = 1", "its queuekit_api is 1, not a pair"),
    "newer-major": ("queuekit_api = (2, 0)", "it needs plugin API 2.0, this queuekit offers 1.1"),
    "newer-minor": ("queuekit_api = (1, 9)", "it needs plugin API 1.9, this queuekit offers 1.1"),
    "unknown-hook": (f"{HEADER}\n@hookimpl\ndef queuekit_brokrs(): ...", "unknown hook 'queuekit_brokrs'"),
    "wrong-arguments": (f"{HEADER}\n@hookimpl\ndef queuekit_brokers(sun): ...", "{'sun'}"),
    "async-hook": (f"{HEADER}\n@hookimpl\nasync def queuekit_worker_ready(worker): ...", "is async"),
    "wrapper": (f"{HEADER}\n@hookimpl(wrapper=True)\ndef queuekit_brokers(): return (yield)", "is a wrapper"),
    "unmarked-hook": (f"{HEADER}\ndef queuekit_brokers(): ...", "its function queuekit_brokers lacks @hookimpl"),
    "hook-raises": (f"{HEADER}\n@hookimpl\ndef queuekit_backends(): 1/0", "ZeroDivisionError: division by zero"),
    "wrong-spec": (f"{HEADER}\n@hookimpl\ndef queuekit_brokers(): return [7]", "int where BrokerSpec is expected"),
    "no-schemes": (serving(), "a BrokerSpec without schemes"),
    "bad-scheme": (serving("my_scheme"), "its scheme 'my_scheme' does not match"),
    "twice": (serving("acme", "acme"), "it serves acme:// twice"),
}


def test_leaves_other_names_of_a_module_alone(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """A value that merely bears the name of a hook is no forgotten hook."""
    plugin_site.install("queuekit-acme", f"{HEADER}\nqueuekit_brokers = None")

    assert make_plugins().infos()[1].status == "ok"


@pytest.mark.parametrize(("source", "error"), BROKEN.values(), ids=BROKEN.keys())
def test_keeps_a_broken_plugin_to_itself(
    plugin_site: PluginSite, make_plugins: MakePlugins, source: str, error: str
) -> None:
    """A plugin that cannot be used is warned about and listed with its error; the one beside it works."""
    plugin_site.install("queuekit-bad", source, version="0.3.1")
    plugin_site.install("queuekit-good", serving("good"))
    plugins = make_plugins()

    with pytest.warns(RuntimeWarning, match=r"the plugin 'bad' \(queuekit-bad 0\.3\.1\) failed to load"):
        spec = plugins.offer("broker", url("good://")).spec

    bad = plugins.infos()[1]
    assert spec.schemes == ("good",)
    assert (bad.status, bad.version) == ("failed", "0.3.1")
    assert error in bad.error


@pytest.mark.parametrize(
    ("api", "fix"),
    [
        pytest.param("(2, 0)", "pip install --upgrade queuekit", id="later-major"),
        pytest.param("(1, 9)", "pip install --upgrade queuekit", id="later-minor"),
        pytest.param("(0, 9)", "pip install --upgrade queuekit-bad", id="earlier"),
    ],
)
def test_says_which_side_to_upgrade(plugin_site: PluginSite, make_plugins: MakePlugins, api: str, fix: str) -> None:
    """A plugin for a later API asks for a later core, one for an earlier API for a later plugin."""
    plugin_site.install("queuekit-bad", serving("bad").replace("(1, 0)", api))
    plugins = make_plugins()

    with pytest.warns(RuntimeWarning), pytest.raises(PluginError) as caught:
        plugins.offer("broker", url("bad://"))

    assert caught.value.fix.endswith(f"  {fix}")


def test_takes_a_lone_scheme_for_one(make_plugins: MakePlugins) -> None:
    """A spec whose schemes are one text serves that scheme, not its letters."""
    assert BrokerSpec(schemes="null", factory=NullBroker).schemes == ("null",)


@pytest.mark.parametrize("strict", [{"strict": True}, {"environ": {"QUEUEKIT_STRICT_PLUGINS": "1"}}])
def test_raises_at_once_when_strict(plugin_site: PluginSite, make_plugins: MakePlugins, strict: dict[str, Any]) -> None:
    """Under strict rules a broken plugin is an error whatever scheme is asked for, again each time."""
    plugin_site.install("queuekit-bad", "import nosuchclient")
    plugins = make_plugins(**strict)

    with pytest.raises(PluginError, match="nosuchclient"):
        plugins.offer("broker", url("memory://"))
    with pytest.raises(PluginError, match="nosuchclient") as caught:
        plugins.offer("broker", url("memory://"))

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
    plugin_site: PluginSite, make_plugins: MakePlugins, rules: dict[str, Any], loaded: list[str], error: str
) -> None:
    """Plugins that a rule leaves out are not imported, and are listed with the rule."""
    plugin_site.install("queuekit-one", serving("one"))
    plugin_site.install("queuekit-two", serving("two"))

    _, *infos = make_plugins(**rules).infos()

    assert plugin_site.imported() == [f"queuekit_{name}_{name}_plugin" for name in loaded]
    assert [info.name for info in infos] == ["one", "two"]
    assert infos[1].error == error
    assert [info.name for info in infos if info.status == "ok"] == loaded


def test_scans_nothing_where_nothing_may_load(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """With an empty allow list not even the names of what is installed are read."""
    plugin_site.install("queuekit-one", serving("one"))

    make_plugins(only=[]).offer("broker", url("memory://"))

    assert plugin_site.scans == 0


def test_loads_equal_names_of_two_distributions(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """Two distributions may use one name; the second is listed with its distribution."""
    plugin_site.install("acme-one", serving("one"), name="acme")
    plugin_site.install("acme-two", serving("two"), name="acme")
    plugins = make_plugins()

    specs = [plugins.offer("broker", url("one://")).spec, plugins.offer("broker", url("two://")).spec]

    assert [spec.schemes for spec in specs] == [("one",), ("two",)]
    assert [info.name for info in plugins.infos()] == ["builtin", "acme", "acme@acme-two"]


def test_loads_a_module_once(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """Two names for one module are one plugin, not two owners of its schemes."""
    plugin_site.install("acme-one", serving("acme"), name="a", module="acme_shared")
    plugin_site.install("acme-two", serving("acme"), name="b", module="acme_shared")
    plugins = make_plugins()

    plugins.offer("broker", url("acme://"))

    assert plugins.infos()[2].error == "the same module as 'a'"


def test_loads_modules_that_the_config_names(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """A module on the path is a plugin without being installed, and need not declare an API version."""
    plugin_site.write("my_plugin", serving("mine").replace("queuekit_api", "other"))
    plugins = make_plugins(load=["my_plugin"])

    spec = plugins.offer("broker", url("mine://")).spec

    assert spec.schemes == ("mine",)
    assert plugins.infos()[1].name == "my_plugin"


def test_refuses_a_named_module_that_is_missing(make_plugins: MakePlugins) -> None:
    """What the config names must load: there is nobody else who could mean it."""
    with pytest.raises(PluginError, match="'no_such_plugin' cannot be used: ModuleNotFoundError"):
        make_plugins(load=["no_such_plugin"]).infos()


@pytest.mark.parametrize("first", [True, False], ids=["before-loading", "after-loading"])
def test_registers_an_object(make_plugins: MakePlugins, first: bool) -> None:  # noqa: FBT001 - a row of the table
    """An object with hooks is a plugin, whether it comes before or after the others are loaded; twice is an error."""
    plugins, plugin = make_plugins(), NullPlugin()
    if not first:
        plugins.infos()

    plugins.register(plugin, "mine")

    assert plugins.offer("broker", url("null://")).spec is plugin.spec
    assert plugins.infos()[-1].name == "mine"
    with pytest.raises(PluginError, match="is already registered"):
        plugins.register(plugin)


def test_loads_once_from_many_threads(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """Threads that ask at the same time share one scan."""
    plugin_site.install("queuekit-acme", serving("acme"))
    plugins = make_plugins()
    found: list[BrokerSpec] = []
    threads = [
        threading.Thread(target=lambda: found.append(plugins.offer("broker", url("acme://")).spec)) for _ in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert plugin_site.scans == 1
    assert len({id(spec) for spec in found}) == 1


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


def test_calls_each_plugin_by_itself(make_plugins: MakePlugins, caplog: pytest.LogCaptureFixture) -> None:
    """One plugin's error is logged once with its name, and the others hear of the call all the same."""
    plugins, deaf, good = make_plugins(), Listener(OSError("no ears")), Listener()
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
        pytest.param(
            OSError("no ears"), "the plugin deaf failed in queuekit_worker_boot: OSError: no ears", id="other"
        ),
        pytest.param(ConfigError("no port"), "^no port$", id="ours"),
    ],
)
def test_raises_where_asked(make_plugins: MakePlugins, error: Exception, text: str) -> None:
    """A call may end with the first error: ours as it is, another's with the plugin's name."""
    plugins = make_plugins()
    plugins.register(Listener(error), "deaf")

    with pytest.raises((PluginError, ConfigError), match=text):
        plugins.call("queuekit_worker_boot", raising=True, worker="w")


def test_tells_latecomers_of_historic_calls(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """A task that registers loads no plugins; they hear of it when they come, and of later ones at once."""
    plugins, early, late = make_plugins(), Listener(), Listener()
    plugins.register(early, "early")

    plugins.call("queuekit_task_registered", app=None, task="first")
    scans = plugin_site.scans
    plugins.infos()
    plugins.call("queuekit_task_registered", app=None, task="second")
    plugins.register(late, "late")

    assert scans == 0
    assert early.heard == ["first", "second"]
    assert late.heard == ["first", "second"]


def test_survives_a_latecomer_that_fails(make_plugins: MakePlugins, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that fails over what it missed is logged, and stays."""
    plugins = make_plugins()
    plugins.call("queuekit_task_registered", app=None, task="first")

    plugins.register(Listener(OSError("no ears")), "deaf")
    status = plugins.infos()[-1].status

    assert status == "ok"
    assert "the plugin deaf failed in queuekit_task_registered" in caplog.text


def test_collects_from_each_plugin_by_itself(make_plugins: MakePlugins, caplog: pytest.LogCaptureFixture) -> None:
    """What all plugins return is one list; one that fails, even half-way, adds nothing and is listed as failed."""
    plugins = make_plugins()
    plugins.register(Listener(), "good")
    plugins.register(Listener(OSError("no ears")), "deaf")

    checks = plugins.collect("queuekit_checks", app="shop")

    assert [check.name for check in checks] == ["shop"]
    assert [(info.name, info.error) for info in plugins.infos() if info.status == "failed"] == [
        ("deaf", "OSError: no ears")
    ]
    assert "the plugin deaf failed in queuekit_checks" in caplog.text


def test_collects_in_the_order_of_the_plugins(make_plugins: MakePlugins) -> None:
    """``tryfirst`` and the like decide the order, as pluggy does."""

    class First:
        @hookimpl(tryfirst=True)
        def queuekit_middlewares(self) -> list[MiddlewareSpec]:
            return [MiddlewareSpec(name="first", factory=dict)]

    class Second:
        @hookimpl
        def queuekit_middlewares(self, config: Any) -> list[MiddlewareSpec] | None:
            return [MiddlewareSpec(name=str(config), factory=dict)]

    plugins = make_plugins()
    plugins.register(First())
    plugins.register(Second())

    specs = plugins.collect("queuekit_middlewares", config="second")

    assert [spec.name for spec in specs] == ["first", "second"]


def test_imports_an_engine_ahead_under_the_rules(plugin_site: PluginSite, make_plugins: MakePlugins) -> None:
    """Only the one that serves the scheme by the name of its extra, and only if no rule forbids it."""
    plugin_site.install("queuekit-redis", serving("redis"))
    plugin_site.install("queuekit-acme", serving("redis"))
    found = []
    rows: tuple[dict[str, list[str]], ...] = ({"only": []}, {"disable": ["redis"]}, {})

    for rules in rows:
        make_plugins(**rules).import_engine("redis")
        found.append(plugin_site.imported())

    assert found == [[], [], ["queuekit_redis_redis_plugin"]]
