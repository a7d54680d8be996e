"""Options of the broker's service: checked where they are given, carried by the message wherever it goes."""

from typing import Any, Literal

import attrs
import pytest

from queuekit import Queuekit, Retry, Signature, chain
from queuekit.broker import Broker, Place
from queuekit.client.requirements import require
from queuekit.engines.wrapping import WrappedBroker
from queuekit.envelope import Envelope, join_frame, options_in
from queuekit.errors import CapabilityError, QueuekitError
from queuekit.operations.admin import Admin
from queuekit.wire.call_options import OptionError
from support.working import burst, inside, make_app, take_one


@attrs.frozen(kw_only=True)
class Routing:
    """Options of an invented service."""

    routing_key: str = ""
    copies: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    mode: Literal["fast", "safe"] = "fast"


def routed_app(**settings: Any) -> Queuekit:
    """Return an app whose broker has these options, with a task ``t`` that gives one, and one that gives none."""
    app = make_app(**settings)
    app.runtime.broker.message_options = Routing
    app.task(name="t", broker={"routing_key": "eu"})(print)
    app.task(name="plain")(print)
    return app


def carried(app: Queuekit) -> dict[str, Any]:
    """Return the options of the next message."""
    return options_in(take_one(app).envelope.body)


def test_a_call_adds_to_what_its_task_gives() -> None:
    """Its own options replace those of the task one by one, in the types of the class."""
    app = routed_app()

    app.tasks["t"].options(broker={"copies": "2"}).send()

    assert carried(app) == {"routing_key": "eu", "copies": 2}


@pytest.mark.parametrize(
    "make", [lambda app: app.tasks["t"].s(), lambda _app: Signature[Any]("t")], ids=["task", "name"]
)
def test_the_options_of_a_task_hold_however_it_is_sent(make: Any) -> None:
    """Also for a signature made by name."""
    app = routed_app()

    app.send(make(app))

    assert carried(app) == {"routing_key": "eu"}


def test_a_message_without_options_carries_none() -> None:
    """Its header stays the usual one."""
    app = routed_app()

    app.tasks["plain"].send()

    assert b"broker" not in take_one(app).envelope.body


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param({"routing_kee": "a"}, "Did you mean 'routing_key'?", id="misspelt"),
        pytest.param({"copies": 0}, "copies", id="refused-by-a-validator"),
        pytest.param({"copies": "many"}, "a whole number", id="wrong-type"),
        pytest.param({"mode": "slow"}, '"fast" or "safe"', id="no-choice"),
    ],
)
def test_what_the_class_refuses_is_not_sent(given: dict[str, Any], text: str) -> None:
    """The error names the task and the option; nothing was sent."""
    app = routed_app()

    with pytest.raises(OptionError) as caught:
        app.tasks["plain"].options(broker=given).send()

    assert text in f"{caught.value.what} {caught.value.fix}"
    assert caught.value.what.startswith("plain")
    assert inside(app, Place.READY) == []


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("eu", id="text"),
        pytest.param({1: "eu"}, id="a-number-as-name"),
        pytest.param({"a": object()}, id="no-plain-data"),
        pytest.param({"a": float("nan")}, id="no-json"),
        pytest.param({"a": "x" * 10_000}, id="too-long"),
    ],
)
def test_what_no_header_can_carry_is_refused_where_it_is_given(given: Any) -> None:
    """By the decorator, by ``options`` and by a signature."""
    app = make_app()

    with pytest.raises(OptionError, match="broker"):
        app.task(broker=given)
    with pytest.raises(OptionError, match="broker"):
        app.task(name="t")(print).options(broker=given)
    with pytest.raises(OptionError, match="broker"):
        Signature[Any]("t", broker=given)


def test_a_broker_without_options_says_so() -> None:
    """At the send, and at the start of a worker for those of a task."""
    app = make_app()
    app.task(name="t", broker={"routing_key": "eu"})(print)

    with pytest.raises(CapabilityError, match=r"t asks for broker options \(routing_key\), and memory:// has none"):
        app.tasks["t"].send()
    with pytest.raises(CapabilityError, match="does not support everything") as caught:
        require(app.runtime, app.tasks)
    assert "routing_key" in caught.value.where


