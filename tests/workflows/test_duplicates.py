"""Parts of a workflow that are not sent, since their unique key is held, or not stored, since their task says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit, Signature, State, Task, TaskCancelled, TaskFailed, UniqueKey, chain, chord, group
from queuekit.clock import SystemClock
from queuekit.execution import workflow_held
from queuekit_testing.kit import unique_name
from support.calls import Calls, calls_on
from support.waiting import PATIENCE, wait_until
from support.working import burst, make_app, needs, working

RUNS: list[int] = []


def _double(x: int, *_: Any) -> int:
    RUNS.append(x)
    return 2 * x


def _named(calls: Calls, function: Callable[..., int], **options: Any) -> Task[..., int]:
    """Register a task under a name of its own: engines that tests share keep the keys of other tests."""
    return calls.app.task(name=unique_name("unique"), **options)(function)


def _unique(calls: Calls, **options: Any) -> Task[..., int]:
    return _named(calls, _double, **{"unique": True, **options})


def _quiet(calls: Calls) -> Task[..., int]:
    return calls.app.task(name="quiet", ignore_result=True)(_double)


def _got(calls: Calls, workflow: Any) -> Any:
    result = workflow.send()
    if calls.app.config.eager:
        return result.get(timeout=PATIENCE)
    with working(calls.app):
        return result.get(timeout=PATIENCE)


Make = Callable[[Calls, Task[..., int]], Any]
EQUAL: dict[str, tuple[Make, Any]] = {
    "group": (lambda _, u: group(u.s(1), u.s(1)), [2, 2]),
    "chord": (lambda calls, u: chord([u.s(1), u.s(1), u.s(2)], calls.total.s()), 8),
    "at-once": (lambda calls, u: chord(group(u.s(1), u.s(1), u.s(1)).options(at_once=1), calls.total.s()), 6),
    "nested": (
        lambda calls, u: chord([chain(u.s(1), calls.add.s(1)), chain(u.s(1), calls.add.s(2))], calls.total.s()),
        7,
    ),
    "group-in-chain": (lambda calls, u: chain(calls.add.si(1, 1), group(u.si(1), u.si(1)), calls.total.s()), 4),
    "links": (lambda calls, u: chain(u.si(1), u.si(1), calls.add.s(5)), 7),
    "callbacks": (
        lambda calls, u: group(chord([calls.add.s(1, 1)], u.si(3)), chord([calls.add.s(1, 1)], u.si(3))),
        [6, 6],
    ),
    "starmap": (lambda _, u: u.map([1, 1]), [2, 2]),
    "one-key": (
        lambda calls, u: group(*[calls.add.options(unique=u.name).s(1, 1)] * 2),
        [2, 2],
    ),
}


@pytest.mark.parametrize(("make", "wanted"), EQUAL.values(), ids=EQUAL)
def test_equal_parts_have_one_outcome(calls: Calls, make: Make, wanted: Any) -> None:
    """A part that is a duplicate of another ends as that does, wherever it stands."""
    assert _got(calls, make(calls, _unique(calls))) == wanted


HELD: dict[str, tuple[Make, Any]] = {
    "group": (lambda _, u: group(u.s(7), u.s(8)), [14, 16]),
    "chord": (lambda calls, u: chord([u.s(7), u.s(8)], calls.total.s()), 30),
    "first-link": (lambda calls, u: chain(u.s(7), calls.add.s(1)), 15),
    "later-link": (lambda calls, u: chain(calls.nothing.s(), u.si(7), calls.add.s(1)), 15),
    "last-link": (lambda calls, u: chain(calls.nothing.s(), u.si(7)), 14),
    "only-link": (lambda _, u: chain(u.s(7)), 14),
    "callback": (lambda calls, u: chord([calls.nothing.s()], u.si(7)), 14),
    "callback-in-chain": (lambda calls, u: chain(group(calls.nothing.s()), u.si(7), calls.add.s(1)), 15),
}


@pytest.mark.parametrize(("make", "wanted"), HELD.values(), ids=HELD)
def test_a_part_ends_as_the_message_that_holds_its_key(calls: Calls, make: Make, wanted: Any) -> None:
    """Whoever sent that: the workflow takes over its result."""
    unique = _unique(calls)
    unique.options(delay=0.2).send(7)

    assert _got(calls, make(calls, unique)) == wanted


@pytest.mark.each_engine
def test_parts_end_as_the_messages_that_hold_their_keys(calls: Calls) -> None:
    """Each engine tells the holders of two keys at once: here a member of a group and the callback behind it."""
    member, callback = _unique(calls), _unique(calls)
    member.options(delay=0.2).send(7)
    callback.options(delay=0.2).send(8)

    workflow = chain(group(member.s(7), calls.add.s(1, 1)), callback.si(8), calls.add.s(1))

    assert _got(calls, workflow) == 17


@pytest.mark.parametrize(("make", "_wanted"), HELD.values(), ids=HELD)
def test_a_workflow_does_not_wait_for_what_is_far_off(calls: Calls, make: Make, _wanted: Any) -> None:
    """Where the holder is delayed for long, the part has failed, and the error names the holder."""
    unique = _unique(calls)
    holder = unique.options(delay="10m").send(7)

    with pytest.raises(TaskFailed, match=f"{holder.id}, which holds the unique key, is not due yet"):
        _got(calls, make(calls, unique))


def test_waits_by_the_clock_of_the_engine(tmp_path: Path) -> None:
    """A worker whose clock is behind does not take a holder for one that is far off."""

    class Behind(SystemClock):
        def time(self) -> float:
            return super().time() - 3_600

    right, behind = (make_app(broker=f"sqlite:///{tmp_path}/jobs.db", clock=clock) for clock in (None, Behind()))
    unique, _ = (app.task(name="double", unique=True)(_double) for app in (right, behind))
    unique.options(delay=2).send(7)

    result = group(unique.s(7), unique.s(8)).send()

    with working(behind):
        assert result.get(timeout=PATIENCE) == [14, 16]


@pytest.mark.parametrize(("make", "_wanted"), HELD.values(), ids=HELD)
def test_a_part_fails_with_the_holder(calls: Calls, make: Make, _wanted: Any) -> None:
    """A failure is taken over as a result is."""
    unique = _named(calls, _fail, unique=True)
    unique.options(delay=0.2).send(7)

    with pytest.raises(TaskFailed, match="failed: ValueError: no luck"):
        _got(calls, make(calls, unique))


def _fail(x: int, *_: Any) -> int:
    if x == 7:
        raise ValueError("no luck")
    return x


def test_a_part_is_cancelled_with_the_holder(calls: Calls) -> None:
    """A chord whose member was cancelled elsewhere has failed with it."""
    unique = _unique(calls)
    holder = unique.options(delay=2).send(7)
    result = chord([unique.s(7)], calls.total.s()).send()
    holder.cancel()

    with working(calls.app), pytest.raises((TaskFailed, TaskCancelled), match="cancelled"):
        result.get(timeout=PATIENCE)


def test_a_holder_that_keeps_no_result(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell how it ended, so the part says so."""
    monkeypatch.setattr(workflow_held, "_UNSEEN", 0.2)
    unique, key = _unique(calls), unique_name("key")
    unique.options(ignore_result=True, unique=UniqueKey(key=key, until="ttl", ttl=600)).send(7)
    burst(calls.app)

    with pytest.raises(TaskFailed, match="stores no result"):
        _got(calls, chain(unique.options(unique=key).s(7), calls.add.s(1)))


