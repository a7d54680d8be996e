"""Unique keys made from some arguments, and sends that raise if the key is held."""

import asyncio
import pickle
from typing import Any

import pytest

from queuekit import Queuekit, Result, Signature, UniqueKey
from queuekit.errors import OptionError, UniqueConflictError
from queuekit.events import TickSkipped
from queuekit.limits import arg
from queuekit.schedules.triggers import every
from support.scheduling import Crew
from support.working import burst, make_app, seen


def charge(order: Any, amount: int = 1, *, note: str = "") -> int:
    """Take an order by its parts."""
    return amount


def app_by(by: Any, on_conflict: Any = "skip", **options: Any) -> Queuekit:
    """Return an app whose task is unique *by* some arguments."""
    app = make_app(**options)
    app.task(name="charge", unique=UniqueKey(by=by, on_conflict=on_conflict))(charge)
    return app


def call(*args: Any, **kwargs: Any) -> Signature[Any]:
    """Return a call of the task."""
    return Signature("charge", args, kwargs)


@pytest.mark.parametrize(
    ("by", "second", "same"),
    [
        pytest.param("order", call("a", 2), True, id="one-name"),
        pytest.param("order", call(order="a"), True, id="by-name"),
        pytest.param("order", call("b"), False, id="other-value"),
        pytest.param(arg("order"), call("a", 9), True, id="arg"),
        pytest.param(["order", "amount"], call("a", 1, note="x"), True, id="default"),
        pytest.param(["order", "amount"], call("a", 2), False, id="second-value"),
        pytest.param(["order", "note"], call("a"), True, id="keyword"),
    ],
)
def test_calls_with_equal_parts_have_one_key(by: Any, second: Signature[Any], *, same: bool) -> None:
    """Only the values that ``by`` names decide, with defaults and however they are passed."""
    app = app_by(by)
    first = app.send(call("a"))

    again = app.send(second)

    assert (again.id == first.id, again.duplicate) == (same, same)


@pytest.mark.parametrize("order", [{"customer": {"id": None}}, {"customer": {}}, {}, None, "text"], ids=repr)
def test_a_missing_part_is_no_key(order: Any) -> None:
    """Calls without the value do not share a key of their own."""
    app = app_by("order.customer.id")

    sent = app.send_many([call(order), call(order)])

    assert [one.duplicate for one in sent] == [False, False]


def test_a_path_leads_into_an_argument() -> None:
    """Dots lead into mappings."""
    app = app_by("order.customer.id")

    sent = app.send_many([call({"customer": {"id": id}, "n": n}) for n, id in enumerate([1, 2, 1])])

    assert [one.duplicate for one in sent] == [False, False, True]


def test_the_key_shows_no_value() -> None:
    """A key is a digest, so no argument can be read from it."""
    app = app_by("order")
    sent = app.send(call("secret-4711"))

    (stored,) = app.runtime.broker.find("default", [sent.id])

    assert stored.envelope.unique is not None
    assert "secret" not in stored.envelope.unique.key


def test_tasks_do_not_share_keys() -> None:
    """The name of the task is part of the key."""
    app = app_by("order")
    app.task(name="refund", unique=UniqueKey(by="order"))(charge)

    sent = app.send_many([call("a"), Signature("refund", ("a",))])

    assert [one.duplicate for one in sent] == [False, False]


