"""Classes that are data, and the quick constructors of those that each message creates."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from queuekit.backend import Record
from queuekit.broker import CommitItem, Delivery
from queuekit.client.codec import Message
from queuekit.envelope import Envelope
from queuekit.signature import Signature
from queuekit.values import define, frozen, quick_frozen, quickly

ENVELOPE = Envelope(id="id-1", queue="q", body=b"")


@attrs.define
class Basket:
    """A class whose field begins with a new list, under another name in its constructor."""

    size: int
    _apples: list[int] = attrs.field(factory=lambda: [1])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param(Envelope, {"id": "id-1", "queue": "q", "body": b"x", "priority": 9}, id="envelope"),
        pytest.param(Delivery, {"envelope": ENVELOPE, "token": "t", "number": 1, "crashes": 2}, id="delivery"),
        pytest.param(Record, {"key": "k", "final": True, "at": 1.5}, id="record"),
        pytest.param(CommitItem, {"sends": (ENVELOPE,)}, id="item"),
        pytest.param(Message, {"id": "i", "task": "t", "args": [1], "kwargs": {}, "headers": {}}, id="message"),
        pytest.param(Basket, {"size": 1, "apples": [2]}, id="factory-not-used"),
        pytest.param(Basket, {"size": 1}, id="factory-used"),
    ],
)
def test_creates_what_the_class_creates(kind: Callable[..., Any], fields: dict[str, Any]) -> None:
    """The same fields, the same defaults, the same class."""
    assert quickly(kind)(**fields) == kind(**fields)


def test_calls_a_factory_each_time() -> None:
    """No two instances share a list."""
    create = quickly(Basket)

    assert create(1)._apples is not create(1)._apples


def test_fills_a_frozen_class_whose_values_are_trusted() -> None:
    """An instance made of values that are already valid is an instance of the class itself, and stays frozen."""
    given = Signature[int]("jobs.add", (1,), {"b": 2}, headers={"a": "b"}, delay=3)

    made: Any = quickly(Signature, trusted=True)(
        task="jobs.add", args=(1,), kwargs={"b": 2}, headers={"a": "b"}, delay=3.0
    )

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.task = "other"
    assert made == given
    assert type(made) is type(given)


def test_needs_what_the_class_needs() -> None:
    """A field without a default must be given, and by name where the class asks for that."""
    with pytest.raises(TypeError, match="token"):
        quickly(Delivery)(envelope=ENVELOPE)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="positional"):
        quickly(Envelope)("id-1", "q", b"")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def test_refuses_a_class_that_checks() -> None:
    """It would skip the check."""

    @attrs.define
    class Checked:
        size: int = attrs.field(validator=attrs.validators.ge(0))

    with pytest.raises(TypeError, match="size"):
        quickly(Checked)


def _coin(decorate: Callable[..., Any]) -> Any:
    """Return a class with a field of each kind, decorated by *decorate*."""

    @decorate
    class Coin:
        metal: str
        cents: Any = 1
        owner: str = attrs.field(default="", eq=False)
        marks: Any = attrs.field(default=(), hash=False, repr=lambda marks: f"<{len(marks)} marks>")
        key: str = attrs.field(default="k", repr=False)

    return Coin


DECORATORS = [
    pytest.param(attrs.define, define, id="define"),
    pytest.param(attrs.frozen, frozen, id="frozen"),
    pytest.param(attrs.frozen, quick_frozen, id="quick-frozen"),
]


@pytest.mark.parametrize(("theirs", "ours"), DECORATORS)
def test_shows_and_compares_as_attrs_would(theirs: Callable[..., Any], ours: Callable[..., Any]) -> None:
    """The shared methods take each field as the class says, and know only their own class."""
    expected, made = _coin(theirs), _coin(ours)
    others: list[dict[str, Any]] = [{}, {"cents": 2}, {"owner": "me"}, {"marks": ["a"]}, {"key": "other"}]

    assert repr(made("tin", marks="ab")) == repr(expected("tin", marks="ab"))
    assert [made("tin") == made("tin", **other) for other in others] == [True, False, True, False, False]
    assert [expected("tin") == expected("tin", **other) for other in others] == [True, False, True, False, False]
    assert made("tin") != expected("tin")


@pytest.mark.parametrize(("theirs", "ours"), DECORATORS)
def test_hashes_as_attrs_would(theirs: Callable[..., Any], ours: Callable[..., Any]) -> None:
    """What may change has no hash; a field that does not count for it may be of any type."""
    expected, made = _coin(theirs), _coin(ours)

    assert (made.__hash__ is None) == (expected.__hash__ is None)
    if made.__hash__ is not None:
        assert hash(made("tin", owner="me", marks=[])) == hash(made("tin"))
        assert hash(made("tin", 2)) != hash(made("tin"))


def test_shows_an_instance_that_holds_itself() -> None:
    """A text of a loop ends."""
    coin = _coin(define)("tin")
    coin.cents = coin

    assert "cents=..." in repr(coin)


def test_keeps_methods_of_the_class() -> None:
    """A class that hides a password, or compares in its own way, does so."""

    @frozen(eq=False)
    class Purse:
        owner: str

        def __repr__(self) -> str:
            return "Purse(***)"

    assert repr(Purse("me")) == "Purse(***)"
    assert Purse("me") != Purse("me")


def test_compares_classes_without_fields() -> None:
    """Two instances that say nothing are equal, as long as they are of one class."""

    @frozen
    class Sign:
        """Nothing but its class."""

    @frozen
    class Other(Sign):
        """Another one."""

    assert (Sign() == Sign(), Sign() == Other(), hash(Sign()) == hash(Sign())) == (True, False, True)
