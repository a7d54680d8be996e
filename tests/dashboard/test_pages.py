"""The pages of the dashboard show what the operator's interface says, and its actions do what its commands do."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from queuekit import Queuekit, Signature
from queuekit.broker import Place
from queuekit.limits import arg
from queuekit.operations.admin import Admin
from support.dashboards import browser_on, failed, sent, with_tasks
from support.waiting import wait_until
from support.working import burst, counts, inside, make_app, take_one

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """An app with three tasks."""
    made = with_tasks(make_app())
    yield made
    made.close()


def test_overview_counts_messages_by_state(app: Queuekit) -> None:
    """The overview has a row for each queue, with its waiting, delayed and dead messages."""
    failed(app, 2)
    sent(app, "add", 1, 2)
    sent(app, "add", 1, 2, delay=1000)

    page = browser_on(app).get("/")

    assert page.status == 200
    assert re.search(r"default 1 \S 0 1 2", page.words)


def test_queue_shows_its_lanes() -> None:
    """The page of a queue has the lanes in which most messages wait; their keys are text, not markup."""
    app = make_app()
    app.task(name="report", fair_by=arg("tenant"))(lambda tenant: tenant)
    app.send_many([Signature("report", (tenant,)) for tenant in ("<b>", "acme", "acme")])

    page = browser_on(app).get("/queue?name=default")

    assert "Lane Waiting acme 2 <b> 1" in page.words
    app.close()


def test_overview_names_a_queue_that_nobody_serves(app: Queuekit) -> None:
    """Messages that no worker takes are a fault."""
    sent(app, "add", 1, 2)

    page = browser_on(app).get("/")

    assert "No worker serves default ; messages waiting there: 1." in page.words


def test_overview_names_many_queues_that_nobody_serves_in_one_line(app: Queuekit) -> None:
    """That line leads to these queues alone, so that on a phone the others are not below all of them."""
    for number in range(30):
        sent(app, "add", 1, 2, queue=f"far{number:02}", delay=number)
    browser = browser_on(app)

    page, alone = browser.get("/"), browser.get("/?unserved=yes")

    assert page.words.count("No worker serves") == 1
    assert "No worker serves 30 queues ; messages waiting there: 30." in page.words
    assert 'href="/?unserved=yes"' in page.text
    assert alone.text.count('href="/queue?name=far') == 30
    assert 'href="/queue?name=default"' not in alone.text


def test_unknown_message_is_searched_once(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search asks for the id in all queues, so the page of an unknown message makes one."""
    searched: list[str] = []
    broker: Any = type(app.runtime.broker)
    search = broker.search

    def counted(self: Any, queues: list[str], id: str) -> Any:
        searched.append(id)
        return search(self, queues, id)

    monkeypatch.setattr(broker, "search", counted)

    page = browser_on(app).get("/message?id=nobody")

    assert page.status == 404
    assert searched == ["nobody"]


def test_overview_is_a_page_at_a_time() -> None:
    """Of many queues, a page shows fifty, and leads to the next."""
    app = make_app(worker={"queues": {f"q{number:03}": 1 for number in range(120)}})
    browser = browser_on(app)

    first, last = browser.get("/"), browser.get("/?after=q098")

    assert first.text.count('href="/queue?name=') == 50
    assert "/?after=q048" in first.text
    assert last.text.count('href="/queue?name=') == 21
    assert "More queues" not in last.text
    app.close()


def test_queue_lists_messages_by_state_and_page(app: Queuekit) -> None:
    """Each state has a list, and a cursor leads on until the last page."""
    ids = [sent(app, "add", number, 0) for number in range(60)]
    later = sent(app, "add", 1, 2, delay=1000)
    browser = browser_on(app)

    first = browser.get("/queue?name=default")
    following = first.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    second, delayed = browser.get(following), browser.get("/queue?name=default&place=delayed")

    assert [id for id in ids if id in first.text] == ids[:50]
    assert [id for id in ids if id in second.text] == ids[50:]
    assert "Next page" not in second.text
    assert later in delayed.text


def test_queue_filters_messages(app: Queuekit) -> None:
    """A filter leaves only the messages that match; one that cannot be read is said to be wrong on the same page."""
    first, second = sent(app, "add", 1, 2), sent(app, "boom", 1)
    browser = browser_on(app)

    found, wrong = browser.get("/queue?name=default&filter=task:boom"), browser.get("/queue?name=default&filter=tusk:x")

    assert second in found.text
    assert first not in found.text
    assert "the filter cannot be read: no filter is named 'tusk'" in wrong.words


