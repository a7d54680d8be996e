"""Concurrency limits around blocks: a block holds a slot, and waits in line with messages and other blocks."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.clock import VirtualClock
from queuekit.errors import LimitReachedError, NoBackendError, OptionError
from queuekit.ids import new_id
from queuekit.limiting.slot_store import Slots, Wish
from queuekit.limiting.slots import SlotKey, SlotState, Waiter
from queuekit.limits import Concurrency, Rate, arg
from support.waiting import PATIENCE, wait_until
from support.working import backend_of, flaky_app, make_app


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app with a limited task."""
    made = make_app()
    made.task(name="call", limits=[Concurrency(2, key=arg("tenant"), name="crm")])(lambda tenant: tenant)
    yield made
    made.close()


def waiting(app: Queuekit) -> int:
    """Return how many wait for the limit."""
    runtime, place = app.runtime, SlotKey("crm", "acme")
    slots = Slots(runtime.need_backend("a test"), runtime.broker, lease=30)
    return slots.read([place], runtime.now())[place].waiting


def test_as_many_blocks_as_the_limit_says(app: Queuekit) -> None:
    """The third is refused, another key is not."""
    with app.limit("crm", key="acme"), app.limit("crm", key="acme"), app.limit("crm", key="other", wait=0):
        with pytest.raises(LimitReachedError, match="all 2 slots of 'crm' are held; waited 0 s"):
            app.limit("crm", key="acme", wait=0).__enter__()

        assert waiting(app) == 0


def test_block_waits_for_a_slot(app: Queuekit) -> None:
    """It begins when a slot is freed."""
    begun = threading.Event()

    def work() -> None:
        with app.limit("crm", key="acme"):
            begun.set()

    thread = threading.Thread(target=work)
    with app.limit("crm", key="acme"):
        with app.limit("crm", key="acme"):
            thread.start()
            wait_until(lambda: waiting(app) == 1)
            assert not begun.is_set()
        assert begun.wait(PATIENCE)
    thread.join(PATIENCE)


def test_block_that_gives_up_leaves_the_line(app: Queuekit) -> None:
    """What comes after it does not wait for it."""
    with app.limit("crm", key="acme"):
        with app.limit("crm", key="acme"), pytest.raises(LimitReachedError):
            app.limit("crm", key="acme", wait=0.01).__enter__()

        with app.limit("crm", key="acme", wait=0):
            pass


