"""List the messages of a queue: page by page, by filters, and from records where the broker reports none."""

from typing import Any

import attrs
import pytest

from queuekit import Queuekit
from queuekit.backend import BackendCapabilities, Record
from queuekit.broker import Capabilities, Place
from queuekit.clock import VirtualClock
from queuekit.errors import CapabilityError, NoBackendError, OptionError
from queuekit.operations.admin import Admin
from queuekit.operations.filters import parse_filter
from queuekit.operations.listing import Listing, list_messages
from queuekit.wire.records import worker_key
from support.working import backend_of, broker_of, burst, flaky_app, make_app, take_one


def app_with(count: int, *, app: Queuekit | None = None, **options: Any) -> tuple[Queuekit, list[str]]:
    """Return an app with *count* messages of two tasks, and their ids."""
    app = app or make_app()
    for name in ("mail.send", "pay"):
        app.task(name=name)(lambda: 1 / 0)
    tasks = [app.tasks["mail.send"], app.tasks["pay"]]
    return app, [tasks[number % 2].options(**options).send().id for number in range(count)]


def ids(found: Listing) -> list[str]:
    """Return the ids of a page."""
    return [listed.id for listed in found.messages]


def test_pages_hold_each_message_once() -> None:
    """Until the last page, which has no cursor."""
    app, sent = app_with(7)
    found: list[str] = []
    cursor = None
    for _ in range(3):
        page = list_messages(Admin(app), "default", Place.READY, limit=3, cursor=cursor)
        found, cursor = [*found, *ids(page)], page.cursor

    assert (sorted(found), cursor) == (sorted(sent), None)


def test_a_filter_selects() -> None:
    """What does not match is looked at and left out."""
    app, sent = app_with(6)

    page = list_messages(Admin(app), "default", Place.READY, wanted=parse_filter(["task:mail.*"]))

    assert (sorted(ids(page)), page.looked) == (sorted(sent[::2]), 6)


@pytest.mark.parametrize("records", [False, True], ids=["broker", "records"])
def test_pages_of_a_filter_hold_each_match_once(*, records: bool) -> None:
    """However the matches lie in what is read at a time."""
    app, sent = app_with(150, app=mute(flaky_app()) if records else None)
    found: list[list[str]] = []
    cursor = None
    while cursor is not None or not found:
        page = list_messages(
            Admin(app), "default", Place.READY, wanted=parse_filter(["task:mail.*"]), limit=7, cursor=cursor
        )
        found, cursor = [*found, ids(page)], page.cursor

    assert sorted(id for part in found for id in part) == sorted(sent[::2])
    assert {len(part) for part in found[:-1]} == {7}


def test_a_filter_reads_much_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page looks at takes a few round trips, not one for each page of matches."""
    app, _ = app_with(1_100)
    asked: list[int] = []
    broker, peek = app.runtime.broker, app.runtime.broker.peek

    def counted(queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Any:
        asked.append(limit)
        return peek(queue, place=place, limit=limit, cursor=cursor)

    monkeypatch.setattr(broker, "peek", counted)
    page = list_messages(Admin(app), "default", Place.READY, wanted=parse_filter(["task:nothing"]), most=1_000)

    assert (page.looked, sum(asked), len(asked)) == (1_000, 1_000, 3)


def test_a_filter_that_selects_little_looks_at_so_many() -> None:
    """Nothing is read to its end; the cursor says where to go on."""
    app, sent = app_with(60)
    wanted = parse_filter(["task:nothing"])

    page = list_messages(Admin(app), "default", Place.READY, wanted=wanted, most=20)
    rest = list_messages(Admin(app), "default", Place.READY, cursor=page.cursor, limit=100)

    assert (ids(page), page.looked, len(ids(rest))) == ([], 20, 40)
    assert set(ids(rest)) < set(sent)


def test_each_state_has_its_facts() -> None:
    """When a delayed one is due, why a dead one died."""
    clock = VirtualClock()
    app, (dead,) = app_with(1, app=make_app(clock=clock))
    burst(app)
    late = app.tasks["pay"].options(delay=60).send().id
    admin = Admin(app)

    (delayed,) = list_messages(admin, "default", Place.DELAYED).messages
    (letter,) = list_messages(admin, "default", Place.DEAD).messages

    assert (delayed.id, delayed.due) == (late, clock.time() + 60)
    assert (letter.id, letter.reason, letter.error) == (dead, "failed", "ZeroDivisionError: division by zero")


def present(app: Queuekit, *runs: tuple[str, str]) -> None:
    """Write the presence of a worker that runs messages, each an id and a queue."""
    rows = ",".join(f'["{id}","pay","{queue}",4]' for id, queue in runs)
    body = f'{{"name":"w-1","queues":["default"],"runs":[{rows}]}}'.encode()
    app.runtime.need_backend("test").put([Record(key=worker_key("w-1"), body=body, ttl=120.0)])


def test_names_the_worker_of_a_running_message() -> None:
    """It reports what it runs; one that waits in it is held."""
    app, sent = app_with(2)
    take_one(app)
    take_one(app)
    present(app, (sent[0], "default"))

    page = list_messages(Admin(app), "default", Place.LEASED)

    assert {listed.id: listed.worker for listed in page.messages} == {sent[0]: "w-1", sent[1]: ""}


def mute(app: Queuekit) -> Queuekit:
    """Let the broker report no single messages."""
    broker_of(app).capabilities = Capabilities(inspect=False, dead_letters=False)
    return app


def test_records_tell_what_a_mute_broker_does_not() -> None:
    """What was sent and has not ended, without what workers report to run."""
    app, sent = app_with(3, app=mute(flaky_app()))
    late = app.tasks["pay"].options(delay=60).send().id
    present(app, (sent[0], "default"), ("other", "mail"))
    admin = Admin(app)

    ready = list_messages(admin, "default", Place.READY)
    pages = [ids(list_messages(admin, "default", place)) for place in (Place.DELAYED, Place.LEASED)]

    assert (sorted(ids(ready)), pages) == (sorted(sent[1:]), [[late], [sent[0]]])
    assert "does not report its messages" in ready.note


def test_says_what_the_records_need() -> None:
    """A backend, which can list; and one that can keep dead letters."""
    bare, _ = app_with(1, app=mute(flaky_app(backend="none")))
    plain, _ = app_with(1, app=mute(flaky_app()))
    backend_of(plain).capabilities = attrs.evolve(BackendCapabilities(), scan=False)

    for place in (Place.READY, Place.LEASED):
        with pytest.raises(NoBackendError, match="needs a result backend"):
            list_messages(Admin(bare), "default", place)
        with pytest.raises(CapabilityError, match="can list its records"):
            list_messages(Admin(plain), "default", place)
    with pytest.raises(CapabilityError, match="keeps no dead letters"):
        list_messages(Admin(plain), "default", Place.DEAD)
    with pytest.raises(CapabilityError, match="can list its records"):
        Admin(plain).fleet()
    assert Admin(plain).workers() is None


@pytest.mark.parametrize("cursor", ["nonsense", "9e", "\x00"])
def test_a_cursor_of_another_list_is_refused(cursor: str) -> None:
    """It is the user's mistake, so no traceback."""
    app, _ = app_with(3)

    with pytest.raises(OptionError, match="is not a place in this list"):
        list_messages(Admin(app), "default", Place.READY, cursor=cursor)
