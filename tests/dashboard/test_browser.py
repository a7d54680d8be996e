"""The dashboard in a real Chromium: each page at the width of a desk and of a phone, light and dark, and its actions.

Run by ``tox -e browser``; one test runs wherever Playwright is installed. With ``QUEUEKIT_TEST_SCREENSHOTS`` each page
is kept as a picture in that folder.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit, chain, every, group
from queuekit.broker import Place
from queuekit.operations.admin import Admin
from support.commands import environment, write
from support.dashboards import failed, sent, with_tasks
from support.engines import ENGINES
from support.waiting import PATIENCE, wait_until
from support.working import burst, counts, inside, make_app

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")

pytestmark = pytest.mark.no_cover
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = (
    "/",
    "/running",
    "/workers",
    "/dead",
    "/schedules",
    "/schedule?name=nightly",
    "/limits",
    "/tasks",
    "/task?name=add",
    "/actions",
    "/plugins",
    "/queue?name=default",
    "/queue?name=default&place=dead",
)
SIZES = {"desk": (1280, 900), "phone": (360, 740)}
ONE_WAITS = re.compile(r"Waiting\s*1")
APART = """[...document.querySelectorAll(".row > label[for]")].filter(label => {
  const field = document.getElementById(label.htmlFor)
  return field.offsetParent && field.offsetTop >= label.offsetTop + label.offsetHeight / 2
    && label.offsetLeft > label.parentElement.offsetLeft + 1
}).map(label => label.textContent)"""
"""Texts of the labels at the end of a line whose fields are on the next one."""
MODULE = """
from queuekit import Queuekit
from support.dashboards import with_tasks

app = with_tasks(Queuekit(broker={broker!r}))
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A Chromium without a screen."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("apt-get install chromium")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Served:
    """A dashboard that runs alone, and the app that it shows."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.app: Queuekit = with_tasks(make_app(broker=broker))
        write(folder, {"shop.py": MODULE.format(broker=broker)})
        paths = os.pathsep.join([str(Path(__file__).parents[1]), str(folder)])
        command = [sys.executable, "-m", "queuekit.cli", "--app", "shop:app", "dashboard", "--port", "0"]
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment(PYTHONPATH=paths), stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        self.address = self._process.stderr.readline().split()[-1]
        self.root = self.address.partition("/login")[0]

    def close(self) -> None:
        """End both."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self.app.close()


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=pytest.mark.full) for name in ("redis", "mongo"))])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A dashboard on each engine that has messages of each kind."""
    made = Served(tmp_path, ENGINES[request.param](tmp_path)["broker"])
    made.app.schedules.add("nightly", every("5m"), made.app.tasks["add"].si(1, 2))
    failed(made.app, 3)
    yield made
    made.close()


def opened(chromium: Any, served: Served, **options: Any) -> Any:
    """Return a page of a browser that has opened the dashboard with the address that it printed."""
    page = chromium.new_context(**options).new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(served.address)
    page.wait_for_url(f"{served.root}/")
    return page


def complaints(page: Any) -> list[str]:
    """Return a list that fills with what the browser says about scripts, styles and requests."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


@pytest.mark.full
def test_pages_fit_and_break_no_rule(chromium: Any, served: Served) -> None:
    """Each page loads without a complaint of the browser, and none is wider than a phone; scripts run."""
    add = served.app.tasks["add"]
    flow = served.app.send(chain(add.s(1, 2), group(add.s(10), add.s(20)), served.app.tasks["call"].si()))
    burst(served.app)
    (dead, *_) = inside(served.app, Place.DEAD)
    sent(served.app, "add", 1, 2)
    page = opened(chromium, served)
    told, pictures = complaints(page), os.environ.get("QUEUEKIT_TEST_SCREENSHOTS", "")

    for path in (*PAGES, f"/message?id={dead.envelope.id}", f"/message?id={flow.id}"):
        for name, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                answer = page.goto(served.root + path)
                page.wait_for_load_state("load")
                assert answer.status == 200, path
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, name)
                assert page.evaluate("typeof htmx") == "object"
                assert page.evaluate(APART) == [], (path, name)
                if pictures:
                    slug = "".join(letter if letter.isalnum() else "-" for letter in path[:24]).strip("-") or "overview"
                    page.screenshot(path=f"{pictures}/{slug}-{name}-{scheme}.png", full_page=True)
    page.context.close()

    assert told == []


