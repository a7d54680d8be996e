"""Constructors of small classes that each message creates."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from queuekit.backend import Record
from queuekit.broker import CommitItem, Delivery
from queuekit.client.codec import Message
from queuekit.envelope import Envelope
from queuekit.signature import Signature
from queuekit.values import quickly

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
