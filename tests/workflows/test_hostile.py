"""Headers and records of workflows that nobody of ours has written: each ends, and takes no more than is stored."""

import json
import tracemalloc
from typing import Any

import pytest

from queuekit import chord, group
from queuekit.backend import Record
from queuekit.broker import Place
from queuekit.envelope import Envelope
from queuekit.errors import DecodeError
from queuekit.ids import new_id
from queuekit.wire.position import graph_key, member_id
from queuekit.wire.records import result_key
from support.calls import Calls
from support.waiting import PATIENCE
from support.working import burst, inside


def forged(calls: Calls, **header: Any) -> Envelope:
    """Return a message as our own, but for *header*."""
    id = new_id()  # engines may share what they keep of an id
    head = {"v": 1, "id": id, "task": calls.total.name, "ct": "json", **header}
    return Envelope(id=id, queue="default", body=json.dumps(head).encode() + b"\n{}")


def died(calls: Calls) -> str:
    """Work, and return why the forged message is dead."""
    burst(calls.app)
    (letter,) = inside(calls.app, Place.DEAD)
    if calls.app.runtime.broker.capabilities.inspect:
        assert inside(calls.app, Place.DELAYED) == inside(calls.app, Place.READY) == []
    return letter.reason or ""


IMPOSSIBLE = {
    "size-beyond-all": ["graph-1", 1, 1_000_000_000, "fail", False],
    "size-negative": ["graph-1", 1, -1, "fail", False],
    "group-negative": ["graph-1", -1, 3, "fail", False],
    "name-is-none": ["a b", 1, 3, "fail", False],
    "name-has-a-dot": ["a.b", 1, 3, "fail", False],
    "policy": ["graph-1", 1, 3, "always", False],
    "size-is-true": ["graph-1", 1, True, "fail", False],
    "no-list": {"graph": "graph-1"},
}


