"""Unique keys that let the newest arguments win, in virtual time."""

import asyncio
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Signature, UniqueKey, chain
from queuekit.broker import Place
from queuekit.client.requirements import require, unmet_requirements
from queuekit.control import Retry
from queuekit.errors import CapabilityError, OptionError, UnavailableError
from queuekit.operations.admin import Admin
from queuekit.operations.why import collect, reasons
from queuekit.schedules.triggers import every
from queuekit.states import State
from queuekit.wire.merges import MERGE, KeyState, read_state
from queuekit_testing.application.clock import StandingClock
from queuekit_testing.application.queue import AppQueue
from support.working import backend_of, broker_of, flaky_app, make_app

DEBOUNCE = UniqueKey(by="page", on_conflict="debounce", quiet=2, max_wait=5)
LATEST = UniqueKey(by="page", on_conflict="latest")


def same(page: str, n: int = 0) -> int:
    """Return the second argument."""
    return n


@attrs.define
class Scene:
    """An app with tasks of both kinds, and its queue."""

    app: Queuekit
    queue: AppQueue
    ran: list[tuple[str, Any]] = attrs.field(factory=list)
    during: list[Any] = attrs.field(factory=list)
    """Called by the bodies, one each."""

    def body(self, page: str, n: Any = 0) -> Any:
        """Note the arguments."""
        self.ran.append((page, n))
        if self.during:
            self.during.pop(0)()
        return n

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        """Send a call."""
        return self.app.send(Signature[Any](task, args, **options))

    def state(self) -> KeyState:
        """Return the state of the only key."""
        (record,) = self.app.runtime.need_backend("a test").walk(MERGE)
        return read_state(record)

    def left(self) -> list[str]:
        """Return the keys of the records that are no results."""
        records = self.app.runtime.need_backend("a test").walk("")
        return [record.key for record in records if not record.key.startswith(("result:", "action:"))]


def make(app: Queuekit, clock: StandingClock) -> Scene:
    """Return a scene on *app*."""
    scene = Scene(app, AppQueue(app, clock))
    app.task(name="rebuild", unique=DEBOUNCE)(scene.body)
    app.task(name="sync", unique=LATEST, retries=2)(scene.body)
    return scene


