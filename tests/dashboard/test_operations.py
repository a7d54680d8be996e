"""Workers, schedules, limits, tasks and the rest: the pages say what the commands say, and act as they do."""

import re
from collections.abc import Iterator

import pytest

from queuekit import Queuekit, chain, every, group
from queuekit.backend import Record
from queuekit.limiting.slot_store import Slots, Wish
from queuekit.limiting.slots import SlotKey, Waiter
from queuekit.limits import Concurrency
from queuekit.operations.admin import Admin
from queuekit.operations.limits import list_limits
from queuekit.wire.pauses import drain_key
from queuekit.wire.records import worker_key
from support.dashboards import browser_on, sent, with_tasks
from support.waiting import wait_until
from support.working import burst, counts, make_app, take_one, working

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """An app with three tasks."""
    made = with_tasks(make_app())
    yield made
    made.close()


def test_workers_are_listed_and_drained(app: Queuekit) -> None:
    """A worker has a row with what it serves, and drains where somebody asks for it."""
    browser = browser_on(app)

    with working(app) as worker:
        wait_until(lambda: Admin(app).workers(), "it reports")
        page = browser.get("/workers").words
        name = browser.field("/workers", "name") or ""
        said = browser.post("/worker/drain", page="/workers", name=name).words
        asked = app.runtime.need_backend("this").get([drain_key(name)])
        worker.stop("it is drained")

    assert f"{name} " in page
    assert "working default" in page
    assert f"{name} takes no more messages" in said
    assert asked
    assert [(done.what, done.by, done.on) for done in Admin(app).actions()] == [("drain", "ann", name)]


def test_running_messages_are_listed(app: Queuekit) -> None:
    """What workers report to run is listed, longest first, with how long it runs."""
    rows = [["m-1", "add", "default", 3], ["m-2", "boom", "default", 70]]
    body = '{"name": "w-1", "queues": ["default"], "runs": ' + str(rows).replace("'", '"') + "}"
    app.runtime.need_backend("this").put([Record(key=worker_key("w-1"), body=body.encode(), ttl=120)])

    page = browser_on(app).get("/running").words

    assert re.search(r"m-2 boom default 1m10s w-1 m-1 add default 3\.\ds w-1", page)


def test_silent_worker_is_a_fault(app: Queuekit) -> None:
    """A worker that has not reported for a while is one, and the list says so."""
    record = Record(key=worker_key("w-1"), body=b'{"name": "w-1", "queues": ["default"]}', ttl=60)
    app.runtime.need_backend("this").put([record])
    browser = browser_on(app)

    assert "Worker w-1 has been silent for 60 s." in browser.get("/").words
    assert "silent default" in browser.get("/workers").words


def test_schedule_is_shown_run_and_paused(app: Queuekit) -> None:
    """A schedule has its words and next five ticks; it can be run now, paused and resumed, and that is recorded."""
    app.schedules.add("nightly", every("5m"), app.tasks["add"].si(1, 2))
    browser, form = browser_on(app), {"page": "/schedule?name=nightly", "name": "nightly"}

    listed, page = browser.get("/schedules").words, browser.get("/schedule?name=nightly").text
    run = browser.post("/schedule/run", **form).words
    paused = browser.post("/schedule/pause", **form).words
    resumed = browser.post("/schedule/resume", **form).words

    assert "nightly Every 5m add" in listed
    assert page.count('<span class="faint"><time') == 5
    assert "The call of nightly is sent." in run
    assert counts(app) == {"ready": 1}
    assert "nightly paused" in paused
    assert "nightly active" in resumed
    assert [done.what for done in Admin(app).actions()][::-1] == [
        f"schedules {what}" for what in ("run", "pause", "resume")
    ]


def test_slots_that_are_held_and_those_who_wait_are_shown(app: Queuekit) -> None:
    """Of a concurrency limit; the first who waits can be let in."""
    with app.limit("crm", key="acme", most=1):
        place, runtime = SlotKey("crm", "acme", Concurrency(1)), app.runtime
        slots = Slots(runtime.need_backend("a test"), runtime.broker, lease=30)
        slots.acquire([Wish(Waiter("", "other", "", 1), (place,))], runtime.now())
        browser = browser_on(app)

        page = browser.get("/limits").words
        browser.post("/limit/free", page="/limits", name="crm", key="acme")

        assert "1 1 when a slot is free" in page
        assert [(len(view.holders), view.waiting) for view in list_limits(app) if view.name == "crm"] == [(2, 0)]


def test_limits_are_set_and_given_back(app: Queuekit) -> None:
    """A limit gets other numbers, with who set them, and those of the code again."""
    browser = browser_on(app)

    browser.post("/limit/set", page="/limits", name="api", limit="5/s", burst="3")
    (view,) = list_limits(app)
    page = browser.get("/limits").words
    browser.post("/limit/unset", page="/limits", name="api")

    assert (view.limit, view.burst, view.set_by) == ("5/s", 3, "ann")
    assert re.search(r"api \S 5/s 3 ann 0 0 at once", page)
    assert [view.set_by for view in list_limits(app)] == [""]


