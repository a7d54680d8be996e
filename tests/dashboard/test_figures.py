"""Those who look at figures share one reading, and none waits for an engine that counts for long."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import attrs
import pytest

from queuekit import Queuekit
from queuekit.errors import UnavailableError
from support.browsing import Browser
from support.dashboards import failed, with_tasks
from support.waiting import PATIENCE, wait_until
from support.working import make_app

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """An app on the memory engine."""
    made = make_app()
    yield made
    made.close()


class Counting:
    """Figures whose engine counts for as long as a test wants, until :meth:`close`."""

    def __init__(self, app: Queuekit, *, moment: float) -> None:
        from queuekit.operations.admin import Admin
        from queuekit_dashboard.figures import Figures, Sample

        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.count = 0
        self.fault: Exception | None = None
        me = self

        class Slow(Figures):
            """Waits for the test before each sample."""

            def _sample(self) -> Sample:
                me.begun.release()
                assert me.go.acquire(timeout=PATIENCE)
                if me.fault is not None:
                    raise me.fault
                me.count += 1
                return attrs.evolve(super()._sample(), at=float(me.count))

        self.figures = Slow(Admin(app), moment=moment)

    def close(self) -> None:
        """Let what is read come to its end."""
        self.go.release(10)
        self.figures.close()


CountingMaker = Callable[[float], Counting]


@pytest.fixture
def counting_on(app: Queuekit) -> Iterator[CountingMaker]:
    """Return figures whose looks wait for so many seconds."""
    made: list[Counting] = []

    def make(moment: float) -> Counting:
        made.append(Counting(app, moment=moment))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_first_look_waits(counting_on: CountingMaker) -> None:
    """Where nothing is known yet, a look waits for the first figures."""
    counting = counting_on(0.0)
    counting.go.release()

    assert counting.figures.look().at == 1.0


def test_those_who_look_share_one_reading(counting_on: CountingMaker) -> None:
    """Whoever looks within a second gets the figures of the first."""
    counting = counting_on(PATIENCE)
    counting.go.release()

    looks = [counting.figures.look().at for _ in range(5)]

    assert looks == [1.0] * 5
    assert counting.count == 1


def test_look_gets_the_last_figures_while_others_are_read(counting_on: CountingMaker) -> None:
    """An engine that counts for long holds nobody up: they get the last figures, and the next ones in their time."""
    counting = counting_on(0.0)
    counting.go.release()
    counting.figures.look()
    counting.figures.forget()

    before = counting.figures.look().at
    counting.go.release()

    assert before == 1.0
    assert wait_until(lambda: counting.figures.look().at == 2.0)


def test_old_figures_are_not_shown(counting_on: CountingMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour in which nobody looked, a look waits as the first one does."""
    counting = counting_on(0.0)
    counting.go.release(2)
    counting.figures.look()
    counting.figures.forget()

    monkeypatch.setattr("queuekit_dashboard.figures._OLDEST", 0.0)

    assert counting.figures.look().at == 2.0


def test_first_look_reads_again_what_was_read_at_the_start(counting_on: CountingMaker) -> None:
    """It shows the figures of its moment."""
    counting = counting_on(0.0)
    counting.go.release()
    counting.figures.warm()
    counting.go.release()

    assert counting.figures.look().at == 2.0


def test_first_look_does_not_wait_where_reading_is_slow(
    counting_on: CountingMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows the figures of the start, and the next ones in their time."""
    monkeypatch.setattr("queuekit_dashboard.figures._SLOW", 0.0)
    counting = counting_on(0.0)
    counting.go.release()
    counting.figures.warm()

    assert counting.figures.look().at == 1.0


def test_reading_that_began_before_a_change_is_not_the_last(counting_on: CountingMaker) -> None:
    """A change while figures are read makes the next look read anew."""
    counting = counting_on(PATIENCE)
    counting.go.release()
    counting.figures.look()
    counting.figures.forget()
    looks: list[float] = []
    looker = threading.Thread(target=lambda: looks.append(counting.figures.look().at))
    looker.start()
    assert counting.begun.acquire(timeout=PATIENCE)
    assert counting.begun.acquire(timeout=PATIENCE)
    counting.figures.forget()
    counting.go.release()
    looker.join(PATIENCE)
    counting.go.release()

    assert looks == [2.0]
    assert counting.figures.look().at == 3.0


def test_look_raises_what_the_engine_raises(counting_on: CountingMaker) -> None:
    """An engine that does not answer is an error, and the next look asks it again."""
    counting = counting_on(PATIENCE)
    counting.fault = UnavailableError("down")
    counting.go.release()

    with pytest.raises(UnavailableError):
        counting.figures.look()
    counting.fault = None
    counting.go.release()

    assert counting.figures.look().at == 1.0


def test_history_has_a_point_for_each_step(counting_on: CountingMaker) -> None:
    """The first look notes a point for each queue, and for the rate of all workers."""
    counting = counting_on(PATIENCE)
    counting.go.release()
    counting.figures.look()

    assert counting.figures.history("default") == [0.0]
    assert counting.figures.history() == [0.0]
    assert counting.figures.history("unknown") == []


def test_the_first_look_finds_figures(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard that starts reads them, so that whoever opens it does not wait for a connection to the engines."""
    from queuekit_dashboard.access import Access
    from queuekit_dashboard.web import make

    broker, read = app.runtime.broker, threading.Event()
    names = broker.queues

    def queues() -> list[str]:
        read.set()
        return names()

    monkeypatch.setattr(broker, "queues", queues)
    web = make(app, access=lambda _: Access("ann", "read"), hosts=None, live="events")

    async def start() -> None:
        async with web.router.lifespan_context(web):
            await asyncio.to_thread(wait_until, read.is_set, "the figures are read")

    asyncio.run(start())


def test_what_was_read_at_the_start_is_not_shown_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading is shown for ten times as long as it took, and the first one takes long: it connects."""
    from queuekit_dashboard.access import Access
    from queuekit_dashboard.web import make

    app = with_tasks(make_app())
    names = app.runtime.broker.queues
    monkeypatch.setattr(app.runtime.broker, "queues", lambda: threading.Event().wait(0.5) or names())
    web = make(app, access=lambda _: Access("ann", "read"), hosts=None, live="events")

    async def start() -> None:
        async with web.router.lifespan_context(web):
            pass

    asyncio.run(start())
    failed(app, 3)

    assert "Dead letters: 3" in Browser(web).get("/dead").text
    app.close()


def test_starts_where_an_engine_does_not_answer(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pages say so."""
    from queuekit_dashboard.access import Access
    from queuekit_dashboard.web import make

    def fail() -> list[str]:
        raise UnavailableError("nobody is there")

    monkeypatch.setattr(app.runtime.broker, "queues", fail)
    web = make(app, access=lambda _: Access("ann", "read"), hosts=None, live="events")

    async def start() -> bool:
        async with web.router.lifespan_context(web):
            return True

    assert asyncio.run(start())
