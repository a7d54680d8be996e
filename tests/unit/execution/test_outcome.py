"""What a body's end leads to: a settlement, a record, follow-ups."""

import random
from typing import Any

import attrs
import pytest

from queuekit import (
    Cancel,
    Delays,
    Exponential,
    Failure,
    Fixed,
    Middleware,
    Queuekit,
    Reject,
    Retry,
    Signature,
    Snooze,
    TaskTimeout,
)
from queuekit.backend import BackendLimits
from queuekit.broker import Ack, Dead, Limits, Release, Replace, Settlement
from queuekit.client.codec import decode
from queuekit.clock import VirtualClock
from queuekit.events import TaskFinished
from queuekit.execution.outcome import Outcome, Run
from queuekit.ids import derived_id
from queuekit.retry import Backoff
from queuekit.wire.records import read_info
from queuekit_testing.kit import in_thread
from support.waiting import PATIENCE
from support.working import executor_of, flaky_app, make_app, prepared, take_one


def returning(value: Any) -> Any:
    """Return a task that returns *value*."""
    return lambda: value


def raising(error: BaseException) -> Any:
    """Return a task that raises *error*."""

    def fail() -> None:
        raise error

    return fail


def outcome_of(app: Queuekit, attempt: int = 0) -> Outcome:
    """Run the next message in this thread, as its *attempt*."""
    delivery = take_one(app)
    delivery = attrs.evolve(delivery, envelope=attrs.evolve(delivery.envelope, attempt=attempt))
    return executor_of(app).call(prepared(app, delivery))


def made(function: Any, *, send: dict[str, Any] | None = None, app: Queuekit | None = None, **options: Any) -> Queuekit:
    """Return an app whose one task ``t`` is *function*, with a call of it on its queue."""
    app = app or make_app()
    app.task(name="t", **options)(function)
    app.send(Signature("t").options(id="id-1", **(send or {})))
    return app


def settlement_of(outcome: Outcome, kind: type[Settlement]) -> Any:
    """Return the settlement, which must be of *kind*."""
    assert isinstance(outcome.settlement, kind)
    return outcome.settlement


def followed(app: Queuekit, outcome: Outcome) -> list[tuple[str, list[Any]]]:
    """Return task and arguments of what an outcome sends."""
    messages = [decode(envelope, app.runtime.accepted) for envelope in outcome.sends]
    return [(message.task, message.args) for message in messages]


# -- success


def test_a_result_is_stored_and_the_message_acknowledged() -> None:
    """The record holds value, times and worker."""
    outcome = outcome_of(made(returning({"a": 1})))

    info = read_info("id-1", outcome.records[0])
    settlement_of(outcome, Ack)
    assert (info.state, info.payload, info.worker, outcome.status) == ("SUCCESS", b'{"a":1}', "w-1", "done")


@pytest.mark.parametrize(
    ("options", "send", "stored"),
    [
        pytest.param({}, {}, True, id="default"),
        pytest.param({"ignore_result": True}, {}, False, id="task"),
        pytest.param({}, {"ignore_result": True}, False, id="call"),
        pytest.param({"ignore_result": True}, {"ignore_result": False}, True, id="call-wins"),
    ],
)
def test_a_result_may_be_ignored(options: Any, send: Any, *, stored: bool) -> None:
    """Nothing is recorded of success then; of failure what explains the dead letter is."""
    assert bool(outcome_of(made(returning(1), send=send, **options)).records) is stored
    assert outcome_of(made(raising(ValueError()), send=send, **options)).records


def test_follow_ups_get_the_result_appended() -> None:
    """Unless they are immutable; arguments of their own come first."""
    links: list[Signature[Any]] = [Signature("a", args=(1,)), Signature("b", args=(2,), immutable=True)]
    app = made(returning("r"), send={"on_success": links})

    outcome = outcome_of(app)

    assert followed(app, outcome) == [("a", [1, "r"]), ("b", [2])]
    assert [record.state for record in outcome.records] == ["SUCCESS", "PENDING", "PENDING"]


