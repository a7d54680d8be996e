"""How long a loop rests while its engine does not answer, and what it tells of that."""

from queuekit.client.outage import Outage
from queuekit.clock import VirtualClock
from queuekit.events import EngineBack, EngineDown
from support.working import make_app, seen


def test_pauses_double_up_to_the_longest() -> None:
    """Each is spread by chance over its upper half, and told as it is."""
    app = make_app()
    told = seen(app, EngineDown)
    outage = Outage(app.runtime, doing="fetch", first=1, longest=5)

    rests = [outage.failed("gone") for _ in range(5)]

    assert all(pause / 2 <= rest <= pause for rest, pause in zip(rests, (1, 2, 4, 5, 5), strict=True))
    assert [(event.doing, event.error, event.retry_in) for event in told] == [("fetch", "gone", rest) for rest in rests]


def test_pauses_begin_anew_where_the_engine_had_answered_for_a_while() -> None:
    """The outage goes on all the same."""
    outage = Outage(make_app().runtime, doing="fetch", first=1, longest=5)
    outage.failed("gone")
    outage.failed("gone")

    outage.failed("gone", afresh=True)

    assert (outage.pause, outage.failures) == (1, 3)


def test_the_end_is_told_once() -> None:
    """With the seconds since the first failure; of an engine that always answered there is nothing to tell."""
    app = make_app(clock=(clock := VirtualClock()))
    told = seen(app, EngineBack)
    outage = Outage(app.runtime, doing="settle", first=1, longest=5)

    outage.over()
    outage.failed("gone")
    clock.advance(3)
    outage.failed("gone")
    outage.over()
    outage.over()

    assert [(event.doing, event.after) for event in told] == [("settle", 3.0)]
    assert (outage.pause, outage.failures) == (0, 0)
