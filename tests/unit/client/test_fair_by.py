"""``fair_by``: the lane of a call is computed once, when it is sent, and goes with its message."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit, Retry, Signature, UniqueKey
from queuekit.broker import Capabilities, Place
from queuekit.client.requirements import unmet_requirements
from queuekit.envelope import Lane
from queuekit.errors import CapabilityError, OptionError
from queuekit.fair import Fair
from queuekit.limits import arg
from support.working import burst, make_app


def report(tenant: Any = None, *, order: Any = None) -> None:
    """Take a call."""


def fair_app(fair_by: Any = None, **settings: Any) -> Queuekit:
    """Return an app with a task that takes turns, and one that does not."""
    app = make_app(**settings)
    app.task(name="report", fair_by=fair_by or arg("tenant"))(report)
    app.task(name="plain")(report)
    return app


def lanes_of(app: Queuekit) -> list[Lane | None]:
    """Return the lanes of the waiting messages, sorted by key."""
    waiting = [one for place in (Place.READY, Place.DELAYED) for one in app.runtime.broker.walk("default", place)]
    return sorted((one.envelope.lane for one in waiting), key=str)


@pytest.mark.parametrize(
    ("fair_by", "call", "lane"),
    [
        pytest.param(arg("tenant"), Signature("report", ("acme",)), Lane("acme"), id="argument"),
        pytest.param(arg("tenant"), Signature("report", kwargs={"tenant": 7}), Lane("7"), id="number"),
        pytest.param(arg("tenant"), Signature("report"), Lane(), id="missing"),
        pytest.param(arg("order.of"), Signature("report", kwargs={"order": {"of": "x"}}), Lane("x"), id="dotted"),
        pytest.param(arg("order.of"), Signature("report", kwargs={"order": {}}), Lane(), id="missing-part"),
        pytest.param(Fair(arg("tenant"), {"acme": 9}), Signature("report", ("acme",)), Lane("acme", 9.0), id="weight"),
        pytest.param(Fair("tenant", {"7": 2}), Signature("report", (7,)), Lane("7", 2.0), id="weight-of-number"),
        pytest.param(Fair("tenant", {"acme": 9}), Signature("report", ("b",)), Lane("b"), id="other-weight"),
        pytest.param(arg("tenant"), Signature("report", fair_by="own"), Lane("own"), id="of-the-call"),
        pytest.param(arg("tenant"), Signature("report", fair_by=Lane("x", 3)), Lane("x", 3.0), id="lane-of-the-call"),
        pytest.param(
            arg("order"), Signature("report", ("acme",), fair_by=arg("tenant")), Lane("acme"), id="argument-of-the-call"
        ),
        pytest.param(arg("tenant"), Signature("plain"), Lane(), id="task-without"),
        pytest.param(
            arg("tenant"), Signature("far.away", kwargs={"t": "z"}, fair_by=arg("t")), Lane("z"), id="unknown-task"
        ),
        pytest.param(arg("tenant"), Signature("report", ("a", ), priority=2, delay=5), Lane("a"), id="with-options"),
        pytest.param(arg("tenant"), Signature("report", ("\udc80é",)), Lane("\\udc80é"), id="not-unicode"),
        pytest.param(arg("tenant"), Signature("report", ("a\0é\n",)), Lane("a\\x00é\\n"), id="control-characters"),
    ],
)  # fmt: skip
def test_message_has_the_lane_of_its_call(fair_by: Any, call: Signature[Any], lane: Lane) -> None:
    """The value of the argument, or what the call says; what has no key is in the common lane."""
    app = fair_app(fair_by)
    app.send(call)

    assert lanes_of(app) == [lane]


def test_app_without_fair_tasks_has_no_lanes() -> None:
    """Such messages are as they always were."""
    app = make_app()
    app.task(name="plain")(report)
    app.send(Signature("plain"))

    assert lanes_of(app) == [None]


@pytest.mark.parametrize(
    "fair_by",
    ["tenant", 7, ["tenant"], arg("nobody"), Fair(arg("tenant"), {"a": 0}), Fair("a b"), Lane("x"), Fair("tenant", 3)],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ids=str,
)
def test_wrong_declaration_is_refused_at_once(fair_by: Any) -> None:
    """At the decorator."""
    with pytest.raises(OptionError, match="fair"):
        make_app().task(name="t", fair_by=fair_by)(report)


@pytest.mark.parametrize(
    "wrong",
    [Lane("x", -1), Lane("x", weight=True), "x\ny", "x" * 301, 7],
    ids=["weight", "bool", "control", "long", "type"],
)
def test_wrong_lane_of_a_call_is_refused(wrong: Any) -> None:
    """Where it is set."""
    with pytest.raises(OptionError, match="fair_by"):
        Signature("t", fair_by=wrong)


def test_call_of_an_unknown_task_names_the_argument() -> None:
    """Else nobody knows which one it is."""
    with pytest.raises(OptionError, match=r"far is unknown here, .* tenant") as caught:
        make_app().send(Signature("far", ("acme",), fair_by=arg("tenant")))

    assert 'fair_by="acme"' in caught.value.fix


@pytest.mark.parametrize(
    "call",
    [
        Signature("t", fair_by="acme"),
        Signature("t", fair_by=Lane("acme", 2)),
        Signature("t", fair_by=Fair(arg("order.id"), weights={"a": 2})),
    ],
    ids=["text", "lane", "argument"],
)
def test_signature_carries_it(call: Signature[Any]) -> None:
    """As plain data, in follow-ups and schedules."""
    assert Signature.from_dict(call.to_dict()) == call


def test_broker_without_lanes_is_refused_at_the_start() -> None:
    """And each call that asks for one; other calls of such an app have no lane."""
    app = fair_app()
    app.runtime.broker.capabilities = Capabilities(lanes=False)

    assert list(unmet_requirements(app.runtime, app.tasks)) == [
        "report asks for fair_by, which memory:// does not support"
    ]
    with pytest.raises(CapabilityError, match="report asks for fair_by, which memory:// does not support"):
        app.send(Signature("report", ("acme",)))
    app.send(Signature("plain"))
    assert lanes_of(app) == [None]


def test_weights_are_refused_where_shares_are_approximate() -> None:
    """Lanes alone are accepted there."""
    app = fair_app(Fair("tenant", {"acme": 9}))
    app.runtime.broker.capabilities = Capabilities(approximate_lanes=True)

    (line,) = unmet_requirements(app.runtime, app.tasks)
    with pytest.raises(CapabilityError, match="report asks for a weight in fair_by, which memory://"):
        app.send(Signature("report", ("acme",)))
    app.send(Signature("report", ("other",)))

    assert line == "report asks for weights of fair_by, which memory:// does not support"
    assert lanes_of(app) == [Lane("other")]


@pytest.mark.parametrize("broker", ["memory", "sqlite"])
def test_retry_keeps_to_its_lane(broker: str, tmp_path: Path) -> None:
    """A message that failed waits for its next attempt in the lane in which it was sent."""
    url = "memory://" if broker == "memory" else f"sqlite:///{tmp_path}/q.db"
    app = make_app(broker=url, backend=url)

    @app.task(name="failing", fair_by=Fair(arg("tenant"), {"acme": 2}), retries=3)
    def failing(tenant: str) -> None:
        raise Retry(after=3600)

    app.send(failing.s("acme"))
    burst(app)

    assert lanes_of(app) == [Lane("acme", 2.0)]


def test_debounced_call_keeps_its_lane() -> None:
    """The message that takes calls in is in the lane of the newest."""
    app = make_app()
    unique = UniqueKey(by="order", on_conflict="debounce", quiet=3600)
    app.task(name="report", fair_by=arg("tenant"), unique=unique)(report)
    app.send(Signature("report", ("acme",), kwargs={"order": 1}))

    assert lanes_of(app) == [Lane("acme")]


def test_flood_of_one_lane_leaves_the_others_their_turns() -> None:
    """10,000 of one lane, 100 of another and one of a third: that starts after one of each, and nothing is left."""
    app = fair_app()
    app.send_many([Signature("report", ("a",))] * 10_000)
    app.send_many([Signature("report", ("b",))] * 100)
    app.send(Signature("report", ("c",)))

    first = app.runtime.broker.receive(["default"], limit=100, wait=0, lease=30)

    lanes = [delivery.envelope.lane.key for delivery in first if delivery.envelope.lane]
    assert "c" in lanes[:3]
    assert Counter(lanes)["b"] in (49, 50)
