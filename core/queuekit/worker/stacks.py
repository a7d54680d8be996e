"""Read the Python stack of a body: of a thread, of a suspended coroutine, or of another process.

Another process writes its stacks into a file in memory that both share. It does so in a thread of its own or, if the
body holds the interpreter, in a signal handler of ``faulthandler``, which needs no interpreter.
"""

from __future__ import annotations

import faulthandler
import inspect
import json
import linecache
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from queuekit.wire.stacks import Frame

if TYPE_CHECKING:
    import asyncio

__all__ = ["SIGNAL", "StackFile", "answer_signal", "frames_of_task", "frames_of_thread", "stack_memory", "write_stack"]

_REALTIME = getattr(signal, "SIGRTMIN", None)
SIGNAL: int | None = None if _REALTIME is None else int(_REALTIME) + 7
"""The signal at which a process writes its stacks; ``None`` if the system has no signals that programs leave alone."""
_END = b"\0"
"""Ends a stack that the process wrote itself."""
_MOST = 262_144
"""Most bytes of a file to read."""
_TICK = 0.01
"""Seconds between two looks at the file."""
_PATIENCE = 0.5
"""Seconds that a process may take to answer, in its own thread and then in its signal handler."""
_HEAD = re.compile(r"^(?:Current t|T)hread 0x([0-9a-f]+)")
_LINE = re.compile(r'^  File "(.*)", line (\d+|\?\?\?) in (.*)$')
_HERE = str(Path(__file__).parents[1]) + os.sep
_EXECUTOR = str(Path(_HERE, "execution", "executor.py"))
_OUTER = (_HERE, "<frozen runpy>", str(Path(threading.__file__)), str(Path(os.__file__).parent / "asyncio") + os.sep)
"""Where the frames that call a body come from."""


def frames_of_thread(ident: int) -> tuple[Frame, ...]:
    """Return the stack of a thread of this process, from the body on; empty if there is no such thread."""
    frame = sys._current_frames().get(ident)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented
    pairs = [] if frame is None else list(traceback.walk_stack(frame))[::-1]
    return _from_body(_frame(each, line) for each, line in pairs)


def frames_of_task(task: asyncio.Task[None], loop_thread: int) -> tuple[Frame, ...]:
    """Return the stack of a task of an event loop that runs in the thread *loop_thread*, suspended or not."""
    suspended: list[Frame] = []
    inner: Any = task.get_coro()
    while inner is not None:
        if any(getattr(inner, name, False) for name in ("cr_running", "gi_running", "ag_running")):
            return frames_of_thread(loop_thread)
        frame = _first(inner, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            suspended.append(_frame(frame, frame.f_lineno))
        inner = _first(inner, "cr_await", "gi_yieldfrom", "ag_await")
        if inner is not None and not inspect.isawaitable(inner) and not inspect.isgenerator(inner):
            break
    return _from_body(suspended)


def _first(value: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(value, name, None)) is not None), None)


def _frame(frame: FrameType, line: int | None) -> Frame:
    code = frame.f_code
    linecache.lazycache(code.co_filename, frame.f_globals)
    return _with_code(code.co_filename, line or 0, code.co_qualname)


def _with_code(file: str, line: int, function: str) -> Frame:
    linecache.checkcache(file)
    return Frame(file, line, function, linecache.getline(file, line).strip())


def _from_body(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """Return *frames* without those that call the body, and middleware around it; all of them if none is left."""
    found = tuple(frames)
    called = next((place for place, each in enumerate(found) if each.file == _EXECUTOR), 0)
    body = (place for place, each in enumerate(found) if place >= called and not each.file.startswith(_OUTER))
    return found[next(body, 0) :]


# -- another process


def stack_memory() -> int:
    """Return the descriptor of a new unnamed file, in memory if the system supports that."""
    if sys.platform == "linux":
        with suppress(OSError):
            return os.memfd_create("queuekit-stacks")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def answer_signal(fileno: int) -> None:
    """Write the stacks of all threads of this process into *fileno* whenever :data:`SIGNAL` arrives."""
    if SIGNAL is not None:
        faulthandler.register(SIGNAL, file=fileno, all_threads=True)


class StackFile:
    """The file into which one process writes its stacks for another.

    Args:
        fileno: Descriptor of the file, which both share; this object closes it.
    """

    def __init__(self, fileno: int) -> None:
        self._file = fileno
        self._lock = threading.Lock()

    @property
    def fileno(self) -> int:
        """Descriptor of the file."""
        return self._file

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            file, self._file = self._file, -1
            if file >= 0:
                os.close(file)

    def ask(self, send: Callable[[], object]) -> tuple[Frame, ...]:
        """Call *send*, which asks the process for its stack, and return what it wrote; empty without an answer."""
        text = self._written(send, lambda text: text.endswith(_END))
        try:
            rows = json.loads(text.removesuffix(_END)) if text.endswith(_END) else []
            return _from_body(_with_code(file, line, function) for file, line, function in rows)
        except (ValueError, TypeError):
            return ()

    def signal(self, pid: int, thread: int) -> tuple[Frame, ...]:
        """Send :data:`SIGNAL` to process *pid*, and return the stack of its thread *thread*; empty without an answer.

        A process that does not handle the signal does not get it.
        """
        if SIGNAL is None or not _handles(pid, SIGNAL):
            return ()
        number, last = SIGNAL, b""

        def complete(text: bytes) -> bool:
            nonlocal last
            same, last = text == last, text
            return same and bool(text)

        text = self._written(lambda: os.kill(pid, number), complete)
        return _from_body(_of_thread(text.decode(errors="replace"), thread))

    def _written(self, send: Callable[[], object], complete: Callable[[bytes], bool]) -> bytes:
        end, text = time.monotonic() + _PATIENCE, b""
        with self._lock:
            if self._file < 0:
                return b""
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            with suppress(OSError, ValueError):  # it has ended
                send()
                while not complete(text) and time.monotonic() < end:
                    time.sleep(_TICK)
                    text = os.pread(self._file, _MOST, 0)
        return text


def write_stack(fileno: int, frames: Iterable[Frame]) -> None:
    """Write the stack of a body of this process for :meth:`StackFile.ask`."""
    rows = [(each.file, each.line, each.function) for each in frames]
    os.pwrite(fileno, json.dumps(rows).encode() + _END, 0)


def _handles(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal, which would end it otherwise."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return False
    return bool(caught >> (number - 1) & 1)


def _of_thread(text: str, thread: int) -> Iterator[Frame]:
    """Yield the frames of a thread in what ``faulthandler`` wrote, outermost first."""
    rows: list[Frame] = []
    inside = False
    for line in text.splitlines():
        head, row = _HEAD.match(line), _LINE.match(line)
        if head:
            inside = int(head[1], 16) == thread
        elif row and inside:
            number = 0 if row[2] == "???" else int(row[2])
            rows.append(_with_code(row[1], number, row[3]))
    yield from reversed(rows)
