"""Coroutines that wait for results: one thread for all of them, and each by its own clock."""

import asyncio
import math
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, ResultTimeout
from queuekit.client import listener
from queuekit.client.background import Background
from queuekit.engines.memory import MemoryBackend
from queuekit.errors import UnavailableError, UnknownIdError
from queuekit.wire.batches import READ_BYTES
from support.waiting import PATIENCE, wait_until
from support.working import backend_of, burst, finish, flaky_app, make_app, take_one, with_same, working

MANY = 100


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app with a task."""
    made = with_same(make_app())
    yield made
    made.close()


async def pending(app: Queuekit, count: int, timeout: float | None = PATIENCE) -> list[asyncio.Task[Any]]:
    """Return *count* tasks that wait for what no worker has run yet."""
    results = [await app.tasks["same"].asend(number) for number in range(count)]
    waiting = [asyncio.create_task(result.aget(timeout=timeout)) for result in results]
    await asyncio.sleep(0)
    return waiting


async def cancelled(waiting: list[asyncio.Task[Any]]) -> None:
    """End what waits."""
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def threads() -> set[threading.Thread]:
    """Return the threads of now."""
    return set(threading.enumerate())


def test_a_send_is_not_held_up_by_those_who_wait(app: Queuekit) -> None:
    """However many calls wait for results, another one is sent."""

    async def run() -> str:
        waiting = await pending(app, MANY)
        result = await asyncio.wait_for(app.tasks["same"].asend(0), PATIENCE / 2)
        await cancelled(waiting)
        return result.id

    assert asyncio.run(run())


def test_all_who_wait_share_a_thread(app: Queuekit) -> None:
    """There is one thread for any number of them."""

    async def run() -> int:
        before = threads()
        waiting = await pending(app, MANY)
        new = [one.name for one in threads() - before]
        await cancelled(waiting)
        return new.count("queuekit-results")

    assert asyncio.run(run()) == 1


def test_the_last_to_come_is_waited_for_beside_any_number(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls whose results stay out for long do not hold up the answer to a new one."""
    monkeypatch.setattr(listener, "MOST_KEYS", 4)
    backend = app.runtime.need_backend("a test")
    waits: list[list[str]] = []
    wait = backend.wait

    def noted(keys: Any, *, timeout: float) -> Any:
        waits.append(list(keys))
        return wait(keys, timeout=timeout)

    monkeypatch.setattr(backend, "wait", noted)

    async def run() -> None:
        waiting = await pending(app, MANY)
        result = await app.tasks["same"].asend(0)
        last = asyncio.create_task(result.aget(timeout=PATIENCE))
        await asyncio.to_thread(wait_until, lambda: any(result.id in str(keys) for keys in waits), "a wait for it")
        await cancelled([*waiting, last])

    asyncio.run(run())

    assert max(map(len, waits)) == 5


def test_each_gets_its_own_result(app: Queuekit) -> None:
    """Outcomes find those who wait for them, also when several wait for one."""

    async def run() -> list[int]:
        waiting = await pending(app, MANY)
        with working(app):
            result = await app.tasks["same"].asend(7)
            more = await asyncio.gather(*(result.aget(timeout=PATIENCE) for _ in range(3)))
            return [*more, *await asyncio.gather(*waiting)]

    assert asyncio.run(run()) == [7, 7, 7, *range(MANY)]


def test_a_timeout_counts_from_the_call(app: Queuekit) -> None:
    """One that is short ends beside a hundred that are long."""

    async def run() -> None:
        waiting = await pending(app, MANY)
        (late,) = await pending(app, 1, timeout=0.05)
        done, _ = await asyncio.wait([late, *waiting], return_when=asyncio.FIRST_COMPLETED)
        assert done == {late}
        with pytest.raises(ResultTimeout, match=r"no outcome within 0\.05 s"):
            late.result()
        await cancelled(waiting)

    asyncio.run(run())


def test_without_time_there_is_one_look(app: Queuekit) -> None:
    """A timeout of 0 returns what is there already."""
    result = app.tasks["same"].send(3)
    burst(app)

    assert asyncio.run(result.aget(timeout=0)) == 3


def test_an_unknown_id_is_told(app: Queuekit) -> None:
    """Nobody waits for what was never sent."""
    with pytest.raises(UnknownIdError):
        asyncio.run(app.result("nobody").aget(timeout=0.1))