def test_follow_ups_have_ids_derived_from_their_parents() -> None:
    """Running the parent again cannot double them; an id of their own stays."""
    links: list[Signature[Any]] = [Signature("a"), Signature("b", id="mine")]
    app = made(returning(1), send={"on_success": links})

    outcome = outcome_of(app)

    assert [envelope.id for envelope in outcome.sends] == [derived_id("id-1", "success", 0), "mine"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(
            object(), "t() returned a value that cannot be stored: object is not something JSON can hold", id="type"
        ),
        pytest.param({"a": [print]}, "t() returned a value that cannot be stored: .a[0]: builtin_function", id="path"),
        pytest.param("x" * 5_000, "t() returned a value that cannot be stored: 5,002 bytes, the backend", id="size"),
    ],
)
def test_a_result_that_cannot_be_stored_is_a_failure(value: Any, text: str) -> None:
    """It names the task and the path; on_error gets it, on_success nothing."""
    after, error = Signature[Any]("a", immutable=True), Signature[Any]("e", immutable=True)
    app = made(returning(value), send={"on_success": [after], "on_error": [error]})
    app.runtime.need_backend("test").limits = BackendLimits(max_record=4_000)

    outcome = outcome_of(app)

    assert read_info("id-1", outcome.records[0]).error.startswith(text)
    assert followed(app, outcome) == [("e", [])]
    settlement_of(outcome, Dead)


def test_a_result_that_a_follow_up_cannot_carry_is_a_failure() -> None:
    """A message above the limit is found before anything is written."""
    app = made(
        returning("x" * 500),
        app=make_app(max_message_bytes=400),
        send={"on_success": [Signature("a")]},
    )

    outcome = outcome_of(app)

    assert "a(): the message has" in read_info("id-1", outcome.records[0]).error


# -- retries


@pytest.mark.parametrize(
    ("error", "options", "retried"),
    [
        pytest.param(ValueError(), {}, False, id="none-asked-for"),
        pytest.param(ValueError(), {"retries": 1}, True, id="any"),
        pytest.param(ValueError(), {"retries": 1, "retry_on": OSError}, False, id="another-class"),
        pytest.param(ConnectionError(), {"retries": 1, "retry_on": OSError}, True, id="subclass"),
        pytest.param(KeyError(), {"retries": 1, "dont_retry": (LookupError,)}, False, id="excluded"),
        pytest.param(TaskTimeout(), {"retries": 1}, True, id="timeout"),
        pytest.param(SystemExit(), {"retries": 1}, False, id="exit"),
        pytest.param(Retry(), {"retries": 1, "retry_on": OSError}, True, id="asked-for"),
        pytest.param(Retry(), {}, False, id="asked-for-without-retries"),
    ],
)
def test_retries_what_it_is_told_to(error: BaseException, options: Any, *, retried: bool) -> None:
    """Only if retries are left, and the error is one that is tried again."""
    outcome = outcome_of(made(raising(error), **options))

    assert outcome.status == ("retried" if retried else "failed")
    assert isinstance(outcome.settlement, Replace if retried else Dead)


def test_a_retry_is_the_message_one_attempt_older() -> None:
    """The very bytes that were sent; its record says why."""
    app = made(raising(ValueError("no")), retries=3, retry=Fixed(7))

    outcome = outcome_of(app, attempt=1)

    old, new = outcome.delivery.envelope, settlement_of(outcome, Replace).envelope
    assert (new.id, new.body, new.attempt, new.delay) == (old.id, old.body, 2, 7)
    assert (outcome.records[0].state, outcome.records[0].error, outcome.records[0].final) == (
        "RETRY",
        "ValueError: no",
        False,
    )


@pytest.mark.parametrize(
    ("attempt", "retries", "word"),
    [(2, 3, "retried"), (3, 3, "failed"), (4, 3, "failed")],
    ids=["last-retry", "none-left", "beyond"],
)
def test_retries_are_counted(attempt: int, retries: int, word: str) -> None:
    """``retries=3`` is four attempts."""
    assert outcome_of(made(raising(ValueError()), retries=retries), attempt=attempt).status == word


def test_the_calls_policy_wins_over_the_tasks() -> None:
    """Number and waits are the call's where it has them."""
    app = made(raising(ValueError()), send={"retries": 2, "retry": Delays([3, 9])}, retries=0, retry=Fixed(1))

    outcome = outcome_of(app, attempt=1)

    assert settlement_of(outcome, Replace).envelope.delay == 9


def test_jitter_is_the_apps_chance() -> None:
    """With the same seed the waits are the same."""
    app = made(raising(ValueError()), retries=1, retry=Exponential(base=10))

    outcome = outcome_of(app)

    expected = random.Random(7)
    expected.getrandbits(64)  # the token of the lease
    assert settlement_of(outcome, Replace).envelope.delay == 10 * expected.random()


