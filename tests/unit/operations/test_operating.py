"""What operators are told: queues without workers, silent workers, many dead letters, what a broker does not tell."""

import json
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from queuekit import Queuekit
from queuekit.backend import Page, Record
from queuekit.broker import Place, Stored
from queuekit.cli.message_view import as_document, as_text
from queuekit.cli.queues import _oldest
from queuekit.engines.memory import broker as memory_broker
from queuekit.envelope import Envelope
from queuekit.events import LogSubscriber, MessageDead
from queuekit.operations.admin import Admin
from queuekit.wire.presence import TTL
from queuekit.wire.records import worker_key
from support.working import burst, make_app


def present(app: Queuekit, *queues: str, name: str = "w", quiet: float = 0.0, **more: Any) -> None:
    """Let a worker say that it serves *queues*; *quiet* seconds ago."""
    body = json.dumps({"name": name, "queues": queues, **more}).encode()
    app.runtime.need_backend("test").put([Record(key=worker_key(name), body=body, ttl=TTL - quiet)])


def app_with_tasks(**settings: Any) -> Queuekit:
    """Return an app with a task on the default queue and one on another."""
    app = make_app(**settings)
    app.task(name="t")(lambda: None)
    app.task(name="post", queue="mail")(lambda: None)
    return app


def problems(app: Queuekit) -> list[str]:
    """Return what a check finds, but that the engine of these tests lives in one process."""
    return [line for line in Admin(app).check() if not line.startswith("broker: memory://")]


def test_names_the_queues_that_nobody_serves() -> None:
    """Of those that tasks are sent to, counting the workers that are there and the one that begins."""
    app = app_with_tasks()
    present(app, "other")
    admin = Admin(app)

    assert admin.declared_queues() == {"mail": ["post"], "default": ["t"]}
    assert admin.unserved(admin.declared_queues()) == ["mail", "default"]
    assert admin.unserved(admin.declared_queues(), own=["default"]) == ["mail"]


def test_the_start_of_a_worker_says_what_is_unserved() -> None:
    """With the queue that was meant where one was misspelt, and the command that helps."""
    app = app_with_tasks()

    assert Admin(app).unserved_by(["default", "mial"]) == [
        "no worker serves 'mail', the queue of post",
        "no task is sent to 'mial'; did you mean 'mail'?",
        "start one for all of them:  queuekit worker -q mail",
    ]
    assert Admin(app).unserved_by(["default", "mail"]) == []


def test_the_start_of_a_worker_names_a_few_of_many_queues() -> None:
    """Nobody reads a thousand lines, or types a thousand names."""
    app = make_app()
    for number in range(10, 23):
        app.task(name=f"t{number}", queue=f"q{number}")(lambda: None)

    found = Admin(app).unserved_by(["q10"])

    assert found[0] == "no worker serves 'q11', the queue of t11"
    assert found[10] == "2 more queues have no worker"
    named = ",".join(f"q{number}" for number in range(11, 21))
    assert found[11] == f"start one for the ones that are named:  queuekit worker -q {named}"
    assert len(found) == 12


def test_without_a_backend_nobody_knows() -> None:
    """Then no queue is called unserved."""
    app = app_with_tasks(backend="none")

    assert Admin(app).unserved(["mail"]) == []
    assert problems(app) == []


def test_check_is_content_before_the_first_worker() -> None:
    """An app that has not been started, and has nothing waiting, is sound."""
    assert problems(app_with_tasks()) == []


@pytest.mark.parametrize("delay", [0, 60])
def test_check_names_a_queue_where_messages_wait(delay: float) -> None:
    """Waiting or delayed, with the command that starts a worker."""
    app = app_with_tasks()
    app.tasks["post"].options(delay=delay).send()

    (problem,) = problems(app)

    assert problem == "queues: no worker serves 'mail'; 1 wait there. Start one:  queuekit worker -q mail"


def test_check_names_a_few_of_many_queues() -> None:
    """Nobody reads a thousand lines."""
    app = app_with_tasks()
    app.send_many(app.tasks["post"].s().options(queue=f"q{number:02}") for number in range(13))

    found = problems(app)

    assert [line.split()[4] for line in found[:-1]] == [f"'q{number:02}';" for number in range(10)]
    assert found[-1] == "queues: 3 more have no worker. See them:  queuekit queues"


def test_check_names_a_queue_that_was_left_out() -> None:
    """Where workers run, a queue of tasks that none of them serves is told of before anything waits."""
    app = app_with_tasks()
    present(app, "default")

    (problem,) = problems(app)

    assert "no worker serves 'mail'; post is sent there" in problem


def test_check_names_a_worker_that_fell_silent() -> None:
    """It does not count as one that serves its queues any more."""
    app = app_with_tasks()
    present(app, "default", "mail", name="good")
    present(app, "default", name="gone", quiet=60)
    present(app, "default", name="deaf", silent=70.2)

    found = problems(app)

    assert [problem.partition(":")[2].split()[0] for problem in found] == ["deaf", "gone"]
    assert {worker.name for worker in Admin(app).workers() or []} == {"good", "deaf"}


