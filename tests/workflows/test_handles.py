"""Handles on workflows, what travels along, and workflows as plain data."""

import json
from threading import Event
from typing import Any

import pytest

from queuekit import Context, Queuekit, ResultTimeout, Signature, State, chain, chord, group
from queuekit.broker import Place
from queuekit.errors import ArgumentsError
from queuekit.ids import InvalidNameError
from queuekit.retry import Fixed
from queuekit.workflows.results import ChainResult, ChordResult, GroupResult
from queuekit.workflows.workflow import Chain, part_from_dict
from support.calls import Calls, calls_on
from support.waiting import PATIENCE, wait_until
from support.working import burst, counts, inside, make_app, needs, working


def test_handles_are_rebuilt_from_an_id(calls: Calls) -> None:
    """Another process gets the same kind of handle, with the same members, from the id alone."""
    add, echo = calls.add, calls.echo
    sent: list[Any] = [
        group(add.s(1, 1), add.s(2, 2)).send(),
        chord([add.s(1, 1), add.s(2, 2)], echo.s()).send(),
        chain(add.s(1, 1), group(echo.s(1), echo.s(2)), echo.s()).send(),
    ]
    burst(calls.app)

    again = [calls.app.result(result.id) for result in sent]

    assert [type(result) for result in again] == [GroupResult, ChordResult, ChainResult]
    assert [result.get(timeout=PATIENCE) for result in again] == [result.get(timeout=PATIENCE) for result in sent]
    assert again[0].ids == sent[0].ids
    assert again[1].members.get(timeout=PATIENCE) == [2, 4]
    assert [link.get(timeout=PATIENCE) for link in again[2].links] == [2, [[1, 2], [2, 2]], [[[1, 2], [2, 2]]]]


def test_groups_are_seen_as_they_complete(calls: Calls) -> None:
    """Members come in the order in which they end."""
    seen = Event()

    @calls.app.task(name="last")
    def last() -> str:
        assert seen.wait(PATIENCE)
        return "late"

    result = group(last.s(), calls.echo.s("soon")).send()
    order: list[Any] = []

    with working(calls.app):
        for member in result:
            order.append(member.get(timeout=0))
            seen.set()

    assert order == [["soon"], "late"]


def test_a_group_is_waited_for_in_time(calls: Calls) -> None:
    """Iterating a group that does not end raises when the time is over."""
    result = group(calls.echo.s("never")).send()

    with pytest.raises(ResultTimeout):
        list(result.as_completed(timeout=0.05))


async def _all(calls: Calls) -> list[Any]:
    add = calls.add
    chained = await chain(add.s(1, 1), add.s(1)).asend()
    grouped = await group(add.s(1, 1), add.s(2, 2)).asend()
    chorded = await chord([add.s(1, 1), add.s(2, 2)], calls.total.s()).asend()
    return [await result.aget(timeout=PATIENCE) for result in (chained, grouped, chorded)]


def test_workflows_are_sent_and_awaited_in_async_code(calls: Calls) -> None:
    """``asend`` and ``aget`` do the same without blocking the loop."""
    import asyncio

    with working(calls.app):
        assert asyncio.run(_all(calls)) == [3, [2, 4], 6]


def test_an_id_makes_a_workflow_run_once(calls: Calls) -> None:
    """Sending a workflow of one id again adds nothing."""
    flow = chord([calls.add.s(1, 1)], calls.total.s(), id="order-17")
    flow.send()
    result = flow.send()
    burst(calls.app)

    assert result.get(timeout=PATIENCE) == 2
    assert calls.seen == [[2]]


@pytest.mark.parametrize("id", ["a.b", "x" * 91, "", "no blank"], ids=["dot", "long", "empty", "blank"])
def test_ids_that_cannot_be_are_refused(id: str) -> None:
    """The id of a workflow leaves room for those of its messages."""
    with pytest.raises(InvalidNameError):
        group(id=id)


def test_parts_have_no_ids_of_their_own(calls: Calls) -> None:
    """A part that brings an id would be found under another: it is refused."""
    with pytest.raises(ValueError, match="cannot have an id"):
        chain(calls.add.s(1, 1).options(id="mine"))


