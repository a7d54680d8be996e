"""``queuekit run`` and ``queuekit replay`` call a task in their own process."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import pytest

from queuekit.context import Context
from queuekit.resources import Use
from support import commands
from support.commands import queuekit
from support.working import make_app

pytest.importorskip("queuekit_dev", reason="pip install -e plugins/queuekit-dev watchfiles")

from queuekit_dev.here import BodyError, call_here

TASKS = """\
import dataclasses

from queuekit import Context, Queuekit

app = Queuekit(broker="sqlite:///queue.db")


@dataclasses.dataclass
class Item:
    price: int


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task
async def price(ctx: Context, item: Item) -> str:
    return f"{ctx.task} {item.price}"


@app.task
def fails(item: Item) -> None:
    add.send(1)
    raise LookupError(f"no item for {item.price}")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with an app in it."""
    commands.write(tmp_path, {"tasks.py": TASKS})
    return tmp_path


@pytest.fixture
def dead(shop: Path) -> str:
    """Return the id of a dead letter."""
    id = queuekit("send", "fails", '{"price": 5}', folder=shop).stdout.strip()
    queuekit("worker", "--burst", folder=shop)
    queuekit("purge", "default", "--yes", folder=shop)
    return id


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        pytest.param(("add", "1", "y=2"), "3\n", id="function"),
        pytest.param(("price", '{"price": 7}'), "tasks.price 7\n", id="coroutine-with-context-and-class"),
        pytest.param(("add", "x", "y=y", "--unchecked"), "xy\n", id="unchecked"),
        pytest.param(("add", "-5", "--json"), '{\n  "task": "tasks.add",\n  "result": -5\n}\n', id="json"),
    ],
)
def test_runs_a_call_without_a_queue(shop: Path, words: tuple[str, ...], printed: str) -> None:
    """The result is printed, and no engine is opened."""
    done = queuekit("run", *words, folder=shop)

    assert (done.stdout, done.returncode) == (printed, 0)
    assert not list(shop.glob("queue.db*"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param(("fails", '{"price": 1}'), "LookupError: no item for 1\nError: tasks.fails raised", id="raises"),
        pytest.param(("add",), "missing a required argument: 'x'.\n  Write e.g.:  queuekit run add X Y", id="too-few"),
        pytest.param(("price", '{"price": "a"}'), "argument 'item'.price: expected int, got str 'a'", id="ill-typed"),
    ],
)
def test_shows_why_a_call_fails(shop: Path, words: tuple[str, ...], text: str) -> None:
    """A traceback begins in the user's code; other errors need none."""
    done = queuekit("run", *words, folder=shop)

    assert done.returncode == 1
    assert text in done.stderr
    assert "/queuekit_dev/" not in done.stderr


def test_replays_a_dead_letter_and_leaves_it(shop: Path, dead: str) -> None:
    """The call runs here; the letter stays, and what the task sent is dropped."""
    done = queuekit("replay", dead, "--save", "case.json", folder=shop)

    assert done.returncode == 1
    assert "LookupError: no item for 5" in done.stderr
    assert "dropped what it sent: 1" in done.stderr
    saved = json.loads((shop / "case.json").read_text(encoding="utf-8"))
    assert saved == {"task": "tasks.fails", "args": [{"price": 5}], "kwargs": {}}
    counts = json.loads(queuekit("queues", "--json", folder=shop).stdout)
    assert [(one["waiting"], one["dead"]) for one in counts] == [(0, 1)]


def test_enters_the_debugger_where_the_task_raised(shop: Path, dead: str) -> None:
    """With ``--pdb`` the frame is the user's."""
    done = queuekit("replay", dead, "--pdb", folder=shop, stdin="p item.price + 100\nq\n")

    assert "(Pdb) 105" in done.stdout


def test_replays_dead_letters_alone(shop: Path) -> None:
    """A message that waits is not run."""
    id = queuekit("send", "add", "1", folder=shop).stdout.strip()

    done = queuekit("replay", id, folder=shop)

    assert done.returncode == 1
    assert f"'{id}' is not a dead letter" in done.stderr


def test_a_call_that_nobody_signed_does_not_run(shop: Path, dead: str) -> None:
    """Whoever can write to a queue must not run code in the terminal of an operator either."""
    replayed = queuekit("replay", dead, folder=shop, QUEUEKIT_SIGNING_KEYS="k" * 40)

    assert replayed.returncode == 1
    assert "no item for" not in replayed.stderr
    assert "it is not signed" in replayed.stderr
    assert f"queuekit dlq retry --sign {dead}" in replayed.stderr


@pytest.mark.parametrize("number", [5, 0], ids=["returns", "raises"])
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_gives_a_call_its_resources(*, is_async: bool, number: int) -> None:
    """They see how it ended."""
    app, journal = make_app(), list[str]()

    @app.resource
    @contextmanager
    def session() -> Iterator[list[str]]:
        try:
            yield journal
        except ZeroDivisionError:
            journal.append("session failed")
            raise
        journal.append("session done")

    @app.resource
    @asynccontextmanager
    async def asession() -> AsyncIterator[list[str]]:
        yield journal
        journal.append("asession done")

    def share(number: int, notes: Annotated[list[str], Use(session)]) -> float:
        notes.append("runs")
        return 10 / number

    async def ashare(
        number: int, notes: Annotated[list[str], Use(session)], more: Annotated[list[str], Use(asession)]
    ) -> float:
        return share(number, notes)

    task = app.task(ashare if is_async else share)
    context = Context(id="", task=task.name, queue="")
    if number:
        assert call_here(task, [number], {}, context=context) == 2
    else:
        with pytest.raises(BodyError):
            call_here(task, [number], {}, context=context)
    app.close()

    closed = ["asession done"] if is_async and number else []
    assert journal == ["runs", *closed, "session done" if number else "session failed"]
