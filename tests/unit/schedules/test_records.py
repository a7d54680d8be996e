"""Records of schedules that nobody of ours has written: that schedule is set aside with a reason, all others go on."""

import json
import math
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import every
from queuekit.backend import Record
from queuekit.engines.sqlite import SqliteBackend
from queuekit.envelope import join_frame, split_frame
from queuekit.errors import DecodeError, ScheduleError
from queuekit.events import TickFailed
from queuekit.schedules.schedule import entry_key, progress_key, read_entry, read_progress
from queuekit.schedules.triggers import Cron, Every
from queuekit.schedules.wall_clock import LAST
from queuekit.signature import Signature
from queuekit.urls import EngineURL
from support import commands
from support.scheduling import Crew, between
from support.working import backend_of, seen

NAN, INF = math.nan, math.inf
WHENS: dict[str, Any] = {
    "negative": {"every": -1},
    "zero": {"every": 0},
    "too-often": {"every": 0.0001},
    "not-a-number": {"every": NAN},
    "without-end": {"every": INF},
    "beyond": {"every": 1e300},
    "text": {"every": "10"},
    "true": {"every": True},
    "list": {"every": [10]},
    "null": {"every": None},
    "offset-negative": {"every": 10, "offset": -1},
    "offset-large": {"every": 10, "offset": 1e18},
    "offset-not-a-number": {"every": 10, "offset": NAN},
    "cron-number": {"cron": 5, "tz": "UTC"},
    "cron-nonsense": {"cron": "every day at noon", "tz": "UTC"},
    "cron-four-fields": {"cron": "* * * *", "tz": "UTC"},
    "cron-out-of-range": {"cron": "61 * * * *", "tz": "UTC"},
    "cron-huge": {"cron": f"{'1,' * 5_000}1 * * * *", "tz": "UTC"},
    "zone-number": {"cron": "* * * * *", "tz": 7},
    "zone-missing": {"cron": "* * * * *"},
    "nothing": {},
    "a-list": [10],
    "a-text": "10s",
}
FIELDS: dict[str, dict[str, Any]] = {
    "since-not-a-number": {"since": NAN},
    "since-without-end": {"since": -INF},
    "since-beyond": {"since": 1e30},
    "since-text": {"since": "now"},
    "misfire": {"misfire": "never"},
    "misfire-list": {"misfire": ["once"]},
    "overlap": {"overlap": 1},
    "grace-negative": {"grace": -5},
    "grace-not-a-number": {"grace": NAN},
    "grace-text": {"grace": "1m"},
    "source": {"source": "elsewhere"},
    "paused": {"paused": "no"},
    "orphaned": {"orphaned": INF},
    "content-type": {"content_type": 5},
    "version": {"v": 2},
}
ROWS = {f"when-{name}": {"when": when} for name, when in WHENS.items()} | FIELDS


def crew_with() -> Crew:
    """Return schedulers of an app that has one schedule."""
    crew = Crew()
    crew.app.schedules.add("job", every("10s"), Signature[Any]("t"))
    crew.hire()
    return crew


def changed(record: Record, name: str, changes: dict[str, Any]) -> Record:
    """Return a record as that of schedule *name*, with *changes* in its header."""
    head, payload = split_frame(record.body)
    return attrs.evolve(record, key=entry_key(name), body=join_frame(head | changes, payload))


@pytest.mark.parametrize("changes", ROWS.values(), ids=ROWS)
def test_others_go_on(changes: dict[str, Any]) -> None:
    """What cannot be is told of once, has no ticks, is listed with the reason, and can be removed."""
    crew = crew_with()
    backend = backend_of(crew.app)
    backend.put([changed(backend.get([entry_key("job")])[entry_key("job")], "bad", changes)])
    failures = seen(crew.app, TickFailed)

    crew.run(45)

    assert crew.ticks() == between("08:00:10", "08:00:40", 10)
    assert [event.schedule for event in failures] == ["bad"]
    assert "set aside" in failures[0].error
    assert [view.entry.name for view in crew.app.schedules.all()] == ["job"]
    assert list(crew.app.schedules.set_aside()) == ["bad"]
    with pytest.raises(ScheduleError, match="'bad' is set aside"):
        crew.app.schedules.get("bad")
    crew.app.schedules.remove("bad")
    assert crew.app.schedules.set_aside() == {}


