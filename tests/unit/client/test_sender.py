"""From a call to its queue: options, limits, batches, and engines that do not answer."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Result, Signature, State, UniqueKey
from queuekit.broker import Capabilities, Limits, Place
from queuekit.cli.message_view import as_document
from queuekit.client.sender import Sending
from queuekit.clock import SystemClock, VirtualClock
from queuekit.engines.memory import MemoryBackend
from queuekit.envelope import Unique
from queuekit.errors import CapabilityError, EncodeError, TooLargeError, UnavailableError
from queuekit.operations.admin import Admin
from queuekit.timelimit import time_left
from queuekit_testing.kit import in_thread
from support.working import (
    backend_of,
    broker_of,
    burst,
    counts,
    drive,
    flaky_app,
    inside,
    make_app,
    take,
    take_one,
)


def echo(value: Any = None) -> Any:
    """Return the argument."""
    return value


def app_with_echo(**settings: Any) -> Queuekit:
    """Return an app with one task, ``echo``."""
    app = make_app(**settings)
    app.task(name="echo")(echo)
    return app


def call(**options: Any) -> Signature[Any]:
    """Return a call of ``echo``."""
    return Signature("echo", args=(1,), **options)


def test_a_task_need_not_be_known_here() -> None:
    """A producer sends by name."""
    app = make_app()

    result: Result[Any] = app.send(Signature("shop.mail.send", args=["a@b.c"]))

    assert take_one(app).id == result.id


def test_the_queue_is_the_calls_or_the_tasks_or_the_default() -> None:
    """In this order."""
    app = app_with_echo(default_queue="usual")
    app.task(name="low", queue="low")(echo)

    sent = app.send_many([call(), Signature("low"), Signature("low", queue="high")])

    found = [take_one(app, queue=queue).id for queue in ("usual", "low", "high")]
    assert found == [result.id for result in sent]


def test_the_priority_is_the_calls_or_the_tasks() -> None:
    """9 comes first, 4 is the default, 0 last; 0 is no reason to fall back."""
    app = app_with_echo()
    app.task(name="urgent", priority=9)(echo)

    app.send_many([call(id="four"), call(id="zero", priority=0), Signature("urgent", id="nine"), call(id="four-too")])

    assert [one.id for one in take(app, 4)] == ["nine", "four", "four-too", "zero"]


def test_one_id_is_sent_once() -> None:
    """The id is an idempotency key, while the message waits and after it is done."""
    app = app_with_echo()

    first, second = app.send(call(id="id-1")), app.send(call(id="id-1"))
    burst(app)
    third = app.send(call(id="id-1"))

    assert first == second == third
    assert counts(app) == {}
    assert third.get(timeout=1) == 1


@pytest.mark.parametrize(
    ("options", "due"),
    [
        pytest.param({"delay": "6h"}, 6 * 3600, id="delay"),
        pytest.param({"eta": "start+1d"}, 86_400, id="eta"),
        pytest.param({"delay": "6h", "eta": "start+1d"}, 86_400, id="the-later-one"),
        pytest.param({"delay": "400d"}, 400 * 86_400, id="any-horizon"),
    ],
)
def test_waits_in_the_broker_until_it_is_due(options: dict[str, Any], due: float) -> None:
    """A delayed message is not handed out before its time, however far off that is."""
    clock = VirtualClock()
    app = app_with_echo(clock=clock)
    if "eta" in options:
        options = {**options, "eta": datetime.fromtimestamp(clock.time(), UTC) + timedelta(days=1)}

    result = app.send(call(**options))
    clock.advance(due - 1)
    before = app.runtime.broker.receive(["default"], limit=1, wait=0, lease=30)
    clock.advance(1)

    assert before == []
    assert take_one(app).id == result.id


def test_a_delayed_result_outlives_its_delay() -> None:
    """``results_expire`` counts from the due time, so PENDING does not turn into UNKNOWN meanwhile."""
    app = app_with_echo(clock=(clock := VirtualClock()), results_expire="10m")

    result = app.send(call(delay="6h"))
    clock.advance(6 * 3600 + 500)

    assert result.state is State.PENDING


@pytest.mark.parametrize("expires", [60, "moment"], ids=str)
def test_expires(expires: Any) -> None:
    """Seconds from the send, or a moment."""
    app = app_with_echo(clock=(clock := VirtualClock()))
    if expires == "moment":
        expires = datetime.fromtimestamp(clock.time() + 60, UTC)

    app.send(call(expires=expires))

    assert take_one(app).envelope.expires == clock.time() + 60


def app_with_a_wrong_clock(folder: Path, wrong: float) -> Queuekit:
    """Return an app whose clock is not that of its engine."""

    class Wrong(SystemClock):
        def time(self) -> float:
            return time.time() + wrong

    app = make_app(clock=Wrong(), broker=f"sqlite:///{folder}/jobs.db")
    app.task(name="echo")(echo)
    return app


@pytest.mark.parametrize("wrong", [-3_600.0, 3_600.0], ids=["behind", "ahead"])
def test_expires_by_the_clock_of_the_engine(tmp_path: Path, wrong: float) -> None:
    """A sender whose clock is wrong gives its messages the time that it says, by the clock that decides on it."""
    app = app_with_a_wrong_clock(tmp_path, wrong)

    app.send(call(expires=600))

    assert take_one(app).envelope.expires == pytest.approx(time.time() + 600, abs=60)


@pytest.mark.parametrize("wrong", [-3_600.0, 3_600.0], ids=["behind", "ahead"])
def test_is_due_by_the_clock_of_the_engine(tmp_path: Path, wrong: float) -> None:
    """A sender whose clock is wrong does not record another time than the ``eta`` of its message."""
    app, eta = app_with_a_wrong_clock(tmp_path, wrong), time.time() + 7_200

    info = app.send(call(eta=datetime.fromtimestamp(eta, UTC))).info()

    assert info.due == pytest.approx(eta, abs=60)


def test_shows_when_the_engine_took_a_message(tmp_path: Path) -> None:
    """Not what the sender's clock said, which may be a moment that has not come."""
    app = app_with_a_wrong_clock(tmp_path, 3_600.0)

    result = app.send(call(delay="1h"))

    sent = datetime.fromisoformat(as_document(Admin(app).show(result.id), app.runtime.accepted)["sent"])
    assert sent.timestamp() == pytest.approx(time.time(), abs=60)


