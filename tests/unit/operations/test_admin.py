"""What an operator does: look, cancel, replay, drop, purge, check."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Signature, State
from queuekit.backend import Record
from queuekit.broker import Broker, Capabilities, Dead, Place
from queuekit.envelope import Envelope
from queuekit.errors import CapabilityError, NoBackendError, OptionError, UnavailableError, UnknownIdError
from queuekit.events import MessageDead
from queuekit.hookspecs import Check, hookimpl
from queuekit.operations.admin import Admin
from queuekit.operations.kills import kill
from queuekit.wire.records import worker_key
from support.waiting import wait_until
from support.working import broker_of, burst, counts, flaky_app, make_app, seen, take_one, working


def fail(name: str = "x") -> None:
    """Raise."""
    raise ValueError(name)


def app_with_failures(count: int = 1, **settings: Any) -> tuple[Queuekit, list[str]]:
    """Return an app whose default queue has *count* dead letters, and their ids."""
    app = make_app(**settings)
    app.task(name="fail")(fail)
    results = [app.tasks["fail"].send(str(index)) for index in range(count)]
    burst(app)
    return app, [result.id for result in results]


def test_names_every_queue_it_can_know_of() -> None:
    """Those the broker knows, those of the config, those of tasks."""
    app = make_app(default_queue="usual", worker={"queues": "high,low"})
    app.task(name="t", queue="mail")(fail)
    app.send(Signature("t", queue="other"))

    assert Admin(app).queue_names() == ["high", "low", "mail", "other", "usual"]


def test_a_broker_that_cannot_list_leaves_the_known_names() -> None:
    """Queues of the config and of tasks are known without it."""
    app = make_app()
    app.send(Signature("t", queue="other"))
    app.runtime.broker.capabilities = Capabilities(inspect=False)

    assert Admin(app).queue_names() == ["default"]


def test_counts_messages_and_workers() -> None:
    """Each queue with what is where and who listens."""
    app, _ = app_with_failures()
    app.tasks["fail"].options(delay=60).send()

    with working(app):
        wait_until(lambda: Admin(app).queues()[0].workers)
        (view,) = Admin(app).queues()

    assert (view.name, view.workers) == ("default", 1)
    assert (view.counts.dead, view.counts.delayed, view.counts.ready) == (1, 1, 0)


def test_without_backend_nobody_knows_the_workers() -> None:
    """That is not the same as none."""
    app = make_app(backend="none")

    assert [view.workers for view in Admin(app).queues()] == [None]


def test_a_damaged_presence_record_is_passed_over() -> None:
    """Of many workers, in several pages, one that cannot be read harms nobody."""
    app = make_app()
    body = json.dumps({"name": "w", "queues": []}).encode()
    good = [Record(key=worker_key(f"w-{n:03}"), body=body) for n in range(150)]
    bad = [Record(key=worker_key("bad"), body=b"{"), Record(key=worker_key("number"), body=b"5")]
    app.runtime.need_backend("test").put([*good, *bad])

    assert len(Admin(app).workers() or []) == 150


def test_shows_all_that_is_known() -> None:
    """Record, place and contents of a message."""
    app, (id,) = app_with_failures()

    view = Admin(app).show(id)

    assert (view.info.state, view.info.error_type) == (State.FAILURE, "ValueError")
    assert view.queued is not None
    assert (view.queued.stored.place, view.queued.stored.reason, view.queued.task) == (Place.DEAD, "failed", "fail")
    assert view.message is not None
    assert view.message.args == ["0"]


def test_shows_a_message_whose_result_is_ignored() -> None:
    """The broker knows it, though no record does."""
    app = make_app()

    result = app.send(call(ignore_result=True))

    assert Admin(app).show(result.id).info.state is State.UNKNOWN


def call(**options: Any) -> Signature[Any]:
    """Return a call."""
    return Signature("fail", **options)


def test_shows_what_only_the_record_knows() -> None:
    """A message that is done has left the broker."""
    app = make_app()
    app.task(name="ok")(lambda: 1)
    result = app.tasks["ok"].send()
    burst(app)

    view = Admin(app).show(result.id)

    assert (view.info.state, view.queued, view.message) == (State.SUCCESS, None, None)


def test_shows_a_message_that_cannot_be_read() -> None:
    """It is shown as it lies there, without task and contents."""
    app = make_app()
    app.runtime.broker.send([Envelope(id="bad", queue="default", body=b"\xff")])

    view = Admin(app).show("bad")

    assert view.queued is not None
    assert (view.queued.task, view.message) == ("", None)


def test_an_id_that_nobody_knows_is_an_error() -> None:
    """It says why that may be."""
    with pytest.raises(UnknownIdError, match="results_expire"):
        Admin(make_app()).show("id-1")
    with pytest.raises(UnknownIdError, match="results_expire"):
        Admin(make_app()).cancel("id-1")


@pytest.mark.parametrize("options", [{}, {"delay": 3600}], ids=["waiting", "delayed"])
def test_cancels_what_waits(options: Any) -> None:
    """It leaves the queue at once and never runs."""
    app, _ = app_with_failures(0)
    result = app.send(call(**options))

    cancelled = app.cancel(result.id)

    assert (cancelled, result.state, counts(app)) == (True, State.CANCELLED, {})
    assert app.cancel(result.id) is False


def test_cancels_what_has_no_record() -> None:
    """A message whose result is ignored is taken out, and nothing is recorded."""
    app = make_app(backend="none")
    result = app.send(call())

    assert app.cancel(result.id) is True
    assert counts(app) == {}


def test_refuses_a_long_name_of_who_cancels() -> None:
    """Or kills: nothing happens."""
    app = make_app()
    sent = app.send(call())
    admin = Admin(app)

    with pytest.raises(OptionError, match="has 201 characters, above the limit of 200"):
        admin.cancel(sent.id, by="x" * 201)
    with pytest.raises(OptionError, match="has 201 characters, above the limit of 200"):
        kill(admin, sent.id, by="x" * 201, patience=0.0)

    assert (sent.state, admin.show(sent.id).cancellation) == (State.PENDING, None)


def test_cancel_of_a_running_task_leaves_a_mark() -> None:
    """The worker that holds it will find it."""
    app = make_app()
    result = app.send(call())
    take_one(app)

    cancelled = app.cancel(result.id)

    assert (cancelled, result.state) == (True, State.PENDING)
    assert app.runtime.need_backend("test").get([f"cancel:{result.id}"])


def test_cancel_of_a_running_task_needs_a_backend() -> None:
    """There is nowhere else to leave the mark."""
    app = make_app(backend="none")
    result = app.send(call())
    take_one(app)

    with pytest.raises(NoBackendError, match="cancelling a running task needs a result backend"):
        app.cancel(result.id)


@pytest.mark.parametrize(
    "able", [Capabilities(remove=False), Capabilities(inspect=False)], ids=["cannot-remove", "cannot-look"]
)
def test_cancels_by_mark_where_the_broker_cannot_remove(able: Capabilities) -> None:
    """The mark is seen when the message is fetched: it does not run."""
    app, _ = app_with_failures(0)
    app.runtime.broker.capabilities = attrs.evolve(able, commit=True)
    result = app.send(call())

    cancelled = app.cancel(result.id)
    worker = burst(app)

    assert (cancelled, result.state, dict(worker.stats)) == (True, State.CANCELLED, {"cancelled": 1})


def test_what_has_ended_cannot_be_cancelled() -> None:
    """A failure stays a failure."""
    app, (id,) = app_with_failures()

    assert app.cancel(id) is False
    assert app.info(id).state is State.FAILURE


def test_replays_dead_letters() -> None:
    """They run again with all their retries, and their record begins anew."""
    app, ids = app_with_failures(2)

    replayed = Admin(app).replay("default", [ids[0]])
    state = app.info(ids[0]).state
    burst(app)

    info = app.info(ids[0])
    assert (replayed, state, info.state, info.generation) == ([ids[0]], State.PENDING, State.FAILURE, 1)
    assert [queued.id for queued in Admin(app).dead("default")] == [ids[0], ids[1]]


def test_replays_all() -> None:
    """Without ids it is all of the queue, over several pages."""
    app, ids = app_with_failures(520)

    assert sorted(Admin(app).replay("default")) == sorted(ids)
    assert counts(app) == {"ready": 520}


def test_a_replay_records_nothing_for_results_that_are_ignored() -> None:
    """Nobody would ever finish that record."""
    app = make_app()
    app.task(name="fail", ignore_result=True)(fail)
    app.task(name="loud")(fail)
    quiet = [app.tasks["fail"].send("a"), app.send(Signature("loud", args=("a",), ignore_result=True))]
    burst(app)

    Admin(app).replay("default")

    assert [app.info(result.id).state for result in quiet] == [State.UNKNOWN, State.UNKNOWN]


def test_a_replay_needs_no_backend() -> None:
    """Without one there is just nothing to record."""
    app, ids = app_with_failures(backend="none")

    assert Admin(app).replay("default") == ids


def test_drops_dead_letters() -> None:
    """They are gone for good."""
    app, ids = app_with_failures(2)

    dropped = Admin(app).drop("default", [ids[0], "unknown"])

    assert dropped == [ids[0]]
    assert [queued.id for queued in Admin(app).dead()] == [ids[1]]


def test_purges() -> None:
    """All of a queue in one place; and the number of them."""
    app, _ = app_with_failures(2)
    app.send(call())

    purged = Admin(app).purge("default"), Admin(app).purge("default", Place.DEAD)

    assert (purged, counts(app)) == ((1, 2), {})


def test_lists_what_waits() -> None:
    """Next first, with the task's name."""
    app = make_app()
    app.send_many([call(id="a"), call(id="b", priority=9)])

    assert [(queued.id, queued.task) for queued in Admin(app).waiting("default")] == [("b", "fail"), ("a", "fail")]


