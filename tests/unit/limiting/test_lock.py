"""A lock that processes share: one holder at a time, a token that grows, and an end even if its process dies."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.clock import VirtualClock
from queuekit.errors import LockLostError, LockTimeout, NoBackendError, OptionError, UnavailableError
from support.waiting import PATIENCE, wait_until
from support.working import backend_of, flaky_app, make_app

KEY = "lock:report"


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app on an engine of its own."""
    made = make_app()
    yield made
    made.close()


def record_of(app: Queuekit) -> Record | None:
    """Return the record of the lock."""
    return app.runtime.need_backend("a test").get([KEY]).get(KEY)


def version_of(app: Queuekit) -> int:
    """Return the version of the record, which grows with each renewal."""
    record = record_of(app)
    assert record is not None
    return record.version


def take_over(app: Queuekit) -> None:
    """Write the record of another holder, as it may after the lock's time was over."""
    app.runtime.need_backend("a test").put([Record(key=KEY, body=b"other host-1", ttl=30)])


def test_second_holder_waits_for_the_first(app: Queuekit) -> None:
    """Blocks of one lock never overlap."""
    inside, most = [0], [0]

    def work(_: int) -> None:
        with app.lock("report", wait=PATIENCE):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(40)))

    assert most == [1]


def test_tokens_grow(app: Queuekit) -> None:
    """Each acquisition has a larger token than all before it."""
    tokens = []
    for _ in range(3):
        with app.lock("report") as lock:
            tokens.append(lock.token)

    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0


def test_tells_whether_it_is_held(app: Queuekit) -> None:
    """A lock is held inside its block only."""
    lock = app.lock("report")
    seen = [lock.held]

    with lock:
        seen.append(lock.held)
    seen.append(lock.held)

    assert seen == [False, True, False]
    assert lock.token == 0


def test_names_the_holder_that_keeps_it(app: Queuekit) -> None:
    """A wait in vain ends with an error that says who holds the lock."""
    with app.lock("report"), pytest.raises(LockTimeout, match=rf"'report' is held by .*-{os.getpid()}; waited 0 s"):
        app.lock("report", wait=0).__enter__()


def test_locks_of_different_names_do_not_meet(app: Queuekit) -> None:
    """A lock keeps only blocks of its own name out."""
    with app.lock("report"), app.lock("invoice/7 for Zoë", wait=0) as other:
        assert other.held


def test_release_wakes_those_who_wait(app: Queuekit) -> None:
    """A wait ends with the release, not with the time of the lock."""
    entered = threading.Event()

    def wait_for_it() -> None:
        with app.lock("report", ttl="1h"):
            entered.set()

    waiting = threading.Thread(target=wait_for_it)
    with app.lock("report", ttl="1h"):
        waiting.start()
        assert not entered.is_set()
    waiting.join(PATIENCE)

    assert entered.is_set()


def test_leaves_nothing_behind() -> None:
    """The record of a free lock expires within seconds."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    with app.lock("report"):
        pass

    clock.advance(11)

    assert record_of(app) is None
    app.close()


def test_is_renewed_while_its_block_runs() -> None:
    """A block may run for much longer than the time of its lock."""
    clock = VirtualClock()
    app = make_app(clock=clock)

    with app.lock("report", ttl=3) as lock:
        first = lock.token
        for _ in range(10):
            clock.wait_for_waiters(1, timeout=PATIENCE)
            before = version_of(app)
            clock.advance(1)
            wait_until(lambda before=before: version_of(app) > before)
        assert lock.held
        assert lock.token == first

    app.close()


def test_ends_if_its_process_dies() -> None:
    """Whoever waits for a lock of a dead process gets it when its time is over."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    take_over(app)
    entered = threading.Event()

    def wait_for_it() -> None:
        with app.lock("report"):
            entered.set()

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    clock.wait_for_waiters(1, timeout=PATIENCE)
    assert not entered.is_set()
    clock.advance(30)
    waiting.join(PATIENCE)

    assert entered.is_set()
    app.close()


def test_tells_that_it_was_lost(app: Queuekit) -> None:
    """A block that outlived its lock ends with an error, since others may have been in theirs."""
    with pytest.raises(LockLostError, match="'report' was lost before its block ended"), app.lock("report"):
        take_over(app)

    found = record_of(app)
    assert found is not None
    assert found.body == b"other host-1"


def test_own_error_of_a_block_comes_first(app: Queuekit) -> None:
    """An error of the block is raised, not the news that the lock was lost."""

    def work() -> None:
        with app.lock("report"):
            take_over(app)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def test_backend_that_is_away_at_the_end_is_no_error() -> None:
    """A block that was alone until its end is fine, even if its lock can only end by time."""
    app = flaky_app()
    with app.lock("report"):
        backend_of(app).wire.cut = {"get", "put"}
    backend_of(app).wire.cut = set()

    assert record_of(app) is not None
    app.close()


