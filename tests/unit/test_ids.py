"""Names of queues, tasks and messages: one rule for all; and ids that sort by time."""

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.ids import InvalidNameError, check_name, derived_id, is_name, new_id


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("shop.mail.send", id="task"),
        pytest.param("low-priority_2:eu", id="all-marks"),
        pytest.param("x" * 120, id="longest"),
    ],
)
def test_accepts_names(name: str) -> None:
    """Letters, digits and ``_ . : -`` up to 120 characters make a name, which is returned."""
    assert check_name(name, what="queue") == name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("x" * 121, id="too-long"),
        pytest.param("a b", id="blank"),
        pytest.param("a\n", id="newline"),
        pytest.param("a/b", id="slash"),
        pytest.param("a*", id="pattern"),
        pytest.param("é", id="not-ascii"),
        pytest.param("१", id="digit-of-another-script"),
    ],
)
def test_refuses_what_could_reach_into_keys(name: str) -> None:
    """The error says what the name was for, shows it shortened, and says what is allowed."""
    with pytest.raises(InvalidNameError, match="cannot name a queue") as caught:
        check_name(name, what="queue")

    assert len(str(caught.value)) < 180
    assert "A-Z a-z 0-9" in caught.value.fix


@pytest.mark.parametrize("value", [None, 5, b"name", ["name"]], ids=repr)
def test_only_text_can_name(value: object) -> None:
    """Any other type is no name, and not an error to ask about."""
    assert not is_name(value)


def test_shows_a_name_of_another_type() -> None:
    """What is no text at all is shown as well."""
    with pytest.raises(InvalidNameError, match="cannot name a task"):
        check_name(5, what="task")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_new_ids_are_uuid7_of_now() -> None:
    """An id holds the present milliseconds, so ids sort by time; and it is a legal name."""
    before = time.time_ns() // 1_000_000

    id = uuid.UUID(new_id())

    assert (id.version, id.variant) == (7, uuid.RFC_4122)
    assert before <= id.int >> 80 <= time.time_ns() // 1_000_000
    assert is_name(str(id))


def test_new_ids_differ() -> None:
    """A thousand ids of one millisecond are a thousand ids."""
    assert len({new_id() for _ in range(1000)}) == 1000


@given(st.text(), st.text(), st.integers(0, 5))
def test_derived_ids_are_the_same_each_time(parent: str, role: str, index: int) -> None:
    """A follow-up has one id however often its parent runs, and other roles and places have others."""
    id = derived_id(parent, role, index)

    assert id == derived_id(parent, role, index)
    assert id not in {derived_id(parent, role + "x", index), derived_id(parent, role, index + 1)}
