"""One delivery from bytes to outcome, without threads."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit import Context, Queuekit, Reject, Retry, Signature, State, current
from queuekit.backend import Record
from queuekit.broker import Ack, Dead, Delivery, Limits, Place, Release, Replace
from queuekit.clock import VirtualClock
from queuekit.envelope import Envelope, join_frame
from queuekit.errors import UnavailableError
from queuekit.events import EngineDown, TaskStarted, TaskUnknown
from queuekit.execution.outcome import Outcome, Run
from queuekit.middleware import Middleware
from queuekit.wire.records import cancel_key, cancel_mark, entered_keys, entered_mark, result_key
from queuekit_testing.kit import eventually, in_thread
from support.flaky import FlakyBackend
from support.working import executor_of, flaky_app, inside, make_app, prepared, refused, seen, take_one


def make(function: Callable[..., Any], *, clock: VirtualClock | None = None, **options: Any) -> Queuekit:
    """Return an app whose one task ``t`` is *function*, with a call of it on its queue."""
    app = make_app(clock=clock)
    app.task(name="t", **options)(function)
    app.send(Signature("t", id="id-1"))
    return app


def run_once(app: Queuekit) -> Outcome:
    """Run the next message in this thread."""
    return executor_of(app).call(prepared(app))


def state_of(outcome: Outcome) -> str | None:
    """Return the state that an outcome records first."""
    return outcome.records[0].state


# -- whatever the bytes are


def delivery_of(body: bytes) -> Delivery:
    """Return a delivery with *body*."""
    return Delivery(envelope=Envelope(id="id-1", queue="q", body=body), token="t", number=1)  # noqa: S106 - of a lease


HEAD = {"v": 1, "id": "id-1", "task": "t", "ct": "json"}

BODIES = [
    pytest.param(b"", "no header line", id="empty"),
    pytest.param(b"\x80\x04\x95 pickled\n", "the header is not JSON", id="other-format"),
    pytest.param(join_frame({**HEAD, "ct": "pick\nle"}, b"cos\nsystem\n"), "is not accepted", id="pickle"),
    pytest.param(join_frame(HEAD, b'{"args":[1'), "not JSON that queuekit writes", id="truncated"),
    pytest.param(join_frame(HEAD, b'{"args":5}'), "args is not a list", id="wrong-type"),
    pytest.param(join_frame(HEAD, b"[" * 100_000), "deeper than 100", id="deep"),
    pytest.param(b"x" * 2_000_000, "2,000,000 bytes, the limit is 1,048,576", id="too-large"),
    pytest.param(join_frame({**HEAD, "id": "id-2"}, b"{}"), "no valid id", id="other-id"),
]


@pytest.mark.parametrize(("body", "text"), BODIES)
def test_malformed_messages_are_dead_with_their_reason(body: bytes, text: str) -> None:
    """They go to the dead letters intact, and a record says why (QK9)."""
    outcome = refused(make_app(), delivery_of(body))

    assert isinstance(outcome.settlement, Dead)
    assert (outcome.settlement.reason, outcome.status, state_of(outcome)) == ("malformed", "dead", "DEAD")
    assert text in outcome.settlement.error


QUIET = make_app()
QUIET.task(name="t")(print)


@given(st.binary(max_size=500) | st.binary(max_size=200).map(lambda noise: join_frame(HEAD, noise)))
def test_random_bytes_never_raise(body: bytes) -> None:
    """Noise, with and without a good header, ends among the dead letters or runs; nothing is raised."""
    executor = executor_of(QUIET)
    outcome: Run | Outcome | None = executor.prepare(delivery_of(body), {})
    if isinstance(outcome, Run):
        outcome = executor.begin(outcome)

    assert outcome is None or (isinstance(outcome.settlement, Dead) and outcome.status == "dead")


class HostileSerializer:
    """Reads nothing, and says so in its own way."""

    content_type = "json"
    safe = True

    def dumps(self, value: Any) -> bytes:
        """Write nothing."""
        return b"{}"

    def loads(self, data: bytes) -> Any:
        """Fail with an error that no contract mentions."""
        raise ZeroDivisionError("a bug of a plugin")


def test_a_serializer_that_breaks_its_contract_harms_one_message() -> None:
    """Any error while reading counts as malformed, under the name of its class."""
    app = make(print)
    app._runtime = attrs.evolve(app.runtime, accepted={"json": HostileSerializer()})

    outcome = refused(app)

    assert isinstance(outcome.settlement, Dead)
    assert outcome.settlement.error == "ZeroDivisionError"


def test_without_backend_nothing_is_recorded() -> None:
    """The dead letter alone tells."""
    outcome = refused(make_app(backend="none"), delivery_of(b""))

    assert (outcome.records, outcome.status) == ((), "dead")


# -- unknown tasks


def test_an_unknown_task_is_held_with_growing_delay() -> None:
    """1, 2, 4 ... 60 seconds and at most a quarter more, uncounted: another worker may know it."""
    app = make_app()
    events = seen(app, TaskUnknown)
    app.send(Signature("gone"))
    delivery = take_one(app)

    outcomes = [refused(app, attrs.evolve(delivery, number=number)) for number in range(1, 9)]

    releases = [outcome.settlement for outcome in outcomes if isinstance(outcome.settlement, Release)]
    least = [1, 2, 4, 8, 16, 32, 60, 60]
    assert [min(max(release.delay, low), low * 1.25) for release, low in zip(releases, least, strict=True)] == [
        release.delay for release in releases
    ]
    assert not any(release.counted for release in releases)
    assert [event.again_in for event in events] == [release.delay for release in releases]


@pytest.mark.parametrize("delay", [0, 7200], ids=["at-once", "delayed"])
def test_an_unknown_task_is_dead_after_an_hour(delay: float) -> None:
    """An hour since it was due, on the broker's clock."""
    app = make_app(clock=(clock := VirtualClock()))
    app.send(Signature("gone", delay=delay))

    clock.advance(delay + 3599)
    held = refused(app)
    app.runtime.broker.settle([Release(held.delivery)])
    clock.advance(1)
    dead = refused(app)

    assert isinstance(held.settlement, Release)
    assert isinstance(dead.settlement, Dead)
    assert (dead.settlement.reason, dead.settlement.error) == (
        "unknown",
        "no worker knew the task 'gone' for 3600 s",
    )