def test_an_unknown_id_is_told_before_the_wait_is_over(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the caller's own timeout nor the end of a long wait has to come first."""
    monkeypatch.setattr(listener, "LONGEST", 10 * PATIENCE)

    with pytest.raises(UnknownIdError):
        asyncio.run(app.result("nobody").aget(timeout=10 * PATIENCE))


def test_a_cancelled_wait_leaves_nothing_behind(app: Queuekit) -> None:
    """When nobody waits any more and the app is closed, the thread ends."""

    async def run() -> None:
        await cancelled(await pending(app, 3))

    before = threads()
    asyncio.run(run())
    app.close()

    wait_until(lambda: threads() <= before, "the end of all threads")


def test_goes_on_in_another_event_loop(app: Queuekit) -> None:
    """An app serves one event loop after the other, and several at a time."""

    async def run() -> int:
        with working(app):
            value: int = await (await app.tasks["same"].asend(5)).aget(timeout=PATIENCE)
            return value

    assert [asyncio.run(run()) for _ in range(3)] == [5, 5, 5]


class ToldNothing(MemoryBackend):
    """A backend that must be asked again and again."""

    capabilities = attrs.evolve(MemoryBackend.capabilities, notify=False)

    def wait(self, keys: Any, *, timeout: float) -> Any:
        """Refuse: whoever waits for many must not be blocked by one."""
        raise AssertionError("not to be called")


def test_looks_again_where_a_service_does_not_tell(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without notification there is a thread all the same, which asks for all at once."""
    monkeypatch.setattr(app.runtime.backend, "__class__", ToldNothing)

    async def run() -> list[Any]:
        waiting = await pending(app, MANY)
        with working(app):
            return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == list(range(MANY))


def test_large_records_are_read_a_few_at_a_time(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is known how large they are, no round trip reads more than has room, and each is passed on at once."""
    monkeypatch.setattr(app.runtime.backend, "__class__", ToldNothing)
    backend = app.runtime.need_backend("a test")
    get, counts = backend.get, list[int]()

    @app.task
    def large() -> str:
        return "x" * 100_000

    def reading(keys: Any) -> Any:
        counts.append(len(keys))
        return get(keys)

    async def run() -> list[Any]:
        results = app.send_many(large.s() for _ in range(150))
        burst(app)
        monkeypatch.setattr(backend, "get", reading)
        return await asyncio.gather(*(result.aget(timeout=PATIENCE) for result in results))

    assert len(asyncio.run(run())) == 150
    assert max(counts[1:]) <= READ_BYTES // 100_000


def test_waits_for_fewer_after_a_reply_that_was_too_large(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an engine cannot answer for many keys in time, it is asked for fewer until it can."""
    backend = app.runtime.need_backend("a test")
    wait, counts = backend.wait, list[int]()

    def slow(keys: Any, *, timeout: float) -> Any:
        counts.append(len(keys))
        if len(keys) > MANY // 2:
            raise UnavailableError("no answer in time")
        return wait(keys, timeout=timeout)

    monkeypatch.setattr(listener, "MOST_KEYS", MANY)
    monkeypatch.setattr(backend, "wait", slow)

    async def run() -> list[Any]:
        waiting = await pending(app, MANY)
        burst(app)
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == list(range(MANY))
    assert min(counts) <= MANY // 4 + 1


def test_a_wait_outlives_a_restart_of_the_engine() -> None:
    """While the engine is gone nothing is raised; what has come meanwhile is returned."""
    app = with_same(flaky_app())

    async def run() -> int:
        (waiting,) = await pending(app, 1)
        backend_of(app).wire.cut = {"wait", "get"}
        await asyncio.to_thread(wait_until, lambda: backend_of(app).wire.calls.count("wait") > 1, "a try in vain")
        backend_of(app).wire.cut = set()
        finish(app, take_one(app))
        value: int = await waiting
        return value

    assert asyncio.run(run()) == 0


def test_a_late_outcome_of_a_silent_engine_says_why() -> None:
    """The timeout is kept, and its cause is the engine's."""
    app = with_same(flaky_app())
    result = app.tasks["same"].send(1)
    backend_of(app).wire.cut = {"wait", "get"}

    with pytest.raises(ResultTimeout, match="no answer to") as caught:
        asyncio.run(result.aget(timeout=0.1))

    assert isinstance(caught.value.__cause__, UnavailableError)


def test_what_will_not_pass_is_raised_at_once() -> None:
    """A wrong password is not tried again until the timeout."""
    app = with_same(flaky_app())
    result = app.tasks["same"].send(1)
    refusal = UnavailableError("wrong password")
    refusal.passing = False

    def refuse() -> None:
        raise refusal

    backend_of(app).wire.answers["wait"] = refuse

    with pytest.raises(UnavailableError, match="wrong password"):
        asyncio.run(result.aget(timeout=PATIENCE))


def test_groups_are_awaited_without_a_thread_each(app: Queuekit) -> None:
    """So are workflows, whose handles wait for several members."""
    from queuekit import group

    async def run() -> list[Any]:
        made = [await app.asend(group([app.tasks["same"].s(1), app.tasks["same"].s(2)])) for _ in range(30)]
        waiting = [asyncio.create_task(one.aget(timeout=PATIENCE)) for one in made]
        await asyncio.sleep(0)
        with working(app):
            return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == [[1, 2]] * 30


def test_a_group_that_is_late_says_so(app: Queuekit) -> None:
    """The timeout of a group counts from the call."""
    from queuekit import group

    async def run() -> None:
        made = await app.asend(group([app.tasks["same"].s(1), app.tasks["same"].s(2)]))
        with pytest.raises(ResultTimeout, match="2 of 2 have not ended"):
            await made.aget(timeout=0.05)

    asyncio.run(run())


def test_a_send_that_had_no_turn_in_its_time_fails() -> None:
    """When an engine holds all threads up, those behind them do not begin to wait after that."""
    background, release = Background(), threading.Event()
    made: list[int] = []

    async def run() -> None:
        held = [asyncio.create_task(background.send(release.wait)) for _ in range(MANY)]
        late = asyncio.create_task(background.send(made.append, 1, within=0.0))
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(UnavailableError, match="has not answered a send"):
            await late
        await asyncio.gather(*held)

    background._last_sent = -math.inf
    asyncio.run(run())
    background.close()

    assert made == []
