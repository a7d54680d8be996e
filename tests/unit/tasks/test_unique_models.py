"""Unique keys of calls whose arguments are pydantic models and msgspec structs, which must be installed."""

from typing import Any

import msgspec
import pydantic
import pytest

from queuekit import Queuekit
from queuekit.client.sender import Sending
from support.working import make_app


class Search(pydantic.BaseModel):
    """A model that holds what has no order, and what only JSON can hold."""

    tags: set[str]
    more: dict[str, int]
    site: pydantic.HttpUrl | None = None


class Filter(msgspec.Struct):
    """A struct that holds what has no order."""

    tags: frozenset[str]
    more: dict[str, int]


def look_up(x: Any) -> None:
    """Take anything."""


@pytest.fixture(scope="module")
def app() -> Queuekit:
    """An app with a unique task."""
    made = make_app()
    made.task(name="f", unique=True)(look_up)
    made.register_type(Search)
    made.register_type(Filter)
    return made


def key(app: Queuekit, argument: Any) -> str:
    """Return the unique key of a call with *argument*."""
    unique = Sending(app.runtime, app.tasks).prepare(app.tasks["f"].s(argument)).envelope.unique
    assert unique is not None
    return unique.key


SOME_TAGS, SAME_TAGS = {str(number) for number in range(50)}, {str(number) for number in reversed(range(50))}
"""Two equal sets that are iterated over in different orders."""
SITE = pydantic.HttpUrl("http://site")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Search(tags=SOME_TAGS, more={"a": 1, "b": 2}), Search(tags=SAME_TAGS, more={"b": 2, "a": 1})),
        (Search(tags=SOME_TAGS, more={}, site=SITE), Search(tags=SAME_TAGS, more={}, site=SITE)),
        (Filter(frozenset(SOME_TAGS), {"a": 1, "b": 2}), Filter(frozenset(SAME_TAGS), {"b": 2, "a": 1})),
        ({"x": [Search(tags=SOME_TAGS, more={})]}, {"x": [Search(tags=SAME_TAGS, more={})]}),
    ],
    ids=["model", "site", "struct", "nested"],
)
def test_no_order_inside_a_model_makes_a_difference(app: Queuekit, one: Any, other: Any) -> None:
    """Models are compared field by field, as all else: their own text is that of one process."""
    assert key(app, one) == key(app, other)
    assert key(app, one) != key(app, [one, other])
