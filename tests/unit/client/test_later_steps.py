"""A later step of a workflow, or a follow-up, that the broker cannot carry is refused where the whole is sent."""

from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Signature, chain, chord, group
from queuekit.broker import Capabilities, Place
from queuekit.envelope import Lane
from queuekit.errors import CapabilityError
from queuekit.fair import Fair
from queuekit.limits import arg
from support.working import make_app

NOTHING = Capabilities(lanes=False, priority=False, unique=False, delay=False)
OPTIONS: dict[str, dict[str, Any]] = {
    "fair_by": {"fair_by": "acme"},
    "priority": {"priority": 9},
    "unique": {"unique": "key"},
    "delay": {"delay": 5},
}


def refusing_app(**capabilities: bool) -> Queuekit:
    """Return an app whose broker has few capabilities, with a task that asks for nothing and one that takes turns."""
    app = make_app()
    app.task(name="plain")(lambda of=None: of)
    app.task(name="fair", fair_by=Fair(arg("of"), weights={"large": 9}))(lambda of=None: of)
    app.runtime.broker.capabilities = attrs.evolve(NOTHING, **capabilities)
    return app


def workflows(later: Signature[Any]) -> dict[str, Any]:
    """Return what *later* can be a part of, other than the first."""
    first: Signature[Any] = Signature("plain")
    return {
        "chain": chain(first, later),
        "group": group(first, first, later),
        "callback": chord(group(first, first), later),
        "nested": chain(first, group(first, chain(first, later))),
        "follow-up": attrs.evolve(first, on_success=(later,)),
        "failure": attrs.evolve(first, on_error=(later,)),
        "follow-up of a step": chain(first, attrs.evolve(first, on_success=(later,))),
        "follow-up of a follow-up": attrs.evolve(first, on_success=(attrs.evolve(first, on_success=(later,)),)),
    }


def nothing_waits(app: Queuekit) -> bool:
    """Return whether no message was sent."""
    return not any(list(app.runtime.broker.walk("default", place)) for place in (Place.READY, Place.DELAYED))


@pytest.mark.parametrize("shape", workflows(Signature("later")))
@pytest.mark.parametrize("option", OPTIONS)
def test_option_that_the_broker_lacks_is_refused_at_the_send(shape: str, option: str) -> None:
    """The error names task, option and engine, and nothing of the workflow is sent."""
    app = refusing_app()
    whole = workflows(Signature("later", **OPTIONS[option]))[shape]

    with pytest.raises(CapabilityError, match=f"^later asks for {option}, which memory:// does not support"):
        app.send(whole)

    assert nothing_waits(app)


@pytest.mark.parametrize(
    ("capabilities", "call", "what"),
    [
        ({}, Signature("fair"), "fair_by"),
        ({"approximate_lanes": True}, Signature("fair"), "weights of fair_by"),
        ({"approximate_lanes": True}, Signature("plain", fair_by=Lane("a", 2)), "a weight in fair_by"),
    ],
    ids=["task", "weights", "lane"],
)
def test_lane_of_a_later_step_is_refused_at_the_send(
    capabilities: dict[str, bool], call: Signature[Any], what: str
) -> None:
    """Also if the task asks for it, or for weights where shares are approximate."""
    app = refusing_app(**capabilities)

    with pytest.raises(CapabilityError, match=f"{call.task} asks for {what}, which memory://"):
        app.send(chain(Signature("plain"), call))

    assert nothing_waits(app)


def test_later_step_that_the_broker_carries_is_sent() -> None:
    """Lanes that are approximate are enough for a lane without a weight."""
    app = refusing_app(approximate_lanes=True)

    app.send(chain(Signature("plain"), Signature("plain", fair_by="acme")))

    assert not nothing_waits(app)
