"""Fields of models and classes that the settings name: no command shows them."""

from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from queuekit import Signature
from queuekit.operations.admin import Admin
from support.working import make_app


class Login(pydantic.BaseModel):
    """A model with a password."""

    model_config = pydantic.ConfigDict(extra="allow")
    user: str
    password: str


class LoginStruct(msgspec.Struct):
    """A struct with a password."""

    user: str
    password: str


@attrs.frozen
class LoginClass:
    """An attrs class with a password, which may be in a set."""

    user: str
    password: str


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (Login.model_validate({"user": "u", "password": "hunter2"}), {"user": "u", "password": "***"}),
        (LoginStruct("u", "hunter2"), {"user": "u", "password": "***"}),
        ({LoginClass("u", "hunter2")}, [{"user": "u", "password": "***"}]),
        (
            [Login.model_validate({"user": "u", "password": "p", "token": "t"})],
            [{"user": "u", "password": "***", "token": "***"}],
        ),
    ],
    ids=["model", "struct", "in-set", "extra"],
)
def test_hides_fields_of_models_that_the_settings_name(sent: Any, seen: Any) -> None:
    """The fields of any class that a message may hold are keys inside an argument."""
    app = make_app(redact=["password", "token"])
    app.task(name="t")(lambda given: given)
    for kind in (Login, LoginStruct, LoginClass):
        app.register_type(kind)

    view = Admin(app).show(app.send(Signature("t", (sent,))).id)

    assert view.message is not None
    assert (view.message.args, view.hidden) == ([seen], True)
