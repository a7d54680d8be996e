"""The client for coroutines: what an app can do from an event loop without blocking it."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from queuekit import Context, Queuekit, ResultTimeout, TaskCancelled, group
from queuekit.client.loop_warning import warn_on_loops
from queuekit.errors import NoBackendError, QueuekitError, UnavailableError, UnknownIdError
from queuekit.ids import InvalidNameError
from queuekit.states import State
from support.waiting import PATIENCE
from support.working import backend_of, burst, flaky_app, make_app, with_same, working

MANY = 1_000
AT_ONCE = 300


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app with a task."""
    made = with_same(make_app())
    yield made
    made.close()


def test_tells_what_is_stored(app: Queuekit) -> None:
    """State and information come without blocking; unknown ids are a state as well."""

    async def ask() -> tuple[Any, ...]:
        result = await app.tasks["same"].asend(7)
        before = await result.ainfo()
        await asyncio.to_thread(burst, app)
        return before.state, (await result.ainfo()).state, (await app.ainfo(result.id)).done, await app.ainfo("nobody")

    before, after, done, nobody = asyncio.run(ask())

    assert (before, after, done, nobody.state) == (State.PENDING, State.SUCCESS, True, State.UNKNOWN)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda app: app.tasks["same"].asend(1), id="send"),
        pytest.param(lambda app: app.asend_many([app.tasks["same"].s(1)]), id="send-many"),
        pytest.param(lambda app: app.ainfo("x"), id="info"),
        pytest.param(lambda app: app.result("x").aget(), id="result"),
        pytest.param(lambda app: app.result("x").aprogress(), id="progress"),
        pytest.param(lambda app: app.lifespan().__aenter__(), id="lifespan"),
    ],
)
def test_says_that_it_needs_asyncio(app: Queuekit, call: Any) -> None:
    """On the loop of trio, where none of asyncio runs, each call says so in one line, and how to do without."""
    app.tasks["same"].send(0)
    waiting = call(app)

    with pytest.raises(QueuekitError, match=r"need an event loop of asyncio.*trio\.to_thread\.run_sync"):
        waiting.send(None)


def test_tells_progress_and_cancels(app: Queuekit) -> None:
    """A handler can watch a task and end it."""
    begun = threading.Event()

    @app.task(name="long")
    async def long(ctx: Context) -> None:
        ctx.progress(1, 2, "half")
        begun.set()
        await asyncio.Event().wait()

    async def watch() -> tuple[Any, ...]:
        result = await long.asend()
        await asyncio.to_thread(begun.wait, PATIENCE)
        progress, cancelled = await result.aprogress(), await result.acancel()
        with pytest.raises(TaskCancelled):
            await result.aget(timeout=PATIENCE)
        return progress, cancelled, (await result.ainfo()).state, await app.acancel(result.id)

    with working(app):
        assert asyncio.run(watch()) == ((1, 2, "half"), True, State.CANCELLED, False)


def test_counts_and_cancels_a_group(app: Queuekit) -> None:
    """As the handle does for threads."""
    same = app.tasks["same"]

    async def ask() -> tuple[Any, ...]:
        result = await app.asend(group(same.s(x) for x in range(3)))
        return await result.acounts(), await result.acancel(), await result.acounts()

    before, cancelled, after = asyncio.run(ask())

    assert (before.done, cancelled, after.done, after.failed) == (0, True, 3, 3)


async def ended(results: AsyncIterator[Any]) -> list[Any]:
    """Return the values in the order in which they came."""
    return [await result.aget(timeout=PATIENCE) async for result in results]


def test_gives_results_as_they_complete(app: Queuekit) -> None:
    """The first to end comes first: of a group, and of any calls."""
    same, gate = app.tasks["same"], threading.Event()

    @app.task(name="last")
    def last() -> int:
        gate.wait(PATIENCE)
        return 9

    async def follow() -> list[Any]:
        results = await app.asend_many([last.s(), *(same.s(x) for x in range(3))])
        seen: list[Any] = []
        async for result in app.as_completed(results, timeout=PATIENCE):
            seen.append(await result.aget())
            if len(seen) == 3:
                gate.set()
        return [*seen, sorted(await ended(aiter((await app.asend(group(same.s(1), same.s(2)))).as_completed())))]

    with working(app):
        seen = asyncio.run(follow())

    assert (sorted(seen[:3]), seen[3:]) == ([0, 1, 2], [9, [1, 2]])


def test_gives_results_as_they_complete_to_a_thread(app: Queuekit) -> None:
    """The same iterator serves ``for``."""
    results = app.send_many([app.tasks["same"].s(x) for x in range(3)])
    burst(app)

    assert sorted(result.get() for result in app.as_completed(results)) == [0, 1, 2]


def test_waiting_for_all_has_a_limit(app: Queuekit) -> None:
    """As a wait for one has; an unknown id ends it at once."""

    async def wait(*ids: str, timeout: float) -> None:
        async for _ in app.as_completed([app.result(id, app.tasks["same"]) for id in ids], timeout=timeout):
            pass

    known = app.tasks["same"].send(1)
    with pytest.raises(ResultTimeout):
        asyncio.run(wait(known.id, timeout=0.01))
    with pytest.raises(UnknownIdError):
        asyncio.run(wait("nobody", timeout=PATIENCE))


