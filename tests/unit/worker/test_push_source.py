"""A worker on a broker that pushes: one subscription, of the size that the worker can use, made anew when it breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.broker import Delivery, Place, Subscription
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.hookspecs import BrokerSpec, hookimpl
from queuekit.wire.pauses import Pause, pauses_record
from queuekit.worker.push_source import PushSource
from queuekit_testing.kit import unique_name
from support.push_defects import Pushing
from support.waiting import wait_until
from support.working import burst, counts, inside, working


class PushPlugin:
    """Serves ``push://``."""

    @hookimpl
    def queuekit_brokers(self) -> list[BrokerSpec]:
        """Return the broker."""
        spec = BrokerSpec(schemes=("push",), factory=MadePushing, capabilities=Pushing.capabilities)
        return [spec]


class MadePushing(Pushing):
    """Keeps those that were made."""

    made: list[Pushing] = []  # noqa: RUF012 - for the test to see

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.made.append(self)


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app on a broker that pushes."""
    app = Queuekit(broker=f"push://{unique_name('app')}", backend="memory://results", worker={"concurrency": 2})
    app.plugins.register(PushPlugin(), "push")
    yield app
    app.close()


def test_a_worker_runs_what_is_pushed(app: Queuekit) -> None:
    """All of it, over subscriptions; what comes later arrives as well, and a stop leaves nothing behind."""
    done: list[int] = []
    app.task(name="note")(done.append)
    app.send_many(app.tasks["note"].s(number) for number in range(50))

    with working(app):
        wait_until(lambda: len(done) == 50, what="fifty runs")
        app.tasks["note"].send(50)
        wait_until(lambda: len(done) == 51, what="one more run")
    broker = MadePushing.made[-1]

    assert sorted(done) == list(range(51))
    assert broker.subscriptions
    assert not any(subscription.buffer for subscription in broker.subscriptions)
    assert counts(app) == {}
    assert not inside(app, Place.LEASED)


class Late(Subscription):
    """Has nothing at the first look: what is pushed is still on its way."""

    def __init__(self, inner: Subscription) -> None:
        self.inner, self.looks = inner, 0

    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        """Return what has arrived."""
        self.looks += 1
        return [] if self.looks == 1 else self.inner.next(limit=limit, wait=wait, queues=queues)

    def close(self) -> None:
        """Give back what has arrived."""
        self.inner.close()


def test_a_burst_asks_the_queue_before_it_ends(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty look at a subscription does not say that the queue is empty."""
    subscribe = Pushing.subscribe
    monkeypatch.setattr(Pushing, "subscribe", lambda *args, **kwargs: Late(subscribe(*args, **kwargs)))
    done: list[int] = []
    app.task(name="note")(done.append)
    app.send_many(app.tasks["note"].s(number) for number in range(50))

    burst(app)

    assert sorted(done) == list(range(50))
    assert counts(app) == {}


class OnItsWay(Subscription):
    """Has something only for those who wait."""

    def __init__(self, inner: Subscription) -> None:
        self.inner, self.found, self.gave_back = inner, 0, False

    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        """Return what has arrived."""
        found = self.inner.next(limit=limit, wait=wait, queues=queues) if wait or self.found else []
        self.found += len(found)
        return found

    def close(self) -> None:
        """Note whether anything goes back that nobody waited for."""
        self.gave_back = self.gave_back or not self.found
        self.inner.close()


def test_a_burst_waits_for_what_is_on_its_way(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,500 messages a burst gave back a thousand, as soon as they came: it had looked once, without a wait."""
    made: list[OnItsWay] = []
    subscribe = Pushing.subscribe

    def late(*args: Any, **kwargs: Any) -> OnItsWay:
        made.append(OnItsWay(subscribe(*args, **kwargs)))
        return made[-1]

    monkeypatch.setattr(Pushing, "subscribe", late)
    done: list[int] = []
    app.task(name="note")(done.append)
    app.tasks["note"].send(1)

    burst(app)

    assert done == [1]
    assert not made[0].gave_back


def test_nothing_of_a_paused_queue_is_pushed(app: Queuekit) -> None:
    """The subscription ends, and another begins with the end of the pause; what was pushed goes back, uncounted."""
    done: list[int] = []
    app.task(name="note")(done.append)
    paused = pauses_record([Pause(mark="m", queue="default")], now=1.0)

    with working(app) as worker:
        app.tasks["note"].send(1)
        wait_until(lambda: done == [1], what="a run")
        worker._pausing.read(paused)
        wait_until(lambda: worker._fetcher._push and worker._fetcher._push._subscription is None, what="its end")
        app.tasks["note"].send(2)
        assert counts(app) == {"ready": 1}
        worker._pausing.read(None)
        wait_until(lambda: done == [1, 2], what="the run of what was paused")


class Scripted(Subscription):
    """Answers what it is told to."""

    def __init__(self, prefetch: int, answers: list[Exception | list[Delivery] | None]) -> None:
        self.prefetch, self.answers, self.closed = prefetch, answers, 0

    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        """Return deliveries or nothing, or raise."""
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer or []

    def close(self) -> None:
        """Count."""
        self.closed += 1


class Subscriptions(Pushing):
    """Makes subscriptions that a test looks at."""

    def __init__(self, *answers: Exception | list[Delivery] | None) -> None:
        self.answers = list(answers)
        self.all: list[Scripted] = []

    def subscribe(self, queues: Sequence[str], *, prefetch: int, lease: float) -> Subscription:
        """Make one."""
        self.all.append(Scripted(prefetch, self.answers))
        return self.all[-1]


def test_is_as_large_as_the_worker_can_use() -> None:
    """Made anew when that has doubled or is a fourth; a little more or less is left as it is."""
    broker, capacities = Subscriptions(), [4, 8, 9, 5, 2, 1]
    source = PushSource(broker, lease=30.0, capacity=lambda: capacities[0])

    while capacities:
        source.next(["q"], limit=1, wait=0)
        capacities.pop(0)
    source.close()

    assert [made.prefetch for made in broker.all] == [4, 9, 2]
    assert [made.closed for made in broker.all] == [1, 1, 1]


def test_grows_only_when_nothing_would_go_back() -> None:
    """As long as a call gets all that it asks for, more has been pushed, which would go back and come again."""
    one = Delivery(envelope=Envelope(id="m", queue="q", body=b""), token="t", number=1)  # noqa: S106
    broker, capacities = Subscriptions([one], [one], None), [4, 40, 40, 40]
    source = PushSource(broker, lease=30.0, capacity=lambda: capacities[0])
    prefetches = []

    while capacities:
        source.next(["q"], limit=1, wait=0)
        prefetches.append(broker.all[-1].prefetch)
        capacities.pop(0)

    assert prefetches == [4, 4, 4, 40]


def test_subscribes_again_after_an_error() -> None:
    """The one that failed is closed; the fetcher hears of the error."""
    broker = Subscriptions(UnavailableError("gone"), None)
    source = PushSource(broker, lease=30.0, capacity=lambda: 1)

    with pytest.raises(UnavailableError):
        source.next(["q"], limit=1, wait=0)
    source.next(["q"], limit=1, wait=0)

    assert [made.closed for made in broker.all] == [1, 0]


def test_closes_once_and_without_need() -> None:
    """A worker that never fetched has nothing to close."""
    broker = Subscriptions()
    source = PushSource(broker, lease=30.0, capacity=lambda: 1)

    source.close()
    source.next(["q"], limit=1, wait=0)
    source.close()
    source.close()

    assert [made.closed for made in broker.all] == [1]