def test_error_of_an_engine_loses_the_lock_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that no contract names does not end the thread that renews, and the block hears of its loss."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    refused = threading.Semaphore(0)

    def refuse(*_: Any) -> Any:
        refused.release()
        raise RuntimeError("the disk is full")

    def work() -> None:
        with app.lock("report", ttl=3):
            monkeypatch.setattr(type(app.runtime.need_backend("a test")), "get", refuse)
            for _ in range(3):
                clock.wait_for_waiters(1, timeout=PATIENCE)
                clock.advance(1)
                assert refused.acquire(timeout=PATIENCE)

    with pytest.raises(LockLostError):
        work()
    monkeypatch.undo()

    assert "cannot renew or free lock:report" in caplog.text
    app.close()


def test_backend_that_is_away_lets_nobody_in() -> None:
    """Without an answer nobody knows who holds the lock."""
    app = flaky_app()
    backend_of(app).wire.cut = {"get"}

    with pytest.raises(UnavailableError):
        app.lock("report").__enter__()
    app.close()


def test_needs_a_backend() -> None:
    """Without a backend there is nowhere to keep a lock; the error says what to set."""
    app = make_app(backend="none")

    with pytest.raises(NoBackendError, match=r"a lock needs a result backend.*backend = "):
        app.lock("report").__enter__()
    app.close()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("a\nb", {}, id="line-break"),
        pytest.param("a" * 201, {}, id="long"),
        pytest.param(7, {}, id="number"),
        pytest.param("a", {"ttl": 0}, id="no-ttl"),
        pytest.param("a", {"ttl": None}, id="ttl-none"),
        pytest.param("a", {"ttl": "0.5s"}, id="short-ttl"),
        pytest.param("a", {"wait": -1}, id="negative-wait"),
    ],
)
def test_rejects_bad_arguments(app: Queuekit, name: Any, options: dict[str, Any]) -> None:
    """What cannot be a lock is refused before anything is asked."""
    with pytest.raises((OptionError, ValueError)):
        app.lock(name, **options)


def test_one_object_is_for_one_block(app: Queuekit) -> None:
    """Two threads that share the object would take the lock for each other's."""
    lock = app.lock("report")

    with lock, pytest.raises(OptionError, match="in use through this object"):
        lock.__enter__()


def test_object_can_be_used_again(app: Queuekit) -> None:
    """A block may be entered again after it ended, also after an attempt in vain."""
    lock = app.lock("report", wait=0)
    with app.lock("report"), suppress(LockTimeout):
        lock.__enter__()

    with lock:
        assert lock.held


def test_coroutines_wait_for_each_other(app: Queuekit) -> None:
    """Blocks of coroutines never overlap either, and none blocks the event loop."""
    inside, most = [0], [0]

    async def work() -> None:
        async with app.lock("report", wait=PATIENCE):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            await asyncio.sleep(0)
            inside[0] -= 1

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(20)))

    asyncio.run(all_of_them())

    assert most == [1]


def test_coroutine_waits_no_longer_than_asked(app: Queuekit) -> None:
    """A coroutine gets the same error as a thread."""

    async def enter() -> None:
        async with app.lock("report", wait=0):
            pass

    with app.lock("report"), pytest.raises(LockTimeout):
        asyncio.run(enter())


def test_coroutine_that_is_cancelled_leaves_the_lock_free(app: Queuekit) -> None:
    """A cancelled attempt does not keep the lock, even if the engine grants it afterwards."""

    async def enter_and_cancel() -> None:
        async def enter() -> None:
            async with app.lock("report", ttl="1h"):
                await asyncio.sleep(PATIENCE)

        task = asyncio.create_task(enter())
        await asyncio.sleep(0)  # the attempt begins in another thread
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(enter_and_cancel())

    with app.lock("report", wait=PATIENCE) as lock:
        assert lock.held


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_coroutine_that_is_cancelled_while_it_leaves_frees_the_lock(app: Queuekit) -> None:
    """A cancellation at the end of the block, while no thread is free, does not keep the lock."""
    opened, busy, left = threading.Event(), list[asyncio.Task[bool]](), list[bool]()

    async def work() -> None:
        async with app.lock("report"):
            busy.extend(asyncio.create_task(app.acall(opened.wait, PATIENCE)) for _ in range(16))
            await asyncio.sleep(0)
            left.append(True)

    async def cancel_at_the_end() -> None:
        task = asyncio.create_task(work())
        while not left:  # noqa: ASYNC110 - the block ends in the same step
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        opened.set()
        await asyncio.gather(*busy)

    asyncio.run(cancel_at_the_end())

    with app.lock("report", wait=PATIENCE) as lock:
        assert lock.held


def test_forked_child_leaves_the_lock_to_its_parent(app: Queuekit) -> None:
    """A child that leaves the block does not release the lock of its parent."""
    with app.lock("report", ttl="1h") as lock:
        child = os.fork()
        if child == 0:
            try:
                lock.__exit__(None, None, None)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        found = record_of(app)

    assert found is not None
    assert not found.final