# -- what must not run


def test_a_cancelled_message_does_not_run() -> None:
    """Its mark is enough."""
    app = make(print)

    outcome = refused(app, None, cancel_mark("id-1", ttl=1))

    assert (state_of(outcome), outcome.status) == ("CANCELLED", "cancelled")
    assert isinstance(outcome.settlement, Ack)


@pytest.mark.parametrize("ignored", [False, True], ids=["stored", "ignored"])
def test_an_expired_message_does_not_run(*, ignored: bool) -> None:
    """It leaves a record, unless its result is ignored, and an event (QK15)."""
    app = make_app(clock=(clock := VirtualClock()))
    app.task(name="t")(print)
    app.send(Signature("t", expires=10, ignore_result=ignored))
    clock.advance(10)

    outcome = refused(app)

    assert outcome.status == "expired"
    assert [record.state for record in outcome.records] == ([] if ignored else ["EXPIRED"])
    assert outcome.event is not None


def test_a_prefetched_message_may_expire_before_it_begins() -> None:
    """It is looked at once more; the outcome frees its place in the worker."""
    app = make_app(clock=(clock := VirtualClock()))
    app.task(name="t")(print)
    app.send(Signature("t", expires=10))
    run = prepared(app)
    clock.advance(10)

    outcome = executor_of(app).begin(run)

    assert outcome is not None
    assert (outcome.status, outcome.run) == ("expired", run)


def test_a_prefetched_message_may_be_cancelled_before_it_begins() -> None:
    """Whoever cancelled it told its context."""
    app = make(print)
    run = prepared(app)
    run.context.cancel()

    outcome = executor_of(app).begin(run)

    assert outcome is not None
    assert (outcome.status, outcome.run) == ("cancelled", run)