@pytest.mark.parametrize(("after", "delay"), [(2.5, 2.5), (0, 0), (-1, 0)], ids=str)
def test_a_task_says_when_it_wants_to_run_again(after: float, delay: float) -> None:
    """``Retry(after=...)`` leaves the policy out."""
    outcome = outcome_of(made(raising(Retry("busy", after=after)), retries=1, retry=Fixed(99)))

    assert settlement_of(outcome, Replace).envelope.delay == delay


def test_a_retry_beyond_the_brokers_longest_delay_hops() -> None:
    """It is delayed as long as the broker can, and knows its moment."""
    app = make_app(clock=(clock := VirtualClock()))
    app.runtime.broker.limits = Limits(max_delay=900)

    outcome = outcome_of(made(raising(Retry(after=3600)), app=app, retries=1))

    envelope = settlement_of(outcome, Replace).envelope
    assert (envelope.delay, envelope.not_before) == (900, clock.time() + 3600)


def test_a_retry_forgets_the_first_moment() -> None:
    """In its place stands when this attempt is due, and hops begin again."""
    app = made(raising(ValueError()), retries=1, retry=Fixed(5))
    delivery = take_one(app)
    hopped = attrs.evolve(delivery, envelope=attrs.evolve(delivery.envelope, hop=3, not_before=1.0))

    outcome = executor_of(app).call(prepared(app, hopped))

    envelope = settlement_of(outcome, Replace).envelope
    assert envelope.hop == 0
    assert envelope.not_before is not None
    assert 4 < envelope.not_before - hopped.claimed_at < 60


class Broken(Backoff):
    """A policy of somebody's own, with a bug."""

    def delay(self, attempt: int, chance: Any) -> float:
        """Fail."""
        raise ZeroDivisionError


def test_a_broken_policy_is_a_failure() -> None:
    """The task has failed; the worker goes on."""
    outcome = outcome_of(made(raising(ValueError()), retries=1, retry=Broken()))

    assert (outcome.status, read_info("id-1", outcome.records[0]).error_type) == ("failed", "ZeroDivisionError")


# -- failure


def test_a_failure_is_recorded_and_dead_lettered() -> None:
    """The message waits for a replay, with reason, error and holder."""
    outcome = outcome_of(made(raising(ValueError("no"))))

    dead = settlement_of(outcome, Dead)
    info = read_info("id-1", outcome.records[0])
    assert (dead.reason, dead.error, dead.holder) == ("failed", "ValueError: no", "w-1")
    assert (info.state, info.error_type, info.error, info.done) == ("FAILURE", "ValueError", "no", True)
    assert "raise error" in info.traceback


def test_error_follow_ups_get_one_failure() -> None:
    """Id, task, error and attempt, in one object after their own arguments."""
    app = made(raising(ValueError("no")), send={"on_error": [Signature("e", args=("mine",))]}, retries=2)
    app.register_type(Failure)

    outcome = outcome_of(app, attempt=2)

    ((task, args),) = followed(app, outcome)
    assert (task, args[0], len(args)) == ("e", "mine", 2)
    assert args[1] == Failure(
        id="id-1", task="t", error_type="ValueError", error="no", traceback=args[1].traceback, attempt=2
    )


def test_error_follow_ups_wait_for_the_last_attempt() -> None:
    """A retry is not the end."""
    outcome = outcome_of(made(raising(ValueError()), send={"on_error": [Signature("e")]}, retries=1))

    assert outcome.sends == ()


class Refuser(Middleware):
    """Sends nothing but the first message."""

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Refuse."""
        if signature.task == "e":
            raise PermissionError("not today")
        return signature


def test_an_error_follow_up_that_cannot_be_made_harms_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The failure is recorded and dead-lettered all the same, and the log tells."""
    app = made(raising(ValueError("no")), app=make_app(middlewares=[Refuser()]), send={"on_error": [Signature("e")]})

    outcome = outcome_of(app)

    assert (outcome.status, outcome.sends, outcome.records[0].state) == ("failed", (), "FAILURE")
    assert "cannot send the on_error callbacks of t id-1" in caplog.text


@pytest.mark.parametrize("retries", [0, 5], ids=["no-retries", "retries-left"])
def test_a_rejected_message_is_dead_at_once(retries: int) -> None:
    """Whatever retries are left; its record is DEAD, its follow-ups are told."""
    app = made(raising(Reject("bad address")), send={"on_error": [Signature("e")]}, retries=retries)

    outcome = outcome_of(app)

    dead = settlement_of(outcome, Dead)
    assert (dead.reason, dead.error, outcome.records[0].state) == ("rejected", "Reject: bad address", "DEAD")
    assert len(outcome.sends) == 1