def test_expires_by_our_clock_while_the_engine_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that nobody tells is replaced by ours; the send itself says what is wrong."""
    clock = VirtualClock()
    app = app_with_echo(clock=clock)
    monkeypatch.setattr(MemoryBackend, "now", _no_answer)

    ready = Sending(app.runtime, app.tasks).prepare(call(expires=60))

    assert ready.envelope.expires == clock.time() + 60


def _no_answer(_: object) -> float:
    raise UnavailableError("no answer")


def test_expires_by_the_tasks_option() -> None:
    """The task's option counts where the call has none."""
    app = make_app(clock=(clock := VirtualClock()))
    app.task(name="echo", expires="1m")(echo)

    app.send_many([call(), call(expires=5)])

    assert [one.envelope.expires for one in take(app, 2)] == [clock.time() + 60, clock.time() + 5]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        pytest.param({"unique": True}, {"unique": True}, True, id="task-and-arguments"),
        pytest.param({"unique": True}, {"unique": True, "args": (2,)}, False, id="other-arguments"),
        pytest.param({"unique": "k"}, {"unique": "k", "args": (2,)}, True, id="own-key"),
        pytest.param({"unique": "k"}, {"unique": Unique(key="k")}, True, id="own-object"),
        pytest.param({"unique": True}, {"unique": False}, False, id="not-asked-for"),
    ],
)
def test_unique_returns_the_holders_handle(first: Any, second: Any, *, same: bool) -> None:
    """A second live message of one key is not sent; its handle is that of the first."""
    app = app_with_echo()

    holder = app.send(call(**first))
    other = app.send(call().options(**second))

    assert (other == holder, other.duplicate, holder.duplicate) == (same, same, False)
    assert counts(app) == {"ready": 1 if same else 2}
    assert other.state is State.PENDING


@pytest.mark.parametrize("unique", ["\udcff", UniqueKey(key="\udcff")], ids=["text", "object"])
def test_unique_key_that_is_no_text_is_refused(unique: Any) -> None:
    """At the call, naming the task, on whatever engine."""
    app = app_with_echo()

    with pytest.raises(EncodeError, match="the unique key of echo is not valid UTF-8: "):
        app.send(call(unique=unique))

    assert counts(app) == {}


def test_unique_by_the_tasks_option_is_free_again_when_done() -> None:
    """The key is held until the final settle."""
    app = make_app()
    app.task(name="echo", unique=True)(echo)

    first = app.send(call())
    burst(app)
    second = app.send(call())

    assert (second == first, second.duplicate) == (False, False)