def test_what_is_not_due_is_delayed_again_by_hops() -> None:
    """A broker that can delay 15 minutes gets the message again and again until its moment."""
    app = make_app(clock=(clock := VirtualClock()))
    app.task(name="t")(print)
    app.runtime.broker.limits = Limits(max_delay=900)
    app.send(Signature("t", delay=1000))
    delivery = attrs.evolve(delivery_due(app), claimed_at=clock.time())

    first = refused(app, delivery)
    again = attrs.evolve(delivery, claimed_at=clock.time() + 900)
    second = refused(app, again)
    due = executor_of(app).prepare(attrs.evolve(delivery, claimed_at=clock.time() + 1000), {})

    hops = [outcome.settlement for outcome in (first, second) if isinstance(outcome.settlement, Replace)]
    assert [(hop.envelope.hop, hop.envelope.delay, hop.envelope.attempt) for hop in hops] == [(1, 900, 0), (1, 100, 0)]
    assert isinstance(due, Run)


def delivery_due(app: Queuekit) -> Delivery:
    """Return the delayed message as a broker would hand it out that counts the delay alone."""
    (stored,) = inside(app, Place.DELAYED)
    return Delivery(envelope=stored.envelope, token="t", number=1)  # noqa: S106 - of a lease


# -- redelivered after its outcome was recorded


def redelivered(app: Queuekit, delivery: Delivery, *records: Record) -> Outcome:
    """Return the outcome of a message that comes again though *records* are there."""
    return refused(app, attrs.evolve(delivery, number=2), *records)


def test_asks_for_the_outcome_of_what_comes_again() -> None:
    """One key for a message that comes first, more only for those that came before."""
    app = make(print)
    delivery = take_one(app)
    executor = executor_of(app)

    suspect = attrs.evolve(delivery, number=3, crashes=2)

    assert executor.keys(delivery) == ["cancel:id-1"]
    assert executor.keys(attrs.evolve(delivery, number=2)) == [cancel_key("id-1"), result_key("id-1")]
    assert executor.keys(suspect) == [cancel_key("id-1"), result_key("id-1"), *entered_keys(suspect)]


def call() -> Signature[Any]:
    """Return a call of ``t``."""
    return Signature("t")


def succeed() -> int:
    """Return 7."""
    return 7


def fail() -> None:
    """Raise."""
    raise ValueError("no")


@pytest.mark.parametrize(
    ("function", "role", "argument"),
    [
        pytest.param(succeed, "on_success", 7, id="success"),
        pytest.param(fail, "on_error", "ValueError", id="failure"),
    ],
)
def test_a_recorded_outcome_is_not_run_again(function: Any, role: str, argument: Any) -> None:
    """The body is skipped; follow-ups, which may be missing, are sent with the ids they had (QK12)."""
    app = make_app()
    app.task(name="t")(function)
    app.send(call().options(**{role: [Signature("after")]}))
    delivery = take_one(app)
    first = executor_of(app).call(prepared(app, delivery))

    second = redelivered(app, delivery, *first.records)

    assert second.status == "skipped"
    assert [send.id for send in second.sends] == [send.id for send in first.sends]
    assert [send.body for send in second.sends] == [send.body for send in first.sends]
    assert str(argument).encode() in second.sends[0].body
    assert type(second.settlement) is type(first.settlement)


def test_a_rejected_message_that_comes_again_is_dead_again() -> None:
    """It is never dropped because its record says that it ended."""

    def reject() -> None:
        raise Reject("bad address")

    app = make(reject)
    delivery = take_one(app)
    first = executor_of(app).call(prepared(app, delivery))

    second = redelivered(app, delivery, *first.records)

    assert isinstance(second.settlement, Dead)
    assert (second.settlement.reason, second.settlement.error) == ("rejected", "Reject: bad address")


def test_an_unknown_task_that_comes_again_is_dead_again() -> None:
    """Its reason is kept."""
    app = make_app(clock=(clock := VirtualClock()))
    app.send(Signature("gone", on_error=[Signature("after")]))
    clock.advance(3600)
    delivery = take_one(app)
    first = refused(app, delivery)

    second = redelivered(app, delivery, *first.records)

    assert isinstance(second.settlement, Dead)
    assert (second.settlement.reason, second.sends) == ("unknown", ())