def test_slot_of_a_block_outlasts_the_lease() -> None:
    """A thread shows that the process is alive, however long the block takes."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    backend = app.runtime.need_backend("a test")
    with app.limit("crm", most=1):
        for _ in range(9):
            clock.wait_for_waiters(1, timeout=PATIENCE)
            clock.advance(11)
            wait_until(lambda: any((record.ttl or 0) > 25 for record in backend.walk("beat:")))

        with pytest.raises(LimitReachedError):
            app.limit("crm", most=1, wait=0).__enter__()
    app.close()


class Scene:
    """One slot that another process holds, and a block in a thread that waits for it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.app = make_app(clock=self.clock)
        runtime = self.app.runtime
        self.slots = Slots(runtime.need_backend("a test"), runtime.broker, lease=30)
        self.begun, self.done = threading.Event(), threading.Event()
        self.place = SlotKey("crm", "", Concurrency(1))
        self.other = self.join()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        wait_until(lambda: self.state().waiting == 1)

    def work(self) -> None:
        """Be in the block until the test is done."""
        with self.app.limit("crm", most=1):
            self.begun.set()
            self.done.wait(PATIENCE)

    def join(self) -> Waiter:
        """Let another process take the slot, or wait for it."""
        waiter = Waiter("", new_id(), "", 1)
        self.slots.acquire([Wish(waiter, (self.place,))], self.app.runtime.now())
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Let a holder free its slot."""
        self.slots.release([(self.place, waiter.id, waiter.claim)], self.app.runtime.now())

    def state(self) -> SlotState:
        """Return what the record says."""
        return self.slots.read([self.place], self.app.runtime.now())[self.place]

    def look(self, seen: Callable[[], bool]) -> bool:
        """Let the block look once more; return what *seen* says then, which may be before the block has looked."""
        self.clock.wait_for_waiters(1, timeout=PATIENCE)
        self.clock.advance(0.25)
        return seen()

    def has_ended(self) -> bool:
        """Let half a minute pass; return whether the block's thread has ended."""
        self.clock.advance(31)
        return not self.thread.is_alive()


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Return a block that waits."""
    made = Scene()
    yield made
    made.done.set()
    wait_until(made.has_ended)
    made.thread.join(PATIENCE)
    made.app.close()


def test_block_follows_a_holder_that_died(scene: Scene) -> None:
    """It needs no worker that looks after the line: only blocks may use the limit."""
    scene.clock.advance(31)

    wait_until(lambda: scene.look(scene.begun.is_set))


def test_slot_of_a_block_that_looks_late_lasts_for_a_lease(scene: Scene) -> None:
    """What is left of the time within which it had to arrive would end before its first sign of life."""
    scene.clock.wait_for_waiters(1, timeout=PATIENCE)
    scene.leave(scene.other)
    scene.clock.advance(29.9)
    assert scene.begun.wait(PATIENCE)
    scene.clock.advance(0.2)

    with pytest.raises(LimitReachedError):
        scene.app.limit("crm", most=1, wait=0).__enter__()


def test_block_that_lost_its_place_waits_again(scene: Scene) -> None:
    """A process that was stopped for longer than a lease does not look at a line that it is not in."""
    scene.clock.wait_for_waiters(1, timeout=PATIENCE)
    scene.leave(scene.state().back[0])
    scene.join()

    wait_until(lambda: scene.look(lambda: scene.state().waiting == 2))


def test_coroutines_hold_slots_too(app: Queuekit) -> None:
    """Blocks of coroutines never exceed the limit, and do not block the event loop."""
    inside, most = [0], [0]

    async def work() -> None:
        async with app.limit("crm", key="acme", wait=PATIENCE):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            await asyncio.sleep(0)
            inside[0] -= 1

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(6)))

    asyncio.run(all_of_them())

    assert most[0] <= 2
    assert waiting(app) == 0


def test_coroutine_that_is_cancelled_leaves_the_line(app: Queuekit) -> None:
    """A coroutine that waits in vain keeps no slot from others."""

    async def enter_and_cancel() -> None:
        async def enter() -> None:
            async with app.limit("crm", key="acme"):
                pass

        task = asyncio.create_task(enter())
        while waiting(app) == 0:  # noqa: ASYNC110 - a thread asks for it
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    with app.limit("crm", key="acme"), app.limit("crm", key="acme"):
        asyncio.run(enter_and_cancel())
        wait_until(lambda: waiting(app) == 0)


def test_block_says_that_it_lost_touch(caplog: pytest.LogCaptureFixture) -> None:
    """The limit may be exceeded, and then nobody has the slot for a while: an operator should know why."""
    clock = VirtualClock()
    app = flaky_app(clock=clock)
    backend = backend_of(app)
    with app.limit("crm", most=1):
        backend.wire.cut |= {"put", "put_same"}
        for _ in range(5):
            clock.wait_for_waiters(1, timeout=PATIENCE)
            backend.wire.calls.clear()
            clock.advance(11)
            wait_until(lambda: "put" in backend.wire.calls)
    app.close()

    assert [record.getMessage() for record in caplog.records if record.name == "queuekit.lock"] == [
        "a slot of the limit crm may have another holder: its block has shown no sign of life for 30 s",
        "cannot free a slot of the limit crm, which is free in at most 30 s",
    ]


def test_one_object_is_for_one_block(app: Queuekit) -> None:
    """Two threads that share the object would hold one slot."""
    limit = app.limit("crm", key="acme")

    with limit, pytest.raises(OptionError, match="in use through this object"):
        limit.__enter__()


@pytest.mark.parametrize(
    "options", [{"most": 0}, {"most": True}, {"most": 2, "rate": Rate("1/s")}, {"most": "3"}, {"wait": -1}]
)
def test_refuses_wrong_arguments(app: Queuekit, options: dict[str, Any]) -> None:
    """What cannot be a limit is refused before anything is asked."""
    with pytest.raises((OptionError, ValueError)):
        app.limit("crm", **options)


def test_needs_a_backend() -> None:
    """Without a backend there is nowhere to keep a slot."""
    app = make_app(backend="none")

    with pytest.raises(NoBackendError, match="a limit needs a result backend"):
        app.limit("crm", most=1).__enter__()
    app.close()