def test_refuses_a_message_above_the_limit() -> None:
    """The error names the task and both sizes, and says what to do."""
    app = app_with_echo(max_message_bytes=200)

    with pytest.raises(TooLargeError, match=r"echo\(\): the message has 2\d\d bytes, the limit is 200") as caught:
        app.send(Signature("echo", args=("x" * 200,)))

    assert "max_message_bytes" in caught.value.fix
    assert counts(app) == {}


def test_names_the_argument_that_cannot_be_written() -> None:
    """Task, argument and the path inside it; nothing is sent."""
    app = app_with_echo()

    with pytest.raises(EncodeError, match=r"echo\(\) argument 'value'\.a\[1\]: object is not something JSON"):
        app.send(Signature("echo", args=({"a": [1, object()]},)))

    assert counts(app) == {}


def test_names_an_argument_of_an_unknown_task_by_its_place() -> None:
    """Sent by name, a task has no parameters here."""
    with pytest.raises(EncodeError, match=r"far\.away\(\) argument '1'"):
        make_app().send(Signature("far.away", args=(1, object())))


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        pytest.param({"priority": 9}, "priority", id="priority"),
        pytest.param({"unique": True}, "unique", id="unique"),
        pytest.param({"delay": 5}, "delay", id="delay"),
    ],
)
def test_refuses_what_the_broker_cannot_do(options: Any, missing: str) -> None:
    """The error names task, option and scheme."""
    app = app_with_echo()
    app.runtime.broker.capabilities = Capabilities(priority=False, unique=False, delay=False)

    with pytest.raises(CapabilityError, match=f"echo asks for {missing}, which memory:// does not support"):
        app.send(call(**options))


def test_hops_to_a_moment_beyond_the_brokers_longest_delay() -> None:
    """What the broker cannot delay so long is delayed as long as it can, and knows the moment."""
    app = app_with_echo(clock=(clock := VirtualClock()))
    app.runtime.broker.limits = Limits(max_delay=900)

    app.send_many([call(id="short", delay=900), call(id="long", delay=3600)])

    stored = {one.envelope.id: one.envelope for one in inside(app, Place.DELAYED)}
    assert (stored["short"].delay, stored["short"].not_before) == (900, None)
    assert (stored["long"].delay, stored["long"].not_before) == (900, clock.time() + 3600)


def test_an_eta_is_a_moment_for_any_broker() -> None:
    """It is kept beside the delay, so that it holds whatever the clocks do."""
    app = app_with_echo(clock=(clock := VirtualClock()))
    app.runtime.broker.limits = Limits(max_delay=900)
    eta = datetime.fromtimestamp(clock.time() + 60, UTC)

    app.send(call(eta=eta))

    (stored,) = inside(app, Place.DELAYED)
    assert (stored.envelope.delay, stored.envelope.not_before) == (60, eta.timestamp())


def test_many_are_sent_in_batches_and_in_order() -> None:
    """One round trip per batch of the broker, from any iterable."""
    app = flaky_app()
    broker_of(app).limits = Limits(max_batch=10)

    results = app.send_many(Signature("t", id=f"id-{index:02}") for index in range(25))

    assert broker_of(app).wire.calls.count("send") == 3
    taken = [one.id for count in (10, 10, 5) for one in take(app, count)]
    assert taken == [result.id for result in results]


def test_pending_is_written_in_the_same_step_where_it_can_be() -> None:
    """One engine, one commit; separate engines, the message first."""
    app = make_app()

    result = app.send(call())

    assert (result.state, result.stored, result.info().sent is not None) == (State.PENDING, True, True)


def test_pending_is_written_after_the_message_by_separate_engines() -> None:
    """A message without a record is better than a record without a message."""
    app = flaky_app()

    app.send(call())

    assert (broker_of(app).wire.calls, backend_of(app).wire.calls) == (["send"], ["put"])


def test_a_duplicate_writes_no_record() -> None:
    """The record is the holder's."""
    app = flaky_app()

    app.send(call(unique="k"))
    app.send(call(unique="k"))

    assert backend_of(app).wire.calls == ["put"]


def test_results_that_are_off_cost_nothing() -> None:
    """No PENDING is written for a task that ignores its result."""
    app = flaky_app()

    app.send(call(ignore_result=True))

    assert backend_of(app).wire.calls == []