@pytest.mark.parametrize(
    ("unique", "text"),
    [
        (UniqueKey(by="ordr"), "has no parameter 'ordr' to be unique by; Did you mean 'order'"),
        (UniqueKey(by=[]), "unique: by: expected the names of different arguments"),
        (UniqueKey(by=["order", "order"]), "unique: by: expected the names of different arguments"),
        (UniqueKey(by="order..id"), "unique: by: expected names of arguments"),
        (UniqueKey(by=[7]), "unique: by: expected names of arguments"),
        (UniqueKey(by="order", key="k"), "unique: expected either key or by"),
        (UniqueKey(), "unique: expected a key that is non-empty text, got None"),
        (UniqueKey(key="k", on_conflict="rise"), "on_conflict: expected .*Did you mean 'raise'"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_declaration_is_refused(unique: UniqueKey, text: str) -> None:
    """The decorator says what is wrong."""
    app = make_app()

    with pytest.raises(OptionError, match=text):
        app.task(name="charge", unique=unique)(charge)


def test_a_task_that_is_unknown_here_needs_arguments_by_name() -> None:
    """Positions mean nothing without the parameters."""
    app = make_app()
    unique = UniqueKey(by="order")

    sent: list[Result[Any]] = [app.send(Signature("far", kwargs={"order": "a"}, unique=unique)) for _ in range(2)]

    assert sent[0] == sent[1]
    with pytest.raises(OptionError, match="far is unknown here"):
        app.send(Signature("far", ("a",), unique=unique))


def test_a_conflict_raises_with_the_holder() -> None:
    """The error names the message that holds the key, and survives pickling."""
    app = app_by("order", "raise")
    first = app.send(call("a"))

    with pytest.raises(UniqueConflictError, match=f"not sent: {first.id} holds its unique key") as caught:
        app.send(call("a", 2))

    copied = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own error
    assert copied.id == first.id


def test_a_conflict_raises_in_a_coroutine() -> None:
    """Each coroutine gets its own answer."""
    app = app_by("order", "raise")

    async def main() -> list[object]:
        return [*await asyncio.gather(*[app.asend(call("a")) for _ in range(3)], return_exceptions=True)]

    answers = asyncio.run(main())

    app.close()
    assert sorted(type(one).__name__ for one in answers) == ["Result", "UniqueConflictError", "UniqueConflictError"]


def test_the_others_of_many_are_sent() -> None:
    """One error names all calls that were not sent, by their place."""
    app = app_by("order", "raise")
    first = app.send(call("a"))

    with pytest.raises(UniqueConflictError, match=r"1 more calls of 4") as caught:
        app.send_many([call("a"), call("b"), call("c"), call("a")])

    assert caught.value.holders == {0: first.id, 3: first.id}
    assert app.runtime.broker.counts(["default"])["default"].ready == 3


def test_the_key_is_free_after_the_end() -> None:
    """Nothing is raised once the holder has ended."""
    app = app_by("order", "raise")
    first = app.send(call("a"))
    burst(app)

    assert app.send(call("a")).id != first.id


def test_a_key_of_its_own_can_raise() -> None:
    """``on_conflict`` works with a key as text, too."""
    app = make_app()
    app.task(name="charge")(charge)
    unique = UniqueKey(key="only", on_conflict="raise")
    app.send(call("a").options(unique=unique))

    with pytest.raises(UniqueConflictError):
        app.send(call("b").options(unique=unique))


def test_the_option_survives_a_signature_as_data() -> None:
    """A signature keeps it when it is stored, as in a schedule or a workflow."""
    signature = call("a").options(unique=UniqueKey(by=["order", "note"], on_conflict="raise", ttl="1m"))

    assert Signature.from_dict(signature.to_dict()) == signature


def test_eager_mode_raises_while_the_task_runs() -> None:
    """A task that sends its own call meets its own key."""
    app = make_app(eager=True)
    errors: list[str] = []

    @app.task(name="again", unique=UniqueKey(by="order", on_conflict="raise"))
    def again(order: str) -> None:
        try:
            again.send(order)
        except UniqueConflictError as error:
            errors.append(error.id)

    sent = again.send("a")

    assert errors == [sent.id]


def test_a_tick_whose_key_is_held_is_skipped() -> None:
    """A schedule goes on, and says which message holds the key."""
    crew = Crew()
    crew.app.task(name="charge", unique=UniqueKey(by="order", on_conflict="raise"))(charge)
    crew.app.schedules.add("charging", every("10s"), call("a"))
    skipped = seen(crew.app, TickSkipped)
    crew.hire()

    crew.run(35)

    assert len({one.holder for one in skipped}) == 1
    assert len(skipped) == 2
