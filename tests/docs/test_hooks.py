"""Each hook has a page, which is its docstring; the example on it is loaded into an app and does what it says."""

import importlib
import inspect
import logging
import re
import runpy
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from queuekit import Queuekit, hookspecs, lifecycle
from queuekit.broker import Capabilities
from queuekit.cli import main
from queuekit.errors import ConfigError
from queuekit.operations.admin import Admin
from queuekit.plugins.loading import HOOKS
from queuekit.plugins.manager import Plugins
from queuekit.urls import EngineURL
from queuekit.worker.app_ref import AppRef
from queuekit.worker.supervisor import Supervisor
from support.working import burst, make_app

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS = ("Called:", "Raises:", "Example:")
ENGINES: dict[str, Literal["broker", "backend"]] = {"queuekit_brokers": "broker", "queuekit_backends": "backend"}


def docstring(name: str) -> str:
    """Return the docstring of the hook *name*."""
    return inspect.getdoc(getattr(hookspecs, name, None) or getattr(lifecycle, name)) or ""


def example(name: str) -> str:
    """Return the example of the hook *name*, as somebody would paste it into a plugin."""
    return textwrap.dedent(docstring(name).partition("\nExample:\n")[2].partition("::\n")[2])


@pytest.fixture
def plugin(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the example of the hook that the test is marked with, as a module that can be loaded by its name."""
    hook: str = request.param
    name = f"example_of_{hook}"
    (tmp_path / f"{name}.py").write_text(f"{example(hook)}\nqueuekit_api = (1, 0)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module(name)
    del sys.modules[name]


def of(hook: str) -> pytest.MarkDecorator:
    """Give a test the example of *hook*."""
    return pytest.mark.parametrize("plugin", [hook], indirect=True, ids=[hook])


def app_with(plugin: ModuleType, **settings: Any) -> Queuekit:
    """Return an app that has loaded the example, and has a task."""
    app = make_app(plugins={"load": [plugin.__name__], "disable": ["*"]}, **settings)

    @app.task(name="double")
    def double(x: int) -> int:
        return 2 * x

    return app


def run(app: Queuekit) -> None:
    """Send a call and let a worker run it."""
    app.tasks["double"].send(4)
    burst(app)


# -- pages


def test_each_hook_has_a_page_and_no_page_lacks_its_hook(tmp_path: Path) -> None:
    """Sphinx gets a page for each hook; one of a hook that is gone is removed."""
    (tmp_path / "queuekit_gone.rst").write_text("gone")

    runpy.run_path(str(DOCS / "conf.py"))["write_hook_pages"](tmp_path)

    assert {page.stem for page in tmp_path.iterdir()} == HOOKS
    assert (
        ".. autofunction:: queuekit.lifecycle.queuekit_configure\n" in (tmp_path / "queuekit_configure.rst").read_text()
    )


def test_contents_name_each_hook() -> None:
    """The page before them leads to all."""
    listed = re.findall(r"^hooks/(\w+)$", (DOCS / "reference" / "hooks.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(listed) == sorted(HOOKS)


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_page_tells_all(hook: str) -> None:
    """When it is called, each parameter, what it may return if anything, what an error does, and an example."""
    text = docstring(hook)
    signature = inspect.signature(getattr(hookspecs, hook, None) or getattr(lifecycle, hook))
    wanted = [*SECTIONS, *(f"    {parameter}: " for parameter in signature.parameters)]
    wanted += [] if signature.return_annotation == "None" else ["Returns:"]

    assert not [part for part in wanted if f"\n{part}" not in text]


@pytest.mark.parametrize("plugin", sorted(HOOKS), indirect=True)
def test_example_is_a_plugin_of_that_hook(plugin: ModuleType) -> None:
    """It loads, and has the hook of its page and no other."""
    plugins = Plugins(load=[plugin.__name__], disable=["*"], environ={})

    info = next(info for info in plugins.infos() if info.name == plugin.__name__)

    assert (info.status, f"example_of_{''.join(info.hooks)}") == ("ok", plugin.__name__)


# -- what the examples do


@pytest.mark.parametrize("plugin", ENGINES, indirect=True)
def test_engine_is_offered(plugin: ModuleType) -> None:
    """Its scheme is served, with what its spec says."""
    side = ENGINES[plugin.__name__.removeprefix("example_of_")]
    plugins = Plugins(load=[plugin.__name__], environ={})

    spec = plugins.offer(side, EngineURL.parse("example://host")).spec

    assert spec.factory == f"queuekit_example.{side}:Example{side.title()}"
    assert not (spec.capabilities.priority if isinstance(spec.capabilities, Capabilities) else spec.capabilities.notify)


@of("queuekit_serializers")
def test_serializer_is_offered(plugin: ModuleType) -> None:
    """It goes by its name."""
    spec = Plugins(load=[plugin.__name__], environ={}).offer("serializer", "example").spec

    assert (spec.factory, spec.safe) == ("queuekit_example.serializer:ExampleSerializer", True)


@of("queuekit_middlewares")
def test_middleware_logs_slow_runs(
    plugin: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each reading of the clock is two seconds after the last."""
    ticks = iter(range(0, 1000, 2))
    monkeypatch.setattr(plugin, "time", type("Time", (), {"monotonic": lambda: next(ticks)}))

    run(app_with(plugin))

    assert "double took 2.0 s" in caplog.text


@of("queuekit_commands")
def test_command_is_one_of_queuekit(plugin: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints its line."""
    with pytest.raises(SystemExit) as left:
        main(["--set", f'plugins.load=["{plugin.__name__}"]', "audit"])

    assert (left.value.code, capsys.readouterr().out) == (0, "Every run, with the state that it reached.\n")


@of("queuekit_config_sections")
def test_section_is_checked(plugin: ModuleType) -> None:
    """Its key is known, another is not."""
    good, bad = app_with(plugin, audit={"path": "a.log"}), app_with(plugin, audit={"paht": "a.log"})

    assert good.runtime.config.sections["audit"] == {"path": "a.log"}
    with pytest.raises(ConfigError, match="did you mean 'path'"):
        _ = bad.runtime


@of("queuekit_checks")
@pytest.mark.parametrize(("free", "found"), [(2e9, []), (5e6, ["disk: only 5 MB are free"])], ids=["room", "none"])
def test_check_complains_of_a_full_disk(
    plugin: ModuleType, monkeypatch: pytest.MonkeyPatch, free: float, found: list[str]
) -> None:
    """In a line of its own."""
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(plugin, "shutil", type("Shutil", (), {"disk_usage": lambda _path: usage}))

    problems = Admin(app_with(plugin)).check()

    assert [line for line in problems if "disk" in line] == found


@of("queuekit_subscribers")
def test_subscriber_counts(plugin: ModuleType) -> None:
    """A run has ended well."""
    run(app_with(plugin))

    assert plugin.ended == {"SUCCESS": 1}


@of("queuekit_make_broker")
def test_broker_is_wrapped(plugin: ModuleType) -> None:
    """What is received comes through it."""
    run(app_with(plugin))

    assert sum(plugin.counts) == 1


@of("queuekit_make_backend")
def test_backend_is_seen(plugin: ModuleType) -> None:
    """Core makes it all the same."""
    app = app_with(plugin)

    assert app.runtime.backend is not None
    assert plugin.seen == [str(app.runtime.backend_url)]


@of("queuekit_configure")
def test_app_is_refused(plugin: ModuleType) -> None:
    """With the plugin's own words, if it asks for too little."""
    good, bad = app_with(plugin, results_expire=7200), app_with(plugin, results_expire=60)

    assert good.runtime.config.results_expire == 7200
    with pytest.raises(ConfigError, match="results must be kept for at least an hour"):
        _ = bad.runtime


@of("queuekit_task_registered")
def test_tasks_are_heard_of(plugin: ModuleType) -> None:
    """The one without a time limit is kept."""
    app = app_with(plugin)
    app.task(name="quick", timeout=1)(lambda: None)

    _ = app.runtime

    assert plugin.endless == ["double"]


@of("queuekit_worker_boot")
def test_worker_is_refused(plugin: ModuleType) -> None:
    """Before any process is started."""
    supervisor = Supervisor(app_with(plugin), AppRef(target="shop:app"))

    with pytest.raises(ConfigError, match="SHOP_REGION"):
        supervisor.run()


@of("queuekit_worker_child_init")
def test_connection_is_opened(plugin: ModuleType) -> None:
    """Before the task runs."""
    run(app_with(plugin))

    assert plugin.shared["db"].execute("select 1").fetchone() == (1,)
    plugin.shared["db"].close()


@of("queuekit_worker_ready")
def test_file_is_written(plugin: ModuleType, tmp_path: Path) -> None:
    """With the name of the worker."""
    run(app_with(plugin))

    assert (tmp_path / "worker.ready").read_text(encoding="utf-8")


@of("queuekit_worker_stopping")
def test_file_is_taken_away(plugin: ModuleType, tmp_path: Path) -> None:
    """When the worker begins to stop."""
    (tmp_path / "worker.ready").touch()

    run(app_with(plugin))

    assert not (tmp_path / "worker.ready").exists()


@of("queuekit_worker_stopped")
def test_deliveries_are_added_up(plugin: ModuleType) -> None:
    """One was done."""
    run(app_with(plugin))

    assert plugin.total == Counter(done=1)


@of("queuekit_app_closing")
def test_end_is_told(plugin: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """When the app closes, and not before."""
    app = app_with(plugin)
    app.close()
    assert app.runtime.broker.counts([]) == {}
    assert not caplog.records

    app.close()

    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "closed after 1 tasks were declared"
    ]
