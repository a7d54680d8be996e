"""Sends of many coroutines share a round trip, and nothing else."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from queuekit import Queuekit, Result
from queuekit.broker import CommitItem
from queuekit.errors import EncodeError, TooLargeError, UnavailableError
from queuekit.limits import Rate, arg
from support.waiting import PATIENCE, wait_until
from support.working import make_app

MANY = 50


class Gate:
    """Holds the first commit until it is opened, and records how many messages each one has."""

    def __init__(self, app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        self.refused: set[str] = set()
        """Ids with which a commit fails as a whole."""
        self.error: BaseException = TooLargeError("refused")
        self._commit = app.runtime.broker.commit
        monkeypatch.setattr(app.runtime.broker, "commit", self.commit)

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Commit *items*."""
        self.sizes.append(len(items))
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        if self.refused & {envelope.id for item in items for envelope in item.sends}:
            raise self.error
        return self._commit(items)


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app with a task, which has already sent."""
    made = make_app()
    made.task(name="same")(lambda x: x)
    made.tasks["same"].send(0)
    made.runtime.broker.purge("default")
    yield made
    made.close()


@pytest.fixture
def gate(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Return the gate of the app's broker."""
    return Gate(app, monkeypatch)


async def send(app: Queuekit, gate: Gate, *others: Any, first: Any = 0) -> list[Any]:
    """Return what sends of *first* and of *others* return or raise; the others begin while the first is under way."""
    calls = [asyncio.create_task(app.asend(first if hasattr(first, "send") else app.tasks["same"].s(first)))]
    await asyncio.to_thread(gate.entered.wait, PATIENCE)
    calls += [asyncio.create_task(app.asend(other)) for other in others]
    await asyncio.sleep(0)
    gate.opened.set()
    results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    return results


def test_shares_a_round_trip(app: Queuekit, gate: Gate) -> None:
    """Whatever gathers during one round trip is the next one; each caller has its own id."""
    results = asyncio.run(send(app, gate, *[app.tasks["same"].s(number) for number in range(MANY)]))

    assert gate.sizes == [1, MANY]
    assert len({result.id for result in results}) == MANY + 1
    assert app.runtime.broker.counts(["default"])["default"].ready == MANY + 1


def test_an_error_is_that_of_its_caller(app: Queuekit, gate: Gate) -> None:
    """One that cannot be written does not keep the others of its batch from being sent."""
    good, bad = app.tasks["same"].s(1), app.tasks["same"].s(object())

    _, *results = asyncio.run(send(app, gate, good, bad, good))

    assert [type(result) for result in results] == [Result, EncodeError, Result]


class Endless:
    """An argument with a key that cannot be read."""

    @property
    def key(self) -> str:
        """Raise what no future can hold."""
        raise StopIteration


def test_an_error_that_no_future_can_hold_is_an_error(app: Queuekit, gate: Gate) -> None:
    """Its caller gets another one, and the callers of the same batch their ids."""
    limited = app.task(name="limited", limits=[Rate("1/s", key=arg("x.key"))])(lambda x: x)
    good, bad = app.tasks["same"].s(1), limited.s(Endless())

    _, *results = asyncio.run(send(app, gate, good, bad, good))

    assert [type(result) for result in results] == [Result, RuntimeError, Result]


def test_a_first_call_that_raises_what_no_future_can_hold_ends() -> None:
    """Also where a call has a thread of its own."""
    app = make_app()
    limited = app.task(name="limited", limits=[Rate("1/s", key=arg("x.key"))])(lambda x: x)

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(limited.asend(Endless()))
    app.close()


def test_a_refused_batch_is_sent_one_by_one(app: Queuekit, gate: Gate) -> None:
    """If the engine refuses a batch because of one message, the others are sent."""
    gate.refused = {"bad"}
    good, bad = app.tasks["same"].s(1), app.tasks["same"].s(2).options(id="bad")

    _, *results = asyncio.run(send(app, gate, good, bad, good))

    assert [type(result) for result in results] == [Result, TooLargeError, Result]
    assert app.runtime.broker.counts(["default"])["default"].ready == 3


def test_all_learn_that_the_engine_refuses_them(app: Queuekit, gate: Gate) -> None:
    """Each caller gets an error of its own, since tracebacks grow where errors are raised."""
    gate.refused, gate.error = {"bad"}, UnavailableError("wrong password", fix="Correct it", passing=False)
    good, bad = app.tasks["same"].s(1), app.tasks["same"].s(2).options(id="bad")

    _, *results = asyncio.run(send(app, gate, good, bad))

    assert [str(result) for result in results] == [str(gate.error)] * 2
    assert results[0] is not results[1]


def test_a_cancelled_caller_sends_nothing(app: Queuekit, gate: Gate) -> None:
    """As long as its message was not begun."""

    async def run() -> None:
        first = asyncio.create_task(app.asend(app.tasks["same"].s(1)))
        await asyncio.to_thread(gate.entered.wait, PATIENCE)
        second = asyncio.create_task(app.asend(app.tasks["same"].s(2)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        gate.opened.set()
        await first

    asyncio.run(run())

    wait_until(lambda: not app._threads.background.joined._busy)
    assert app.runtime.broker.counts(["default"])["default"].ready == 1


def test_a_unique_key_is_taken_as_ever(app: Queuekit, gate: Gate) -> None:
    """The second of two with the same key gets the id of the first."""
    keyed = app.tasks["same"].s(1).options(unique="key")

    _, first, second, other = asyncio.run(send(app, gate, keyed, keyed, app.tasks["same"].s(2)))

    assert (first.duplicate, second.duplicate, other.duplicate) == (False, True, False)
    assert first.id == second.id