@pytest.mark.parametrize("role", ["on_success", "on_error"])
def test_follow_ups_are_checked_with_the_message_before_them(role: str) -> None:
    """They would otherwise be refused in a worker, where nobody sees it."""
    app = routed_app()
    wrong = Signature[Any]("plain", broker={"routing_kee": "a"})

    with pytest.raises(OptionError, match="routing_kee"):
        app.send(Signature.from_dict({"task": "plain", role: [{"task": "plain", "on_success": [wrong.to_dict()]}]}))


def test_all_steps_of_a_workflow_are_checked_at_its_start() -> None:
    """Nothing of it is sent if a later one has options that the service does not know."""
    app = routed_app()

    with pytest.raises(OptionError, match="routing_kee"):
        app.send(chain(Signature("plain"), Signature("plain", broker={"routing_kee": "a"})))

    assert inside(app, Place.READY) == []


def test_they_stay_with_a_retry_and_a_replay() -> None:
    """The broker sees them whenever it gets the message."""
    app = routed_app()

    def fails() -> None:
        raise Retry(after=0)

    app.task(name="again", retries=1, broker={"copies": 3})(fails)
    app.tasks["again"].send()
    burst(app)
    (dead,) = inside(app, Place.DEAD)
    Admin(app).replay("default")
    (again,) = inside(app, Place.READY)

    options_of = app.runtime.broker.options_of
    assert (dead.envelope.attempt, options_of(dead.envelope)) == (1, Routing(copies=3))
    assert (again.envelope.generation, options_of(again.envelope)) == (1, Routing(copies=3))


def test_a_follow_up_has_its_own_and_those_of_its_task() -> None:
    """It does not inherit those of the message before it."""
    app = routed_app(worker={"queues": {"first": 1}})
    follow_ups = [Signature[Any]("t", immutable=True, broker={"copies": 2}), Signature[Any]("plain", immutable=True)]
    app.task(name="parent", queue="first")(lambda: None)

    app.tasks["parent"].options(broker={"mode": "safe"}, on_success=follow_ups).send()
    burst(app)

    assert [options_in(one.envelope.body) for one in inside(app, Place.READY)] == [
        {"routing_key": "eu", "copies": 2},
        {},
    ]


def test_show_has_them() -> None:
    """An operator sees where a message goes."""
    app = routed_app()
    sent = app.tasks["t"].send()

    view = Admin(app).show(sent.id)

    assert view.message is not None
    assert view.message.broker == {"routing_key": "eu"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"broker":5}\n', id="no-table"),
        pytest.param(b'{"broker":{', id="no-line"),
        pytest.param(b'{"broker":{"copies":0}}\n', id="refused-value"),
        pytest.param(b'{"x":1}\n"broker":{"copies":2}', id="in-the-payload"),
        pytest.param(b'"broker":{\n', id="no-object"),
        pytest.param(b"", id="empty"),
    ],
)
def test_hostile_bytes_carry_no_options(body: bytes) -> None:
    """A broker gets ``None``, never an error, when it sends such a message again."""
    broker: Broker = make_app().runtime.broker
    broker.message_options = Routing

    assert broker.options_of(Envelope(id="a", queue="q", body=body)) is None


def test_options_of_a_newer_plugin_are_left_out() -> None:
    """A fleet updates one machine after the other."""
    broker: Broker = make_app().runtime.broker
    broker.message_options = Routing
    body = join_frame({"broker": {"copies": 2, "later": True}}, b"")

    assert broker.options_of(Envelope(id="a", queue="q", body=body)) == Routing(copies=2)


def test_a_wrapper_has_the_options_of_the_broker_inside() -> None:
    """What core adds to a broker does not hide them, nor what it sets aside."""
    inner: Broker = make_app().runtime.broker
    inner.message_options = Routing
    told: list[Any] = []
    vars(inner)["tell_set_aside"] = told.append

    wrapped = WrappedBroker(inner)
    wrapped.tell_set_aside(lambda *_: None)

    assert wrapped.message_options is Routing
    assert len(told) == 1


def test_eager_mode_accepts_all_options() -> None:
    """No service reads them."""
    app = Queuekit(eager=True, broker="sqlite:///:memory:")
    app.task(name="t", broker={"routing_key": "eu"})(lambda: 5)

    assert app.tasks["t"].send().get(timeout=1) == 5


def test_errors_are_errors_of_queuekit() -> None:
    """So the command line prints them without a traceback."""
    assert issubclass(OptionError, QueuekitError)
