"""What an operator reads: kept in tests/golden/operating/, with times, ids and sizes left out.

QUEUEKIT_TEST_GOLDEN=write writes it anew.
"""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit, Signature
from queuekit.backend import Record
from queuekit.operations.admin import Admin
from queuekit.operations.pauses import pause
from queuekit.wire.presence import TTL
from queuekit.wire.records import worker_key
from support import commands
from support.golden import compare_answer
from support.waiting import PATIENCE, UNHURRIED
from support.working import burst, take_one, working

GOLDEN = Path(__file__).parents[2] / "golden" / "operating"
TASKS = """
from queuekit import Queuekit

app = Queuekit()


@app.task(name="pay")
def pay(amount: int) -> int:
    return amount
"""
TOML = 'broker = "sqlite:///queue.db"\n'
CHANGING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.0-9]*(Z|[+-]\d\d:\d\d)"), "TIME"),
    (re.compile(r"--after '\[.*\]'"), "--after CURSOR"),
    (re.compile(r'"after": "[^\n]*"'), '"after": "CURSOR"'),
    (re.compile(r'_seconds": [0-9.]+'), '_seconds": NUMBER'),
    (re.compile(r"\b(in|for) [0-9.dhms]+\b"), r"\1 SPAN"),
    (re.compile(r"[0-9.]+[dhms][0-9.dhms]* ago"), "SPAN ago"),
    (re.compile(r"\bweb-\d{3,}"), "WORKER"),
    (re.compile(r'"seconds": [0-9.]+'), '"seconds": NUMBER'),
    (re.compile(r"(?<= )[0-9.]+[dhms][0-9.dhms]*(?= )"), "SPAN"),
    (re.compile(r" [0-9.]+[ms][0-9.s]*$", re.MULTILINE), " SPAN"),
    (re.compile(r"ran [0-9.]+ ms"), "ran SPAN"),
    (re.compile(r"process \d+ on \S+,"), "process PID on HOST,"),
    (re.compile(r" {2,}"), "  "),
    (re.compile(r"^ +(?=SPAN ago)", re.MULTILINE), ""),  # ages of several rows may differ in width
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with a config, and no app."""
    commands.write(tmp_path, {"queuekit.toml": TOML})
    return tmp_path


@pytest.fixture
def app(shop: Path) -> Iterator[Queuekit]:
    """Return an app on the queue of the folder."""
    made = Queuekit(broker=f"sqlite:///{shop}/queue.db", send_timeout=UNHURRIED)
    made.task(name="mail.send")(send)
    made.task(name="pay")(lambda amount: amount)
    yield made
    made.close()


def send(to: str) -> None:
    """Fail."""
    raise TimeoutError(f"{to} does not answer")


def tell(shop: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    """Run ``queuekit``."""
    return commands.queuekit(*args, folder=shop)


def compare(name: str, done: "subprocess.CompletedProcess[str]") -> None:
    """Compare an answer with the kept one."""
    compare_answer(GOLDEN / f"{name}.txt", done, CHANGING)


def present(app: Queuekit, name: str, *, quiet: float = 0.0, **fields: Any) -> None:
    """Write the presence record of a worker; one that is not quiet stays so, however long the commands take."""
    body = json.dumps({"name": name, **fields}).encode()
    ttl = TTL - quiet if quiet else 10 * TTL
    app.runtime.need_backend("a test").put([Record(key=worker_key(name), body=body, ttl=ttl)])


FULL: dict[str, Any] = {
    "host": "web",
    "pid": 12,
    "version": "0.1.0",
    "app_version": "v7",
    "queues": ["default", "mail"],
    "slots": 10,
    "pool": "thread",
    "rss": 81_400_000,
    "uptime": 3_700.0,
    "rate": 12.34,
    "runs": [["id-1", "pay", "default", 70.2], ["id-2", "mail.send", "mail", 3.0]],
    "unknown": ["new.task"],
}


def test_workers(shop: Path, app: Queuekit) -> None:
    """None, some of them silent, draining or of an older release, and page by page."""
    compare("workers-none", tell(shop, "workers"))
    present(app, "web-12", **FULL)
    present(app, "web-13", queues=["mail"], draining=True, rss=900_000)
    present(app, "web-9\x1b[2J", queues=["mail"], quiet=60.0, begun=["id-3"])

    compare("workers", tell(shop, "workers"))
    compare("workers-as-json", tell(shop, "workers", "--json"))
    compare("workers-first-page", tell(shop, "workers", "--limit", "1"))
    compare("workers-last-page", tell(shop, "workers", "--after", "web-12"))


def test_check_against_queue(shop: Path, app: Queuekit) -> None:
    """Before a deploy: what waits that the code at hand cannot run, as a table and as data, and where it stops."""
    commands.write(shop, {"tasks.py": TASKS})
    compare("check-against-queue-fine", tell(shop, "check", "--against-queue"))
    old: list[Signature[Any]] = [Signature("pay", id=f"old-{number}") for number in range(2)]
    app.send_many([*old, Signature("gone", id="gone-1"), Signature("pay", (1,), {})])

    compare("check-against-queue", tell(shop, "check", "--against-queue"))
    compare("check-against-queue-as-json", tell(shop, "check", "--against-queue", "--json"))
    compare("check-against-queue-limited", tell(shop, "check", "--against-queue", "--limit", "1"))


def test_stack_of_what_does_not_run(shop: Path, app: Queuekit) -> None:
    """One that waits, one that is not known, one that a silent worker holds, and one that nobody has reported."""
    waiting = app.tasks["pay"].options(delay="1h").send(1)
    for id in ("held", "silent"):
        app.send(Signature("pay", (1,), {}, id=id))
        take_one(app)
    present(app, "web-12", quiet=60.0, runs=[["silent", "pay", "default", 70.2]])

    compare("stack-waiting", tell(shop, "stack", waiting.id))
    compare("stack-waiting-as-json", tell(shop, "stack", waiting.id, "--json"))
    compare("stack-never-sent", tell(shop, "stack", "nobody"))
    compare("stack-silent", tell(shop, "stack", "silent", "--wait", "0"))
    compare("stack-held", tell(shop, "stack", "held", "--wait", "0"))
    compare("kill-waiting", tell(shop, "kill", waiting.id))
    compare("kill-held", tell(shop, "kill", "held", "--wait", "0", "--yes"))


def test_kill_in_a_process_that_many_bodies_share(shop: Path, app: Queuekit) -> None:
    """It is refused without a word of consent, and where nothing would replace the process."""
    entered, gate = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        gate.wait(PATIENCE)

    app.task(name="wait")(wait)
    sent = app.tasks["wait"].send()
    with working(app, on_replace=lambda _: None):
        assert entered.wait(PATIENCE)
        compare("kill-without-yes", tell(shop, "kill", sent.id))
        gate.set()
    entered.clear()
    gate.clear()
    sent = app.tasks["wait"].send()
    with working(app, name="web"):
        assert entered.wait(PATIENCE)
        compare("kill-without-supervisor", tell(shop, "kill", sent.id, "--yes"))
        gate.set()


def test_list_and_why(shop: Path, app: Queuekit) -> None:
    """A queue nobody serves: what waits there, what is delayed, what is held, and why."""
    first = app.tasks["pay"].send(1)
    take_one(app, lease=600.0)
    second, late = app.tasks["pay"].send(2), app.tasks["mail.send"].options(delay="1h").send("x")
    app.tasks["mail.send"].send("y")
    told = {
        "ls": tell(shop, "ls", "default"),
        "ls-page": tell(shop, "ls", "default", "--limit", "1"),
        "ls-filtered": tell(shop, "ls", "default", "task:mail.*", "age:<1h"),
        "ls-delayed-as-json": tell(shop, "ls", "default", "--state", "delayed", "--json"),
        "ls-running": tell(shop, "ls", "default", "--state", "running"),
        "ls-dead": tell(shop, "ls", "default", "--state", "dead", "error:x"),
        "ls-filter-unknown": tell(shop, "ls", "default", "tasks:x"),
        "ls-cursor-illegal": tell(shop, "ls", "default", "--after", "x"),
        "why-leased": tell(shop, "why", first.id),
        "why-no-worker": tell(shop, "why", second.id),
        "why-delayed": tell(shop, "why", late.id),
        "why-as-json": tell(shop, "why", late.id, "--json"),
        "why-never-sent": tell(shop, "why", "nobody"),
        "why-id-illegal": tell(shop, "why", "a b"),
    }

    for name, done in told.items():
        compare(name, done)


def test_what_has_ended(shop: Path, app: Queuekit) -> None:
    """A task that returned, and one that failed for good, with what happened to it."""
    done, dead = app.tasks["pay"].send(1), app.tasks["mail.send"].send("x")
    burst(app, name="web")
    told = {
        "why-gone": tell(shop, "why", done.id),
        "why-dead": tell(shop, "why", dead.id),
        "show": tell(shop, "show", done.id),
    }

    for name, answer in told.items():
        compare(name, answer)


def test_dead_letters(shop: Path, app: Queuekit) -> None:
    """Grouped, selected, replayed and deleted, with the name of the person who did it."""
    for name in ("ann 1", "bob 2"):
        app.tasks["mail.send"].send(f"'{name}'")
        burst(app, name="web")
    told = {
        "dlq-groups": tell(shop, "dlq", "groups"),
        "dlq-groups-as-json": tell(shop, "dlq", "groups", "--json"),
        "dlq-ls-filtered": tell(shop, "dlq", "ls", "task:mail.*", "error:timeout"),
        "dlq-ls-nothing": tell(shop, "dlq", "ls", "task:pay"),
        "dlq-export": tell(shop, "dlq", "export", "error:bob 2"),
        "dlq-retry-dry-run": tell(shop, "dlq", "retry", "error:bob 2", "--dry-run"),
        "dlq-retry-filtered": tell(shop, "dlq", "retry", "error:bob 2", "--rate", "100/s", "--as", "ann"),
        "dlq-retry-mixed": tell(shop, "dlq", "retry", "error:bob 2", "id-1"),
        "dlq-rate-illegal": tell(shop, "dlq", "retry", "--all", "--rate", "soon"),
        "dlq-purge-without-yes": tell(shop, "dlq", "purge", "task:*"),
        "dlq-purge": tell(shop, "dlq", "purge", "task:*", "--yes", "--as", "ann"),
        "actions": tell(shop, "actions"),
        "actions-as-json": tell(shop, "actions", "--json", "--limit", "1"),
    }

    for name, done in told.items():
        compare(name, done)


def test_pauses(shop: Path, app: Queuekit) -> None:
    """What was paused, by whom, who obeys, and what every other command says of it."""
    waiting = app.tasks["pay"].send(1)
    told = {
        "pauses-none": tell(shop, "pauses"),
        "pause": tell(shop, "pause", "default", "--for", "2h", "--why", "the disk is full", "--as", "ann"),
        "pause-unknown-queue": tell(shop, "pause", "defualt", "--as", "ann"),
    }
    present(app, "web-12", queues=["default"])
    told |= {
        "pause-task": tell(shop, "pause", "--task", "mail.send", "--where", "to=x", "--as", "ann"),
        "pause-nothing": tell(shop, "pause"),
        "pause-where-illegal": tell(shop, "pause", "--task", "pay", "--where", "x"),
        "pause-where-queue": tell(shop, "pause", "default", "--where", "x=1"),
        "pause-for-nothing": tell(shop, "pause", "default", "--for", "0s"),
        "pauses": tell(shop, "pauses"),
        "pauses-as-json": tell(shop, "pauses", "--json"),
        "queues-paused": tell(shop, "queues"),
        "queues-paused-as-json": tell(shop, "queues", "--json"),
        "why-paused": tell(shop, "why", waiting.id),
        "resume-unknown": tell(shop, "resume", "mail"),
        "resume": tell(shop, "resume", "default", "--as", "bob"),
        "resume-all": tell(shop, "resume", "--all", "--as", "bob"),
        "resume-all-again": tell(shop, "resume", "--all"),
        "resume-all-and-one": tell(shop, "resume", "default", "--all"),
    }

    for name, answer in told.items():
        compare(name, answer)


def test_drain(shop: Path, app: Queuekit) -> None:
    """Whether the worker has obeyed: it is asked, it drains, or it has not answered."""
    present(app, "web-12", queues=["default"], pid=12)
    present(app, "web-13", queues=["default"], draining=True, runs=FULL["runs"])

    compare("drain-unknown", tell(shop, "drain", "web-1"))
    compare("drain-not-obeyed", tell(shop, "drain", "12", "--wait", "0s", "--as", "ann"))
    compare("drain", tell(shop, "drain", "web-13"))
    compare("drain-not-ended", tell(shop, "drain", "web-13", "--wait", "0.1s"))
    compare("drain-without-backend", tell(shop, "drain", "web-13", "--backend", "none"))


def test_workers_of_a_paused_queue(shop: Path, app: Queuekit) -> None:
    """One that leaves all its queues alone is paused; one that obeys a pause of a task works."""
    for queue in ("default", "mail"):
        pause(Admin(app), queue=queue, by="ann")
    marks = [each.mark for each in Admin(app).pauses()]
    present(app, "web-12", queues=["default", "mail"], paused=marks)
    present(app, "web-13", queues=["default", "high"], paused=[*marks, "of-old"])

    compare("workers-paused", tell(shop, "workers"))


def test_without_backend(shop: Path, app: Queuekit) -> None:
    """Workers are recorded in the backend; without one, nobody knows them."""
    result = app.tasks["pay"].send(1)

    compare("workers-without-backend", tell(shop, "workers", "--backend", "none"))
    compare("pause-without-backend", tell(shop, "pause", "default", "--backend", "none"))
    compare("pauses-without-backend", tell(shop, "pauses", "--backend", "none"))
    compare("why-without-backend", tell(shop, "why", result.id, "--backend", "none"))


def test_an_action_has_a_name_and_a_list_an_end(app: Queuekit, shop: Path) -> None:
    """An empty ``--as`` is none, and a page behind the last worker does not say that there are no workers."""
    id = app.send(Signature("mail.send", ("ann",))).id
    burst(app)

    assert tell(shop, "dlq", "retry", id, "--as", " ").returncode == 0
    assert "@" in json.loads(tell(shop, "actions", "--json").stdout)[0]["by"]
    assert tell(shop, "workers", "--after", "z").stderr == "No more workers.\n"


FORGED = "ann\n2026-01-01 ERROR forged\r\x1b[2J\u202e\x9b31m"


def test_what_operators_give_stays_in_its_line(shop: Path, app: Queuekit) -> None:
    """No control character of a name, reason or pattern reaches a terminal, nor one of a record that others wrote."""
    commands.write(shop, {"tasks.py": TASKS})
    name = f"web-1{FORGED}"
    present(app, name, host=FORGED, gate=FORGED, queues=["default"], silent=99.0)
    who, held = ("--as", FORGED), ("--task", f"t{FORGED}*", "--where", f"k={FORGED}")
    sent = app.tasks["pay"].send(1)
    calls = (
        ("pause", *held, "--why", FORGED, *who),
        ("pauses",),
        ("queues",),
        ("check", "--app", "tasks:app"),
        ("workers",),
        ("resume", *held, *who),
        ("limits", "set", "api", "10/s", *who),
        ("limits", "free", "api", FORGED, *who),
        ("limits", "ls"),
        ("drain", name, *who),
        ("cancel", sent.id, *who),
        ("show", sent.id),
        ("kill", FORGED, *who),
        ("stack", FORGED),
        ("why", FORGED),
        ("dlq", "retry", FORGED, *who),
        ("dlq", "ls", f"task:{FORGED}"),
        ("actions",),
    )

    for call in calls:
        done = commands.queuekit(*call, folder=shop)
        printed = done.stdout + done.stderr
        assert not set(printed) & set("\r\x1b\u202e\x9b"), call
        assert not any(line.lstrip().startswith("2026-01-01 ERROR") for line in printed.splitlines()), (call, printed)
