"""Limits as tasks declare them: what is refused at the decorator, and the keys that a send computes."""

import datetime
import enum
import uuid
from typing import Any

import pytest

from queuekit.errors import OptionError
from queuekit.limits import Concurrency, Rate, arg, parse_rate, rate_text
from queuekit.tasks.limit_keys import keys_at_send
from support.working import make_app

ID = uuid.UUID(int=7)


class Plan(enum.Enum):
    """A value of an argument."""

    FREE = "free"


class Order:
    """An argument with parts."""

    tenant = "acme"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("100/m", (100, 60.0), id="minute"),
        pytest.param("5/10s", (5, 10.0), id="seconds"),
        pytest.param(" 1_000 / 1h30m ", (1000, 5400.0), id="spaces"),
        pytest.param("2/500ms", (2, 0.5), id="milliseconds"),
    ],
)
def test_reads_rates(text: str, found: tuple[int, float]) -> None:
    """A rate is an amount and a period, and is written as it is read."""
    assert parse_rate(text) == found
    assert parse_rate(rate_text(*found)) == found


@pytest.mark.parametrize("text", ["", "100", "0/m", "-1/m", "1/0s", "1/x", "m/1", "1/2/3", "1e3/m", 5, None, "1/999d"])
def test_refuses_what_is_no_rate(text: Any) -> None:
    """The error shows what a rate looks like."""
    with pytest.raises(OptionError, match="expected a rate such as"):
        Rate(text)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        pytest.param("100/m", "expected a list of limits", id="text"),
        pytest.param(Rate("1/s"), "Put brackets around it", id="no-list"),
        pytest.param(["100/m"], r"Write  Rate\('100/m'\)", id="text-in-list"),
        pytest.param([Rate("1/s"), Rate("100/m")], "Give each a name", id="same-name"),
        pytest.param(Concurrency(1), "Put brackets around it", id="no-list-of-slots"),
        pytest.param([3], r"Write  Concurrency\(3\)", id="number-in-list"),
        pytest.param([Concurrency(1), Concurrency(2)], "Give each a name", id="same-slots"),
        pytest.param(
            [Concurrency(1, name="a"), Rate("1/s", name="a")], "Give each a name", id="same-name-of-two-kinds"
        ),
        pytest.param([Concurrency(1, key=arg("tenat"))], "Did you mean 'tenant'", id="misspelt-slots"),
        pytest.param([Rate("1/s", key=arg("tenat"))], "Did you mean 'tenant'", id="misspelt"),
        pytest.param([Rate("1/s", key=arg("user.id"))], "no parameter 'user'", id="no-parameter"),
    ],
)
def test_refuses_wrong_declarations(limits: Any, text: str) -> None:
    """A declaration that cannot work fails where it is written."""
    app = make_app()

    with pytest.raises(OptionError, match=text):
        app.task(name="pay", limits=limits)(lambda tenant: tenant)


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "3", None, 10**9])
def test_refuses_what_is_no_number_of_slots(most: Any) -> None:
    """A concurrency limit is a whole number."""
    with pytest.raises(OptionError, match="Concurrency: expected a whole number from 1"):
        Concurrency(most)


def test_refuses_slots_for_messages_without_a_lease() -> None:
    """A message that is acknowledged early could not keep its slot."""
    with pytest.raises(OptionError, match="acknowledged early holds no lease"):
        make_app().task(name="pay", limits=[Concurrency(1)], ack="early")(lambda: None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param({"burst": 0}, "burst", id="no-burst"),
        pytest.param({"key": "tenant"}, r'Write  key=arg\("tenant"\)', id="text-as-key"),
        pytest.param({"name": "a b"}, "cannot name a limit", id="name"),
    ],
)
def test_refuses_wrong_options(options: dict[str, Any], text: str) -> None:
    """So does an option of a limit."""
    with pytest.raises((OptionError, ValueError), match=text):
        Rate("1/s", **options)


@pytest.mark.parametrize("path", ["", "a b", "a..b", ".a", "1a", None, "a."])
def test_refuses_what_is_no_path(path: Any) -> None:
    """A key is the name of a parameter, and names with dots between them."""
    with pytest.raises(OptionError, match="expected the name of a parameter"):
        arg(path)


@pytest.mark.parametrize(
    ("path", "args", "kwargs", "key"),
    [
        pytest.param("tenant", ("acme",), {}, "acme", id="position"),
        pytest.param("tenant", (), {"tenant": "acme"}, "acme", id="keyword"),
        pytest.param("plan", ("acme",), {}, "free", id="default"),
        pytest.param("order.customer.id", ("a",), {"order": {"customer": {"id": 7}}}, "7", id="dots"),
        pytest.param("order.tenant", ("a",), {"order": Order()}, "acme", id="attribute"),
        pytest.param("tenant", (ID,), {}, str(ID), id="uuid"),
        pytest.param("tenant", (datetime.date(2026, 1, 2),), {}, "2026-01-02", id="date"),
        pytest.param("tenant", (None,), {}, None, id="none"),
        pytest.param("order.customer.id", ("a",), {"order": {"customer": {}}}, None, id="missing"),
        pytest.param("other", ("a",), {"other": "x"}, "x", id="further"),
        pytest.param("other", ("a",), {}, None, id="further-missing"),
        pytest.param("tenant", ("",), {}, "", id="empty"),
    ],
)
def test_computes_keys(path: str, args: tuple[Any, ...], kwargs: dict[str, Any], key: str | None) -> None:
    """A key is the value of an argument as text; without one there is no key, and so no limit."""
    app = make_app()

    @app.task(name="pay", limits=[Rate("1/s", key=arg(path))])
    def pay(tenant: Any, order: Any = None, plan: Plan = Plan.FREE, **further: Any) -> None:
        pass

    assert keys_at_send(pay.s(*args, **kwargs), pay) == ({} if key is None else {"pay": key})


def test_refuses_a_value_that_cannot_be_a_key() -> None:
    """Such a send fails, and says which task and argument."""
    app = make_app()

    @app.task(name="pay", limits=[Rate("1/s", key=arg("tenant"))])
    def pay(tenant: Any) -> None:
        pass

    with pytest.raises(OptionError, match=r'pay: the key of a limit, arg\("tenant"\), is text or a number, not list'):
        pay.send(["a"])


def test_long_keys_stay_apart() -> None:
    """Keys that are too long for a record are cut, but differ where they differ."""
    app = make_app()

    @app.task(name="pay", limits=[Rate("1/s", key=arg("tenant"))])
    def pay(tenant: str) -> None:
        pass

    one, two = (keys_at_send(pay.s("x" * 1000 + end), pay) for end in "ab")

    assert one != two