@pytest.mark.parametrize(
    "body", [b"5", b"{}", b'{"name":5}', b'{"name":"w","queues":7,"ages":[],"begun":{},"silent":"x"}']
)
def test_a_foreign_presence_harms_nobody(body: bytes) -> None:
    """Whatever lies under the key of a worker."""
    app = app_with_tasks()
    app.runtime.need_backend("test").put([Record(key=worker_key("w"), body=body, ttl=TTL)])

    assert [view.workers for view in Admin(app).queues()] == [0, 0]
    assert not [line for line in problems(app) if not line.startswith("queues: ")]


def app_with_letters(count: int, size: int) -> Queuekit:
    """Return an app with *count* dead letters of *size* bytes."""
    app = make_app()
    app.task(name="t")(lambda: None)
    body = b"\xff" * size
    app.runtime.broker.send([Envelope(id=f"id-{number:04}", queue="default", body=body) for number in range(count)])
    burst(app)
    return app


def test_many_dead_letters_are_read_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants a few does not read all of them."""
    app = app_with_letters(350, 10)
    asked = []

    def peek(self: Any, queue: str, **options: Any) -> Page[Stored]:
        asked.append(options["limit"])
        return plain(self, queue, **options)

    plain = memory_broker.MemoryBroker.peek
    monkeypatch.setattr(memory_broker.MemoryBroker, "peek", peek)
    letters = Admin(app).dead()

    assert [next(letters).id for _ in range(3)]
    assert len(asked) == 1
    assert max(asked) <= 100
    assert Admin(app).dead_count().dead == 350


def test_one_dead_letter_is_found_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """``retry ID`` asks for that id; none is listed."""
    app = app_with_letters(5, 10)
    admin = Admin(app)
    monkeypatch.setattr(memory_broker.MemoryBroker, "peek", None)

    assert admin.find_dead(["id-0003", "id-0001", "nobody"]) == {"default": ["id-0003", "id-0001"]}
    assert admin.replay("default", ["id-0003"]) == ["id-0003"]


def test_all_dead_letters_are_replayed_in_parts() -> None:
    """All of more than one part, the one that died first at the front."""
    app = app_with_letters(1_203, 10)

    replayed = Admin(app).replay("default")

    assert len(replayed) == 1_203
    assert Admin(app).dead_count().dead == 0


def untelling(app: Queuekit) -> Admin:
    """Return the view of an app whose broker shows dead letters alone."""
    broker: Any = app.runtime.broker
    broker.capabilities = attrs.evolve(broker.capabilities, inspect=False, remove=False)
    find = broker.find

    def dead(queue: str, ids: Sequence[str]) -> list[Stored]:
        return [stored for stored in find(queue, ids) if stored.place is Place.DEAD]

    broker.find = dead
    return Admin(app)


def test_records_tell_what_a_broker_does_not() -> None:
    """Delayed, held by the worker that says so, or one of two."""
    app = app_with_tasks()
    waiting, delayed, held = app.tasks["t"].send(), app.tasks["t"].options(delay=60).send(), app.tasks["t"].send()
    present(app, "default", begun=[held.id])
    admin, accepted = untelling(app), app.runtime.accepted

    documents = [as_document(admin.show(result.id), accepted) for result in (waiting, delayed, held)]

    assert [document["place"] for document in documents] == [None, "delayed", "leased"]
    assert [document["place_not_told_by"] for document in documents] == ["MEMORY", None, None]
    assert documents[2]["worker"] == "w"
    assert "MEMORY does not report which" in as_text(admin.show(waiting.id), accepted, now=0.0)


def test_a_dead_letter_is_found_where_no_others_are_told() -> None:
    """By its id, as its record names the queue."""
    app = app_with_letters(1, 10)

    view = untelling(app).show("id-0000")

    assert view.queued is not None
    assert view.queued.stored.place is Place.DEAD


def test_the_oldest_age_is_marked_where_only_workers_have_seen_it() -> None:
    """``>=`` before what they saw; else who does not tell."""
    app = app_with_tasks()
    app.tasks["t"].send()
    app.tasks["post"].send()
    present(app, "default", ages={"default": 12.0, "x": "y"})
    admin = untelling(app)
    broker: Any = app.runtime.broker
    counts = broker.counts
    broker.counts = lambda names: {name: attrs.evolve(one, oldest_age=None) for name, one in counts(names).items()}

    assert {view.name: _oldest(view, admin.untold) for view in admin.queues()} == {
        "default": ">=12s",
        "mail": "not reported by MEMORY",
    }


def test_many_dead_in_a_row_are_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones are logged in full, then one a second with how many there were before it."""
    now = [1000.0]
    monkeypatch.setattr("queuekit.events.time.monotonic", lambda: now[0])
    log = LogSubscriber()

    def die(count: int) -> list[str]:
        caplog.clear()
        for number in range(count):
            log(MessageDead(id=f"id-{number}", task="t", queue="q", reason="malformed"))
        return [record.getMessage() for record in caplog.records]

    assert len(die(1_000)) == 10
    now[0] += 1.5
    assert die(500) == ["dead t id-0 in q: malformed; 990 more since the last line"]
    now[0] += 60
    assert len(die(1_000)) == 10