def test_limit_that_is_none_is_refused(app: Queuekit) -> None:
    """Numbers that make no rate change nothing."""
    browser = browser_on(app)

    wrong = [
        browser.post("/limit/set", page="/limits", name="api", limit=limit, burst=burst)
        for limit, burst in (("much", ""), ("5/s", "-1"), ("5/s", "x"), ("0/s", ""))
    ]

    assert [page.status for page in wrong] == [400] * 4
    assert [view.set_by for view in list_limits(app)] == [""]


def test_task_is_sent_by_a_form_of_its_signature(app: Queuekit) -> None:
    """A task has a field for each parameter; numbers are read as such, and an empty one keeps its default."""
    browser = browser_on(app)

    form = browser.get("/task?name=add").text
    page = browser.post(
        "/task/send", page="/task?name=add", name="add", **{"arg.x": "17", "arg.y": "", "queue": "other"}
    )
    message = take_one(app, queue="other")

    assert 'name="arg.x"' in form
    assert 'placeholder="0"' in form
    assert "Sent." in page.words
    assert "x 17" in page.words
    assert [(done.what, done.on, done.ids) for done in Admin(app).actions()] == [
        ("send", "add", (message.envelope.id,))
    ]


def test_form_that_is_sent_twice_sends_one_message(app: Queuekit) -> None:
    """Two clicks on the button are one wish; a form that is loaded again is another."""
    browser = browser_on(app)
    first, second = (browser.field("/task?name=add", "id") or "" for _ in range(2))

    for id in (first, first, second):
        page = browser.post("/task/send", page="/task?name=add", name="add", id=id, **{"arg.x": "1"})
        assert id in page.words

    assert counts(app) == {"ready": 2}


def test_task_takes_many_arguments(app: Queuekit) -> None:
    """``*args`` are a list, and ``**kwargs`` an object; other values are refused."""
    browser, form = browser_on(app), {"page": "/task?name=call", "name": "call"}

    browser.post("/task/send", **form, **{"arg.urls": '["a", "b"]', "arg.options": '{"x": 1}'})
    wrong = browser.post("/task/send", **form, **{"arg.urls": "a"})
    burst(app)

    assert wrong.status == 400
    assert "urls is a list" in wrong.words
    assert counts(app) == {}


@pytest.mark.parametrize("fields", [{"arg.x": ""}, {"arg.x": "many"}, {"delay": "soon"}, {"queue": "a b"}])
def test_call_that_the_task_would_refuse(app: Queuekit, fields: dict[str, str]) -> None:
    """A call is checked as each send is, and nothing is sent."""
    page = browser_on(app).post("/task/send", page="/task?name=add", name="add", **{"arg.x": "1", **fields})

    assert page.status == 400
    assert counts(app) == {}


def test_unknown_task_is_not_found(app: Queuekit) -> None:
    """A task that the app does not have has no form."""
    assert browser_on(app).get("/task?name=nothing").status in {400, 404}


def test_workflow_is_shown_with_its_states(app: Queuekit) -> None:
    """A message of a workflow shows the parts in their order, groups with their members, each with its state."""
    add = app.tasks["add"]
    result = app.send(chain(add.s(1, 2), group(add.s(10), add.s(20)), app.tasks["call"].si()))
    browser = browser_on(app)

    waiting = browser.get(f"/message?id={result.id}.0").words
    burst(app)
    done = browser.get(f"/message?id={result.id}").words

    assert f"Workflow Chain {result.id}" in waiting
    assert f"pending add {result.id}.0 2 side by side not yet {result.id}.1.0" in waiting
    assert f"success add {result.id}.0 2 side by side success add {result.id}.1.0" in done


def test_plugins_and_capabilities_are_listed() -> None:
    """The page of plugins names what is loaded and what the engines do; no password of a URL is on it."""
    app = make_app(broker="memory://user:4711@here")

    page = browser_on(app).get("/plugins")

    assert "builtin queuekit" in page.words
    assert "fenced_ack native" in page.words
    assert "4711" not in page.text
    app.close()


def test_actions_are_listed_newest_first(app: Queuekit) -> None:
    """The log of actions says who did what, a hundred on a page."""
    admin = Admin(app)
    for number in range(102):
        admin.acted("purge", by="bob", on=f"queue-{number}", count=number)
    browser = browser_on(app)

    first, second = browser.get("/actions"), browser.get("/actions?from=100")

    assert first.words.count("bob purge") == 100
    assert second.words.count("bob purge") == 2
    assert "/actions?from=100" in first.text


def test_all_pages_are_shown_to_readers(app: Queuekit) -> None:
    """Somebody who may only look sees each page, without a form that changes anything."""
    app.schedules.add("nightly", every("5m"), app.tasks["add"].si(1, 2))
    id = sent(app, "add", 1, 2)
    browser = browser_on(app, role="read")
    paths = ["/", "/running", "/workers", "/dead", "/schedules", "/schedule?name=nightly", "/limits", "/tasks"]

    pages = [browser.get(path) for path in [*paths, "/task?name=add", "/actions", "/plugins", f"/message?id={id}"]]

    assert {page.status for page in pages} == {200}
    assert not any('method="post"' in page.text for page in pages)