def test_a_cancelled_message_that_comes_again_is_acknowledged() -> None:
    """There is nothing left to do for it."""
    app = make(print)
    delivery = take_one(app)
    first = refused(app, delivery, cancel_mark("id-1", ttl=1))

    second = redelivered(app, delivery, *first.records)

    assert isinstance(second.settlement, Ack)
    assert (second.records, second.sends, second.status) == ((), (), "skipped")


def test_a_replayed_message_runs_though_it_had_an_outcome() -> None:
    """The outcome of an earlier generation is not its own."""
    app = make(fail)
    delivery = take_one(app)
    first = executor_of(app).call(prepared(app, delivery))
    replayed = attrs.evolve(delivery, number=2, envelope=attrs.evolve(delivery.envelope, generation=1))

    assert prepared(app, replayed, *first.records).context.generation == 1


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(Record(key="result:id-1", body=b"{", final=True), id="damaged"),
        pytest.param(Record(key="result:id-1", body=b'{"state":"STARTED"}\n'), id="not-final"),
    ],
)
def test_a_record_that_proves_nothing_keeps_nothing_from_running(record: Record) -> None:
    """At least once is the promise; a good message is not dead because a record is damaged."""
    app = make(print)

    assert prepared(app, attrs.evolve(take_one(app), number=2), record).message.task == "t"


def test_a_result_that_cannot_be_read_again_loses_its_follow_ups_loudly(caplog: pytest.LogCaptureFixture) -> None:
    """The message is acknowledged, and the log says what could not be sent."""
    app = make_app()
    app.task(name="t")(succeed)
    app.send(Signature("t", on_success=[Signature("after")]))
    delivery = take_one(app)
    first = executor_of(app).call(prepared(app, delivery))
    damaged = attrs.evolve(first.records[0], body=first.records[0].body[:-1] + b"?")

    second = redelivered(app, delivery, damaged)

    assert (second.status, second.sends) == ("skipped", ())
    assert "cannot send the on_success callbacks of t" in caplog.text


# -- suspects


def suspect_run(app: Queuekit, *, crashes: int, marked: int) -> Run | Outcome:
    """Prepare a message after *crashes* expired leases, in *marked* of which the body had been entered."""
    delivery = take_one(app)
    entered = [entered_mark(attrs.evolve(delivery, number=number)) for number in range(1, marked + 1)]
    suspect = attrs.evolve(delivery, number=crashes + 1, crashes=crashes)
    return executor_of(app).prepare(suspect, {mark.key: mark for mark in entered})


@pytest.mark.parametrize(
    ("crashes", "marked"), [(1, 0), (2, 2), (19, 2)], ids=["bystander", "two-crashes", "often-waiting"]
)
def test_a_suspect_runs_alone(crashes: int, marked: int) -> None:
    """A lease that ended says little; only crashes inside the body count (QK6)."""
    run = suspect_run(make(print), crashes=crashes, marked=marked)

    assert isinstance(run, Run)
    assert (run.suspect, run.known_crashes) == (True, marked)


@pytest.mark.parametrize(("crashes", "marked"), [(3, 3), (30, 0)], ids=["three-crashes", "unseen"])
def test_is_dead_after_too_many_crashes(crashes: int, marked: int) -> None:
    """Three times inside the body; or so often that somebody must be blamed."""
    outcome = suspect_run(make(print), crashes=crashes, marked=marked)

    assert isinstance(outcome, Outcome)
    assert isinstance(outcome.settlement, Dead)
    assert outcome.settlement.reason == "crashed"


def test_without_backend_every_crash_counts() -> None:
    """There is nowhere to leave the mark that would tell them apart."""
    app = make_app(backend="none")
    app.task(name="t")(print)
    app.send(Signature("t"))

    outcome = suspect_run(app, crashes=3, marked=0)

    assert isinstance(outcome, Outcome)