def test_a_policy_hears_of_a_duplicate_that_cannot_be(calls: Calls) -> None:
    """It is a failed member like any other."""
    unique = _unique(calls)
    unique.options(delay="10m").send(7)

    assert _got(calls, chord(group(unique.s(7), unique.s(8)).options(policy="skip"), calls.total.s())) == 16


def test_errors_of_a_unique_callback_are_told_once(calls: Calls) -> None:
    """The step that stands before it tells of its group, and it tells of itself."""
    unique = _named(calls, _fail, unique=True)
    result = chord([calls.nothing.s()], unique.si(7), on_error=[calls.told.s()]).send()
    failed = chord([calls.boom.s("bad")], unique.si(8), on_error=[calls.told.s()]).send()

    for one in (result, failed):
        with working(calls.app), pytest.raises(TaskFailed):
            one.get(timeout=PATIENCE)
    burst(calls.app)

    assert sorted(failure.error for failure in calls.failures) == ["bad", "no luck"]


QUIET: dict[str, tuple[Make, Any]] = {
    "group": (lambda _, quiet: group(quiet.s(1), quiet.s(2)), [2, 4]),
    "chord": (lambda calls, quiet: chord([quiet.s(1), quiet.s(2)], calls.total.s()), 6),
    "chain-through": (lambda calls, quiet: chain(quiet.s(1), calls.add.s(1)), 3),
    "last-link": (lambda calls, quiet: chain(calls.nothing.s(), quiet.si(1)), 2),
    "only-link": (lambda _, quiet: chain(quiet.s(1)), 2),
    "callback": (lambda calls, quiet: chord([calls.nothing.s()], quiet.si(1)), 2),
    "nested": (lambda calls, quiet: group(chain(calls.nothing.s(), quiet.si(1)), group(quiet.s(2))), [2, [4]]),
    "fed-bit-by-bit": (
        lambda calls, quiet: chain(
            quiet.s(1), group(calls.add.s(1), calls.add.s(2), calls.add.s(3)).options(at_once=1), calls.total.s()
        ),
        12,
    ),
    "of-a-call": (lambda calls, _: group(calls.add.options(ignore_result=True).s(1, 2)), [3]),
    "by-name": (lambda calls, _: group(Signature("quiet", [1], sender=calls.app)), [2]),
}