def test_a_cancelled_message_is_acknowledged() -> None:
    """``Cancel`` raised by the task: no failure, no follow-ups."""
    app = made(raising(Cancel("not wanted")), send={"on_error": [Signature("e")]}, retries=3)

    outcome = outcome_of(app)

    settlement_of(outcome, Ack)
    info = read_info("id-1", outcome.records[0])
    assert (info.state, info.error, outcome.sends, outcome.status) == ("CANCELLED", "not wanted", (), "cancelled")
    assert info.started is not None


def test_a_snoozed_message_comes_again_uncounted() -> None:
    """It uses up neither a retry nor a delivery, and its record stays as it is."""
    outcome = outcome_of(made(raising(Snooze(30))))

    release = settlement_of(outcome, Release)
    assert (release.delay, release.counted, outcome.records, outcome.status) == (30, False, (), "returned")


def test_a_long_error_is_cut_for_the_broker() -> None:
    """At most what the contract allows."""
    outcome = outcome_of(made(raising(ValueError("x" * 10_000))))

    assert len(settlement_of(outcome, Dead).error) == 2_000


# -- acknowledged early


@pytest.mark.parametrize(
    ("function", "records", "sends"),
    [
        pytest.param(returning(1), ["SUCCESS"], [], id="success"),
        pytest.param(raising(ValueError()), ["RETRY"], [(1, 0)], id="retry"),
        pytest.param(raising(Reject()), ["DEAD"], [], id="reject"),
        pytest.param(raising(Cancel()), ["CANCELLED"], [], id="cancel"),
        pytest.param(raising(Snooze(5)), [], [(0, 1)], id="snooze"),
    ],
)
def test_there_is_nothing_left_to_settle_after_an_early_acknowledgement(
    function: Any, records: list[str], sends: list[tuple[int, int]]
) -> None:
    """What is to run again is sent again, as a later step of the same message."""
    outcome = outcome_of(made(function, retries=1, ack="early"))

    assert outcome.settlement is None
    assert [record.state for record in outcome.records] == records
    assert [(envelope.attempt, envelope.hop) for envelope in outcome.sends] == sends


def run_of(**options: Any) -> tuple[Queuekit, Run]:
    """Return an app and a run of its task that has not begun."""
    app = made(returning(1), **options)
    return app, prepared(app)


def test_hands_back_what_has_not_begun() -> None:
    """Uncounted and at once; what was acknowledged early is sent again."""
    app, run = run_of()
    early_app, early = run_of(ack="early")

    outcome = executor_of(app).decide.handed_back(run)
    early_outcome = executor_of(early_app).decide.handed_back(early)

    release = settlement_of(outcome, Release)
    assert (release.delay, release.counted, outcome.sends) == (0, False, ())
    assert (early_outcome.settlement, [envelope.hop for envelope in early_outcome.sends]) == (None, [1])


# -- the run


def test_body_may_be_left_twice() -> None:
    """An exception may arrive while it is being left the first time."""
    _, run = run_of()

    assert [in_thread(run.leave_body).result(PATIENCE) for _ in range(2)] == [None, None]


def test_an_outcome_is_decided_once() -> None:
    """By whoever comes first: the body's thread, or who gave up on it."""
    _, run = run_of()
    before = run.decided

    assert (run.claim(), run.claim(), before, run.decided) == (True, False, False, True)


def test_times_are_the_brokers() -> None:
    """Start and end are told on the broker's clock, however far off this machine's is."""
    app = made(returning(1))
    delivery = take_one(app)
    ahead = attrs.evolve(delivery, claimed_at=delivery.claimed_at + 86_400)

    outcome = executor_of(app).call(prepared(app, ahead))

    info = read_info("id-1", outcome.records[0])
    assert info.started is not None
    assert info.started >= ahead.claimed_at


def test_tells_how_it_ended() -> None:
    """The event for the log and for metrics."""
    app = made(raising(ValueError("no")), retries=2, retry=Fixed(3))

    event = outcome_of(app).event

    assert isinstance(event, TaskFinished)
    assert (event.state, event.error, event.retry_in, event.retries) == ("RETRY", "ValueError: no", 3, 2)


def test_separate_engines_lead_to_the_same_outcome() -> None:
    """What is decided does not depend on how it will be written."""
    outcome = outcome_of(made(returning(1), app=flaky_app()))

    item = outcome.item()
    assert (item.settlement, item.records, item.sends) == (outcome.settlement, outcome.records, ())