# -- the body


def test_gives_the_body_its_context() -> None:
    """By parameter and as the current one; afterwards there is none."""
    told: list[Any] = []

    def look(ctx: Context) -> None:
        told.extend([ctx.id, ctx.task, ctx.queue, ctx.attempt, ctx.generation, ctx.worker, dict(ctx.headers)])
        told.append(current() is ctx)

    app = make_app()
    app.task(name="t")(look)
    app.send(Signature("t", id="id-1", headers={"a": "b"}))

    run_once(app)

    assert told == ["id-1", "t", "default", 0, 0, "w-1", {"a": "b"}, True]
    assert current() is None


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_no_error_ends_the_worker(error: BaseException) -> None:
    """Also what would end a process is a failure of the task, in a thread and on a loop."""

    def leave() -> None:
        raise error

    async def aleave() -> None:
        raise error

    outcome = run_once(make(leave))
    app = make(aleave)
    async_outcome = asyncio.run(executor_of(app).acall(prepared(app)))

    assert (state_of(outcome), state_of(async_outcome)) == ("FAILURE", "FAILURE")
    assert outcome.records[0].error == f"{type(error).__name__}: {error}".strip(": ")


class Hostile:
    """A value, and an error, that ends whoever looks at it."""

    def __repr__(self) -> str:
        raise SystemExit(3)

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise SystemExit(3)


class HostileError(Hostile, Exception):
    """That error."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise SystemExit(3)


def raise_hostile() -> None:
    """Fail with an error that cannot be told."""
    raise HostileError


def snooze_hostile() -> None:
    """Ask to come again in a time that is no time."""
    raise Retry(after=Hostile())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("body", [Hostile, raise_hostile, snooze_hostile])
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_nothing_of_the_users_ends_the_thread_that_makes_an_outcome(body: Any, serializer: str) -> None:
    """Whatever a value or an error does when it is looked at, its task has failed, in a thread and on a loop."""

    async def abody() -> Any:
        return body()

    for function in (body, abody):
        app = make_app(serializer=serializer, accept=[serializer], allow_unsafe=["pickle"])
        app.task(name="t", retries=3)(function)
        app.send(Signature("t"))
        run = prepared(app)
        outcome = asyncio.run(executor_of(app).acall(run)) if run.task.is_async else executor_of(app).call(run)

        assert (outcome.status, state_of(outcome)) == ("failed", "FAILURE")


def test_a_middleware_that_leaves_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises after a run is logged, SystemExit too, and the outcome stands."""

    class Leaving(Middleware):
        def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
            raise SystemExit(3)

    app = make_app(middlewares=[Leaving()])
    app.task(name="t")(lambda: 1)
    app.send(Signature("t"))

    assert state_of(executor_of(app).call(prepared(app))) == "SUCCESS"
    assert "a middleware failed after t" in caplog.text


def test_a_timeout_passes_broad_handlers() -> None:
    """``except Exception`` around a body does not swallow its time limit."""

    def body() -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:  # noqa: BLE001, S110 - as bodies do
                pass

    app = make(body, timeout=5, retries=1)
    run = prepared(app)
    called = in_thread(lambda: executor_of(app).call(run))
    guard = eventually(lambda: run.guard)
    assert guard is not None
    guard.fire()

    assert called.result(60).status == "retried"


def test_runs_coroutine_functions() -> None:
    """The result is what they return."""

    async def double(x: int) -> int:
        return x * 2

    app = make_app()
    app.task(name="t")(double)
    app.send(Signature("t", args=(4,)))

    outcome = asyncio.run(executor_of(app).acall(prepared(app)))

    assert outcome.records[0].body.endswith(b"\n8")


def test_a_cancelled_coroutine_is_not_an_outcome() -> None:
    """Whoever cancelled it decides."""

    async def wait() -> None:
        raise asyncio.CancelledError

    app = make(wait)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(executor_of(app).acall(prepared(app)))


async def leave() -> None:
    """Leave the program, as a coroutine that a task has started."""
    raise SystemExit(3)