def test_any_other_call_runs_beside_the_loop(app: Queuekit) -> None:
    """Schedules, a handle by its id, and whatever else blocks."""

    async def ask() -> Any:
        here = threading.get_ident()
        return await app.acall(lambda x: (x, threading.get_ident() == here), 3), await app.acall(app.schedules.all)

    assert asyncio.run(ask()) == ((3, False), [])


def test_asking_at_the_same_time_shares_round_trips(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of coroutines need a few reads and one thread."""
    results = app.send_many([app.tasks["same"].s(x) for x in range(AT_ONCE)])
    backend: Any = app.runtime.backend
    reads: list[int] = []
    get = backend.get

    def counted(keys: Sequence[str]) -> Any:
        reads.append(len(keys))
        return get(keys)

    monkeypatch.setattr(backend, "get", counted)

    async def ask() -> list[State]:
        infos = await asyncio.gather(*(result.ainfo() for result in results))
        return [info.state for info in infos]

    assert asyncio.run(ask()) == [State.PENDING] * AT_ONCE
    assert len(reads) <= 2 + AT_ONCE // 50


def test_a_coroutine_that_gives_up_leaves_the_others_alone(app: Queuekit) -> None:
    """Cancelling one of those that share a round trip changes nothing for the rest."""
    results = app.send_many([app.tasks["same"].s(x) for x in range(20)])

    async def ask() -> list[Any]:
        asking = [asyncio.create_task(result.ainfo()) for result in results]
        await asyncio.sleep(0)
        for one in asking[::2]:
            one.cancel()
        return await asyncio.gather(*asking, return_exceptions=True)

    answers = asyncio.run(ask())

    assert all(info.state is State.PENDING for info in answers[1::2])


def test_an_outage_is_raised_in_each_and_passes() -> None:
    """The next question is answered again."""
    app = with_same(flaky_app(send_timeout=0.2))
    result = app.tasks["same"].send(1)

    async def ask() -> tuple[list[Any], State]:
        backend_of(app).wire.cut = {"get"}
        failed = await asyncio.gather(*(result.ainfo() for _ in range(3)), return_exceptions=True)
        backend_of(app).wire.cut = set()
        return failed, (await result.ainfo()).state

    failed, state = asyncio.run(ask())
    app.close()

    assert [type(error) for error in failed] == [UnavailableError] * 3
    assert state is State.PENDING


def test_refuses_what_cannot_be_asked(app: Queuekit) -> None:
    """As the calls that block do."""
    with pytest.raises(InvalidNameError):
        asyncio.run(app.ainfo(""))
    with pytest.raises(NoBackendError):
        asyncio.run(make_app(backend="none").ainfo("x"))


def test_thousands_are_in_flight_on_one_loop(app: Queuekit) -> None:
    """Sends share a few threads, and one thread waits for all results."""
    same = app.tasks["same"]

    async def one(x: int) -> int:
        value: int = await (await same.asend(x)).aget(timeout=PATIENCE)
        return value

    async def all_of_them() -> tuple[list[int], int]:
        asking = asyncio.gather(*(one(x) for x in range(MANY)))
        await asyncio.sleep(0)
        return await asking, len([each for each in threading.enumerate() if each.name.startswith("queuekit-async")])

    with working(app):
        values, threads = asyncio.run(all_of_them())

    assert values == [*range(MANY)]
    assert threads <= 16


@pytest.fixture
def developing(app: Queuekit) -> Queuekit:
    """Return an app that warns as in development: ``python -X dev``."""
    sending: Any = app._make_sending()
    vars(sending)["send_one"] = warn_on_loops(sending.send_one)
    return app


def test_a_send_on_a_loop_is_reported_once_in_development(developing: Queuekit) -> None:
    """With the line of the caller, and what to write there."""

    async def careless() -> None:
        developing.tasks["same"].send(1)
        developing.tasks["same"].send(2)

    with pytest.warns(RuntimeWarning, match=r"send\(\) of same blocks the event loop.*asend") as caught:
        asyncio.run(careless())

    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, careless.__code__.co_firstlineno + 1)


def test_other_sends_are_not_reported(developing: Queuekit) -> None:
    """Neither those of threads nor those that are awaited."""

    async def careful() -> None:
        await developing.tasks["same"].asend(1)
        await asyncio.to_thread(developing.tasks["same"].send, 2)

    developing.tasks["same"].send(0)
    asyncio.run(careful())


def test_development_is_the_mode_of_python() -> None:
    """``-X dev`` decides, so that no production code pays for the check."""
    code = (
        "import asyncio, queuekit\n"
        "app = queuekit.Queuekit(broker='memory://')\n"
        "add = app.task(name='add')(lambda: 1)\n"
        "async def main():\n"
        "    add.send()\n"
        "asyncio.run(main())\n"
    )

    quiet, loud = (
        subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=True).stderr
        for options in ([], ["-X", "dev"])
    )

    assert quiet == ""
    assert "<string>:5: RuntimeWarning: send() of add blocks the event loop" in loud
