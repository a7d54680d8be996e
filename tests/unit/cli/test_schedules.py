"""Schedules on the command line: what is printed is kept in tests/golden/schedules/, with times and ids left out.

QUEUEKIT_TEST_GOLDEN=write writes it anew.
"""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support import commands
from support.golden import compare_answer
from support.waiting import PATIENCE, wait_until

GOLDEN = Path(__file__).parents[2] / "golden" / "schedules"
TASKS = """\
from queuekit import Queuekit, chain, cron, every

app = Queuekit()


@app.periodic(every("1h"))
@app.task
def beat() -> None: ...


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y


app.periodic(cron("30 2 * * *", tz="Europe/Berlin"), chain(add.s(1), add.s(2)), name="nightly")
"""
TOML = 'app = "tasks:app"\nbroker = "sqlite:///queue.db"\n'
CHANGING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.0-9]*(Z|[+-]\d\d:\d\d)"), "TIME"),
    (re.compile(r"\bin [0-9.dhms]+"), "in SPAN"),
    (re.compile(r"[0-9.dhms]+ ago"), "SPAN ago"),
    (re.compile(r" {2,}"), "  "),
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with an app."""
    commands.write(tmp_path, {"tasks.py": TASKS, "queuekit.toml": TOML})
    return tmp_path


def schedules(shop: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    """Run ``queuekit schedules``."""
    return commands.queuekit("schedules", *args, folder=shop)


def fine(shop: Path, *args: str) -> str:
    """Run ``queuekit schedules`` and return what it prints, which must be no error."""
    done = schedules(shop, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(shop: Path) -> dict[str, Any]:
    """Return all schedules as JSON, by name."""
    return {document["name"]: document for document in json.loads(fine(shop, "--json"))}


def compare(name: str, done: "subprocess.CompletedProcess[str]") -> None:
    """Compare an answer with the kept one."""
    compare_answer(GOLDEN / f"{name}.txt", done, CHANGING)


def declare(shop: Path) -> None:
    """Have a scheduler store what the code declares, and end."""
    process = commands.start("scheduler", folder=shop)
    try:
        wait_until(lambda: documents(shop).get("tasks.beat", {}).get("state") == "active", "what the code declares")
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors


def test_answers_are_kept(shop: Path) -> None:
    """What a person reads of schedules, from the first to the last."""
    add = ("add", "sums", "*/5 9-17 29 2 *", "add", "1", "y=-2")
    told = {
        "none": schedules(shop),
        "added": schedules(shop, *add, "--misfire", "all", "--grace", "2m"),
        "name-taken": schedules(shop, *add),
        "one-as-json": schedules(shop, "show", "sums", "--json"),
        "one": schedules(shop, "show", "sums"),
        "list": schedules(shop),
        "list-as-json": schedules(shop, "ls", "--json"),
        "paused": schedules(shop, "pause", "sums"),
        "one-paused": schedules(shop, "show", "sums"),
        "resumed": schedules(shop, "resume", "sums"),
        "changed": schedules(shop, "change", "sums", "--when", "@yearly", "--tz", "Asia/Tokyo"),
        "run": schedules(shop, "run", "sums"),
        "removed": schedules(shop, "remove", "sums"),
    }

    for name, done in told.items():
        compare(name, done)


def test_the_alias_does_the_same(shop: Path) -> None:
    """``queuekit crons`` is ``queuekit schedules``, and the list of commands leaves it out."""
    by_alias = commands.queuekit("crons", folder=shop)
    listed = commands.queuekit("--help", folder=shop)

    assert (by_alias.returncode, by_alias.stderr) == (0, schedules(shop).stderr)
    assert "  schedules" in listed.stdout
    assert "crons" not in listed.stdout


@pytest.mark.parametrize(
    ("name", "args", "code"),
    [
        ("expression-illegal", ("add", "x", "61 * * * *", "add", "1"), 1),
        ("expression-too-short", ("add", "x", "0 3 * *", "add", "1"), 1),
        ("alias-misspelt", ("add", "x", "@dayly", "add", "1"), 1),
        ("pace-illegal", ("add", "x", "soon", "add", "1"), 1),
        ("pace-too-short", ("add", "x", "1ms", "add", "1"), 1),
        ("zone-unknown", ("add", "x", "@daily", "add", "1", "--tz", "Europe/Berln"), 1),
        ("task-unknown", ("add", "x", "30s", "ad"), 1),
        ("argument-missing", ("add", "x", "30s", "add"), 1),
        ("schedule-unknown", ("pause", "nightlie"), 1),
        ("change-nothing", ("change", "x"), 2),
        ("change-zone-alone", ("change", "x", "--tz", "UTC", "--grace", "1h"), 2),
        ("without-backend", ("add", "x", "30s", "add", "1", "--backend", "none"), 1),
    ],
)
def test_mistakes_are_answered(shop: Path, name: str, args: tuple[str, ...], code: int) -> None:
    """A mistake is answered in a few lines with the fix, and with its exit code."""
    done = schedules(shop, *args)

    assert done.returncode == code
    assert len(done.stderr.splitlines()) <= 6
    assert "Traceback" not in done.stderr
    compare(name, done)


def test_declared_schedules_are_seen_and_rest_when_told_to(shop: Path) -> None:
    """What code declares is listed and can be paused; asleep, as nobody declares it any more, it can be removed."""
    declare(shop)
    fine(shop, "pause", "nightly")
    declare(shop)
    found = documents(shop)

    fine(shop, "remove", "nightly")

    assert (found["nightly"]["state"], found["nightly"]["source"]) == ("paused", "code")
    assert found["tasks.beat"]["state"] == "asleep"
    assert set(documents(shop)) == {"tasks.beat"}


def test_declared_schedule_is_changed_in_the_code(shop: Path) -> None:
    """As long as a live scheduler's code declares it, a schedule is neither changed nor removed by hand."""
    process = commands.start("scheduler", folder=shop)
    try:
        wait_until(lambda: documents(shop).get("tasks.beat", {}).get("state") == "active", "a live schedule")
        answers = [schedules(shop, "remove", "tasks.beat"), schedules(shop, "change", "tasks.beat", "--when", "5s")]
    finally:
        process.send_signal(signal.SIGHUP)  # a closed terminal ends it as SIGTERM does
        process.communicate(timeout=PATIENCE)

    assert process.returncode == 0
    assert [done.returncode for done in answers] == [1, 1]
    assert all("schedules pause tasks.beat" in done.stderr for done in answers)


