"""Stacks of threads and coroutines of this process, and what becomes of those of another."""

import asyncio
import json
import os
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from queuekit.worker.stacks import StackFile, frames_of_task, frames_of_thread, stack_memory
from support.waiting import PATIENCE

WRITTEN = b"""Thread 0x00000000000000aa (most recent call first):
  File "/srv/other.py", line 9 in other

Current thread 0x00000000000000bb [run] (most recent call first):
  File "/srv/shop/http.py", line 12 in download
  File "/srv/shop/reports.py", line ??? in render
  ...
"""


@pytest.fixture
def stacks() -> Iterator[StackFile]:
    """Return a file for stacks."""
    made = StackFile(stack_memory())
    yield made
    made.close()


class Wait:
    """An awaitable of a class of its own."""

    def __init__(self, future: "asyncio.Future[None]") -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, None]:
        yield from self._future.__await__()


def test_shows_the_frames_of_a_suspended_coroutine() -> None:
    """Through coroutines, generators and awaitables of other kinds, outermost first."""

    async def inner(future: "asyncio.Future[None]") -> None:
        await Wait(future)

    async def outer(future: "asyncio.Future[None]") -> None:
        await inner(future)

    async def look() -> list[str]:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(outer(future))
        await asyncio.sleep(0)
        frames = frames_of_task(task, 0)
        future.set_result(None)
        await task
        return [frame.function.rpartition(".")[2] for frame in frames]

    assert asyncio.run(look()) == ["outer", "inner", "__await__"]


def test_shows_the_thread_of_a_coroutine_that_computes() -> None:
    """It is not suspended: what it calls is on the stack of the loop's thread."""

    async def look() -> list[str]:
        task = asyncio.current_task()
        assert task is not None
        return [frame.function.rpartition(".")[2] for frame in frames_of_task(task, threading.get_ident())]

    assert "look" in asyncio.run(look())


def test_is_empty_where_a_thread_has_ended() -> None:
    """Its body has, too."""
    assert frames_of_thread(1) == ()


def test_reads_what_a_signal_handler_wrote(stacks: StackFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of one thread, outermost first; a line that is not known is 0."""
    monkeypatch.setattr("queuekit.worker.stacks._handles", lambda *_: True)
    monkeypatch.setattr(os, "kill", lambda *_: os.pwrite(stacks.fileno, WRITTEN, 0))

    frames = stacks.signal(4711, 0xBB)

    assert [(frame.file, frame.line, frame.function) for frame in frames] == [
        ("/srv/shop/reports.py", 0, "render"),
        ("/srv/shop/http.py", 12, "download"),
    ]


def test_sends_no_signal_that_would_end_a_process(stacks: StackFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not handle it is left alone."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: sent.append(pid))

    assert (stacks.signal(os.getpid(), 1), sent) == ((), [])


@pytest.mark.parametrize(
    "answer",
    [b"", b"no end", b"no json\0", b'{"a": 1}\0', b"[[1, 2]]\0"],
    ids=["none", "in-part", "no-json", "no-list", "no-rows"],
)
def test_reads_no_stack_from_a_damaged_answer(stacks: StackFile, answer: bytes) -> None:
    """Whoever asks has another way."""
    assert stacks.ask(lambda: os.pwrite(stacks.fileno, answer, 0)) == ()


def test_is_silent_once_it_is_closed() -> None:
    """A process may end while somebody asks."""
    stacks = StackFile(stack_memory())
    stacks.close()
    stacks.close()

    assert stacks.ask(lambda: None) == ()


def test_forgets_the_answer_before(stacks: StackFile) -> None:
    """A longer one may have stood in the file."""
    long, short = ([[f"/srv/{name}.py", 1, name] for name in names] for names in ("abcdef", "x"))

    def write(rows: object) -> None:
        os.pwrite(stacks.fileno, json.dumps(rows).encode() + b"\0", 0)

    assert len(stacks.ask(lambda: write(long))) == 6
    assert [frame.function for frame in stacks.ask(lambda: write(short))] == ["x"]


def test_lets_several_ask_at_once(stacks: StackFile) -> None:
    """Each gets a whole answer."""
    rows = [["/srv/a.py", 1, "a"]] * 50
    found: list[int] = []

    def ask() -> None:
        found.append(len(stacks.ask(lambda: os.pwrite(stacks.fileno, json.dumps(rows).encode() + b"\0", 0))))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert found == [50] * 4
