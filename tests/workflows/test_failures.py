"""Whatever goes wrong in a workflow ends in states that say so, soon, and nothing hangs."""

from typing import Any

import attrs
import pytest

from queuekit import Failure, ResultTimeout, Signature, State, TaskCancelled, TaskFailed, chain, chord, group
from queuekit.broker import Place
from queuekit.errors import CapabilityError, NoBackendError, UnknownIdError
from support.calls import Calls, calls_on
from support.waiting import PATIENCE, wait_until
from support.working import backend_of, burst, counts, flaky_app, inside, make_app, working

BAD = pytest.mark.parametrize("bad", [0, 2, 4], ids=["first", "middle", "last"])


def members(calls: Calls, *bad: int, size: int = 5) -> list[Signature[Any]]:
    """Return calls of which those at *bad* fail."""
    return [calls.boom.s(f"no {i}") if i in bad else calls.add.s(i, 0) for i in range(size)]


def waiting(calls: Calls) -> dict[str, int]:
    """Return how many messages wait; none where a broker cannot take them out, but lets workers drop them."""
    return counts(calls.app) if calls.app.runtime.broker.capabilities.remove else {}


@BAD
def test_failed_member_fails_the_chord_at_once(calls: Calls, bad: int) -> None:
    """The callback never runs, its record says why, and the error callback is called once with the failure."""
    result = chord(members(calls, bad), calls.total.s(), on_error=[calls.told.s()]).send()
    burst(calls.app)

    with pytest.raises(TaskFailed, match=f"ValueError: no {bad}$") as caught:
        result.get(timeout=PATIENCE)

    (failure,) = calls.failures
    assert (failure.task, failure.error_type, failure.error) == ("boom", "ValueError", f"no {bad}")
    assert failure.id == caught.value.task_id == f"{result.id}.0.{bad}"
    assert calls.seen == []
    counted = result.members.counts()
    assert (counted.total, counted.done, counted.failed) == (5, 5, 1)


@pytest.mark.each_engine
def test_all_members_failing_tell_once(calls: Calls) -> None:
    """However many members fail, the error callback is called once."""
    result = chord(members(calls, *range(5)), calls.total.s(), on_error=[calls.told.s()]).send()
    burst(calls.app)

    assert result.state is State.FAILURE
    assert len(calls.failures) == 1
    assert result.members.counts().failed == 5


@BAD
def test_skip_leaves_a_failed_member_out(calls: Calls, bad: int) -> None:
    """With the policy ``skip`` the callback gets the others' results, in order."""
    result = chord(members(calls, bad), calls.echo.s(), policy="skip").send()
    burst(calls.app)

    assert result.get(timeout=PATIENCE) == [[i for i in range(5) if i != bad]]


@BAD
def test_continue_puts_the_failure_in_place(calls: Calls, bad: int) -> None:
    """With the policy ``continue`` a failure object stands where the result would."""
    result = chord(members(calls, bad), calls.echo.s(), policy="continue").send()
    burst(calls.app)

    (seen,) = calls.seen[-1]
    assert isinstance(seen[bad], Failure)
    assert seen[bad].error == f"no {bad}"
    assert [value for value in seen if not isinstance(value, Failure)] == [i for i in range(5) if i != bad]
    assert result.state is State.SUCCESS


@pytest.mark.each_engine
def test_failed_link_ends_the_chain(calls: Calls) -> None:
    """What comes after a failed link never runs; the last link's record says so, and the chain's listener hears."""
    result = chain(
        calls.add.s(1, 1), calls.boom.s("no"), calls.echo.s(), calls.echo.s(), on_error=[calls.told.s()]
    ).send()
    burst(calls.app)

    with pytest.raises(TaskFailed, match=r"boom .* ValueError: no"):
        result.get(timeout=PATIENCE)

    assert calls.seen == []
    assert [failure.error for failure in calls.failures] == ["no"]


@pytest.mark.each_engine
def test_failure_goes_up_the_nesting(calls: Calls) -> None:
    """A failure deep inside fails the inner chord and the outer one, and each tells once."""
    inner = chord([calls.add.si(1, 1), calls.boom.s("deep")], calls.total.s(), on_error=[calls.told.s()])
    outer = chord([calls.add.si(2, 2), chain(inner, calls.echo.s())], calls.echo.s(), on_error=[calls.told.s()])
    result = chain(calls.nothing.s(), outer, calls.echo.s("end")).send()
    burst(calls.app)

    with pytest.raises(TaskFailed, match=r"boom .* ValueError: deep"):
        result.get(timeout=PATIENCE)

    assert [failure.error for failure in calls.failures] == ["deep", "deep"]


