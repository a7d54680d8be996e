"""Each page and a few actions on each engine that lasts; tests/dashboard/test_browser.py does more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit, every
from queuekit.operations.admin import Admin
from support.calls import AT_HAND, SERVED
from support.dashboards import browser_on, sent, with_tasks

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")


@pytest.fixture(scope="module", params=["sqlite", "redis", "mongo", pytest.param("aws", marks=pytest.mark.full)])
def app(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Queuekit]:
    """An app on an engine that lasts."""
    folder: Path = tmp_path_factory.mktemp("dashboard")
    made = with_tasks({**AT_HAND, **SERVED}[request.param](folder))
    yield made
    made.close()


def test_pages_are_shown_on_each_engine(app: Queuekit) -> None:
    """Each page answers, also where the engine does not report single messages."""
    app.schedules.add("nightly", every("5m"), app.tasks["add"].si(1, 2))
    id = sent(app, "add", 17, 4)
    browser = browser_on(app)
    paths = ["/", "/running", "/workers", "/dead", "/schedules", "/schedule?name=nightly", "/limits", "/tasks"]
    places = [f"/queue?name=default&place={place}" for place in ("ready", "delayed", "leased", "dead")]

    pages = [browser.get(path) for path in [*paths, *places, "/task?name=add", "/actions", "/plugins"]]
    message, listed = browser.get(f"/message?id={id}"), browser.get("/queue?name=default")

    assert {page.status for page in pages} == {200}
    assert "no worker serves its queue 'default'" in message.words.lower()
    assert id in listed.text


def test_actions_are_recorded_on_each_engine(app: Queuekit) -> None:
    """A pause, its end and a cancellation are done, and recorded with who did them."""
    id = sent(app, "add", 1, 2)
    browser = browser_on(app)

    paused = browser.post("/queue/pause", page="/queue?name=default", name="default", why="a repair")
    browser.post("/queue/resume", page="/queue?name=default", name="default")
    cancelled = browser.post("/message/cancel", page=f"/message?id={id}", id=id)

    assert "Paused by ann: a repair" in paused.words
    assert "Cancelled." in cancelled.words
    assert {(done.what, done.by) for done in Admin(app).actions()} == {
        (what, "ann") for what in ("pause", "resume", "cancel")
    }
