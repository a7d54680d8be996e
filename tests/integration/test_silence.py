"""Brokers that take a connection and are silent: a send gives up when its own time is over, not when theirs is."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from queuekit import Queuekit, Result, Signature, every
from queuekit.broker import Place
from queuekit.errors import ResultTimeout, UnavailableError
from queuekit.ids import new_id
from queuekit.operations.admin import Admin
from queuekit_testing.kit import in_thread
from support.silence import SILENT, silent_port
from support.waiting import PATIENCE

Send = Callable[[Queuekit], object]
SENDS: dict[str, Send] = {
    "one": lambda app: app.tasks["nothing"].send(),
    "many": lambda app: app.send_many(app.tasks["nothing"].s() for _ in range(3)),
}


def app_on(url: str) -> Queuekit:
    """Return an app with a task, whose sends take a fifth of a second at most."""
    app = Queuekit(broker=url, backend="none", send_timeout=0.2)

    @app.task(name="nothing")
    def nothing() -> None:
        """Do nothing."""

    return app


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS.keys())
@pytest.mark.parametrize("url", SILENT.values(), ids=SILENT.keys())
def test_a_send_to_a_silent_broker_ends(url: str, send: Send) -> None:
    """``send_timeout`` bounds connecting, handshakes, signing in and replies, whatever the engine's own timeouts."""
    with silent_port() as port:
        app = app_on(url.format(port=port))

        error = in_thread(lambda: send(app)).exception(PATIENCE)

        app.close()
    assert isinstance(error, UnavailableError)


ID = new_id()
LOOKS: dict[str, Send] = {
    "state": lambda app: Result[object](ID, app._make_results()).state,
    "progress": lambda app: Result[object](ID, app._make_results()).progress,
    "get": lambda app: Result[object](ID, app._make_results()).get(timeout=0.2),
    "handle": lambda app: app.result(ID),
    "cancel": lambda app: app.cancel(ID),
    "forget": lambda app: app.forget(ID),
    "show": lambda app: Admin(app).show(ID),
    "queues": lambda app: Admin(app).queues(),
    "workers": lambda app: Admin(app).workers(),
    "ping": lambda app: Admin(app).ping(),
    "purge": lambda app: Admin(app).purge("q"),
    "purge-dead": lambda app: Admin(app).purge("q", Place.DEAD),
    "dead": lambda app: list(Admin(app).dead("q")),
    "dead-count": lambda app: Admin(app).dead_count("q"),
    "find-dead": lambda app: Admin(app).find_dead([ID], "q"),
    "replay": lambda app: Admin(app).replay("q"),
    "replay-one": lambda app: Admin(app).replay("q", [ID]),
    "drop": lambda app: Admin(app).drop("q"),
    "drop-one": lambda app: Admin(app).drop("q", [ID]),
    "check": lambda app: Admin(app).check(),
    "schedule-added": lambda app: app.schedules.add("nightly", every("1h"), Signature("nothing")),
    "schedule-paused": lambda app: app.schedules.pause("nightly"),
    "schedule-removed": lambda app: app.schedules.remove("nightly"),
    "schedule-run": lambda app: app.schedules.run("nightly"),
    "schedules": lambda app: app.schedules.all(),
    "schedule": lambda app: app.schedules.get("nightly"),
}

TELLING = ("get", "cancel", "queues", "dead", "replay", "schedule-added")
"""Looks that are tried on each engine each time: a wait, a mark, and each kind of call of a broker or backend."""


@pytest.mark.parametrize(
    ("engine", "look"),
    [
        pytest.param(
            engine, look, id=f"{engine}-{name}", marks=() if engine == "redis" or name in TELLING else pytest.mark.full
        )
        for engine in ("redis", "mongo", "sqs")
        for name, look in LOOKS.items()
    ],
)
def test_a_look_into_a_silent_engine_ends(engine: str, look: Send) -> None:
    """Whoever asks for a state, cancels, or looks as an operator waits as long as a send does, at most."""
    with silent_port() as port:
        broker = SILENT[engine].format(port=port)
        backend = broker.replace("sqs", "dynamodb")
        app = Queuekit(broker=broker, backend=backend, send_timeout=0.2)

        error = in_thread(lambda: look(app)).exception(PATIENCE)

        app.close()
    assert isinstance(error, UnavailableError | ResultTimeout)


def test_a_send_to_a_locked_file_ends(tmp_path: Path) -> None:
    """So it is where another process keeps a transaction open."""
    app = app_on(f"sqlite:///{tmp_path}/jobs.db?busy_timeout=600")
    app.tasks["nothing"].send()
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    error = in_thread(app.tasks["nothing"].send).exception(PATIENCE)

    other.close()
    assert isinstance(error, UnavailableError)
    assert "locked by others until the timeout" in str(error)