def test_queue_is_paused_and_resumed(app: Queuekit) -> None:
    """A pause is that of the command, with who did it, why, and for how long."""
    browser, admin = browser_on(app), Admin(app)

    page = browser.post("/queue/pause", page="/queue?name=default", name="default", lasts="1h", why="a repair")
    (pause,) = admin.pauses()
    ended = browser.post("/queue/resume", page="/queue?name=default", name="default")

    assert "Paused by ann: a repair, for another" in page.words
    assert (pause.by, pause.why) == ("ann", "a repair")
    assert 3500 < (pause.left or 0) <= 3600
    assert admin.pauses() == []
    assert "default is resumed." in ended.words
    assert {(done.what, done.by) for done in admin.actions()} == {("pause", "ann"), ("resume", "ann")}


def test_queue_is_purged_only_if_that_is_sure(app: Queuekit) -> None:
    """Messages are deleted for good only where the box is ticked."""
    sent(app, "add", 1, 2)
    browser, form = browser_on(app), {"page": "/queue?name=default", "name": "default", "place": "ready"}

    refused = browser.post("/queue/purge", **form)
    kept = counts(app)
    done = browser.post("/queue/purge", sure="yes", **form)

    assert refused.status == 400
    assert kept == {"ready": 1}
    assert counts(app) == {}
    assert "Messages deleted: 1." in done.words


def test_queue_is_moved_in_the_background(app: Queuekit) -> None:
    """What waits goes to another queue; the page shows how far it is, and the action is recorded with who did it."""
    ids = [sent(app, "add", number) for number in range(30)]
    browser, form = browser_on(app), {"page": "/queue?name=default", "name": "default"}

    nowhere = browser.post("/queue/move", to="", **form)
    itself = browser.post("/queue/move", to="default", **form)
    begun = browser.post("/queue/move", to="other", rate="1000/s", **form)
    wait_until(lambda: counts(app, queue="other") == {"ready": 30}, "all moved")
    wait_until(lambda: "30 of 30, done" in browser.get("/queue?name=default").words, "its end on the page")

    assert (nowhere.status, itself.status) == (400, 400)
    assert "The move of default to other has begun" in begun.words
    (action,) = Admin(app).actions()
    assert (action.what, action.by, action.on, action.count) == ("move", "ann", "default to other", 30)
    assert set(action.ids) == set(ids)


def test_reader_gets_no_form_to_move(app: Queuekit) -> None:
    """Nor may the reader send one."""
    sent(app, "add", 1, 2)
    reader = browser_on(app, role="read")

    answer = reader.post("/queue/move", page="/queue?name=default", name="default", to="other")

    assert "/queue/move" not in reader.get("/queue?name=default").text
    assert answer.status == 403
    assert counts(app) == {"ready": 1}


def test_message_shows_what_happened_and_why_it_waits(app: Queuekit) -> None:
    """A waiting message has its arguments by name, its timeline, and the answer of ``why``."""
    id = sent(app, "add", 17, 4)

    page = browser_on(app).get(f"/message?id={id}").words

    assert "No worker serves its queue 'default'" in page
    assert "x 17 y 4" in page
    assert "sent to default" in page


def test_message_shows_its_traceback_and_no_secret(app: Queuekit) -> None:
    """A dead letter has its error and traceback; an argument marked as secret never leaves the server."""
    (id,) = failed(app)

    page = browser_on(app).get(f"/message?id={id}")

    assert "ValueError: no 0" in page.words
    assert "Traceback (most recent call last)" in page.words
    assert "card &#34;***&#34;" in page.text or '"***"' in page.words
    assert "4711" not in page.text


def test_message_shows_a_result(app: Queuekit) -> None:
    """A message that has ended well has its result."""
    id = sent(app, "add", 1, 2)
    burst(app)

    page = browser_on(app).get(f"/message?id={id}").words

    assert "SUCCESS" in page
    assert "Result 3" in page


def test_message_that_nobody_knows(app: Queuekit) -> None:
    """An id that was never sent is not found."""
    page = browser_on(app).get("/message?id=nobody")

    assert page.status == 404
    assert "unknown id 'nobody'" in page.words


def test_message_is_cancelled(app: Queuekit) -> None:
    """A waiting message is cancelled as the command does it."""
    id = sent(app, "add", 1, 2)
    browser = browser_on(app)

    page = browser.post("/message/cancel", page=f"/message?id={id}", id=id)

    assert "It was cancelled by ann" in page.words
    assert counts(app) == {}
    assert [done.what for done in Admin(app).actions()] == ["cancel"]