def test_what_is_no_signature_is_refused(calls: Calls) -> None:
    """A task in place of a signature is a mistake that is told at once."""
    with pytest.raises(TypeError, match=r"task\.s"):
        chain(calls.add)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def test_headers_and_priority_travel_along(calls: Calls) -> None:
    """Follow-ups have what their parent had, unless they or their task say otherwise."""
    needs(calls.app, "inspect")
    first = calls.add.s(1, 1).options(headers={"trace": "t", "x": "1"}, priority=8)
    own = calls.headers.s().options(headers={"x": "2"}, priority=2, queue="other")
    result = chain(first, group(calls.headers.s(), own), calls.headers.s()).send()
    burst(calls.app)
    (other,) = inside(calls.app, Place.READY, queue="other")
    plain = calls.app.result(f"{result.id}.1.0").get(timeout=PATIENCE)

    assert other.envelope.priority == 2
    assert plain == [{"trace": "t", "x": "1"}, f"{result.id}.0"]


def test_callbacks_of_a_signature_have_its_headers_and_priority(calls: Calls) -> None:
    """What ``on_success`` and ``on_error`` send has what its parent had."""
    needs(calls.app, "inspect")
    listener = calls.headers.s().options(queue="other")
    options: dict[str, Any] = {"headers": {"trace": "t"}, "priority": 8}
    calls.add.options(on_success=[listener], **options).send(1, 1)
    calls.boom.options(on_error=[listener], **options).send("no")
    burst(calls.app)

    waiting = inside(calls.app, Place.READY, queue="other")

    assert [stored.envelope.priority for stored in waiting] == [8, 8]
    assert all(b'"headers":{"trace":"t"}' in stored.envelope.body for stored in waiting)


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_map_calls_the_task_with_each_value(calls: Calls, chunk: int) -> None:
    """The result is one list in order, however many calls a message holds."""
    mapped = calls.echo.map(range(7), chunk=chunk).send()
    summed = chain(calls.add.starmap([(i, i) for i in range(7)], chunk=chunk), calls.total.s()).send()
    sent = sum(counts(calls.app).values())
    burst(calls.app)

    assert mapped.get(timeout=PATIENCE) == [[i] for i in range(7)]
    assert calls.app.result(mapped.id).get(timeout=PATIENCE) == [[i] for i in range(7)]
    assert summed.get(timeout=PATIENCE) == 42
    assert sent == 2 * -(-7 // chunk)


def test_a_task_knows_its_own_call(calls: Calls) -> None:
    """``ctx.signature`` is what was sent, with what came before it or was gathered; it can be sent again."""
    found: list[Any] = []

    @calls.app.task(name="look")
    def look(ctx: Context, *values: Any) -> int:
        found.append(ctx.signature)
        return len(values)

    options: dict[str, Any] = {"headers": {"trace": "t"}, "priority": 7, "retries": 2}
    later = look.options(on_success=[calls.echo.s("after")], **options)
    chained = chain(calls.add.s(1, 1), later.s("x")).send()
    chorded = chord([calls.add.s(1, 1), calls.add.s(2, 2)], look.s()).send()
    burst(calls.app)
    first, second = sorted(found, key=lambda signature: signature.id != chained.id)
    again = first.options(id=None).send()
    burst(calls.app)

    assert (first.id, first.args, first.queue) == (chained.id, ("x", 2), "default")
    assert {name: getattr(first, name) for name in options} == options
    assert first.on_success == (calls.echo.s("after"),)
    assert (second.id, second.args) == (chorded.id, ([2, 4],))
    assert again.get(timeout=PATIENCE) == 2
    assert Signature.from_dict(json.loads(json.dumps(first.to_dict()))) == first


def test_empty_groups_are_legal(calls: Calls) -> None:
    """A group of nobody has an empty list of results: alone, in a chain, and in another group."""
    alone: GroupResult[list[Any]] = calls.app.send(group())
    between = chain(calls.add.s(1, 1), group(), calls.echo.s("after")).send()
    inside_another = chord([group(), calls.add.s(1, 1), chord([], calls.total.s())], calls.echo.s()).send()
    burst(calls.app)

    assert alone.get(timeout=PATIENCE) == []
    assert between.get(timeout=PATIENCE) == ["after", []]
    assert inside_another.get(timeout=PATIENCE) == [[[], 2, 0]]


def test_options_of_a_link_survive_delay_and_retry(calls: Calls) -> None:
    """Priority, expiry, unique key and headers of a link are still there when it has been tried once."""
    needs(calls.app, "inspect")
    needs(calls.app, "priority")
    options: dict[str, Any] = {"priority": 8, "expires": "1h", "unique": "k", "headers": {"trace": "t"}}
    failing = calls.boom.options(retries=1, retry=Fixed(600.0), delay="10ms", **options).s("no")
    chain(calls.add.s(1, 1), failing, calls.echo.s()).send()
    with working(calls.app):
        wait_until(lambda: any(one.envelope.attempt for one in inside(calls.app, Place.DELAYED)), what="a retry")

    (waiting,) = (one.envelope for one in inside(calls.app, Place.DELAYED))

    assert (waiting.attempt, waiting.priority, waiting.unique and waiting.unique.key) == (1, 8, "k")
    assert waiting.expires is not None
    assert b'"headers":{"trace":"t"}' in waiting.body


@pytest.mark.each_engine
def test_progress_is_seen_while_a_member_runs(calls: Calls) -> None:
    """What a running member reports is seen through the handle on its group, rebuilt from an id as well."""
    go_on = Event()

    @calls.app.task(name="slow")
    def slow(ctx: Context, x: int) -> int:
        ctx.progress(1, 2, "half")
        assert go_on.wait(PATIENCE)
        return x

    result = chord([slow.s(1), calls.add.s(1, 1)], calls.total.s()).send()
    with working(calls.app):
        wait_until(lambda: result.members[0].progress, what="progress")
        seen = calls.app.result(f"{result.id}.0.0").progress
        go_on.set()

        assert result.get(timeout=PATIENCE) == 3
    assert seen == (1, 2, "half")


def test_map_runs_coroutines(calls: Calls) -> None:
    """A chunk of calls of a coroutine function runs one after the other."""

    @calls.app.task(name="twice")
    async def twice(x: int) -> int:
        return 2 * x

    result = twice.map([1, 2, 3], chunk=2).send()
    burst(calls.app)

    assert result.get(timeout=PATIENCE) == [2, 4, 6]


def test_map_refuses_arguments_that_do_not_fit(calls: Calls) -> None:
    """Each call is checked where it is made."""
    with pytest.raises(ArgumentsError, match="add"):
        calls.add.starmap([(1, 2), (1, 2, 3)], chunk=2)


def test_workflows_are_plain_data(calls: Calls) -> None:
    """A workflow goes through JSON and is the same, and can be sent."""
    add = calls.add
    flow = chain(
        add.s(1, 1),
        group(add.s(2), chord([add.s(1)], calls.total.s(), on_error=[calls.told.s()]), policy="skip", at_once=1),
        calls.echo.s(),
        id="flow-1",
        on_error=[calls.told.s()],
    )

    read = part_from_dict(json.loads(json.dumps(flow.to_dict())))

    assert read == flow
    assert isinstance(read, Chain)
    calls.app.send(read)
    burst(calls.app)
    assert calls.app.result("flow-1").get(timeout=PATIENCE) == [[4, 3]]


def test_eager_mode_follows_everything() -> None:
    """Without a worker a send runs the task, what follows, retries and delays, before it returns."""
    calls = calls_on(Queuekit(eager=True))
    app, tries = calls.app, list[int]()

    @app.task(name="flaky", retries=3)
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("again")
        return calls.add.options(delay="10d").send(1, 1).get(timeout=0)

    result = chain(flaky.s(), group(calls.add.s(i) for i in range(3)), calls.total.s()).send()

    assert result.state is State.SUCCESS
    assert result.get(timeout=0) == 9
    assert len(tries) == 3


def test_eager_mode_leaves_the_configured_engines_alone() -> None:
    """The broker of the settings is not even opened."""
    app = Queuekit(eager=True, broker="sqlite:////nowhere/at/all.db")

    assert calls_on(app).add.send(1, 1).get(timeout=0) == 2


def test_each_app_has_its_own_eager_engine() -> None:
    """What one app has stored another does not know."""
    first, second = (calls_on(Queuekit(eager=True)) for _ in range(2))
    id = first.add.send(1, 1).id

    assert second.app.result(id).state is State.UNKNOWN
    assert calls_on(make_app()).app.config.eager is False
