"""What everybody expects of tasks, groups, chords and chains, in this order, with one worker, on every engine."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from queuekit import Queuekit, Signature, TaskFailed, chain, chord, group
from queuekit.broker import Place
from queuekit.tasks.registry import Tasks
from queuekit_testing.kit import unique_name
from support.calls import ALONE, ENGINES, Calls, calls_on, each_engine
from support.waiting import PATIENCE
from support.working import burst, inside, needs, working

EAGER = "eager"


@pytest.fixture(scope="module", params=[*each_engine(ALONE), EAGER])
def at_work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """Tasks and one worker for all tests of an engine; or none, where sends run them at once."""
    if request.param == EAGER:
        yield calls_on(Queuekit(eager=True))
        return
    made = calls_on(ENGINES[request.param](tmp_path_factory.mktemp("acceptance")))
    with closing(made.app), working(made.app):
        yield made


def test_adds_two_numbers(at_work: Calls) -> None:
    """One task, one result."""
    assert at_work.add.send(1, 1).get(timeout=PATIENCE) == 2


def test_sums_a_list(at_work: Calls) -> None:
    """A list is one argument."""
    assert at_work.total.send([1, 2]).get(timeout=PATIENCE) == 3


@pytest.mark.parametrize("at_once", [None, 2], ids=["unlimited", "two-at-a-time"])
def test_group_has_results_in_order(at_work: Calls, at_once: int | None) -> None:
    """A group's results stand in the group's order, however many run at a time."""
    add = at_work.add

    result = group(add.s(1, 1), add.s(2, 2), add.s(5, 6), at_once=at_once).send()

    assert result.get(timeout=PATIENCE) == [2, 4, 11]
    assert result.done


def test_chord_gets_the_list_of_results(at_work: Calls) -> None:
    """The callback gets one list, as its last argument."""
    add = at_work.add

    result = chord([add.s(1, 1), add.s(2, 2), add.s(5, 6)], at_work.product.s()).send()

    assert result.get(timeout=PATIENCE) == 88


def test_chain_appends_each_result(at_work: Calls) -> None:
    """Each result is the last argument of the next link."""
    result = chain(at_work.add.s(2, 2), at_work.add.s(11), at_work.multiply.s(4)).send()

    assert result.get(timeout=PATIENCE) == 60


def test_error_keeps_its_exact_text(at_work: Calls) -> None:
    """What a task raises comes back with type, text and traceback."""
    with pytest.raises(TaskFailed, match=r"ValueError: exactly: this \(ü\)") as caught:
        at_work.boom.send("exactly: this (ü)").get(timeout=PATIENCE)

    assert caught.value.error_type == "ValueError"
    assert "raise ValueError(text)" in caught.value.traceback


@pytest.mark.parametrize("values", [(), (None,), (1, "two")], ids=["nothing", "none", "two"])
def test_returns_any_number_of_values(at_work: Calls, values: tuple[Any, ...]) -> None:
    """A task returns nothing, one value or several."""
    assert at_work.nothing.send(*values).get(timeout=PATIENCE) is None
    assert at_work.echo.send(*values).get(timeout=PATIENCE) == list(values)


def test_two_values_with_a_failure_fail(at_work: Calls) -> None:
    """A task that fails after it was given two values fails; so does the chain behind it."""
    result = chain(at_work.echo.s(1, 2), at_work.boom.s("no"), at_work.echo.s()).send()

    with pytest.raises(TaskFailed, match="ValueError: no"):
        result.get(timeout=PATIENCE)


def test_task_ahead_starts_when_it_is_due(at_work: Calls) -> None:
    """A delayed task starts no earlier."""
    before = time.monotonic()

    assert at_work.add.options(delay="100ms").send(1, 1).get(timeout=PATIENCE) == 2
    assert at_work.app.config.eager or time.monotonic() - before >= 0.1


def test_follow_ups_of_a_signature_are_sent(at_work: Calls) -> None:
    """Several callbacks of one signature run, each with the result; those of errors get the failure."""
    echo = at_work.echo
    first, second, third = ids = [unique_name("callback") for _ in range(3)]

    at_work.add.options(on_success=[echo.s("a").options(id=first), echo.si("b").options(id=second)]).send(1, 1)
    at_work.boom.options(on_error=[at_work.told.s().options(id=third)]).send("why")
    results = [at_work.app.result(id) for id in ids]

    assert [result.get(timeout=PATIENCE) for result in results] == [["a", 2], ["b"], "why"]


@pytest.mark.each_engine
def test_pending_tasks_can_be_listed_in_order(calls: Calls) -> None:
    """Before a worker starts, a queue shows what waits in it, next first."""
    needs(calls.app, "inspect")
    sent = [calls.add.send(index, 1).id for index in range(5)]

    assert [stored.envelope.id for stored in inside(calls.app, Place.READY)] == sent
    burst(calls.app)
    assert inside(calls.app, Place.READY) == []


@pytest.mark.each_engine
def test_workers_that_know_different_tasks_share_a_queue(calls: Calls) -> None:
    """A worker leaves to others what it does not know, and all is done in the end."""
    app = calls.app
    mine, theirs = Tasks(), Tasks()
    mine.add(calls.add)
    theirs.add(calls.echo)
    results = app.send_many([calls.add.s(1, 1), Signature("echo", ("x",))])

    app.tasks = mine
    with working(app):
        assert results[0].get(timeout=PATIENCE) == 2
    app.tasks = theirs
    with working(app):
        assert results[1].get(timeout=PATIENCE) == ["x"]