def test_one_that_turns_bad_is_left_out() -> None:
    """It is read again for each tick, and may be another one by then."""
    crew = crew_with()
    crew.app.schedules.add("other", every("10s"), Signature[Any]("t"))
    crew.run(15)
    backend = backend_of(crew.app)
    backend.put([changed(backend.get([entry_key("job")])[entry_key("job")], "job", {"when": {"every": -1}})])

    crew.run(20)

    assert crew.counts() == {"08:00:10": 2, "08:00:20": 1, "08:00:30": 1}


PROGRESS: dict[str, bytes] = {
    "not-a-number": b'{"at":NaN}',
    "without-end": b'{"at":1e999}',
    "negative": b'{"at":-5}',
    "text": b'{"at":"now"}',
    "null": b'{"at":null}',
    "last-text": b'{"at":5,"last":"now"}',
    "id-number": b'{"at":5,"id":7}',
    "id-is-no-name": b'{"at":5,"id":"a b"}',
    "count-text": b'{"at":5,"sent":"many"}',
    "count-huge": b'{"at":5,"sent":' + b"9" * 400 + b"}",
    "list": b"[]",
    "deep": b"[" * 100_000,
    "no-json": b"\xff",
    "empty": b"",
}


@pytest.mark.parametrize("rank", [0, 7, 2**62])
@pytest.mark.parametrize("body", PROGRESS.values(), ids=PROGRESS)
def test_progress_that_cannot_be_counts_as_nothing(body: bytes, rank: int) -> None:
    """The ticks go on, and commands can show them; only a rank that can be a time is believed."""
    crew = crew_with()
    backend_of(crew.app).put([Record(key=progress_key("job"), body=body, rank=rank)])

    crew.run(25)
    (view,) = crew.app.schedules.all()

    assert crew.ticks() == ["08:00:10", "08:00:20"]
    assert view.next is not None
    assert view.next < LAST


def test_what_is_written_is_what_is_read() -> None:
    """Whatever the app itself writes passes the same door."""
    crew = crew_with()
    crew.run(25)
    backend = backend_of(crew.app)

    entry = read_entry(backend.get([entry_key("job")])[entry_key("job")])

    assert (entry.name, entry.when) == ("job", every("10s"))
    assert read_progress(backend.get([progress_key("job")])[progress_key("job")]).sent == 2


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param(Every, {"seconds": -1}, id="negative"),
        pytest.param(Every, {"seconds": NAN}, id="not-a-number"),
        pytest.param(Every, {"seconds": 10, "offset": 10}, id="offset"),
        pytest.param(Cron, {"expression": "* " * 900}, id="long"),
    ],
)
def test_what_cannot_be_is_not_made(kind: Any, fields: dict[str, Any]) -> None:
    """The door is the same for code: no schedule that cannot be read back can be made."""
    with pytest.raises(ScheduleError):
        kind(**fields)


def test_commands_list_it(tmp_path: Path) -> None:
    """``schedules ls`` lists what is set aside, with the reason, beside all others; ``remove`` takes it out."""
    tasks = "from queuekit import Queuekit\napp = Queuekit()\n@app.task\ndef add(x): ...\n"
    toml = 'app = "tasks:app"\nbroker = "sqlite:///queue.db"\n'
    commands.write(tmp_path, {"tasks.py": tasks, "queuekit.toml": toml})
    for name in ("good", "bad"):
        assert commands.queuekit("schedules", "add", name, "1h", "add", "1", folder=tmp_path).returncode == 0
    backend = SqliteBackend(EngineURL.parse(f"sqlite:///{tmp_path}/queue.db"))
    backend.put([changed(backend.get([entry_key("bad")])[entry_key("bad")], "bad", {"when": {"every": -1}})])
    backend.close()

    listed = commands.queuekit("schedules", folder=tmp_path)
    document = json.loads(commands.queuekit("schedules", "ls", "--json", folder=tmp_path).stdout)
    shown = commands.queuekit("schedules", "show", "bad", folder=tmp_path)
    removed = commands.queuekit("schedules", "remove", "bad", folder=tmp_path)

    assert (listed.returncode, removed.returncode, shown.returncode) == (0, 0, 1)
    assert "good" in listed.stdout
    assert "set aside" in listed.stdout
    assert {row["name"]: row["state"] for row in document} == {"good": "active", "bad": "set aside"}
    assert "Traceback" not in shown.stderr
    assert "queuekit schedules remove bad" in shown.stderr


def test_reading_names_the_field() -> None:
    """The reason says which field, and what is there."""
    crew = crew_with()
    record = backend_of(crew.app).get([entry_key("job")])[entry_key("job")]

    with pytest.raises(DecodeError, match="grace is not valid: -5"):
        read_entry(changed(record, "job", {"grace": -5}))