def test_failing_callback_fails_the_chord(calls: Calls) -> None:
    """A callback that fails is the chord's failure, told once."""
    result = chord(members(calls), calls.boom.s("late"), on_error=[calls.told.s()]).send()
    burst(calls.app)

    with pytest.raises(TaskFailed, match="ValueError: late"):
        result.get(timeout=PATIENCE)

    assert [failure.error for failure in calls.failures] == ["late"]


def test_expired_member_fails_the_chord(calls: Calls) -> None:
    """A member that is not started in time counts as failed."""
    late = calls.add.s(1, 1).options(expires=0.0)
    result = chord([late, *members(calls)], calls.total.s(), on_error=[calls.told.s()]).send()
    burst(calls.app)

    with pytest.raises(TaskFailed, match="Expired"):
        result.get(timeout=PATIENCE)

    assert [failure.error_type for failure in calls.failures] == ["Expired"]


def test_cancelled_member_fails_the_chord(calls: Calls) -> None:
    """A member that was cancelled while it waited counts as failed, though no worker ever saw it."""
    result = chord(members(calls), calls.total.s(), on_error=[calls.told.s()]).send()

    assert result.members[2].cancel()
    burst(calls.app)

    with pytest.raises(TaskFailed, match="Cancelled"):
        result.get(timeout=PATIENCE)
    assert [failure.error_type for failure in calls.failures] == ["Cancelled"]
    assert result.members[2].state is State.CANCELLED


def test_a_member_that_never_ran_is_no_obstacle(calls: Calls) -> None:
    """With another policy an expired or cancelled member is left out, or a failure that says so is in its place."""
    late, add = calls.add.s(1, 1).options(expires=0.0), calls.add.s(2, 2)
    skipped = chord([late, add, add], calls.echo.s(), policy="skip").send()
    continued = chord([late, add, add], calls.echo.s(), policy="continue").send()
    for result in (skipped, continued):
        result.members[1].cancel()
    burst(calls.app)

    (expired, cancelled, value) = continued.get(timeout=PATIENCE)[0]

    assert skipped.get(timeout=PATIENCE) == [[4]]
    assert (expired.error_type, cancelled.error_type, value) == ("Expired", "Cancelled", 4)


def test_chord_cancelled_in_the_middle_ends(calls: Calls) -> None:
    """Cancelling a chord of which a part is done keeps the rest from running, and its callback."""
    later = [calls.echo.s(i).options(delay="1h") for i in range(3)]
    result = chord([calls.add.s(1, 1), *later], calls.total.s(), on_error=[calls.told.s()]).send()
    burst(calls.app)
    assert result.members[0].get(timeout=PATIENCE) == 2

    assert result.cancel()
    burst(calls.app)

    with pytest.raises(TaskCancelled):
        result.get(timeout=PATIENCE)
    counted = result.members.counts()
    assert (calls.seen, calls.failures) == ([], [])
    assert counted.total == 4
    assert waiting(calls) == {}


@pytest.mark.each_engine
def test_cancelled_chord_never_runs(calls: Calls) -> None:
    """Cancelling a chord takes its members out of the queue, and nobody is told of a failure."""
    result = chord(members(calls), calls.total.s(), on_error=[calls.told.s()]).send()

    assert result.cancel()
    assert waiting(calls) == {}
    burst(calls.app)

    with pytest.raises(TaskCancelled):
        result.get(timeout=PATIENCE)
    assert (calls.seen, calls.failures) == ([], [])
    assert not result.cancel()


def test_cancelled_group_never_runs(calls: Calls) -> None:
    """Cancelling a group cancels each member, delayed and unsent ones too."""
    delayed = [calls.echo.s(i).options(delay="1h") for i in range(3)]
    result = group(*delayed, calls.echo.s("now"), at_once=2).send()

    assert result.cancel()
    burst(calls.app)

    assert waiting(calls) == {}
    assert calls.seen == []
    removes = calls.app.runtime.broker.capabilities.remove
    ids = result.ids if removes else result.ids[2:]  # those that are sent are dropped when they are due
    assert {info.state for info in calls.app.infos(ids)} == {State.CANCELLED}


def test_cancelled_chain_stops_in_the_middle(calls: Calls) -> None:
    """Cancelling a chain between two links keeps the rest from running."""
    result = chain(calls.add.s(1, 1), calls.echo.s().options(delay="1h"), calls.echo.s()).send()
    burst(calls.app)

    assert calls.app.result(result.id).cancel()

    assert waiting(calls) == {}
    with pytest.raises(TaskCancelled):
        result.get(timeout=PATIENCE)