@pytest.mark.parametrize(("make", "wanted"), QUIET.values(), ids=QUIET)
def test_results_that_a_workflow_needs_are_stored(calls: Calls, make: Make, wanted: Any) -> None:
    """Though the task ignores its results, its workflow does not."""
    assert _got(calls, make(calls, _quiet(calls))) == wanted


def test_a_follow_up_that_is_a_duplicate_says_so(calls: Calls) -> None:
    """Nobody waits for it, so it is not sent; whoever asks by its id is told who holds the key."""
    unique, id = _unique(calls), unique_name("follow-up")
    holder = unique.options(delay="10m").send(7)
    parent = calls.nothing.options(on_success=[unique.options(id=id).si(7)]).send()
    with working(calls.app):
        parent.get(timeout=PATIENCE)
        with pytest.raises(TaskCancelled):
            calls.app.result(id).get(timeout=PATIENCE)

    assert calls.app.info(id).error == f"not sent: {holder.id} holds its unique key"


def test_a_follow_up_with_a_free_key_is_sent(calls: Calls) -> None:
    """Only duplicates are left out."""
    unique, id = _unique(calls), unique_name("free")
    calls.nothing.options(on_success=[unique.options(id=id).si(7)]).send()

    with working(calls.app):
        wait_until(lambda: calls.app.info(id).state is not State.UNKNOWN, "its send")
        assert calls.app.result(id).get(timeout=PATIENCE) == 14


def test_a_task_may_follow_itself_under_its_own_key(calls: Calls) -> None:
    """Its key is freed by the step that sends what follows, where the engine has such a step."""
    needs(calls.app, "commit")
    if not calls.app.runtime.shared:
        pytest.skip("capability not declared: commit of a broker that is its own backend")
    unique, again = _unique(calls), unique_name("again")
    first = unique.options(on_success=[unique.options(id=again).si(7)]).send(7)

    with working(calls.app):
        assert [calls.app.result(id).get(timeout=PATIENCE) for id in (first.id, again)] == [14, 14]


@pytest.mark.parametrize(
    ("make", "wanted"), [*EQUAL.values(), *QUIET.values()], ids=[*EQUAL, *(f"q-{q}" for q in QUIET)]
)
def test_eager_mode_ends_them_too(make: Make, wanted: Any) -> None:
    """It takes the very path of a worker."""
    calls = calls_on(Queuekit(eager=True))
    task = _quiet(calls) if (make, wanted) in QUIET.values() else _unique(calls)

    assert _got(calls, make(calls, task)) == wanted


def test_a_unique_call_that_waits_for_itself_in_eager_mode_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller can never end before it does: it has failed, and nothing waits for ever."""
    monkeypatch.setattr(workflow_held, "_LONGEST", 600.0)
    app = make_app(eager=True)

    @app.task(name="u", unique=True)
    def u(depth: int) -> str:
        return chain(u.s(depth)).send().get(timeout=0).__class__.__name__

    result = u.send(1)

    assert result.state is State.FAILURE
