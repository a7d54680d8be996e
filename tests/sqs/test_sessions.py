"""Sessions of botocore: each has the hooks that botocore would have given it, and no others."""

from typing import Any

import botocore
import botocore.handlers
import pytest

from queuekit_sqs import service


@pytest.fixture(autouse=True)
def nothing_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start as a process does."""
    monkeypatch.setattr(service, "_hooks", [])


@pytest.fixture
def heard() -> list[str]:
    """Return who has heard of an event."""
    return []


@pytest.fixture
def from_now_on(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what botocore calls for each new session."""
    made: list[Any] = []
    monkeypatch.setattr(botocore, "_INITIALIZERS", made)
    return made


def test_what_hears_one_session_does_not_hear_another(heard: list[str]) -> None:
    """Neither the session that was copied, nor a copy."""
    first, second, third = (service._session() for _ in range(3))
    first.register("before-send", lambda **_: heard.append("first"))
    second.register("before-send", lambda **_: heard.append("second"))

    third.emit("before-send.sqs.SendMessage")
    assert heard == []

    second.emit("before-send.sqs.SendMessage")
    service._session().emit("before-send.sqs.SendMessage")
    assert heard == ["second"]


def test_a_library_may_add_handlers_after_the_first_session(heard: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As an imitation of AWS does when it is imported: without them, a test would send to AWS itself."""
    service._session()
    handlers = [*botocore.handlers.BUILTIN_HANDLERS, ("before-send", lambda **_: heard.append("imitation"))]
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", handlers)

    for _ in range(2):
        service._session().emit("before-send.sqs.SendMessage")

    assert heard == ["imitation"] * 2


def test_code_for_each_new_session_hears_each_once(heard: list[str], from_now_on: list[Any]) -> None:
    """A copy that had the handlers of the session before it would call them for both."""
    from_now_on.append(lambda session: session.register("before-send", lambda **_: heard.append("tracer")))

    for _ in range(2):
        service._session().emit("before-send.sqs.SendMessage")

    assert heard == ["tracer"] * 2
