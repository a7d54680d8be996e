"""Where a result backend may drop what it stores, a chord whose group is lost ends as failed."""

from typing import Any

import attrs
import pytest

from queuekit import TaskFailed, chord
from queuekit.errors import CapabilityError, UnavailableError
from support.calls import Calls, calls_on
from support.waiting import PATIENCE
from support.working import backend_of, burst, finish, flaky_app, make_app, take


@pytest.fixture
def calls() -> Calls:
    """Return tasks on an app whose backend says that it may forget."""
    app = flaky_app()
    backend = backend_of(app)
    backend.capabilities = attrs.evolve(backend.capabilities, durable=False)
    return calls_on(app)


def forget(calls: Calls) -> None:
    """Drop all groups, as a full server may do."""
    store: Any = backend_of(calls.app)._engine.records
    store._groups.clear()


def three(calls: Calls) -> list[Any]:
    """Return three members."""
    return [calls.add.si(number, 0) for number in (1, 2, 3)]


@pytest.mark.parametrize("policy", ["fail", "continue"])
def test_completes_what_is_not_lost(calls: Calls, policy: Any) -> None:
    """As long as nothing is lost, the markers change nothing: each group completes once."""
    inner = chord(three(calls), calls.total.s())
    last = calls.boom.s("no") if policy == "continue" else calls.add.si(1, 1)
    result = chord([inner, last], calls.echo.s(), policy=policy).send()
    burst(calls.app)

    found = result.get(timeout=PATIENCE)

    assert found[0][0] == 6
    assert len(calls.seen) == 2


@pytest.mark.parametrize("arrived", [0, 1, 2])
@pytest.mark.parametrize("policy", ["fail", "continue"])
def test_fails_a_chord_whose_group_is_lost(calls: Calls, arrived: int, policy: Any) -> None:
    """However many members have arrived before: the next one notices, the chord fails, and its error callback runs."""
    result = chord(three(calls), calls.total.s(), on_error=[calls.told.s()], policy=policy).send()
    for delivery in take(calls.app, arrived):
        finish(calls.app, delivery)
    forget(calls)
    burst(calls.app)

    with pytest.raises(TaskFailed, match="GroupLost: the result backend has dropped the count"):
        result.get(timeout=PATIENCE)

    assert (len(calls.failures), calls.seen) == (1, [])


def test_fails_what_waits_for_the_chord(calls: Calls) -> None:
    """A lost group inside another chord fails that one as well."""
    inner = chord(three(calls), calls.total.s())
    result = chord([inner, calls.add.si(1, 1)], calls.echo.s(), on_error=[calls.told.s()]).send()
    (first,) = take(calls.app)
    forget(calls)
    finish(calls.app, first)
    burst(calls.app)

    with pytest.raises(TaskFailed, match="GroupLost"):
        result.get(timeout=PATIENCE)

    assert len(calls.failures) == 1


def test_notices_again_after_a_crash(calls: Calls) -> None:
    """A worker that dies between noticing and recording leaves the message to another, which notices as well."""
    result = chord(three(calls), calls.total.s()).send()
    first, second, _ = take(calls.app, 3, lease=0.0)
    finish(calls.app, first)
    forget(calls)
    wire = backend_of(calls.app).wire
    wire.after["join"] = lambda: wire.cut.add("put")
    with pytest.raises(UnavailableError):
        finish(calls.app, second)
    wire.cut.clear()
    burst(calls.app)

    with pytest.raises(TaskFailed, match="GroupLost"):
        result.get(timeout=PATIENCE)


def test_refuses_schedules_without_a_list() -> None:
    """A backend that cannot list its records cannot keep schedules, and the error says so; work goes on."""
    app = flaky_app()
    backend = backend_of(app)
    backend.capabilities = attrs.evolve(backend.capabilities, scan=False)
    calls = calls_on(app)

    assert calls.add.send(1, 2).id
    burst(app)
    assert calls.app.runtime.broker.counts(["default"])["default"].ready == 0
    assert make_app().schedules.all() == []
    with pytest.raises(CapabilityError, match="a schedule needs a backend that can list its records"):
        app.schedules.all()
