"""A call as plain data: checked where it is made, and the same after a journey through JSON."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit import Exponential, Signature, UniqueKey
from queuekit.errors import DecodeError
from queuekit.ids import InvalidNameError
from support.working import make_app

FULL: Signature[Any] = Signature(
    "shop.mail",
    args=["a@b.c"],
    kwargs={"cc": None},
    id="id-1",
    queue="low",
    priority=9,
    delay="10m",
    eta=datetime(2030, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
    expires=datetime(2030, 1, 3, tzinfo=UTC),
    headers={"trace": "1"},
    immutable=True,
    retries=3,
    retry=Exponential(base=2),
    timeout="30s",
    ignore_result=True,
    unique=UniqueKey(key="k", until="ttl", ttl=5),
    on_success=[Signature("after")],
    on_error=[Signature("sorry", on_error=[Signature("very-sorry")])],
)


def journey(signature: Signature[Any]) -> Signature[Any]:
    """Return what comes out at the other side of JSON."""
    return Signature.from_dict(json.loads(json.dumps(signature.to_dict())))


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(Signature("t"), id="bare"),
        pytest.param(FULL, id="full"),
        pytest.param(Signature("t", unique="key", expires=60), id="unique-text"),
        pytest.param(Signature("t", unique=True, retries=0, priority=0), id="zeros"),
    ],
)
def test_round_trips_through_json(signature: Signature[Any]) -> None:
    """Every field comes back as it was."""
    assert journey(signature) == signature


def test_leaves_out_what_is_not_set() -> None:
    """The wire form of a plain call is short."""
    assert Signature("t", args=(1,)).to_dict() == {"v": 1, "task": "t", "args": [1]}


def test_keeps_keys_of_a_later_version() -> None:
    """What this version does not know passes through unharmed."""
    data = {"task": "t", "colour": "red", "v": 1}

    assert Signature.from_dict(data).to_dict() == data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({}, id="empty"),
        pytest.param({"task": "a b"}, id="bad-task"),
        pytest.param({"task": "t", "v": 2}, id="later-version"),
        pytest.param({"task": "t", "args": 5}, id="args"),
        pytest.param({"task": "t", "kwargs": "x"}, id="kwargs"),
        pytest.param({"task": "t", "priority": "high"}, id="priority-text"),
        pytest.param({"task": "t", "priority": 10}, id="priority-above"),
        pytest.param({"task": "t", "delay": "soon"}, id="delay"),
        pytest.param({"task": "t", "eta": "tomorrow"}, id="eta"),
        pytest.param({"task": "t", "eta": "2030-01-01T00:00:00"}, id="eta-without-zone"),
        pytest.param({"task": "t", "eta": 60}, id="eta-number"),
        pytest.param({"task": "t", "retry": {"kind": "?"}}, id="retry"),
        pytest.param({"task": "t", "retry": 5}, id="retry-number"),
        pytest.param({"task": "t", "unique": {"kee": 1}}, id="unique"),
        pytest.param({"task": "t", "on_error": [5]}, id="link"),
        pytest.param({"task": "t", "on_success": [{"task": ""}]}, id="link-bad"),
        pytest.param({"task": "t", "queue": "../etc"}, id="queue"),
        pytest.param([], id="list"),
        pytest.param(None, id="nothing"),
    ],
)
def test_refuses_what_is_no_signature(data: Any) -> None:
    """Data out of a message is read or refused with the one error."""
    with pytest.raises(DecodeError):
        Signature.from_dict(data)


@given(
    st.dictionaries(st.sampled_from([*FULL.to_dict(), "v", "more"]), st.none() | st.integers() | st.text(max_size=5))
)
def test_any_data_is_read_or_refused(data: dict[str, Any]) -> None:
    """No combination of fields raises anything but the one error."""
    try:
        signature = Signature.from_dict(data)
    except DecodeError:
        return

    assert signature.task == data["task"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("task", "no blanks", id="task"),
        pytest.param("id", "a/b", id="id"),
        pytest.param("queue", "", id="queue"),
    ],
)
def test_refuses_names_at_once(field: str, value: str) -> None:
    """A bad name is found where the signature is made."""
    with pytest.raises(InvalidNameError):
        Signature("t").options(**{field: value})


def test_a_time_needs_a_zone() -> None:
    """A naive time would mean another moment on each machine."""
    with pytest.raises(ValueError, match="has no time zone"):
        Signature("t", eta=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the mistake


def test_options_make_a_copy() -> None:
    """Other options leave the original as it was."""
    first: Signature[Any] = Signature("t", args=(1,))

    second = first.options(queue="low", delay="1m")

    assert (second.queue, second.delay, second.args) == ("low", 60.0, (1,))
    assert first.queue is None


def test_cannot_send_itself_without_an_app() -> None:
    """A signature that belongs to no app says how to send it."""
    with pytest.raises(TypeError, match=r"app\.send"):
        Signature("t").send()


def test_sends_itself_by_its_app() -> None:
    """A task's signature knows its app."""
    app = make_app()
    task = app.task(name="t")(print)

    result = task.s("x").options(id="id-1").send()

    assert result == app.result("id-1")
    assert result.state == "PENDING"


def test_equality_leaves_the_app_out() -> None:
    """Two signatures of one call are equal wherever they were made."""
    assert make_app().task(name="t")(print).s(1) == Signature("t", args=(1,))


def test_a_placed_copy_is_like_an_evolved_one() -> None:
    """It has all options of the original but those given, and the original stays as it is."""
    call: Signature[Any] = Signature("t", (1,), {"a": 2}, priority=7, headers={"h": "x"}, retries=3, extra={"new": 1})

    placed = call.placed(id="flow.1", args=(1, 2), queue="q")

    assert placed == attrs.evolve(call, id="flow.1", args=(1, 2), queue="q")
    assert (call.id, call.args, call.queue) == (None, (1,), None)


def test_carrying_adds_headers_and_an_id() -> None:
    """A copy that carries more headers has an id; the signature itself stays as it was."""
    call: Signature[Any] = Signature("t", args=(1,), headers={"a": "1"}, queue="q")

    carried = call.carrying({"a": "2", "b": "3"})

    assert carried == call.options(headers={"a": "2", "b": "3"}, id=carried.id)
    assert (call.headers, call.id, carried.id is None) == ({"a": "1"}, None, False)
    assert carried.carrying({}).id == carried.id
