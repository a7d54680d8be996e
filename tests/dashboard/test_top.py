"""``queuekit top``: what a frame shows, what it asks for, and that a terminal is left as it was."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from queuekit.broker import Place, QueueCounts
from queuekit.errors import UnavailableError
from queuekit.operations.admin import Admin, QueueView
from queuekit.wire.presence import Presence, RunningTask
from support.commands import queuekit, write
from support.waiting import PATIENCE, wait_until
from support.working import make_app

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")

from queuekit_dashboard import top
from queuekit_dashboard.top import TopFrame, drawn, look

APP = (
    "from queuekit import Queuekit\n\napp = Queuekit(broker='sqlite:///jobs.db')\n\n\n@app.task\ndef add():\n    pass\n"
)


def queue(name: str = "mail", *, ready: int = 0, oldest: float | None = None, dead: int = 0) -> QueueView:
    """Return a queue that one worker serves."""
    return QueueView(name=name, counts=QueueCounts(ready=ready, dead=dead, oldest_age=oldest), workers=1)


def run(id: str, task: str, queue: str, seconds: float) -> RunningTask:
    """Return what a worker runs."""
    return RunningTask(id=id, task=task, queue=queue, seconds=seconds)


def frame(*queues: QueueView, at: float = 0.0, workers: tuple[Presence, ...] | None = ()) -> TopFrame:
    """Return what a look has found."""
    return TopFrame(at=at, queues=queues, workers=workers)


def test_shows_queues_with_the_most_messages_first() -> None:
    """The first line sums them up."""
    text = drawn(frame(queue("calm"), queue("busy", ready=1_200, oldest=75.0, dead=3)), None)

    head, _, _, busy, calm = text.split("\n")
    assert head == "1,200 waiting | 0 running | 0 delayed | 3 dead | 0 workers"
    assert busy.split() == ["busy", "1200", "0", "0", "3", "-", "1m15s", "1"]
    assert calm.split()[0] == "calm"


def test_a_lower_bound_is_shown_as_one() -> None:
    """A queue that was not counted to its end has no change, and the sum is a lower bound, too."""
    counts = QueueCounts(ready=1_000, dead=2, at_least=frozenset({Place.READY, Place.LEASED}))
    now = frame(QueueView(name="long", counts=counts, workers=1), queue("mail", ready=1), at=104.0)

    head, _, _, long, _ = drawn(now, frame(queue("long", ready=10), at=100.0)).split("\n")

    assert head == ">=1,001 waiting | ? running | 0 delayed | 2 dead | 0 workers"
    assert long.split() == ["long", ">=1000", "?", "0", "2", "-", "-", "1"]


def test_shows_what_changes_between_two_frames() -> None:
    """What a queue gains or loses a second; a queue that is new has no change yet."""
    last = frame(queue("up", ready=10), queue("down", ready=30), at=100.0)
    now = frame(queue("up", ready=20), queue("down", ready=0), queue("new"), at=104.0)

    changes = {line.split()[0]: line.split()[5] for line in drawn(now, last).split("\n")[3:]}

    assert changes == {"up": "+2.5/s", "down": "-7.5/s", "new": "-"}


def test_shows_workers_and_what_they_run() -> None:
    """The longest run first; a worker that is silent counts as none."""
    runs = (run("m1", "send", "mail", 3.0), run("m2", "sum", "mail", 90.0))
    live = Presence(name="a-1", host="a", queues=("mail",), slots=4, rate=2.5, rss=50_000_000, runs=runs)
    silent = Presence(name="b-1", quiet=60.0, draining=True)

    text = drawn(frame(queue(), workers=(live, silent)), None)

    lines = [line.split() for line in text.split("\n")]
    assert text.startswith("0 waiting | 0 running | 0 delayed | 0 dead | 1 workers | 2.5 done/s\n")
    assert ["a-1", "a", "mail", "2/4", "2.5/s", "50", "MB", "0.0s", "ready"] in lines
    assert ["b-1", "-", "0/-", "-", "-", "1m", "silent"] in lines
    assert [line[0] for line in lines[-2:]] == ["m2", "m1"]


def test_without_workers_to_list() -> None:
    """A backend that cannot list them is said."""
    assert "workers: not reported" in drawn(frame(queue(), workers=None), None)


def test_escapes_control_characters() -> None:
    """No name moves the cursor or makes a line of its own."""
    worker = Presence(name="w\x1b[2J", runs=(run("m", "t\r\n", "q\x07", 1.0),))

    text = drawn(frame(queue("a\x1b[31m\nb"), workers=(worker,)), None)

    assert [one for one in text if not one.isprintable() and one != "\n"] == []
    assert "a\\x1b[31m\\nb" in text


def test_names_a_bounded_number_of_queues() -> None:
    """A thousand queues are a screen of them, and how many there are besides."""
    text = drawn(frame(*(queue(f"q{number}") for number in range(1_000))), None)

    assert text.split("\n")[-1].strip() == "... and 950 more"
    assert len(text.split("\n")) == 54


def test_asks_for_counts_however_many_messages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look reads no message: it lists queues, counts them, and lists workers."""
    app = make_app()
    app.task(name="t")(lambda: None)
    app.send_many(app.tasks["t"].s() for _ in range(700))
    for name in ("peek", "find", "receive"):
        monkeypatch.setattr(app.runtime.broker, name, None)

    found = look(Admin(app))

    assert [view.counts.ready for view in found.queues] == [700]