@pytest.mark.each_engine
def test_running_members_are_told(calls: Calls) -> None:
    """A running member of a cancelled group sees it."""
    app = calls.app

    @app.task(name="patient")
    async def patient() -> None:
        import asyncio

        await asyncio.sleep(60)

    result = group(patient.s(), patient.s()).send()
    with working(app):
        while counts(app).get("leased", 0) < 2:
            result.counts()
        result.cancel()

        with pytest.raises(TaskCancelled):
            result.get(timeout=PATIENCE)


def test_results_gone_before_the_callback_fail_it(calls: Calls) -> None:
    """A callback whose members' results are forgotten fails, and says what to do."""
    result = chord(members(calls), calls.total.s().options(delay="500ms"), on_error=[calls.told.s()]).send()
    burst(calls.app)
    result.members[1].forget()

    with working(calls.app):
        with pytest.raises(TaskFailed, match=r"\.0\.1 have expired.*graphs_expire"):
            result.get(timeout=PATIENCE)
        wait_until(lambda: calls.failures)
    assert len(calls.failures) == 1


def test_workflow_gone_between_two_links_says_so(calls: Calls) -> None:
    """A link whose workflow is forgotten ends it visibly."""
    result = chain(calls.add.s(1, 1), calls.echo.s()).send()
    backend = calls.app.runtime.need_backend("a test")
    backend.delete([f"graph:{result.id}"])

    burst(calls.app)

    with pytest.raises(TaskFailed, match="has expired"):
        result.get(timeout=PATIENCE)
    assert [stored.reason for stored in inside(calls.app, Place.DEAD)] == ["failed"]


def test_result_too_large_for_the_next_link_ends_the_chain() -> None:
    """A result that cannot be carried on fails the next link, and so the chain."""
    calls = calls_on(make_app(max_message_bytes=2_000))
    result = chain(calls.echo.s("x" * 1_500), calls.echo.s("y" * 1_500), calls.echo.s()).send()
    burst(calls.app)

    with pytest.raises(TaskFailed, match="TooLargeError"):
        result.get(timeout=PATIENCE)


def test_replayed_link_goes_on(calls: Calls) -> None:
    """A chain whose failed link is replayed from the dead letters, and succeeds, runs to its end."""
    app, broken = calls.app, [True]

    @app.task(name="fragile")
    def fragile(x: int) -> int:
        if broken:
            raise RuntimeError("not yet")
        return x + 1

    result = chain(calls.add.s(1, 1), fragile.s(), calls.multiply.s(10)).send()
    burst(app)
    assert result.state is State.FAILURE

    broken.clear()
    app.runtime.broker.requeue("default")
    burst(app)

    assert result.get(timeout=PATIENCE) == 30


def test_unknown_workflow_is_an_error(calls: Calls) -> None:
    """Waiting for what nobody knows ends with an error."""
    calls.app.send(group(calls.add.s(1, 1), id="g-1"))
    calls.app.result("g-1").forget()
    calls.app.runtime.need_backend("a test").delete(["graph:g-1"])

    with pytest.raises(UnknownIdError):
        calls.app.result("g-1").get(timeout=0.01)


def test_waiting_for_a_group_ends_in_time(calls: Calls) -> None:
    """A timeout raises, and says how many are missing."""
    result = group(calls.add.s(1, 1), calls.add.s(1, 2)).send()

    with pytest.raises(ResultTimeout, match="2 of 2"):
        result.get(timeout=0.05)


def test_chord_needs_a_backend_that_can_join() -> None:
    """Where arrivals cannot be counted a chord is refused when it is sent, and nothing of it is on a queue."""
    calls = calls_on(flaky_app())
    backend = backend_of(calls.app)
    backend.capabilities = attrs.evolve(backend.capabilities, atomic_join=False)

    with pytest.raises(CapabilityError, match="needs a backend that can join"):
        chord(members(calls), calls.total.s()).send()

    assert counts(calls.app) == {}
    result = chain(calls.add.s(1, 1), calls.add.s(1)).send()
    burst(calls.app)
    assert result.get(timeout=PATIENCE) == 3


def test_workflows_need_a_backend() -> None:
    """Where nothing is stored a chord is refused when it is sent; a plain group is not."""
    calls = calls_on(make_app(backend="none"))

    with pytest.raises(NoBackendError, match="a chord needs a result backend"):
        chord(members(calls), calls.total.s()).send()

    result = group(members(calls)).send()
    assert counts(calls.app) == {"ready": 5}
    with pytest.raises(NoBackendError):
        result.get(timeout=1)