def test_says_that_waiting_messages_cannot_be_shown() -> None:
    """A service that only counts is named."""
    app = make_app()
    app.runtime.broker.capabilities = Capabilities(inspect=False)

    with pytest.raises(CapabilityError, match="memory:// reports waiting messages only as counts"):
        Admin(app).waiting("default")


@pytest.mark.parametrize(
    "look",
    [lambda admin: list(admin.dead()), lambda admin: admin.find_dead(["a"])],
    ids=["list", "find"],
)
def test_says_that_nobody_keeps_dead_letters(look: Callable[[Admin], object]) -> None:
    """And what would keep them, in place of the name of a class."""
    app = make_app()
    app.send(call())
    app.runtime.broker.capabilities = Capabilities(inspect=False, dead_letters=False)

    with pytest.raises(CapabilityError, match=r"memory:// keeps no dead letters: .*they are deleted; Set backend"):
        look(Admin(app))


def test_check_tells_what_an_operator_should_know() -> None:
    """Plugins that failed, remarks of the engines, and options that the broker cannot carry."""
    app = make_app()
    app.task(name="t", priority=9, unique=True)(fail)
    app.runtime.broker.capabilities = Capabilities(priority=False, unique=False)

    lines = Admin(app).check()

    assert any(line.startswith("broker: memory:// lives in one process") for line in lines)
    assert any("t asks for unique" in line for line in lines)
    assert any("t asks for priority" in line for line in lines)