@pytest.mark.full
def test_figures_are_renewed_while_a_page_is_open(chromium: Any, served: Served) -> None:
    """A page that is open shows what changes, without a load."""
    page = opened(chromium, served)
    page.evaluate("window.loaded = 'once'")

    sent(served.app, "add", 1, 2)
    page.locator(".tiles > div").filter(has_text=ONE_WAITS).wait_for()

    assert page.evaluate("window.loaded") == "once"
    page.context.close()


@pytest.mark.full
def test_operator_works_with_keys_alone(chromium: Any, served: Served) -> None:
    """The first key leads past the list of pages; a queue is opened and paused without a mouse."""
    page = opened(chromium, served)

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/queue?name=**")
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    page.locator("#why").focus()
    page.keyboard.type("a repair")
    page.keyboard.press("Enter")
    page.locator(".said").wait_for()

    assert [pause.why for pause in Admin(served.app).pauses()] == ["a repair"]
    page.context.close()


@pytest.mark.full
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_actions_work_with_and_without_scripts(chromium: Any, served: Served, *, scripts: bool) -> None:
    """An operator logs in, retries a group of dead letters, sends a call and cancels it, with a browser's own forms."""
    page = chromium.new_context(java_script_enabled=scripts).new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(served.address)
    if not scripts:
        page.get_by_role("button", name="Open the dashboard").click()
    page.wait_for_url(f"{served.root}/")

    page.goto(f"{served.root}/dead")
    page.get_by_role("button", name="Retry 3").click()
    page.locator(".said").first.wait_for()
    wait_until(lambda: counts(served.app) == {"ready": 3}, "all are back on their queue")
    page.goto(f"{served.root}/task?name=add")
    page.locator("textarea").first.fill("17")
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("It was cancelled by").wait_for()
    page.context.close()

    assert counts(served.app) == {"ready": 3}
    assert {action.what for action in Admin(served.app).actions()} == {"dlq retry", "send", "cancel"}


def test_operator_moves_what_waits(chromium: Any, served: Served) -> None:
    """The form that moves messages can be filled at the width of a phone, too, and the page says how far it is."""
    page = opened(chromium, served)
    told = complaints(page)
    for name, (width, height) in SIZES.items():
        ids = {sent(served.app, "add", number, queue=f"from-{name}") for number in range(3)}
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{served.root}/queue?name=from-{name}")

        page.locator("summary").click()
        assert page.evaluate(APART) == []
        page.locator("#to").fill(f"to-{name}")
        pictured(page, f"move-form-{name}")
        page.get_by_role("button", name="Move").click()
        page.locator(".said").first.wait_for()
        wait_until(partial(moved, served.app, f"to-{name}", ids), "all are on the other queue")
        page.goto(f"{served.root}/queue?name=from-{name}")
        page.get_by_text(f"Move of from-{name} to to-{name}: 3 of 3").wait_for()
        pictured(page, f"moved-{name}")

        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()

    assert told == []


def moved(app: Queuekit, queue: str, ids: set[str]) -> bool:
    """Return whether the messages *ids*, and no others, wait on *queue*."""
    return {stored.envelope.id for stored in app.runtime.broker.walk(queue, Place.READY)} == ids


def pictured(page: Any, name: str) -> None:
    """Keep a picture of the page, if that is asked for."""
    if folder := os.environ.get("QUEUEKIT_TEST_SCREENSHOTS", ""):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