def test_an_engine_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last frame stays below, and the next look is tried."""

    def refuse(_: object) -> None:
        raise UnavailableError("it is\x1b[2J down")

    app = make_app()
    frames = top.frames(Admin(app), 1.0)
    first = next(frames)

    with monkeypatch.context() as patch:
        patch.setattr(app.runtime.broker, "counts", refuse)
        second = next(frames)

    assert second == f"no answer: it is\\x1b[2J down; asks again in 1 s\n\n{first}"
    assert not next(frames).startswith("no answer")


@pytest.mark.parametrize("options", [["--once"], []], ids=["once", "pipe"])
def test_prints_one_frame(tmp_path: Path, options: list[str]) -> None:
    """With ``--once``, and where the output is no terminal; without escape sequences."""
    write(tmp_path, {"tasks.py": APP})
    queuekit("send", "add", "--app", "tasks:app", folder=tmp_path)

    done = queuekit("top", *options, "--app", "tasks:app", folder=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 waiting | 0 running")
    assert "\x1b" not in done.stdout


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Return both ends of a terminal."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_rejects_a_time_that_is_no_number() -> None:
    """``nan`` is within every range, and no time to wait for."""
    done = CliRunner().invoke(top.command, ["--every", "nan"])

    assert done.exit_code == 2
    assert "nan is not a number of seconds" in done.output


@pytest.mark.parametrize(("end", "expected"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_watches_until_it_is_ended(
    tmp_path: Path, terminal: tuple[int, int], end: signal.Signals, expected: int
) -> None:
    """On a terminal it takes the other screen, draws again and again, and gives the screen back however it ends."""
    write(tmp_path, {"tasks.py": APP})
    ours, theirs = terminal
    seen = b""

    def has(text: bytes, times: int) -> bool:
        nonlocal seen
        seen += os.read(ours, 65_536)
        return seen.count(text) >= times

    command = [sys.executable, "-m", "queuekit.cli", "top", "--every", "0.2", "--app", "tasks:app"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        try:
            wait_until(lambda: has(b"0 waiting", 2))
            process.send_signal(end)
            wait_until(lambda: has(b"\x1b[?1049l", 1))
            code = process.wait(PATIENCE)
        finally:
            process.kill()

    assert code == expected
    assert seen.startswith(b"\x1b[?1049h")