@pytest.fixture(params=["shared", "apart", "copies"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Return a scene on one engine, on separate ones, or on a broker that keeps a repeated send as one more."""
    clock = StandingClock()
    app = make_app(clock=clock) if request.param == "shared" else flaky_app(clock=clock)
    if request.param == "copies":
        broker: Any = app.runtime.broker
        broker.capabilities = attrs.evolve(broker.capabilities, dedup=False, inspect=False, remove=False)
    made = make(app, clock)
    yield made
    made.queue.close()
    app.close()


def test_a_burst_of_calls_runs_with_the_last_arguments(scene: Scene) -> None:
    """50 calls in 10 s, quiet 2 s, at most 5 s: the newest arguments each time, at most 5 s after the first call."""
    sent = []
    for n in range(50):
        sent.append(scene.send("rebuild", "a", n))
        scene.queue.run(until=0.2)
    scene.queue.run(until=10)

    assert scene.ran == [("a", 24), ("a", 49)]
    assert [one.duplicate for one in sent] == [n not in (0, 25) for n in range(50)]
    assert [one.merged for one in sent] == [one.duplicate for one in sent]
    assert {one.get() for one in sent[:25]} == {24}
    assert {one.get() for one in sent[25:]} == {49}
    assert scene.left() == []


def test_a_single_debounced_call_runs_after_the_quiet_time(scene: Scene) -> None:
    """It needs one delivery."""
    scene.send("rebuild", "a", 1)

    assert scene.queue.run(until=1.9).done == 0
    assert scene.queue.run(until=0.2).done == 1


def test_other_values_have_keys_of_their_own(scene: Scene) -> None:
    """Calls with other values do not wait for each other."""
    scene.send("rebuild", "a", 1)
    scene.send("rebuild", "b", 2)
    scene.send("rebuild", None, 3)
    scene.send("rebuild", None, 4)

    scene.queue.run(until=3)

    assert sorted(map(str, scene.ran)) == ["('a', 1)", "('b', 2)", "(None, 3)", "(None, 4)"]


def test_a_hundred_calls_during_a_run_become_one_more(scene: Scene) -> None:
    """The one that waits has the last arguments; nobody waits for more than it."""
    sent: list[Any] = []
    scene.during.append(lambda: sent.extend(scene.send("sync", "a", n) for n in range(1, 101)))
    first = scene.send("sync", "a", 0)

    scene.queue.run()

    assert scene.ran == [("a", 0), ("a", 100)]
    assert len({one.id for one in sent}) == 1
    assert sent[0].id != first.id
    assert [one.merged for one in sent] == [False, *[True] * 99]
    assert sent[0].get() == 100
    assert scene.left() == []


def test_calls_before_the_start_are_taken_in(scene: Scene) -> None:
    """A message that waits for a worker takes the newest arguments, too."""
    sent = [scene.send("sync", "a", n) for n in range(5)]

    scene.queue.run()

    assert scene.ran == [("a", 4)]
    assert len({one.id for one in sent}) == 1


def test_the_key_is_held_through_retries(scene: Scene) -> None:
    """What waits starts only after the last attempt."""

    def fail() -> None:
        scene.send("sync", "a", len(scene.ran))
        raise Retry(after=10)

    scene.during += [fail, fail]
    scene.send("sync", "a", "first")

    scene.queue.run(until=60)

    assert scene.ran == [("a", "first"), ("a", "first"), ("a", "first"), ("a", 2)]
    assert scene.left() == []


@pytest.mark.parametrize("task", ["sync", "rebuild"])
def test_a_crash_keeps_the_newest_arguments(scene: Scene, task: str) -> None:
    """The message of a dead worker runs again with what it had taken; what waits follows it."""
    for n in range(3):
        scene.send(task, "a", n)
    scene.queue.advance(3)
    scene.queue.run_one()  # its message takes the newest arguments
    with scene.queue.crash():
        scene.queue.run_one()
    for n in range(3, 6):
        scene.send(task, "a", n)

    scene.queue.run(until=120)

    assert scene.ran[0] == ("a", 2)
    assert sorted(scene.ran[1:]) == [("a", 2), ("a", 5)]
    assert task == "rebuild" or scene.ran[-1] == ("a", 5)
    assert scene.left() == []


def test_what_waits_follows_a_message_that_failed(scene: Scene) -> None:
    """A dead letter frees the key."""

    def fail() -> None:
        scene.send("sync", "a", 1)
        raise OSError

    scene.during.append(fail)
    app_options = {"retries": 0}
    scene.send("sync", "a", 0, **app_options)

    scene.queue.run(raises=False)

    assert scene.ran == [("a", 0), ("a", 1)]


def test_a_replayed_message_does_not_run_beside_another(scene: Scene) -> None:
    """It waits until the key is free, and what waits goes on waiting."""
    if not scene.app.runtime.broker.capabilities.inspect:
        pytest.skip("the dead letters of this broker cannot be listed")
    scene.during.append(lambda: (_ for _ in ()).throw(OSError()))
    first = scene.send("sync", "a", "old", retries=0)
    scene.queue.run(raises=False)
    scene.send("sync", "a", "new")
    Admin(scene.app).replay("default", [first.id])

    scene.queue.run(until=60)

    assert sorted(scene.ran) == [("a", "new"), ("a", "old"), ("a", "old")]
    assert scene.left() == []


def test_many_calls_at_once_are_merged(scene: Scene) -> None:
    """``send_many`` takes one round for all keys; calls without a key go along in their places."""
    calls = [Signature[Any](task, (page, n)) for n in range(3) for task in ("sync", "rebuild") for page in "ab"]
    scene.app.task(name="plain")(scene.body)

    sent = scene.app.send_many([*calls, Signature("plain", ("c",))])
    scene.queue.run(until=3)

    assert [one.merged for one in sent] == [False] * 4 + [True] * 8 + [False]
    assert sorted(scene.ran) == [("a", 2), ("a", 2), ("b", 2), ("b", 2), ("c", 0)]


def test_coroutines_send_as_well(scene: Scene) -> None:
    """Each gets the handle of the message that takes its call in."""

    async def main() -> list[Any]:
        return [await scene.app.asend(Signature[Any]("sync", ("a", n))) for n in range(3)]

    sent = asyncio.run(main())
    scene.queue.run()

    assert scene.ran == [("a", 2)]
    assert [one.merged for one in sent] == [False, True, True]


def test_a_send_with_an_id_counts_once(scene: Scene) -> None:
    """A repetition returns the same id, before and after the run."""
    first = scene.send("sync", "a", 1, id="mine")
    again = scene.send("sync", "a", 1, id="mine")
    scene.queue.run()
    late = scene.send("sync", "a", 1, id="mine")
    scene.queue.run()

    assert first.id == again.id == late.id == "mine"
    assert scene.ran == [("a", 1)]


def test_the_newest_options_win(scene: Scene) -> None:
    """Priority and expiry are those of the newest call; one that has expired does not run."""
    scene.send("rebuild", "a", 1)
    sent = scene.send("rebuild", "a", 2, expires=1, priority=9)

    scene.queue.run(until=5)

    assert scene.ran == []
    assert sent.state is State.EXPIRED
    assert scene.left() == []


def test_a_delay_is_kept(scene: Scene) -> None:
    """The first delay of a message that waits counts."""
    scene.send("sync", "a", 1, delay=30)
    scene.send("sync", "a", 2)

    assert scene.queue.run(until=29).done == 0
    assert scene.queue.run(until=2).done == 1
    assert scene.ran == [("a", 2)]


def test_a_cancelled_message_takes_in_no_more_calls(scene: Scene) -> None:
    """The next call begins anew."""
    first = scene.send("rebuild", "a", 1)
    assert first.cancel()

    second = scene.send("rebuild", "a", 2)
    scene.queue.run(until=10)

    assert second.id != first.id
    assert scene.ran == [("a", 2)]


def test_what_waits_for_an_end_can_be_cancelled(scene: Scene) -> None:
    """It never runs, and the running message ends as usual."""
    sent: list[Any] = []

    def cancel() -> None:
        sent.append(scene.send("sync", "a", 1))
        assert sent[0].cancel()

    scene.during.append(cancel)
    scene.send("sync", "a", 0)

    scene.queue.run(until=5)

    assert scene.ran == [("a", 0)]
    assert sent[0].state is State.CANCELLED


def test_the_end_by_a_cancellation_sends_what_waits(scene: Scene) -> None:
    """A message that waits for a retry and is cancelled frees its key."""
    if not scene.app.runtime.broker.capabilities.remove:
        pytest.skip("this broker removes no messages")

    def fail() -> None:
        scene.send("sync", "a", 1)
        raise Retry(after=3600)

    scene.during.append(fail)
    first = scene.send("sync", "a", 0)
    scene.queue.run()
    assert first.cancel()

    scene.queue.run(until=5)

    assert scene.ran == [("a", 0), ("a", 1)]
    assert scene.left() == [f"cancel:{first.id}"]


def test_why_says_what_a_message_waits_for(scene: Scene) -> None:
    """Both of them: for the end of another message, and for the quiet time; and shows the newest arguments."""
    found: list[Any] = []

    def look() -> None:
        waiting = scene.send("sync", "a", 1)
        found.append(reasons(collect(Admin(scene.app), waiting.id))[0])

    scene.during.append(look)
    running = scene.send("sync", "a", 0)
    scene.queue.run()
    quiet = scene.send("rebuild", "a", 0)
    scene.send("rebuild", "a", 7)
    facts = collect(Admin(scene.app), quiet.id)

    assert found[0].code == "latest"
    assert f"it waits until {running.id} has ended" in found[0].text
    assert reasons(facts)[0].code == "debounced"
    if scene.app.runtime.broker.capabilities.inspect:
        assert facts.view is not None
        assert facts.view.message is not None
        assert facts.view.message.args == ["a", 7]


def test_a_sender_that_dies_before_its_message_is_sent_loses_nothing() -> None:
    """The next call sends the message; until then ``check`` reports it."""
    clock = StandingClock()
    scene = make(flaky_app(clock=clock), clock)
    wire = broker_of(scene.app).wire

    def die() -> None:
        raise KeyboardInterrupt

    wire.answers["send"] = die
    backend_of(scene.app).wire.cut.add("delete")
    with pytest.raises(KeyboardInterrupt):
        scene.send("rebuild", "a", 1)
    backend_of(scene.app).wire.cut.clear()
    clock.advance(100)
    problems = [line for line in Admin(scene.app).check() if "unique keys" in line]
    second = scene.send("rebuild", "a", 2)
    scene.queue.run(until=10)
    scene.app.close()

    assert len(problems) == 1
    assert "rebuild" in problems[0]
    assert "may not have been sent" in problems[0]
    assert scene.ran == [("a", 2)]
    assert second.get() == 2
    assert scene.left() == []


@pytest.mark.parametrize("moment", ["answers", "after"])
@pytest.mark.parametrize("verb", ["put", "get", "send"])
def test_a_lost_answer_is_made_up_for(verb: str, moment: str) -> None:
    """Whatever was written before: the call is sent once, and its result is known as pending."""
    clock = StandingClock()
    scene = make(flaky_app(clock=clock), clock)
    wire = broker_of(scene.app).wire if verb == "send" else backend_of(scene.app).wire
    getattr(wire, moment)[verb] = lambda: (_ for _ in ()).throw(UnavailableError("no answer"))

    sent = scene.send("rebuild", "a", 1)
    state = sent.state
    scene.queue.run(until=10)
    scene.app.close()

    assert (sent.duplicate, state) == (False, State.PENDING)
    assert scene.ran == [("a", 1)]
    assert scene.left() == []


def test_a_send_that_fails_leaves_no_record() -> None:
    """What was not sent is taken back."""
    clock = StandingClock()
    scene = make(flaky_app(clock=clock, send_timeout="1s"), clock)
    broker_of(scene.app).wire.answers["send"] = lambda: (_ for _ in ()).throw(
        UnavailableError("down for good", passing=False)
    )

    with pytest.raises(UnavailableError):
        scene.send("rebuild", "a", 1)
    left = scene.left()
    scene.app.close()

    assert left == []


@pytest.mark.parametrize("task", ["sync", "rebuild"])
def test_a_purged_message_is_replaced(task: str) -> None:
    """A minute after it was due, a call looks whether it is still there."""
    clock = StandingClock()
    scene = make(make_app(clock=clock), clock)
    scene.send(task, "a", 1)
    for place in (Place.READY, Place.DELAYED):
        Admin(scene.app).purge("default", place)
    clock.advance(100)

    sent = scene.send(task, "a", 2)
    scene.queue.run(until=10)
    scene.app.close()

    assert not sent.duplicate
    assert scene.ran == [("a", 2)]


def test_eager_mode_runs_each_call() -> None:
    """Nothing waits there; a call that a body sends runs after the body."""
    scene_app = make_app(eager=True)
    ran: list[int] = []

    @scene_app.task(name="sync", unique=UniqueKey(by="page", on_conflict="latest"))
    def sync(page: str, n: int) -> None:
        ran.append(n)
        if n == 0:
            for more in (1, 2):
                sync.send(page, more)

    sync.send("a", 0)
    sync.send("a", 3)

    assert ran == [0, 2, 3]


def test_a_schedule_takes_part(scene: Scene) -> None:
    """A tick whose call is taken in is skipped; the newest arguments run."""
    scene.app.schedules.add("syncing", every("10s"), Signature("sync", ("a", "tick"), delay=15))

    scene.queue.run(until=31)

    assert scene.ran == [("a", "tick")]


def test_signed_messages_are_merged() -> None:
    """A message with the body of a newer call is signed under its own id."""
    clock = StandingClock()
    scene = make(make_app(clock=clock, signing_keys=["k1:" + "s" * 40], signing="require"), clock)
    scene.send("rebuild", "a", 1)
    scene.send("rebuild", "a", 2)
    scene.during.append(lambda: [scene.send("sync", "b", n) for n in (1, 2)])

    scene.queue.run(until=3)
    scene.send("sync", "b", 0)
    scene.queue.run()
    scene.app.close()

    assert scene.ran == [("a", 2), ("b", 2), ("b", 0)]


@pytest.mark.parametrize("task", ["sync", "rebuild"])
def test_no_part_of_a_workflow_may_be_taken_in(task: str) -> None:
    """What follows it would follow another call."""
    app = make_app()
    app.task(name="rebuild", unique=DEBOUNCE)(same)
    app.task(name="sync", unique=LATEST)(same)
    app.task(name="plain")(lambda x=0: x)
    part, plain = Signature[Any](task, ("a",)), Signature[Any]("plain")

    for call in (chain(plain, part), attrs.evolve(plain, on_success=[part]), attrs.evolve(plain, on_error=[part])):
        with pytest.raises(OptionError, match="no follow-up and no part of a workflow"):
            app.send(call)
    app.send(chain(plain, part.options(unique=False)))


@pytest.mark.parametrize(
    ("unique", "text"),
    [
        (UniqueKey(by="page", on_conflict="debounce"), "unique: quiet: expected more than 0 seconds"),
        (UniqueKey(by="page", on_conflict="latest", quiet=1), "unique: quiet: expected nothing unless"),
        (UniqueKey(key="k", max_wait=1), "unique: max_wait: expected nothing unless"),
        (UniqueKey(by="page", on_conflict="debounce", quiet=2, max_wait=1), "max_wait: expected at least the quiet"),
        (UniqueKey(by="page", on_conflict="latest", until="start"), 'unique: until: expected "done"'),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_declaration_is_refused(unique: UniqueKey, text: str) -> None:
    """The decorator says what is wrong."""
    app = make_app()

    with pytest.raises(OptionError, match=text):
        app.task(name="rebuild", unique=unique)(lambda page: page)


def test_a_debounced_call_has_no_other_delay() -> None:
    """Two delays would contradict each other."""
    app = make_app()
    app.task(name="rebuild", unique=DEBOUNCE)(lambda page: page)

    with pytest.raises(OptionError, match="Leave out delay and eta"):
        app.send(Signature("rebuild", ("a",), delay=5))


@pytest.mark.parametrize(
    ("unique", "options", "text"),
    [
        pytest.param(LATEST, {}, 'on_conflict="latest", which needs a result backend', id="no-backend"),
        pytest.param(DEBOUNCE, {}, 'on_conflict="debounce", which needs a result backend', id="no-backend-debounce"),
    ],
)
def test_without_a_backend_it_is_refused_at_start(unique: UniqueKey, options: dict[str, Any], text: str) -> None:
    """A worker does not start, and a send says the same."""
    app = make_app(backend="none")
    app.task(name="rebuild", unique=unique, **options)(lambda page: page)

    with pytest.raises(CapabilityError, match="does not support everything") as caught:
        require(app.runtime, app.tasks)
    assert text in caught.value.where
    with pytest.raises(CapabilityError, match="needs a result backend"):
        app.send(Signature("rebuild", ("a",)))


def test_debounce_without_a_clock_is_refused_at_start() -> None:
    """Else the clocks of senders and workers would decide."""
    app = flaky_app()
    app.task(name="rebuild", unique=DEBOUNCE)(same)
    broker: Any = app.runtime.broker
    broker.capabilities = attrs.evolve(broker.capabilities, tells_time=False)
    vars(app.runtime.backend)["now"] = lambda: None

    assert "has a clock" in "".join(unmet_requirements(app.runtime, app.tasks))


def test_early_acknowledgement_is_refused_with_latest() -> None:
    """Nobody would know that the message of a dead worker has ended."""
    app = make_app()
    app.task(name="sync", unique=LATEST, ack="early")(lambda page: page)

    assert 'needs ack="late"' in "".join(unmet_requirements(app.runtime, app.tasks))
