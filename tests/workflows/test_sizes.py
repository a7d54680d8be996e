"""How much a workflow costs: round trips are counted, not timed."""

from collections import Counter
from typing import Any

import pytest

from queuekit import chain, chord, group
from queuekit.broker import Place
from support.calls import Calls, calls_on
from support.waiting import PATIENCE
from support.working import backend_of, broker_of, burst, flaky_app, inside, make_app

SIZES = [0, 1, 10, 100, 1_000]


@pytest.mark.parametrize("size", SIZES)
def test_chord_costs_at_most_two_backend_operations_a_member(size: int) -> None:
    """Where broker and backend are apart a member costs its share of what is done in batches, and no more."""
    calls = calls_on(flaky_app())
    app = calls.app
    result = chord([calls.add.s(i, 0) for i in range(size)], calls.total.s()).send()
    backend_of(app).wire.calls.clear()
    burst(app)

    spent = Counter(backend_of(app).wire.calls)

    assert result.get(timeout=PATIENCE) == sum(range(size))
    assert spent["join"] <= size
    # What does not grow with the group: the graph, the gathering, the callback, the worker's presence.
    assert spent.total() <= 2 * size + 20


@pytest.mark.parametrize("size", SIZES)
def test_chord_costs_no_operation_of_its_own_on_one_engine(size: int) -> None:
    """Where they are one engine the arrival is part of the commit."""
    calls = calls_on(make_app())
    result = chord([calls.add.s(i, 0) for i in range(size)], calls.total.s()).send()
    burst(calls.app)

    assert result.get(timeout=PATIENCE) == sum(range(size))


def test_messages_do_not_grow_with_what_follows() -> None:
    """The first message of a long chain is as small as that of a short one; the same for members of a group."""
    calls = calls_on(make_app())
    for size in (2, 1_000):
        chain(calls.add.s(1, 1), *[calls.multiply.s(1) for _ in range(size)]).send()
        chord([calls.add.s(1, 1)] * size, calls.total.s()).send()

    stored = inside(calls.app, Place.READY)

    assert max(len(one.envelope.body) for one in stored) < 300


def test_chain_of_500_runs_to_its_end(calls: Calls) -> None:
    """A long chain is stored in parts, and each link finds the next."""
    result = chain(calls.add.s(0, 1), *[calls.add.s(1) for _ in range(499)]).send()
    burst(calls.app)

    assert result.get(timeout=PATIENCE) == 500
    assert len(result.links) == 500


def test_large_graph_is_stored_in_parts() -> None:
    """What is more than a record may hold is cut, and read part by part."""
    calls = calls_on(make_app())
    backend = calls.app.runtime.need_backend("a test")
    backend.limits = type(backend.limits)(max_record=80_000)
    wide = [calls.echo.s("x" * 100, i) for i in range(300)]

    @calls.app.task(name="places")
    def places(values: list[Any]) -> list[int]:
        return [value[1] for value in values]

    result = chain(calls.nothing.s(), group(wide), places.s()).send()
    burst(calls.app)

    assert result.get(timeout=PATIENCE) == list(range(300))
    assert len(backend.scan(f"graph:{result.id}:").items) > 3


def test_many_chords_of_three(calls: Calls) -> None:
    """Many small chords at once do not get into each other's way."""
    results = [chord([calls.add.s(i, j) for j in range(3)], calls.total.s()).send() for i in range(300)]
    burst(calls.app)

    assert [result.get(timeout=PATIENCE) for result in results] == [3 * i + 3 for i in range(300)]


def nested(calls: Calls, depth: int) -> Any:
    """Return a group of a call and a chain around a group, *depth* deep."""
    if not depth:
        return calls.add.si(1, 1)
    return group(calls.add.si(1, 1), chain(nested(calls, depth - 1), calls.echo.s(depth)))


@pytest.mark.each_engine
def test_nesting_of_depth_6(calls: Calls) -> None:
    """Groups in chains in groups, six deep, keep order and places."""
    result = chain(nested(calls, 6), calls.echo.s("end")).send()
    burst(calls.app)
    expected: Any = 2
    for depth in range(1, 7):
        expected = [2, [depth, expected]]

    assert result.get(timeout=PATIENCE) == ["end", expected]


def test_batches_of_a_broker_are_respected() -> None:
    """A fan-out is sent in the batches that the broker takes."""
    calls = calls_on(flaky_app())
    broker = broker_of(calls.app)
    most = []
    send = broker.send
    broker.limits = type(broker.limits)(max_batch=10)
    broker.send = lambda envelopes: most.append(len(envelopes)) or send(envelopes)  # type: ignore[method-assign,func-returns-value]
    result = chain(calls.add.s(1, 1), group(calls.add.s(i) for i in range(35)), calls.total.s()).send()
    burst(calls.app)

    assert result.get(timeout=PATIENCE) == sum(range(35)) + 70
    assert max(most) == 10