def test_next_prints_the_nights_when_clocks_change(shop: Path) -> None:
    """Without storing anything, a person sees what an expression means."""
    text = fine(shop, "next", "30 2 * * *", "--tz", "Europe/Berlin", "--after", "2026-10-24", "-n", "3")
    data = json.loads(fine(shop, "next", "30s", "--json", "-n", "2"))

    assert text.splitlines() == [
        "At 02:30 every day, Europe/Berlin",
        "2026-10-24 02:30:00+02:00",
        "2026-10-25 02:30:00+02:00",
        "2026-10-26 02:30:00+01:00",
    ]
    assert (data["words"], len(data["upcoming"])) == ("Every 30s", 2)


def test_run_sends_the_call_now(shop: Path) -> None:
    """A schedule's call can be sent besides its ticks."""
    fine(shop, "add", "sums", "1d", "add", "20", "22")
    id = fine(shop, "run", "sums").strip()

    commands.queuekit("worker", "--burst", folder=shop)

    shown = json.loads(commands.queuekit("show", id, "--json", folder=shop).stdout)
    assert (shown["state"], shown["result"]) == ("SUCCESS", 42)


def test_dry_run_prints_what_code_declares(shop: Path) -> None:
    """What would be sent is printed without a broker being asked."""
    done = commands.queuekit("scheduler", "--dry-run", folder=shop)

    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if not line.startswith("  ")] == [
        "nightly: At 02:30 every day, Europe/Berlin: chain of 2: tasks.add",
        "tasks.beat: Every 1h: tasks.beat",
    ]
    assert not (shop / "queue.db").exists()


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_schedules_need_a_backend(shop: Path, command: str) -> None:
    """Without a place for their ticks schedules are refused at the start, each by its name."""
    done = commands.queuekit(command, "--backend", "none", folder=shop)

    assert done.returncode == 3
    assert "schedule nightly needs a result backend" in done.stderr


def test_check_names_schedules_that_have_no_backend(shop: Path) -> None:
    """``queuekit check`` finds that before a worker does."""
    done = commands.queuekit("check", "--backend", "none", folder=shop)

    assert done.returncode == 1
    assert "schedule tasks.beat needs a result backend" in done.stdout
