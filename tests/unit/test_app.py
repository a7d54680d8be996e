"""The app: what it reads and opens, and when."""

import asyncio
import enum
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit, Result, Signature, Task
from queuekit.errors import ConfigError, UnknownSchemeError
from queuekit.hookspecs import hookimpl
from queuekit_testing.kit import unique_name
from support.working import burst, make_app


def test_making_one_reads_and_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad config file is found at first use, not at import."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queuekit.toml").write_text("brokr = 1")
    app = Queuekit()
    app.task(name="t")(print)

    with pytest.raises(ConfigError, match="brokr"):
        app.send(Signature("t"))


def test_an_unknown_scheme_is_found_at_first_use() -> None:
    """The error names scheme and setting."""
    app = Queuekit(broker="nosuch://host")

    with pytest.raises(UnknownSchemeError, match="nosuch"):
        app.send(Signature("t"))


def test_the_command_line_wins() -> None:
    """``configure`` stands above the arguments, also when the app was in use already."""
    app = make_app(default_queue="a")
    before = app.config.default_queue

    app.configure({"default_queue": "b"})

    assert (before, app.config.default_queue, app.config.origin("default_queue")) == ("a", "b", "command line")


def test_another_configuration_holds_though_an_engine_does_not_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged, and the other engine is closed all the same."""
    app, closed = make_app(backend=f"memory://{unique_name('r')}"), list[int]()
    runtime = app.runtime

    def refuse() -> None:
        raise OSError("it is gone")

    monkeypatch.setattr(runtime.broker, "close", refuse)
    monkeypatch.setattr(runtime.need_backend("a test"), "close", lambda: closed.append(1))

    app.configure({"default_queue": "b"})

    assert (app.runtime.config.default_queue, closed) == ("b", [1])
    assert "it is gone" in caplog.text
    app.close()


def test_another_configuration_closes_what_was_open(tmp_path: Path) -> None:
    """The connections of the settings before would stay open for as long as the process lives."""
    file = tmp_path / "queue.db"
    app = make_app(broker=f"sqlite:///{file}", backend=None)
    used = app.runtime
    app.send(Signature("t"))
    assert file in _open_files()

    app.configure({"default_queue": "b"})

    assert file not in _open_files()
    assert used is not app.runtime


def _open_files() -> set[Path]:
    return {Path(name.resolve()) for name in Path("/proc/self/fd").iterdir()}


def test_a_config_file_can_be_named(tmp_path: Path) -> None:
    """It is read in place of the one that would be found."""
    file = tmp_path / "other.toml"
    file.write_text('default_queue = "c"')
    app = make_app()

    app.configure(path=str(file))
    app.configure({"worker.concurrency": 3})

    assert (app.config.default_queue, app.config.worker.concurrency) == ("c", 3)


def test_parts_are_made_once() -> None:
    """Config, plugins and engines are the same for all who ask."""
    app = make_app()

    assert app.config is app.config
    assert app.plugins is app.plugins
    assert app.runtime is app.runtime


def test_works_again_after_it_was_closed() -> None:
    """Connections open when they are used."""
    app = make_app()
    app.task(name="t")(lambda: 1)
    asyncio.run(app.asend(Signature("t")))
    app.close()
    app.close()

    result = asyncio.run(app.tasks["t"].asend())
    burst(app)

    assert result.get(timeout=1) == 1
    app.close()


def test_closing_an_app_that_was_never_used_opens_nothing() -> None:
    """There is nothing to close."""
    app = Queuekit(broker="nosuch://host")

    app.close()

    assert app._runtime is None


class Listener:
    """A plugin that keeps what it is told."""

    queuekit_api = (1, 0)

    def __init__(self) -> None:
        self.told: list[str] = []

    @hookimpl
    def queuekit_configure(self, app: Queuekit) -> None:
        """Keep that the app is configured."""
        self.told.append("configured")

    @hookimpl
    def queuekit_task_registered(self, task: Task[..., Any]) -> None:
        """Keep the task's name."""
        self.told.append(task.name)

    @hookimpl
    def queuekit_app_closing(self, app: Queuekit) -> None:
        """Keep that the app closes."""
        self.told.append("closing")


def test_plugins_hear_of_every_task_and_of_the_end() -> None:
    """Of tasks registered before they were loaded as well as after, of the config once, and of the close."""
    app, listener = make_app(), Listener()
    app.task(name="early")(lambda: None)
    app.plugins.register(listener)
    app.task(name="late")(lambda: None)
    _ = app.runtime

    app.close()

    assert listener.told == ["configured", "early", "late", "closing"]


def test_two_apps_of_one_url_share_its_queues() -> None:
    """Each is an app of its own, on the same engine."""
    url = f"memory://{unique_name('shared')}"
    sender, worker = make_app(broker=url), make_app(broker=url)
    assert sender.runtime.broker is not worker.runtime.broker
    worker.task(name="t")(lambda: "done there")

    result: Result[str] = sender.send(Signature("t"))
    burst(worker)

    assert result.get(timeout=1) == "done there"


def test_chance_is_the_apps_own() -> None:
    """The same seed gives the same tokens and waits."""
    chance = random.Random(3)
    app = Queuekit(broker="memory://x", chance=chance)

    assert app.runtime.random is chance


class Names(enum.StrEnum):
    """A queue's name, as an application keeps it."""

    MAIL = "mail"


class Sizes(enum.IntEnum):
    """A number of tasks, likewise."""

    SMALL = 2


@pytest.mark.parametrize("queues", [{Names.MAIL: 2}, [Names.MAIL], Names.MAIL], ids=["table", "list", "name"])
def test_what_a_worker_is_told_is_plain(queues: Any) -> None:
    """Its processes read it before they import the module of an Enum."""
    app = make_app(broker="sqlite:///jobs.db")
    launch: Any = app.worker(queues=queues, concurrency=Sizes.SMALL)
    app.configure({"default_queue": Names.MAIL})

    told = str([*map(pickle.dumps, (launch._overrides, app._overrides))])

    assert "mail" in told
    assert __name__ not in told