@pytest.mark.parametrize("wanted", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_group_that_cannot_be_is_malformed(calls: Calls, wanted: Any) -> None:
    """A message that gathers what no workflow can have is dead at once, whatever size it claims."""
    tracemalloc.start()
    calls.app.runtime.broker.send([forged(calls, gather=wanted)])

    reason = died(calls)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert reason == "malformed"
    assert most < 50_000_000


@pytest.mark.parametrize("place", [["graph-1", -1], ["graph-1", 2**40], ["a b", 0], ["a.b", 0], ["graph-1", 0, -1]])
def test_place_that_cannot_be_is_malformed(calls: Calls, place: list[Any]) -> None:
    """So is one that claims to be where no node of a workflow is."""
    calls.app.runtime.broker.send([forged(calls, flow=place)])

    assert died(calls) == "malformed"


@pytest.mark.parametrize("size", [2, 4, 5_000_000])
def test_group_of_another_size_is_malformed(calls: Calls, size: int) -> None:
    """A size is what the stored workflow says; no more results are read than there are."""
    result = chord(group(calls.add.s(1, n) for n in range(3)), calls.total.s()).send()
    burst(calls.app)
    assert result.get(timeout=PATIENCE) == 6
    ids = [member.id for member in result.members]
    place, number = ids[0].split(".")[0], int(ids[0].split(".")[1])
    calls.app.runtime.need_backend("a test").delete([result_key(id) for id in ids[1:]])

    calls.app.runtime.broker.send([forged(calls, gather=[place, number, size, "fail", False])])

    assert died(calls) == "malformed"


def test_results_that_are_gone_are_a_failure(calls: Calls) -> None:
    """A workflow that is forgotten, results and all, is no hostile message."""
    calls.app.runtime.broker.send([forged(calls, gather=["graph-1", 1, 3, "fail", False])])

    assert died(calls) == "failed"


@pytest.mark.parametrize("value", [b"7", b'"abc"', b'{"a":1}', b"null"])
def test_result_that_is_no_list_of_results_is_a_failure(calls: Calls, value: bytes) -> None:
    """Where lists are to be joined, what is none fails what gathers it; it is not put off for ever."""
    head = json.dumps({"v": 1, "state": "SUCCESS", "ct": "json"}).encode() + b"\n"
    key = result_key(member_id("graph-1", 1, 0))
    calls.app.runtime.need_backend("a test").put(
        [Record(key=key, body=head + value, final=True, state="SUCCESS", rank=9, ttl=600)]
    )
    calls.app.runtime.broker.send([forged(calls, gather=["graph-1", 1, 1, "fail", True])])

    assert died(calls) == "failed"


GRAPHS: dict[str, dict[str, Any]] = {
    "starts-none": {"starts": []},
    "starts-text": {"starts": ["a"]},
    "starts-down": {"starts": [-1, 5, 3]},
    "starts-many": {"starts": [-1, *range(20_000)]},
    "ttl-nan": {"ttl": float("nan")},
    "ttl-text": {"ttl": "1h"},
    "ttl-negative": {"ttl": -1},
    "serializer": {"ct": "pickle"},
    "version": {"v": 9},
    "flat-text": {"flat": "yes"},
    "kind-number": {"kind": 7},
}


@pytest.mark.parametrize("head", GRAPHS.values(), ids=GRAPHS)
def test_graph_that_cannot_be_ends_what_belongs_to_it(calls: Calls, head: dict[str, Any]) -> None:
    """A record of a workflow is read with the same care as it was written; what cannot be read ends the message."""
    whole = {"v": 1, "kind": "chain", "ct": "json", "ttl": 600.0, "starts": [-1], "flat": False, **head}
    body = json.dumps(whole).encode() + b'\n[[-1,{"top":[[0,null]]}]]'
    calls.app.runtime.need_backend("a test").put([Record(key=graph_key("graph-1"), body=body, ttl=600)])
    calls.app.runtime.broker.send([forged(calls, flow=["graph-1", 0], task=calls.nothing.name)])

    assert died(calls) == "failed"


CALL = {"task": "nothing"}
NODES: dict[str, list[Any]] = {
    "follows-itself": [
        [0, {"step": {"next": 1, "end": None, "gather": None}, "call": None}],
        [1, {"fan": {"size": 1, "policy": "fail", "at_once": None, "callback": None, "feed": None}, "members": [1]}],
    ],
    "grows-without-end": [
        [0, {"step": {"next": 1, "end": None, "gather": None}, "call": None}],
        *[
            [
                n,
                {
                    "fan": {"size": 50, "policy": "fail", "at_once": None, "callback": None, "feed": None},
                    "members": [n + 1] * 50,
                },
            ]
            for n in range(1, 40)
        ],
    ],
    "numbers-are-texts": [[0, {"step": {"next": "1", "end": None, "gather": None}, "call": None}]],
    "negative": [[0, {"step": {"next": -1, "end": None, "gather": None}, "call": None}]],
    "at-once-negative": [
        [0, {"step": {"next": 1, "end": None, "gather": None}, "call": None}],
        [1, {"fan": {"size": 1, "policy": "fail", "at_once": -1, "callback": None, "feed": None}, "members": [2]}],
    ],
    "nodes-are-numbers": [[0, 7]],
    "top-is-a-number": [[-1, {"top": 5}]],
    "top-of-numbers": [[-1, {"top": [5]}]],
    "top-without-end": [[-1, {"top": [[0, 10**12]]}]],
    "end-is-short": [[0, {"step": {"next": None, "end": [1], "gather": None}, "call": None}]],
    "nothing-follows": [[0, {"step": {"next": None, "end": None, "gather": None}, "call": None}]],
    "a-group-is-no-task": [
        [0, {"fan": {"size": 1, "policy": "fail", "at_once": None, "callback": None, "feed": None}, "members": [1]}],
    ],
}


@pytest.mark.parametrize("nodes", NODES.values(), ids=NODES)
def test_nodes_that_cannot_be_end_what_belongs_to_them(
    calls: Calls, nodes: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What follows a message is bounded by what is stored: no node is begun twice, and none that cannot be."""
    head = {"v": 1, "kind": "chain", "ct": "json", "ttl": 600.0, "starts": [-1], "flat": False}
    rows = [[-1, {"top": [[0, None]]}], *nodes]
    body = json.dumps(head).encode() + b"\n" + json.dumps(rows).encode()
    calls.app.runtime.need_backend("a test").put([Record(key=graph_key("graph-1"), body=body, ttl=600)])
    calls.app.runtime.broker.send([forged(calls, flow=["graph-1", 0], task=calls.nothing.name)])

    assert died(calls) == "failed"
    unforeseen = [entry.exc_info[0] for entry in caplog.records if entry.exc_info]
    assert all(kind is not None and issubclass(kind, DecodeError) for kind in unforeseen)


PARTS: dict[str, list[Any]] = {
    "empty": [],
    "no-top": [[0, {"step": {"next": None, "end": None, "gather": None}, "call": None}]],
    "numbers-are-texts": [
        [-1, {"top": [[0, None]]}],
        ["0", {"step": {"next": None, "end": None, "gather": None}, "call": None}],
    ],
    "begins-too-early": [[-2, {"top": [[0, None]]}], [-1, {"top": [[0, None]]}]],
    "top-is-empty": [[-1, {"top": []}]],
}


@pytest.mark.parametrize("kind", ["chain", "group", "chord"])
@pytest.mark.parametrize("rows", PARTS.values(), ids=PARTS)
def test_who_looks_at_a_graph_that_cannot_be_is_told(calls: Calls, kind: str, rows: list[Any]) -> None:
    """Whoever asks for a workflow whose record lacks its parts gets an error of ours that names the record."""
    head = {"v": 1, "kind": kind, "ct": "json", "ttl": 600.0, "starts": [-1], "flat": False}
    body = json.dumps(head).encode() + b"\n" + json.dumps(rows).encode()
    calls.app.runtime.need_backend("a test").put([Record(key=graph_key("graph-1"), body=body, ttl=600)])

    with pytest.raises(DecodeError, match="graph-1"):
        calls.app.result("graph-1")