async def wait_for_what_leaves() -> None:
    """Wait for it."""
    await asyncio.gather(leave(), asyncio.sleep(0))


async def leave_behind() -> str:
    """Go on beside it, and beside what stops the loop and what never ends."""
    loop = asyncio.get_running_loop()
    started = [loop.create_task(leave()), loop.create_task(asyncio.Event().wait())]
    loop.call_soon(loop.stop)
    await asyncio.sleep(0.01)
    return str(len(started))


async def cancel_itself() -> None:
    """End as if it were cancelled."""
    raise asyncio.CancelledError


async def break_the_loop() -> None:
    """End what the loop waits with, as a body does that closes all files."""

    def broken() -> None:
        raise OSError("[Errno 9] Bad file descriptor")

    loop: Any = asyncio.get_running_loop()
    loop._run_once = broken
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (wait_for_what_leaves, "FAILURE"),
        (leave_behind, "SUCCESS"),
        (cancel_itself, "FAILURE"),
        (break_the_loop, "FAILURE"),
    ],
)
def test_a_body_on_a_loop_of_its_own_has_an_outcome_in_any_case(body: Callable[..., Any], state: str) -> None:
    """In a process of its own and in eager mode what a body has started does not end it."""
    app = make(body)

    assert state_of(executor_of(app).call_on_loop(prepared(app))) == state


def test_an_unusable_policy_is_a_failure() -> None:
    """A task that asks for a retry in no number of seconds fails; its worker goes on."""

    def ask() -> None:
        asked: Any = Retry()
        asked.after = "soon"
        raise asked

    outcome = run_once(make(ask, retries=3))

    assert (state_of(outcome), outcome.status) == ("FAILURE", "failed")


def test_a_timeout_of_the_call_wins_over_the_tasks() -> None:
    """Both are seconds of one attempt."""
    app = make_app()
    app.task(name="t", timeout=5)(print)
    app.send_many([Signature("t"), Signature("t", timeout="1m")])

    assert [prepared(app).timeout, prepared(app).timeout] == [5.0, 60.0]


# -- what is told meanwhile


def test_announces_the_start() -> None:
    """The event says how long it has waited since it was due."""
    app = make_app(clock=(clock := VirtualClock()))
    events = seen(app, TaskStarted)
    app.task(name="t")(print)
    app.send(Signature("t", delay=60))
    clock.advance(62)

    run = prepared(app)
    executor_of(app).begin(run)

    assert [(event.task, event.waited) for event in events] == [("t", 2.0)]


def test_says_nothing_if_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """A busy worker saves what would be thrown away."""
    caplog.set_level(logging.WARNING, "queuekit.task")
    app = make(print)

    outcome = run_once(app)

    assert outcome.event is None


def test_tracks_where_a_task_asks_for_it() -> None:
    """STARTED is recorded before the body; without a backend, or while it is down, that is left out."""
    app = make(print, track=True)
    run = prepared(app)

    executor_of(app).begin(run)

    assert app.info("id-1").state is State.STARTED


def test_tracking_never_keeps_a_task_from_running() -> None:
    """Losing STARTED is no harm."""
    app = flaky_app()
    app.task(name="t", track=True)(print)
    app.send(Signature("t"))
    backend = app.runtime.backend
    assert isinstance(backend, FlakyBackend)
    backend.wire.cut = {"put"}

    assert executor_of(app).begin(prepared(app)) is None
    executor_of(app).report("id-1", 1, None, "")


def test_what_could_not_begin_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that is down, and a lack of processes, are no failure of the task; an error nobody foresaw is."""
    app = make(print)
    down = seen(app, EngineDown)
    run = prepared(app)
    executor = executor_of(app)

    first = executor.put_back(run, UnavailableError("no answer"))
    second = executor.put_back(run, BlockingIOError("no more processes"))
    third = executor.put_back(run, RuntimeError("a bug"))

    assert [type(one.settlement) for one in (first, second, third)] == [Release, Release, Dead]
    assert [event.error for event in down] == ["no answer"]
    assert "RuntimeError: a bug" in caplog.text