def test_a_lost_reply_does_not_send_twice() -> None:
    """A send whose answer got lost is repeated, and is on the queue once (QK13)."""
    app = flaky_app(clock=(clock := VirtualClock()))
    broker = broker_of(app)

    def lose_the_reply() -> None:
        super(type(broker), broker).send([take_signature(app)])
        raise UnavailableError("connection reset")

    broker.wire.answers["send"] = lose_the_reply
    sending = drive(clock, in_thread(lambda: app.send(call(id="id-1"))), step=0.1)

    assert sending.result().id == "id-1"
    assert counts(app) == {"ready": 1}


def take_signature(app: Queuekit) -> Any:
    """Return the envelope that ``call(id="id-1")`` becomes."""
    return Sending(app.runtime, app.tasks).prepare(call(id="id-1")).envelope


def test_a_send_fails_within_its_deadline() -> None:
    """A broker that stays silent is one clear error after ``send_timeout``."""
    app = flaky_app(clock=(clock := VirtualClock()), send_timeout="5s")
    broker_of(app).wire.cut = {"send"}

    sending = drive(clock, in_thread(lambda: app.send(call())), step=0.05)

    assert isinstance(sending.exception(), UnavailableError)
    assert clock.monotonic() >= 4
    assert 3 <= broker_of(app).wire.calls.count("send") <= 20


def test_a_send_goes_through_when_the_broker_is_back() -> None:
    """A short silence is no error."""
    app = flaky_app(clock=(clock := VirtualClock()))
    broker_of(app).wire.cut = {"send"}

    sending = in_thread(lambda: app.send(call(id="id-1")))
    clock.wait_for_waiters(1)
    broker_of(app).wire.cut = set()
    drive(clock, sending, step=0.1)

    assert sending.result().state is State.PENDING


def test_follow_ups_know_their_parent() -> None:
    """The header says whose outcome sent it."""
    app = app_with_echo()

    ready = Sending(app.runtime, app.tasks).prepare(call(), parent="id-0")

    assert b'"parent":"id-0"' in ready.envelope.body
    assert attrs.asdict(ready.envelope)["queue"] == "default"


def test_what_will_not_pass_is_not_tried_again() -> None:
    """A send with a wrong password fails at its first try."""
    app = flaky_app()
    refusal = UnavailableError("wrong password")
    refusal.passing = False

    def refuse() -> None:
        raise refusal

    broker_of(app).wire.answers["send"] = refuse

    with pytest.raises(UnavailableError, match="wrong password"):
        app.send(call())
    assert broker_of(app).wire.calls.count("send") == 1


def test_engines_know_how_much_time_a_send_has() -> None:
    """They may wait for ``send_timeout`` seconds in all, and for as long as they like afterwards."""
    app = flaky_app(send_timeout="2s")
    left: list[float] = []
    broker_of(app).wire.answers["send"] = lambda: left.append(time_left(60))
    backend_of(app).wire.answers["put"] = lambda: left.append(time_left(60))

    app.send(call())

    assert 0 < left[1] < left[0] <= 2
    assert time_left(60) == 60


def test_what_a_send_does_first_counts() -> None:
    """Loading a client library at the first send is a part of its time, of which half is left for the engine."""
    app = flaky_app(send_timeout="2s")
    left: list[float] = []
    for spent in (0.5, 60.0):
        broker_of(app).wire.answers["send"] = lambda: left.append(time_left(60))
        Sending(app.runtime, app.tasks, spent=spent).send_one(call())

    assert 0 < left[0] <= 1.5
    assert 0 < left[1] <= 1


def test_an_engine_that_does_not_tell_the_time_takes_that_of_the_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs the engine's clock fails no later than other sends."""
    app = flaky_app(send_timeout="0.2s")
    left: list[float] = []

    def silent() -> float:
        threading.Event().wait(time_left(60))
        raise UnavailableError("silent")

    monkeypatch.setattr(backend_of(app), "now", silent)
    broker_of(app).wire.answers["send"] = lambda: left.append(time_left(60))

    app.send(attrs.evolve(call(), expires=60))

    assert left[0] <= 0.1


def test_time_until_an_engine_tells_the_time_is_no_time_of_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first answer that includes a connection of seconds does not put later expiries off by as much (QK11)."""
    clock = VirtualClock()
    app = app_with_echo(clock=clock)

    def slow() -> float:
        clock.advance(3.0)
        return clock.time()

    monkeypatch.setattr(app.runtime.need_backend("a test"), "now", slow)
    app.send(call().options(expires=0.0))
    clock.advance(1.0)

    app.send(call().options(expires=0.0))

    assert [one.envelope.expires for one in inside(app, Place.READY)][-1] == clock.time()
