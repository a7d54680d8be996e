"""The commands do what they say: a worker in one process, everything else in others."""

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.envelope import Envelope
from queuekit.worker.supervisor import ONE_SIGNAL
from support import commands
from support.commands import queuekit
from support.waiting import wait_until

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}\n")
TASKS = """\
import threading
from pathlib import Path

from queuekit import Queuekit

app = Queuekit()


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(unique=True)
def once() -> None: ...


@app.task
def needs_file(name: str) -> str:
    return Path(name).read_text()


@app.task
def hang() -> None:
    Path("hanging").touch()
    threading.Event().wait()
"""
SHOP = {"tasks.py": TASKS, "queuekit.toml": 'app = "tasks:app"\nbroker = "sqlite:///queue.db"\n'}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with an app in it."""
    commands.write(tmp_path, SHOP)
    return tmp_path


@contextmanager
def worker(folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a worker in *folder*; it is killed if it has not ended before."""
    process = commands.start("worker", *args, folder=folder)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Read what *process* logs until a line has *text*."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if text in line:
            return
        said.append(line)
    pytest.fail(f"the worker ended with {process.wait()} without saying {text!r}:\n{''.join(said)}")


def document(*args: str, folder: Path) -> Any:
    """Return the JSON document that a command prints."""
    done = queuekit(*args, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def burst(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a worker until the queues are empty."""
    return queuekit("worker", "--burst", folder=folder)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a terminal: our end and theirs."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def send(*args: str, folder: Path) -> str:
    """Send a task and return the id."""
    done = queuekit("send", *args, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- the first minutes


def test_quickstart(tmp_path: Path) -> None:
    """``init``, ``worker`` and ``send add 1 2 --wait`` print 3; a task that fails is found, and run again."""
    queuekit("init", folder=tmp_path)
    with worker(tmp_path):
        added = queuekit("send", "add", "1", "2", "--wait", folder=tmp_path)
        failed = queuekit("send", "fail", "text=oh no", "--wait", folder=tmp_path)
        (queued,) = document("dlq", "ls", folder=tmp_path)
        retried = queuekit("dlq", "retry", queued["id"], folder=tmp_path)
        again = queuekit("show", queued["id"], "--json", folder=tmp_path)

    assert (added.stdout, added.stderr, added.returncode) == ("3\n", "", 0)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"Error QK207: tasks.fail {queued['id']} failed: ValueError: oh no.\n")
    assert (queued["task"], queued["reason"], queued["error"]) == ("tasks.fail", "failed", "ValueError: oh no")
    assert retried.stdout == f"{queued['id']}\n"
    assert json.loads(again.stdout)["generation"] == 1


def test_init_says_what_comes_next(tmp_path: Path) -> None:
    """``init`` names its files and the next two commands, on standard error, and can make the folder."""
    done = queuekit("init", "shop", folder=tmp_path)

    assert {path.name for path in (tmp_path / "shop").iterdir()} == {"tasks.py", "queuekit.toml"}
    assert "next     cd shop && queuekit worker" in done.stderr
    assert done.stdout == ""


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """Where one of the files is there, neither is written."""
    commands.write(tmp_path, {"tasks.py": "mine = True\n"})

    done = queuekit("init", folder=tmp_path)

    assert done.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.py"]
    assert (tmp_path / "tasks.py").read_text(encoding="utf-8") == "mine = True\n"


def test_init_needs_a_folder(tmp_path: Path) -> None:
    """Where a part of the path is a file, the answer says so."""
    commands.write(tmp_path, {"file": ""})

    done = queuekit("init", "file/shop", folder=tmp_path)

    assert done.stderr == "Error QK100: cannot write to file/shop: Not a directory.\n"
    assert done.returncode == 1


# -- worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_worker_ends_well_at_the_first_signal(number: signal.Signals, shop: Path) -> None:
    """A worker that is asked to stop ends with 0."""
    with worker(shop) as process:
        wait_for_line(process, " ready")
        process.send_signal(number)
        code = process.wait(commands.LONGEST)

    assert code == 0


def test_worker_ends_with_130_at_the_second_signal(shop: Path) -> None:
    """A second signal does not wait for running tasks, and shows in the exit code."""
    send("hang", folder=shop)
    with worker(shop, "--log-level", "DEBUG") as process:
        wait_for_line(process, "start tasks.hang")
        process.send_signal(signal.SIGINT)
        wait_for_line(process, "is stopping")
        first = time.monotonic()
        wait_until(lambda: time.monotonic() - first > ONE_SIGNAL, what="the second in which signals count as one")
        process.send_signal(signal.SIGINT)
        code = process.wait(commands.LONGEST)

    assert code == 130


def test_worker_says_how_to_name_an_app_that_it_found(tmp_path: Path) -> None:
    """An app found by the usual names is used, and the user is told the line that names it."""
    commands.write(tmp_path, {"tasks.py": TASKS, "app.py": "x = 1\n"})

    done = burst(tmp_path)

    assert 'app = "tasks"' in done.stderr
    assert done.returncode == 0


def test_worker_options_are_settings(shop: Path) -> None:
    """Options of the worker win over file and environment, and show in its banner."""
    done = queuekit(
        *("worker", "tasks:app", "--burst", "-q", "high:8,low:2", "-c", "3", "--drain", "2s", "--lease", "10s"),
        *("--log-format", "json", "--log-level", "debug", "--backend", "none"),
        folder=shop,
        QUEUEKIT_WORKER__CONCURRENCY="9",
    )

    first = json.loads(done.stderr.splitlines()[0])
    assert first["event"] == "WorkerStarted"
    assert "high x8, low x2" in first["message"]
    assert "x 3 threads" in first["message"]
    assert "results none" in first["message"]
    assert done.returncode == 0


def test_worker_is_quiet_when_asked(shop: Path) -> None:
    """With ``-q`` a worker logs warnings and errors only."""
    done = queuekit("-q", "worker", "--burst", folder=shop)

    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


# -- send


def test_send_prints_the_id_alone(shop: Path) -> None:
    """Standard output of a send is the id; a sent id is known at once."""
    id = send("add", "1", "2", folder=shop)

    shown = document("show", id, folder=shop)

    assert ID.fullmatch(f"{id}\n")
    assert (shown["state"], shown["place"], shown["args"], shown["task"]) == ("PENDING", "ready", [1, 2], "tasks.add")


def test_send_takes_options(shop: Path) -> None:
    """Queue, priority, delay and id of one send are those that the user gives."""
    id = send(
        "tasks.add", "-1", "y=-2", *("--queue", "low", "--priority", "9", "--delay", "1h", "--id", "me"), folder=shop
    )

    shown = document("show", "me", folder=shop)

    assert id == "me"
    assert (shown["queue"], shown["place"], shown["args"], shown["kwargs"]) == ("low", "delayed", [-1], {"y": -2})


def test_send_of_a_known_id_adds_nothing(shop: Path) -> None:
    """Sending an id again, as after a lost answer, leaves one message."""
    send("add", "1", "2", "--id", "one", folder=shop)
    send("add", "1", "2", "--id", "one", folder=shop)

    (queue,) = document("queues", folder=shop)

    assert queue["waiting"] == 1


def test_send_waits_with_json(shop: Path) -> None:
    """With ``--json`` a send prints one document, with the result when it waited."""
    with worker(shop):
        waited = document("send", "add", "1", "2", "--wait", folder=shop)
    sent = document("send", "add", "1", "2", folder=shop)

    assert (waited["task"], waited["state"], waited["result"]) == ("tasks.add", "SUCCESS", 3)
    assert set(sent) == {"id", "task", "duplicate"}


def test_send_that_waits_can_be_interrupted(shop: Path) -> None:
    """Ctrl-C ends the waiting with 130; the message stays where it is."""
    said = ""
    with terminal() as (ours, theirs):
        process = subprocess.Popen(
            [*commands.MAIN, "send", "add", "1", "2", "--id", "one", "--wait"],
            cwd=shop,
            env=commands.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        while "next  queuekit worker" not in said:  # which comes when it has begun to wait
            said += os.read(ours, 10_000).decode()
        process.send_signal(signal.SIGINT)
        code = process.wait(commands.LONGEST)
        said += os.read(ours, 10_000).decode()

    assert code == 130
    assert "See:  queuekit show one" in said
    assert "Traceback" not in said
    assert document("show", "one", folder=shop)["state"] == "PENDING"


def test_send_tells_a_person_that_nobody_works(shop: Path) -> None:
    """Who waits at a terminal while no worker runs is told how to start one."""
    with terminal() as (ours, theirs):
        done = subprocess.run(
            [*commands.MAIN, "send", "add", "1", "2", "--wait", "--timeout", "2.1"],
            cwd=shop,
            env=commands.environment(),
            stdin=subprocess.DEVNULL,
            stderr=theirs,
            check=False,
        )
        said = os.read(ours, 10_000).decode()

    assert said.startswith("no worker serves 'default'\r\nnext  queuekit worker -q default\r\n")
    assert "has no result after 2.1 s" in said
    assert done.returncode == 1


def test_send_of_what_is_there_already_says_so(shop: Path) -> None:
    """A send that finds its unique key taken prints the id of the message that holds it."""
    first = send("once", folder=shop)

    second = queuekit("send", "once", folder=shop)

    assert second.stdout == f"{first}\n"
    assert second.stderr == f"not sent: {first} holds its unique key\n"


# -- looking


def test_queues_points_at_dead_letters(shop: Path) -> None:
    """Where there are dead letters, the next useful command is the one that lists them."""
    send("needs_file", "x", folder=shop)
    burst(shop)

    assert queuekit("queues", folder=shop).stderr == "next  queuekit dlq ls\n"
    assert queuekit("-q", "queues", folder=shop).stderr == ""


def test_a_dry_run_names_only_what_would_be_signed(shop: Path) -> None:
    """A letter that died for another reason stays, so it is not printed."""
    key = {"QUEUEKIT_SIGNING_KEYS": "k" * 40}
    dead = send("needs_file", "x", folder=shop)
    burst(shop)
    unsigned = send("add", "1", "2", folder=shop)
    queuekit("worker", "--burst", folder=shop, **key)

    would = queuekit("dlq", "retry", "--sign", "--all", "--dry-run", folder=shop, **key)
    done = queuekit("dlq", "retry", "--sign", "--all", folder=shop, **key)

    assert would.stdout.split() == done.stdout.split() == [unsigned]
    assert dead in queuekit("dlq", "ls", folder=shop).stdout


def test_show_of_what_cannot_be_read(shop: Path) -> None:
    """A message whose bytes are not ours is told of by place and times alone."""
    app = Queuekit(broker=f"sqlite:///{shop}/queue.db")
    app.runtime.broker.send([Envelope(id="odd", queue="default", body=b"\xff", delay=3600)])
    app.close()

    done = queuekit("show", "odd", folder=shop)

    assert re.search(r"^task +unknown: the bytes cannot be read$", done.stdout, re.MULTILINE)
    assert re.search(r"^place +delayed, due in 59m", done.stdout, re.MULTILINE)
    assert document("show", "odd", folder=shop)["state"] == "UNKNOWN"


def test_queues_shows_what_is_where(shop: Path) -> None:
    """The table counts messages by place, and names the next useful command."""
    send("add", "1", "2", folder=shop)
    send("add", "1", "2", "--delay", "1h", folder=shop)

    waiting = queuekit("queues", folder=shop)

    header, row = waiting.stdout.splitlines()
    assert header.split() == ["QUEUE", "WAITING", "RUNNING", "DELAYED", "DEAD", "OLDEST", "WORKERS"]
    assert row.split()[:5] == ["default", "1", "0", "1", "0"]
    assert waiting.stderr == "no worker serves default; start one:\nnext  queuekit worker -q default\n"


LONG = """
import attrs
from queuekit.broker import Place, QueueCounts
from queuekit.engines.sqlite.broker import SqliteBroker

LONG = QueueCounts(ready=1_000_000, at_least=frozenset({Place.READY, Place.DEAD}))
SqliteBroker.counts = lambda self, names: dict.fromkeys(names, LONG)
"""
"""Added to an app, so that its queues take too long to count."""


def test_queues_says_what_could_not_be_counted(shop: Path) -> None:
    """A lower bound is shown as one, in the table and to programs, and a line explains the signs."""
    with (shop / "tasks.py").open("a") as file:
        file.write(LONG)

    told = queuekit("queues", folder=shop)

    assert told.stdout.splitlines()[1].split()[:5] == ["default", ">=1000000", "0", "0", "?"]
    assert told.stderr.startswith("counting all would take too long: >= is a lower bound, ? is not counted\n")
    (queue,) = document("queues", folder=shop)
    assert (queue["waiting"], queue["dead"], queue["at_least"]) == (1_000_000, 0, ["waiting", "dead"])


def test_a_lower_bound_is_named_as_one_wherever_messages_are_counted(shop: Path) -> None:
    """By a check, by a move that is only tried, and by a list of dead letters that is cut."""
    with (shop / "tasks.py").open("a") as file:
        file.write(LONG)
        file.write("SqliteBroker.capabilities = attrs.evolve(SqliteBroker.capabilities, inspect=False)\n")
    send("needs_file", "x", folder=shop)
    burst(shop)

    checked = queuekit("check", folder=shop)
    moved = queuekit("move", "default", "other", "--dry-run", folder=shop)
    listed = queuekit("dlq", "ls", "--limit", "1", folder=shop)

    assert "at least 1000000 wait there" in checked.stdout
    assert moved.stderr == ">=1000000 would be moved to other\n"
    assert "... and perhaps more\n" in listed.stderr


def test_dead_letters_that_must_be_searched_are_changed_as_they_are_found(shop: Path) -> None:
    """An id that is not found is reported last; how many match is not known before."""
    with (shop / "tasks.py").open("a") as file:
        file.write("import attrs\nfrom queuekit.engines.sqlite.broker import SqliteBroker\n")
        file.write("SqliteBroker.limits = attrs.evolve(SqliteBroker.limits, dead_searched=9, dead_in_order=1)\n")
    for number in range(3):
        send("needs_file", "x", "--id", f"id-{number}", folder=shop)
    burst(shop)

    listed = queuekit("dlq", "ls", "--limit", "2", folder=shop)
    some = queuekit("dlq", "retry", "id-1", "nobody", folder=shop)
    tried = queuekit("dlq", "drop", "error:nofile", "error:file", "--dry-run", folder=shop)
    rest = queuekit("dlq", "drop", "task:*needs_file", "--yes", folder=shop)

    assert "only the first 1 dead letters that were found in a queue are in order" in listed.stderr
    assert some.stdout == "id-1\n"
    assert "no dead letter has the id 'nobody'" in some.stderr
    assert tried.stderr == "0 would be deleted\n"
    assert sorted(rest.stdout.split()) == ["id-0", "id-2"]


def test_queues_names_a_few_of_many_without_workers(shop: Path) -> None:
    """Those in which most messages wait come first."""
    for name in ("q00", *(f"q{number:02}" for number in range(12)), "q11"):
        send("add", "1", "2", "--queue", name, folder=shop)

    said = queuekit("queues", folder=shop).stderr.splitlines()

    named = "q00,q11,q01,q02,q03,q04,q05,q06,q07,q08"
    assert said == [
        f"no worker serves {named.replace(',', ', ')}, and 2 more; start one:",
        f"next  queuekit worker -q {named}",
    ]


def test_show_tells_a_story(shop: Path) -> None:
    """What is known of a message is told in text: call, state, place, times, error and traceback."""
    id = send("needs_file", "missing.txt", folder=shop)
    burst(shop)

    done = queuekit("show", id, folder=shop)

    assert 'tasks.needs_file("missing.txt")' in done.stdout
    assert re.search(r"^place +dead, failed, .* ago \(", done.stdout, re.MULTILINE)
    assert re.search(r"^finished .* ago \(.*\), ran \d", done.stdout, re.MULTILINE)
    assert 'File "' in done.stdout
    assert done.stderr == f"next  queuekit dlq retry {id}\n"


def test_show_prints_the_result(shop: Path) -> None:
    """A message that succeeded shows what its task returned."""
    id = send("add", "1", "2", folder=shop)
    burst(shop)

    assert re.search(r"^result +3$", queuekit("show", id, folder=shop).stdout, re.MULTILINE)
    assert document("show", id, folder=shop)["result"] == 3


def test_config_shows_values_and_origins(shop: Path) -> None:
    """Every setting is listed with where it comes from, passwords hidden, in text and as JSON."""
    text = queuekit("config", "show", "--origin", folder=shop, QUEUEKIT_BACKEND="sqlite://:hush@x/y")
    values = document("config", "show", "--set", "worker.drain=90", folder=shop)

    assert re.search(r"^broker +sqlite:///queue.db +queuekit.toml$", text.stdout, re.MULTILINE)
    assert "hush" not in text.stdout
    assert values["worker.drain"] == {"value": "1m30s", "origin": "command line"}


def test_config_of_another_folder_is_not_mixed_with_the_app_here(tmp_path: Path) -> None:
    """``--config`` with a file that names no app does not look for one in this folder."""
    commands.write(tmp_path, {"tasks.py": "raise RuntimeError\n", "there/q.toml": 'broker = "sqlite:///q.db"\n'})

    done = queuekit("--config", "there/q.toml", "purge", "default", "--yes", folder=tmp_path)

    assert done.returncode == 0
    assert (tmp_path / "there" / "q.db").exists()


def test_a_relative_file_is_beside_the_config_that_names_it(tmp_path: Path) -> None:
    """``sqlite:///jobs.db`` in a config file is one file, from whatever folder the command is given."""
    commands.write(tmp_path, {"queuekit.toml": 'broker = "sqlite:///jobs.db"\n', "other/tasks.py": TASKS})

    queuekit("--config", "../queuekit.toml", "send", "add", "1", "2", folder=tmp_path / "other")
    here = json.loads(queuekit("queues", "--json", folder=tmp_path).stdout)

    assert here[0]["waiting"] == 1
    assert not (tmp_path / "other" / "jobs.db").exists()


@pytest.mark.parametrize("command", ["queues", "check", "dlq ls", "schedules ls", "show nobody", "config show"])
def test_looking_creates_no_file(tmp_path: Path, command: str) -> None:
    """A command that only reads leaves a folder without a database as it was."""
    commands.write(tmp_path, {"queuekit.toml": 'broker = "sqlite:///jobs.db"\n'})

    done = queuekit(*command.split(), folder=tmp_path)

    assert done.returncode in {0, 1}
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lst"] == ["queuekit.toml"]


LOOKS = ["queues", "schedules", "dlq ls", "show nobody"]


@pytest.mark.parametrize("command", LOOKS)
def test_a_look_at_what_nobody_has_named_says_where(tmp_path: Path, command: str) -> None:
    """Without an app and a config the default file is looked at, and standard error says so."""
    done = queuekit(*command.split(), folder=tmp_path)

    said = f"No app and no config file here; using the default:  sqlite:///{tmp_path.resolve()}/.queuekit.db"
    assert done.stderr.splitlines()[0] == said


def test_a_config_without_a_broker_is_told_apart(tmp_path: Path) -> None:
    """Whoever has a config is told that it names no broker, and not that there is none."""
    commands.write(tmp_path, {"queuekit.toml": "send_timeout = 1\n"})

    done = queuekit("queues", folder=tmp_path)

    assert done.stderr.startswith("No app here, and the config names no broker; using the default:  sqlite:")


@pytest.mark.parametrize("args", [("queues", "--json"), ("queues", "--broker", "sqlite:///jobs.db"), ("-q", "queues")])
def test_nothing_is_said_to_programs_or_of_what_was_named(tmp_path: Path, args: tuple[str, ...]) -> None:
    """With --json, with --quiet and with a broker there is no such line."""
    assert queuekit(*args, folder=tmp_path).stderr == ""


# -- check


def test_check_of_a_sound_app_is_ok(shop: Path) -> None:
    """Each thing that was looked at has an ``ok`` line."""
    done = queuekit("check", folder=shop)

    assert [line.split()[:2] for line in done.stdout.splitlines() if line[0] != " "] == [
        ["ok", subject] for subject in ("config", "app", "plugin", "broker", "backend")
    ]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("args", "subject", "text"),
    [
        pytest.param(("--set", "brokr=x"), "config", "did you mean 'broker'?", id="config"),
        pytest.param(("--app", "nope"), "app", "no module named 'nope'", id="app"),
        pytest.param(("--broker", "sqlit:///x"), "engines", "no plugin handles 'sqlit://'", id="plugin"),
        pytest.param(("--broker", "memory://"), "engines", "inside one process", id="memory"),
        pytest.param(("--broker", "sqlite:////nowhere/q.db"), "engines", "does not exist", id="down"),
    ],
)
def test_check_finds_trouble(args: tuple[str, ...], subject: str, text: str, shop: Path) -> None:
    """What is wrong has a ``FAIL`` line with the reason, and the exit code is 1."""
    done = queuekit("check", *args, folder=shop)
    listed = json.loads(queuekit("check", *args, "--json", folder=shop).stdout)

    (failed,) = (finding for finding in listed if not finding["ok"])
    assert f"FAIL  {subject}" in done.stdout
    assert failed["subject"] == subject
    assert text in failed["text"]
    assert done.returncode == 1


# -- acting


def test_cancel_of_a_waiting_message(shop: Path) -> None:
    """A cancelled message never runs; cancelling it again says that it has ended."""
    id = send("add", "1", "2", folder=shop)

    first = queuekit("cancel", id, folder=shop)
    second = queuekit("cancel", id, folder=shop)

    assert (first.returncode, second.returncode) == (0, 1)
    assert "has already ended" in second.stderr
    assert document("show", id, folder=shop)["state"] == "CANCELLED"


def test_dead_letter_is_mended_and_run_again(shop: Path) -> None:
    """Once its cause is mended, a replayed dead letter succeeds."""
    id = send("needs_file", "data.txt", folder=shop)
    burst(shop)
    (shop / "data.txt").write_text("here", encoding="utf-8")

    shown = document("dlq", "show", id, folder=shop)
    text = queuekit("dlq", "show", id, folder=shop)
    listed = queuekit("dlq", "ls", folder=shop)
    retried = queuekit("dlq", "retry", "--all", folder=shop)
    burst(shop)

    assert "FileNotFoundError" in shown["error"]
    assert "data.txt" in shown["body"]
    assert "FileNotFoundError" in text.stdout
    assert f"queuekit dlq drop {id}" in text.stderr
    assert f"queuekit dlq retry {id}" in listed.stderr
    assert retried.stdout == f"{id}\n"
    assert document("show", id, folder=shop)["result"] == "here"
    assert document("dlq", "ls", folder=shop) == []


def test_dead_letters_are_listed_up_to_a_limit(shop: Path) -> None:
    """A long list is cut, and says how to see the rest."""
    for number in range(3):
        send("needs_file", str(number), "--id", f"id-{number}", folder=shop)
    burst(shop)

    done = queuekit("dlq", "ls", "--limit", "2", folder=shop)

    assert len(done.stdout.splitlines()) == 3
    assert "... and 1 more" in done.stderr


def test_dropped_dead_letter_is_gone(shop: Path) -> None:
    """What is dropped cannot be replayed; dropping all asks first, and without a terminal wants ``--yes``."""
    for number in range(3):
        send("needs_file", "x", "--id", f"id-{number}", folder=shop)
    burst(shop)

    one = queuekit("dlq", "drop", "id-1", folder=shop)
    unasked = queuekit("dlq", "drop", "--all", folder=shop)
    rest = queuekit("dlq", "drop", "--all", "--yes", folder=shop)

    assert one.stdout == "id-1\n"
    assert unasked.returncode == 2
    assert sorted(rest.stdout.split()) == ["id-0", "id-2"]
    assert queuekit("dlq", "ls", folder=shop).stderr == "No dead letters.\n"


def test_move_puts_waiting_messages_on_another_queue(shop: Path) -> None:
    """It prints their ids, and who did it is recorded; without --dry-run alone."""
    for number in range(3):
        send("add", "1", "2", "--id", f"id-{number}", folder=shop)

    dry = queuekit("move", "default", "other", "--limit", "2", "--dry-run", folder=shop)
    done = queuekit("move", "default", "other", "--limit", "2", "--rate", "100/s", "--as", "ann", folder=shop)
    again = queuekit("move", "default", "default", folder=shop)
    unnamed = queuekit("move", "default", folder=shop)

    assert (dry.stdout, dry.stderr) == ("id-0\nid-1\n", "2 would be moved to other\n")
    assert done.stdout == "id-0\nid-1\n"
    assert "2 moved to other\nno worker serves other" in done.stderr
    assert "already" in again.stderr
    assert "Name the queue to move to" in unnamed.stderr
    assert {one["queue"]: one["waiting"] for one in document("queues", folder=shop)} == {"default": 1, "other": 2}
    (action,) = document("actions", folder=shop)
    assert (action["action"], action["by"], action["on"], action["ids"]) == (
        "move",
        "ann",
        "default to other",
        ["id-0", "id-1"],
    )


def test_purge_deletes_one_place(shop: Path) -> None:
    """A purge deletes what waits, or what is in the place that is named, and prints how much that was."""
    send("add", "1", "2", folder=shop)
    send("add", "1", "2", "--delay", "1h", folder=shop)

    waiting = queuekit("purge", "default", "--yes", folder=shop)
    delayed = queuekit("purge", "default", "--place", "delayed", "--yes", folder=shop)

    assert (waiting.stdout, delayed.stdout) == ("1\n", "1\n")
    assert document("queues", folder=shop)[0]["delayed"] == 0


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 1, 1)], ids=["yes", "no"])
def test_purge_asks_at_a_terminal(answer: str, code: int, left: int, shop: Path) -> None:
    """At a terminal the user is asked, and may say no."""
    send("add", "1", "2", folder=shop)
    with terminal() as (ours, theirs):
        os.write(ours, answer.encode())
        done = subprocess.run(
            [*commands.MAIN, "purge", "default"],
            cwd=shop,
            env=commands.environment(),
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
        )

    assert "Delete all ready messages of default?" in done.stderr
    assert done.returncode == code
    assert document("queues", folder=shop)[0]["waiting"] == left


def test_reader_that_goes_away_is_no_error(shop: Path) -> None:
    """Output into a pipe that nobody reads any more, as of ``| head -1``, ends without a complaint."""
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [*commands.MAIN, "config", "show"],
        cwd=shop,
        env=commands.environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert done.stderr == ""