class Checking:
    """A plugin with two checks, the first of which fails."""

    @hookimpl
    def queuekit_checks(self, app: Queuekit) -> list[Check]:
        """Return both."""
        return [Check(name="broken", run=lambda: [str(1 // 0)]), Check(name="disk", run=lambda: ["full"])]


def test_check_tells_of_a_plugins_check_that_fails() -> None:
    """And of what the next one finds."""
    app = make_app()
    app.plugins.register(Checking())

    lines = Admin(app).check()

    assert lines[-2:] == [
        "broken: the check failed: ZeroDivisionError: integer division or modulo by zero",
        "disk: full",
    ]


def test_check_works_without_backend() -> None:
    """Nothing is asked of what is not there."""
    lines = Admin(make_app(backend="none")).check()

    assert not any(line.startswith("backend") for line in lines)


def test_check_raises_if_an_engine_is_down() -> None:
    """Then nothing else can be told."""
    app = flaky_app()
    broker_of(app).wire.cut = {"receive"}

    with pytest.raises(UnavailableError):
        Admin(app).check()


def test_a_dead_letter_is_an_event() -> None:
    """What can never run is told with its reason."""
    app = make_app()
    dead = seen(app, MessageDead)
    app.runtime.broker.send([Envelope(id="bad", queue="default", body=b"")])

    burst(app)

    assert [(event.id, event.reason, event.error) for event in dead] == [("bad", "malformed", "no header line")]


def test_works_without_counts() -> None:
    """Where the broker does not count, the list of queues is refused in words; checks and dead letters need none."""
    app = make_app(worker={"queues": "served"})
    app.task(name="lonely", queue="lonely")(print)
    died = app.send(Signature[None]("nobody", queue="served"))
    delivery = take_one(app, queue="served")
    app.runtime.broker.settle([Dead(delivery, reason="unknown")])
    broker = app.runtime.broker
    broker.capabilities = attrs.evolve(broker.capabilities, counts=False)
    object.__setattr__(broker, "counts", partial(Broker.counts, broker))

    with working(app):
        wait_until(lambda: Admin(app).workers())
        problems = Admin(app).check()

    with pytest.raises(CapabilityError, match="MemoryBroker cannot count messages"):
        Admin(app).queues()
    assert problems[-1:] == [
        "queues: no worker serves 'lonely'; lonely is sent there. Start one:  queuekit worker -q lonely"
    ]
    assert (Admin(app).dead_count("served").dead, died.id) == (1, delivery.id)