def test_dead_letter_is_retried(app: Queuekit) -> None:
    """A dead letter goes back on its queue."""
    (id,) = failed(app)

    browser_on(app).post("/message/retry", page=f"/message?id={id}", id=id, queue="default")

    assert [one.envelope.id for one in inside(app, Place.READY)] == [id]


def test_dead_letter_is_deleted(app: Queuekit) -> None:
    """A dead letter is deleted for good where the box is ticked."""
    (id,) = failed(app)
    browser, form = browser_on(app), {"page": f"/message?id={id}", "id": id, "queue": "default"}

    refused = browser.post("/message/drop", **form)
    browser.post("/message/drop", sure="yes", **form)

    assert refused.status == 400
    assert counts(app) == {}


def test_stack_of_what_does_not_run(app: Queuekit) -> None:
    """A message that waits has no stack, and the page says why."""
    id = sent(app, "add", 1, 2)

    page = browser_on(app).post("/message/stack", page=f"/message?id={id}", id=id)

    assert "It does not run: it waits in its queue." in page.words


def test_dead_letters_are_grouped_and_retried_at_a_rate(app: Queuekit) -> None:
    """Dead letters with one fault are one group; all of them go back, and the action is recorded once."""
    ids = failed(app, 3)
    browser = browser_on(app)
    kind = browser.field("/dead", "fingerprint") or ""

    page = browser.post("/dead/retry", page="/dead", fingerprint=kind, rate="1000/s", queue="", filter="")
    wait_until(lambda: len(Admin(app).actions()) == 1, "the action is recorded")

    assert kind in page.words
    assert sorted(one.envelope.id for one in inside(app, Place.READY)) == sorted(ids)
    (done,) = Admin(app).actions()
    assert (done.what, done.by, done.count, done.on) == ("dlq retry", "ann", 3, f"fingerprint:{kind}")


def test_dead_letters_are_deleted_by_group(app: Queuekit) -> None:
    """The dead letters of a group are deleted, and no others."""
    failed(app, 2)
    sent(app, "add", "x", "y")
    delivery = take_one(app)
    browser = browser_on(app)
    kind = browser.field("/dead", "fingerprint") or ""

    browser.post("/dead/drop", page="/dead", fingerprint=kind, sure="yes", queue="default", filter="")
    wait_until(lambda: "dead" not in counts(app), "they are gone")

    assert counts(app) == {"leased": 1}
    assert delivery.envelope.queue == "default"


def test_retry_of_many_is_stopped(app: Queuekit) -> None:
    """What runs at a rate can be stopped; the rest stay dead letters."""
    failed(app, 3)
    browser = browser_on(app)
    kind = browser.field("/dead", "fingerprint") or ""

    browser.post("/dead/retry", page="/dead", fingerprint=kind, rate="1/h", queue="", filter="")
    wait_until(lambda: counts(app).get("ready") == 1, "the first step is done")
    browser.post("/dead/stop", page="/dead", id=browser.field("/dead", "id") or "")
    wait_until(lambda: len(Admin(app).actions()) == 1, "it is stopped")

    assert counts(app) == {"ready": 1, "dead": 2}
    assert "1 of 3, stopped" in browser.get("/dead").words


def test_pages_work_below_a_path(app: Queuekit) -> None:
    """Mounted below a path, all links and forms lead below it."""
    sent(app, "add", 1, 2)
    browser = browser_on(app, root="/admin/queue")

    page = browser.get("/")
    purged = browser.post("/queue/purge", page="/queue?name=default", name="default", place="ready", sure="yes")

    assert 'href="/admin/queue/queue?name=default"' in page.text
    assert 'href="/queue' not in page.text
    assert "Messages deleted: 1." in purged.words


def test_events_say_that_there_are_figures(app: Queuekit) -> None:
    """The stream of events begins with one, so that a page shows the figures of now."""
    answer = browser_on(app).get("/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == "event: figures\ndata: changed\n\n"


def test_reader_sees_no_action(app: Queuekit) -> None:
    """Somebody who may only look sees no form that changes anything."""
    (id,) = failed(app)
    browser = browser_on(app, role="read")

    pages = [browser.get(path).text for path in ("/queue?name=default", f"/message?id={id}", "/dead")]

    assert not any('method="post"' in page for page in pages)
