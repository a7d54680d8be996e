"""Signed messages on every engine: what nobody with a key has written never runs, and what is ours runs as ever."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Retry, chain, chord
from queuekit.backend import Record
from queuekit.broker import Place, Release
from queuekit.client.sender import Sending
from queuekit.envelope import Envelope
from queuekit.operations.admin import Admin
from queuekit.states import MAX_COUNT, State
from queuekit.wire.position import chunk_key, graph_key
from queuekit.wire.records import result_key
from support.calls import ENGINES, SERVED, Calls, calls_on, each_engine
from support.waiting import PATIENCE
from support.working import burst, inside, make_app, take_one

KEY, OTHER = "k" * 40, "o" * 40
Change = Callable[[bytes], bytes]


@pytest.fixture(params=each_engine(("redis",), SERVED))
def signed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Calls]:
    """The tasks of an app with a key, on one engine after the other; of those with servers, Redis each time."""
    made = calls_on(ENGINES[request.param](tmp_path, signing_keys=[KEY]))
    yield made
    made.app.close()


@pytest.fixture(params=each_engine((), SERVED))
def at_hand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Calls]:
    """The same, for what core decides alone about what an engine returns; with servers in `tox -e full`."""
    made = calls_on(ENGINES[request.param](tmp_path, signing_keys=[KEY]))
    yield made
    made.app.close()


def prepared(calls: Calls, id: str) -> Envelope:
    """Return a signed message that calls ``echo``, with a bit of everything."""
    call = calls.echo.options(id=id, retries=3, headers={"a": "b"}, on_success=[calls.total.s()]).s(1, 2)
    return Sending(calls.app.runtime, calls.app.tasks).prepare(call).envelope


def another_signature(body: bytes) -> bytes:
    """Return *body* with a character of its signature changed."""
    at = body.index(b'"sig":"') + len('"sig":"12345678.') + 5
    return body[:at] + (b"A" if body[at : at + 1] != b"A" else b"B") + body[at + 1 :]


CHANGES: dict[str, Change] = {
    "task": lambda body: body.replace(b'"task":"echo"', b'"task":"told"', 1),
    "version": lambda body: body.replace(b'"v":1', b'"v":2', 1),
    "retries": lambda body: body.replace(b'"retries":3', b'"retries":9', 1),
    "headers": lambda body: body.replace(b'{"a":"b"}', b'{"a":"c"}', 1),
    "argument": lambda body: body.replace(b'"args":[1,2]', b'"args":[1,3]', 1),
    "follow-up": lambda body: body.replace(b'"total"', b'"boom"', 1),
    "place-in-a-workflow": lambda body: body.replace(b',"sig"', b',"flow":["g",1],"sig"', 1),
    "serializer": lambda body: body.replace(b'"ct":"json"', b'"ct":"nope"', 1),
    "more-payload": lambda body: body + b" ",
    "signature": another_signature,
    "key": lambda body: re.sub(rb'"sig":"[0-9a-f]{8}', b'"sig":"00000000', body),
    "no-signature": lambda body: re.sub(rb',"sig":"[^"]*"', b"", body),
    "two-signatures": lambda body: re.sub(rb'(,"sig":"[^"]*")', rb"\1\1", body),
    "no-line": lambda body: body.replace(b"\n", b" "),
    "nothing": lambda _body: b"",
}
"""Ways to change a signed body."""


def test_what_was_changed_is_dead_and_the_worker_lives_on(signed: Calls) -> None:
    """Each part of a message is signed; the next message runs, and no record claims anything about the forged ones."""
    forged = [
        attrs.evolve(one, body=change(one.body))
        for name, change in CHANGES.items()
        for one in [prepared(signed, f"forged-{name}")]
    ]
    swapped = attrs.evolve(prepared(signed, "forged-swapped"), body=prepared(signed, "honest").body)
    signed.app.runtime.broker.send([*forged, attrs.evolve(swapped, id="forged-swapped")])
    honest = signed.echo.send("honest")

    burst(signed.app)

    assert honest.get(timeout=PATIENCE) == ["honest"]
    assert signed.seen == [["honest"]]
    reasons = {one.envelope.id: one.reason for one in inside(signed.app, Place.DEAD)}
    assert reasons.pop("forged-swapped") == "malformed"  # signed, for another id
    assert reasons == {f"forged-{name}": "unsigned" for name in CHANGES}
    backend = signed.app.runtime.backend
    assert backend is not None
    assert backend.get([result_key(id) for id in reasons]) == {}


def test_a_signed_message_under_another_id_claims_nothing(signed: Calls) -> None:
    """It is a dead letter, but the task of that id has not failed, nor has the workflow in its body."""
    broker = signed.app.runtime.broker
    sent = signed.app.send(chord([signed.add.s(1, 2), signed.add.s(3, 4)], signed.total.s()))
    seen = take_one(signed.app)
    broker.settle([Release(seen, delay=0.0)])
    broker.send([attrs.evolve(seen.envelope, id="victim")])

    burst(signed.app)

    assert sent.get(timeout=PATIENCE) == 10
    assert [(one.envelope.id, one.reason) for one in inside(signed.app, Place.DEAD)] == [("victim", "malformed")]
    assert signed.app.result("victim").state is State.UNKNOWN


def changed(calls: Calls, graph: str, change: Callable[[Record], Record]) -> None:
    """Change the stored workflow."""
    backend = calls.app.runtime.backend
    assert backend is not None
    key = graph_key(graph)
    record = change(backend.get([key])[key])
    backend.delete([key])
    backend.put([record])


GRAPHS: dict[str, Callable[[Record], Record]] = {
    "task": lambda record: attrs.evolve(record, body=record.body.replace(b'"echo"', b'"told"')),
    "argument": lambda record: attrs.evolve(record, body=record.body.replace(b'"mark"', b'"evil"')),
    "head": lambda record: attrs.evolve(record, body=record.body.replace(b'"kind":"chain"', b'"kind":"chord"')),
    "signature": lambda record: attrs.evolve(record, body=another_signature(record.body)),
    "no-signature": lambda record: attrs.evolve(record, body=re.sub(rb',"sig":"[^"]*"', b"", record.body)),
}


@pytest.mark.parametrize("change", GRAPHS.values(), ids=GRAPHS)
def test_workflow_that_was_changed_does_not_go_on(at_hand: Calls, change: Callable[[Record], Record]) -> None:
    """What follows is not sent, and the caller sees a failure that says why."""
    sent = at_hand.app.send(chain(at_hand.add.s(1, 2), at_hand.echo.s("mark")))
    changed(at_hand, sent.id, change)

    burst(at_hand.app)

    assert at_hand.seen == []
    assert sent.state is State.FAILURE


CUTS: dict[str, Change] = {"signature": another_signature, "empty": lambda _body: b"", "cut": lambda body: body[:-20]}


@pytest.mark.parametrize("change", CUTS.values(), ids=CUTS)
def test_later_part_that_was_changed_does_not_go_on(at_hand: Calls, change: Change) -> None:
    """A large workflow is stored in parts, each of which is at_hand."""
    long = "x" * 150_000
    sent = at_hand.app.send(
        chain(at_hand.add.s(1, 2), at_hand.echo.si(long), at_hand.nothing.si(long), at_hand.nothing.si(long))
    )
    backend, key = at_hand.app.runtime.backend, chunk_key(sent.id, 1)
    assert backend is not None
    record = backend.get([key])[key]
    backend.delete([key])
    backend.put([attrs.evolve(record, body=change(record.body))])

    burst(at_hand.app)

    assert sent.state is State.FAILURE
    assert inside(at_hand.app, Place.DEAD) != []


def test_workflow_of_another_is_not_taken_for_it(signed: Calls) -> None:
    """A signature is for one record: a stored workflow cannot be put in the place of another."""
    evil = signed.app.send(chain(signed.add.s(1, 2), signed.echo.s("evil")))
    sent = signed.app.send(chain(signed.add.s(1, 2), signed.echo.s("good")))
    backend = signed.app.runtime.backend
    assert backend is not None
    body = backend.get([graph_key(evil.id)])[graph_key(evil.id)].body
    changed(signed, sent.id, lambda record: attrs.evolve(record, body=body))

    burst(signed.app)

    assert signed.seen == [["evil", 3]]


def test_all_that_follows_is_signed(signed: Calls) -> None:
    """Chords, their callbacks, retries and follow-ups: a worker signs what it sends."""

    def flaky(number: int) -> int:
        if not signed.seen:
            signed.seen.append("failed once")
            raise Retry(after=0)
        return number

    task = signed.app.task(name="flaky", retries=2)(flaky)
    sent = signed.app.send(chord([signed.add.s(1, 2), task.s(4)], signed.total.s()))
    single = signed.add.options(on_success=[signed.echo.s()]).send(5, 6)

    burst(signed.app)

    assert sent.get(timeout=PATIENCE) == 7
    assert single.get(timeout=PATIENCE) == 11
    assert [11] in signed.seen
    assert inside(signed.app, Place.DEAD) == []


def test_an_operator_with_the_key_signs_a_dead_letter(signed: Calls) -> None:
    """It then runs as a replay; one that was merely requeued is dead again."""
    one = prepared(signed, "old")
    signed.app.runtime.broker.send([attrs.evolve(one, body=CHANGES["no-signature"](one.body))])
    burst(signed.app)
    admin = Admin(signed.app)
    admin.replay("default", ["old"])
    burst(signed.app)
    (again,) = inside(signed.app, Place.DEAD)

    assert (again.reason, signed.seen) == ("unsigned", [])
    assert admin.replay_signed("default") == ["old"]
    burst(signed.app)

    assert signed.seen[0] == [1, 2]
    assert inside(signed.app, Place.DEAD) == []


def other(**settings: Any) -> Calls:
    """Return the tasks of another process on the same memory engine."""
    return calls_on(make_app(**settings))


def test_a_key_is_changed_without_a_pause() -> None:
    """First all know the new key, then it signs; the old one is dropped when nothing signed by it is left."""
    url = f"memory://{'rotation'}"
    old, both, new = (Queuekit(broker=url, signing_keys=keys) for keys in ([KEY], [KEY, OTHER], [OTHER, KEY]))
    tasks = [calls_on(app) for app in (old, both, new)]

    sent = [tasks[0].echo.send(1), tasks[1].echo.send(2), tasks[2].echo.send(3)]
    burst(both)

    assert [one.get(timeout=PATIENCE) for one in sent] == [[1], [2], [3]]
    last = tasks[2].echo.send(4)
    burst(old)
    assert [one.envelope.id for one in inside(old, Place.DEAD)] == [last.id]


@pytest.mark.parametrize("count", [-1_000_000, -1, MAX_COUNT + 1, 2**40 - 1, 2**40, 2**63 - 1])
@pytest.mark.parametrize("field", ["attempt", "generation", "hop"])
@pytest.mark.parametrize("keys", [[], [KEY]], ids=["plain", "signed"])
def test_a_count_out_of_bounds_does_not_run(keys: list[str], field: str, count: int) -> None:
    """Else one write to the broker would run a task that fails millions of times, or whose outcome cannot be stored."""
    calls = other(signing_keys=keys)
    counts: dict[str, Any] = {field: count}
    calls.app.runtime.broker.send([attrs.evolve(prepared(calls, "a"), **counts)])

    burst(calls.app)

    assert calls.seen == []
    assert [one.reason for one in inside(calls.app, Place.DEAD)] == ["malformed"]
    assert calls.app.result("a").state is State.DEAD


def test_a_fleet_is_changed_over_without_a_loss() -> None:
    """``accept`` runs what is unsigned and signs what it sends; a process without keys runs what is signed."""
    url = "memory://changeover"
    plain, accepting, strict = (
        Queuekit(broker=url),
        Queuekit(broker=url, signing_keys=[KEY], signing="accept"),
        Queuekit(broker=url, signing_keys=[KEY]),
    )
    tasks = [calls_on(app) for app in (plain, accepting, strict)]

    first = tasks[0].echo.send(1)
    burst(accepting)
    second = tasks[1].echo.send(2)
    burst(plain)
    third = tasks[1].echo.send(3)
    burst(strict)

    assert [one.get(timeout=PATIENCE) for one in (first, second, third)] == [[1], [2], [3]]


def test_a_wrong_signature_is_refused_even_while_unsigned_messages_are_accepted() -> None:
    """Whoever has changed a message must at least take the signature away."""
    calls = other(signing_keys=[KEY], signing="accept")
    one = prepared(calls, "a")
    calls.app.runtime.broker.send([attrs.evolve(one, body=another_signature(one.body))])

    burst(calls.app)

    assert [one.reason for one in inside(calls.app, Place.DEAD)] == ["unsigned"]
    assert calls.seen == []
