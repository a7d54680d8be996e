"""Arguments that no command shows: marked, or named in the settings."""

import dataclasses
from typing import Annotated, Any

import attrs
import pytest

from queuekit import Context, Queuekit, Secret, Signature
from queuekit.errors import ArgumentsError
from queuekit.operations.admin import Admin
from support.working import make_app


def charge(order: int, card: Annotated[str, Secret], *more: str, note: str = "") -> None:
    """Do nothing."""


def charge_in_context(ctx: Context, card: "Annotated[str | None, Secret] | None" = None) -> None:
    """Do nothing."""


def unreadable(card: "Annotated[NoSuchType, Secret]") -> None:  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable] # noqa: F821
    """Do nothing."""


Card = Annotated[str, Secret]


def by_alias(card: "Card", other: "NoSuchType" = None) -> None:  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable] # noqa: F821
    """Do nothing."""


@attrs.frozen
class Payment:
    """A class with a secret."""

    card: "Card"


@dataclasses.dataclass
class Purchase:
    """A class that holds one with a secret."""

    payment: Payment


def buy(purchase: list[Purchase] | None) -> None:
    """Do nothing."""


def log_in(order: object, password: str = "", more: object = None) -> None:
    """Do nothing."""


def log_in_many(order: int, *password: str) -> None:
    """Do nothing."""


def shown(app: Queuekit, *args: Any, task: str = "t", **kwargs: Any) -> tuple[list[Any], dict[str, Any], bool]:
    """Return what is shown of the arguments of a call, and whether some are hidden."""
    view = Admin(app).show(app.send(Signature(task, args, kwargs)).id)
    assert view.message is not None
    return list(view.message.args), view.message.kwargs, view.hidden


def app_of(function: Any, **settings: Any) -> Queuekit:
    """Return an app with one task."""
    app = make_app(**settings)
    app.task(name="t")(function)
    return app


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "seen"),
    [
        (charge, (1, "4111"), {}, ([1, "***"], {})),
        (charge, (1,), {"card": "4111", "note": "n"}, ([1], {"card": "***", "note": "n"})),
        (charge_in_context, ("4111",), {}, (["***"], {})),
        (unreadable, ("4111",), {}, (["***"], {})),
        (by_alias, ("4111",), {}, (["***"], {})),
        (buy, ([Purchase(Payment("4111"))],), {}, (["***"], {})),
        (buy, ([{"payment": {"card": "4111"}}],), {}, (["***"], {})),
    ],
)
def test_hides_what_is_marked(function: Any, args: Any, kwargs: Any, seen: Any) -> None:
    """By position or by name, also where the annotation is text that only a type checker understands."""
    assert shown(app_of(function), *args, **kwargs) == (*seen, True)


def test_hides_what_the_settings_name() -> None:
    """Parameters, keyword arguments, and keys inside of values, in upper or lower case."""
    app = app_of(log_in, redact=["password", "token"])

    args, kwargs, hidden = shown(app, 1, "hunter2", more={"a": [{"Token": "x", "b": 2}]})

    assert (args, kwargs, hidden) == ([1, "***"], {"more": {"a": [{"Token": "***", "b": 2}]}}, True)


def test_shows_the_rest_as_it_is() -> None:
    """A call without secrets is the message itself."""
    app = app_of(log_in, redact=["password"])

    assert shown(app, {"a": (1, 2)}) == ([{"a": (1, 2)}], {}, False)


def test_an_unknown_task_has_no_names() -> None:
    """Nobody knows which of its positional arguments is the password, so all are hidden."""
    assert shown(make_app(redact=["password"]), "x", 2, task="other", a=1) == (["***", "***"], {"a": 1}, True)
    assert shown(make_app(), "x", task="other") == (["x"], {}, False)


def test_further_positional_arguments_have_the_last_name() -> None:
    """``*passwords`` names all of them."""
    app = app_of(log_in_many, redact=["password"])

    assert shown(app, 1, "a", "b")[0] == [1, "***", "***"]


def test_many_calls_in_one_message_are_hidden_together() -> None:
    """A chunk holds the arguments of each call in a list."""
    app = app_of(charge)
    result = app.send(Signature[Any]("t", ([[1, "4111"], [2, "4222"]],), each=True))

    message = Admin(app).show(result.id).message

    assert message is not None
    assert message.args == ["***"]


def test_no_error_of_ours_has_a_secret_in_it() -> None:
    """A value that does not fit its annotation is not in the text of the error, which commands and logs show."""
    app = make_app()

    @app.task(name="pay", coerce=True)
    def pay(pin: Annotated[int, Secret], count: int = 1) -> None:
        """Do nothing."""

    with pytest.raises(ArgumentsError, match=r"'pin': its value, which is secret,") as caught:
        pay.send("hunter2")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    assert "hunter2" not in str(caught.value)
