"""Presence records: what is read of them, whatever lies under their keys."""

import json
from typing import Any

import pytest

from queuekit.backend import Record
from queuekit.wire.presence import LIVE, MOST_RUNS, TTL, Presence, RunningTask, read_workers


def read(quiet: float = 0.0, **fields: Any) -> Presence:
    """Return what is read of a record that is *quiet* seconds old."""
    (found,) = read_workers([Record(key="worker:w", body=json.dumps(fields).encode(), ttl=TTL - quiet)])
    return found


def test_an_older_release_leaves_much_out() -> None:
    """Its workers count all the same."""
    found = read(name="w", queues=["default"], begun=["id-1"], ages={"default": 2}, silent=1.5)

    assert found == Presence(name="w", queues=("default",), begun=("id-1",), ages={"default": 2}, silent=1.5)


def test_ages_with_its_record() -> None:
    """A body has been running for as long as the worker said, and since then."""
    found = read(quiet=4.0, name="w", runs=[["id-1", "pay", "default", 3.0]])

    assert found.quiet == pytest.approx(4.0)
    assert [run.id for run in found.runs] == ["id-1"]
    assert found.runs[0].seconds == pytest.approx(7.0)
    assert found.begun == ("id-1",)


def test_is_up_until_now_while_it_is_live() -> None:
    """And up to its last record afterwards, since nobody knows when it ended."""
    assert read(name="w", uptime=0.1, quiet=7.0).uptime == pytest.approx(7.1)
    assert read(name="w", uptime=9.0, quiet=LIVE + 1).uptime == 9.0


def test_is_live_until_it_falls_silent() -> None:
    """Three records long."""
    assert (read(name="w", quiet=LIVE - 1).live, read(name="w", quiet=LIVE + 1).live) == (True, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"pid": "12", "slots": -1, "rss": 1.5, "uptime": "x", "rate": float("inf"), "host": 7, "draining": "yes"},
        {"uptime": 10**400, "rate": 1e308, "silent": 10**400},
        {"pid": True, "slots": 2**60, "rss": None, "uptime": True, "rate": -1, "pool": [], "unknown": {"a": 1}},
        {"runs": "none"},
        {"runs": [["id"], [1, 2, 3, 4], ["a", "b", "c", "d"], ["a", "b", "c", -1], ["a", "b", "c", True], 5, None]},
    ],
)
def test_what_is_not_valid_counts_as_left_out(fields: dict[str, Any]) -> None:
    """Anyone who can write to the backend may have written it."""
    assert read(name="w", **fields) == Presence(name="w")


def test_reads_so_many_runs() -> None:
    """Also of a record that names more."""
    found = read(name="w", runs=[["id", "pay", "default", 0]] * (MOST_RUNS + 1))

    assert found.runs == (RunningTask(id="id", task="pay", queue="default", seconds=0.0),) * MOST_RUNS
