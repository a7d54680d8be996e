"""An app whose tasks do what faults are made of; each writes its begin and end into the ledger.

A worker runs it as ``support.fault_tasks:app``; a test sends to the very same tasks.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs

from queuekit import Context, Queuekit, Snooze
from queuekit.control import Cancel, TaskTimeout
from queuekit.retry import Fixed
from support.ledger import write_down

app = Queuekit()

QUICK = Fixed(0.05)
"""Wait between two attempts, in seconds."""
LONGEST = 100.0
"""Seconds after which a task that waits for its test gives up."""
WATCHED = 0.01
"""Seconds between two looks for a file."""


@app.task
def nap(ctx: Context, seconds: float) -> str:
    """Take *seconds*, without keeping anybody from computing meanwhile."""
    write_down("begin", ctx.id)
    time.sleep(seconds)
    write_down("end", ctx.id)
    return ctx.id


@app.task
async def anap(ctx: Context, seconds: float) -> str:
    """As :func:`nap`, on the event loop."""
    write_down("begin", ctx.id)
    await asyncio.sleep(seconds)
    write_down("end", ctx.id)
    return ctx.id


@app.task
def cancel_self() -> None:
    """Say that it has become needless."""
    raise Cancel("needless")


@app.task
def hold(ctx: Context, gate: str) -> str:
    """Run until the file *gate* is there, or until told to stop."""
    write_down("begin", ctx.id)
    wait_for(gate, ctx)
    write_down("told" if ctx.cancelled else "end", ctx.id)
    return ctx.id


@app.task
def stubborn(ctx: Context, gate: str) -> str:
    """Run until the file *gate* is there, whatever it is told."""
    write_down("begin", ctx.id)
    wait_for(gate)
    write_down("end", ctx.id)
    return ctx.id


@app.task
def deaf(ctx: Context, pipe: str) -> str:
    """Wait, in one call of the system which no exception gets into, until somebody opens *pipe* to write."""
    write_down("begin", ctx.id)
    Path(pipe).read_bytes()
    return ctx.id


@app.task
async def ahold(ctx: Context, gate: str) -> str:
    """As :func:`hold`, on the event loop; cancelling it ends it."""
    write_down("begin", ctx.id)
    try:
        while not await asyncio.to_thread(Path(gate).exists):  # noqa: ASYNC110 - a file calls nobody
            await asyncio.sleep(WATCHED)
    except asyncio.CancelledError:
        write_down("told", ctx.id)
        raise
    write_down("end", ctx.id)
    return ctx.id


@app.task
def forever(ctx: Context) -> None:
    """Run until somebody stops it, through a handler for all usual exceptions."""
    write_down("begin", ctx.id)
    try:
        _spend(LONGEST)
    except Exception:  # noqa: BLE001 - as careless code has it
        write_down("swallowed", ctx.id)
    write_down("end", ctx.id)


@app.task(timeout="1h", retries=3)
def wrap_up(ctx: Context) -> None:
    """Run until somebody stops it, and then raise an error of its own."""
    write_down("begin", ctx.id)
    try:
        _spend(LONGEST)
    except BaseException as error:
        raise ValueError("wrapped up") from error
    write_down("end", ctx.id)


@app.task
async def aforever(ctx: Context) -> None:
    """As :func:`forever`, on the event loop."""
    write_down("begin", ctx.id)
    await asyncio.sleep(LONGEST)
    write_down("end", ctx.id)


def _spend(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(WATCHED)


@app.task
def hog(ctx: Context, seconds: float) -> str:
    """Hold the interpreter for *seconds*: no other thread of the process gets to run, nor does any signal handler."""
    write_down("begin", ctx.id)
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    write_down("end", ctx.id)
    return ctx.id


@app.task(timeout=0.3, time_limit=1)
def unending(ctx: Context, gate: str) -> None:
    """Run until the file *gate* is there, whatever it is told, and in the process of others."""
    write_down("begin", ctx.id)
    while not Path(gate).exists():
        with contextlib.suppress(BaseException):
            wait_for(gate)


@app.task(pool="process", time_limit=1)
def hog_apart(ctx: Context, seconds: float) -> None:
    """Hold the interpreter of a process of its own for *seconds*."""
    write_down("begin", ctx.id)
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


@app.task(pool="process", timeout=0.3, time_limit=LONGEST)
def clear_up(ctx: Context) -> int:
    """Run until its time is over, in a process of its own, whose id it returns."""
    write_down("begin", ctx.id)
    try:
        _spend(LONGEST)
    except TaskTimeout:
        return os.getpid()
    return 0


@app.task(pool="process", timeout=0.3, time_limit=LONGEST)
async def aclear_up(ctx: Context) -> int:
    """As :func:`clear_up`, on an event loop."""
    write_down("begin", ctx.id)
    try:
        await asyncio.sleep(LONGEST)
    except asyncio.CancelledError:
        return os.getpid()
    return 0


@app.task
async def ablock(ctx: Context, seconds: float, gate: str | None = None) -> str:
    """Block the event loop for *seconds*, as a coroutine does that calls what is not for coroutines.

    It begins with that when the file *gate* exists, if there is to be one.
    """
    write_down("begin", ctx.id)
    while gate is not None and not await asyncio.to_thread(Path(gate).exists):  # noqa: ASYNC110 - a file calls nobody
        await asyncio.sleep(WATCHED)
    time.sleep(seconds)  # noqa: ASYNC251
    write_down("end", ctx.id)
    return ctx.id


@app.task
def end_thread(ctx: Context, name: str) -> str:
    """End another thread of this process."""
    write_down("begin", ctx.id)
    for thread in threading.enumerate():
        if thread.name == name and thread.ident is not None:
            leaves = ctypes.py_object(SystemExit)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), leaves)
    write_down("end", ctx.id)
    return ctx.id


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("fault_tasks", default="as it was")


@app.task
def set_variable(value: str) -> tuple[str, int]:
    """Set a context variable for good; return what it was before, and which process this is."""
    before = VARIABLE.get()
    VARIABLE.set(value)
    return before, os.getpid()


@app.task
async def aset_variable(value: str) -> tuple[str, int]:
    """Do so on the event loop."""
    before = VARIABLE.get()
    VARIABLE.set(value)
    return before, os.getpid()


@app.task
def close_all(ctx: Context) -> str:
    """Close all descriptors of this process, as code does that means those of a child, and go on for a while."""
    write_down("begin", ctx.id)
    os.closerange(3, 256)
    time.sleep(60)
    return ctx.id


@app.task
def kill_self(ctx: Context) -> None:
    """End the process that runs this, as the kernel does when memory runs out."""
    write_down("begin", ctx.id)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def kill_self_when(ctx: Context, gate: str) -> None:
    """End the process that runs this as soon as the file *gate* is there."""
    write_down("begin", ctx.id)
    wait_for(gate)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def kill_group(ctx: Context) -> None:
    """End the whole process group: worker, supervisor, and whatever they have started."""
    write_down("begin", ctx.id)
    os.killpg(0, signal.SIGKILL)


@app.task
def kill_self_leaving_a_child(ctx: Context, gate: str) -> None:
    """End the process, but not the fork of it that still holds copies of all its pipes."""
    write_down("begin", ctx.id)
    if os.fork() == 0:
        wait_for(gate)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def fork_and_end(ctx: Context, way: str) -> str:
    """Have a forked child come back out of the body: by ``exit``, ``raise`` or ``return``; tell how it ended."""
    write_down("begin", ctx.id)
    pid = os.fork()
    if pid == 0:
        return _end(way)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    write_down("end", ctx.id)
    return f"{way} {code}"


@app.task
async def afork_and_end(ctx: Context, way: str) -> str:
    """As :func:`fork_and_end`, in a coroutine."""
    write_down("begin", ctx.id)
    pid = os.fork()
    if pid == 0:
        return _end(way)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    write_down("end", ctx.id)
    return f"{way} {os.waitstatus_to_exitcode(status)}"


@app.task
async def afork_in_part(ctx: Context, way: str) -> str:
    """As :func:`afork_and_end`, where a coroutine that the body has started forks."""
    (text,) = await asyncio.gather(_fork(way))
    write_down("end", ctx.id)
    return text


async def _fork(way: str) -> str:
    pid = os.fork()
    if pid == 0:
        return _end(way)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    return f"{way} {os.waitstatus_to_exitcode(status)}"


def _end(way: str) -> str:
    if way == "exit":
        sys.exit(7)
    if way == "raise":
        raise ValueError("in a child")
    return "the child"


@app.task
def fork_and_signal(ctx: Context, number: int, method: str) -> int:
    """Send a signal to a child of the body, and tell its exit code."""
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=time.sleep, args=(LONGEST,))
    process.start()
    if method == "fork":
        os.kill(process.pid or 0, number)
    else:
        process.terminate()
    process.join(LONGEST / 2)
    return process.exitcode or 0


@app.task
def leave_a_child_behind(ctx: Context) -> int:
    """Return while a forked child sleeps."""
    pid = os.fork()
    if pid == 0:
        time.sleep(LONGEST)
        os._exit(0)
    return pid


@app.task
def leave_a_process_behind(method: str) -> None:
    """Return while a process sleeps that Python waits for at the end of a program."""
    ways: Any = multiprocessing.get_context(method)
    ways.Process(target=time.sleep, args=(3600,)).start()


@app.task
def fork_out(ctx: Context) -> int:
    """Have a child process of its own compute, as numeric code does."""
    write_down("begin", ctx.id)
    process = multiprocessing.get_context("fork").Process(target=write_down, args=("child", ctx.id))
    process.start()
    process.join()
    write_down("end", ctx.id)
    return process.exitcode or 0


@app.task(retries=3, retry=QUICK)
def fail_at_first(ctx: Context, times: int) -> int:
    """Raise in the first *times* attempts."""
    write_down("begin", ctx.id)
    if ctx.attempt < times:
        raise ValueError(f"attempt {ctx.attempt}")
    write_down("end", ctx.id)
    return ctx.attempt


@app.task(retries=3, retry=QUICK)
def kill_self_later(ctx: Context) -> None:
    """Fail in the first attempt, and end the process in each that follows."""
    write_down("begin", ctx.id)
    if ctx.attempt == 0:
        raise ValueError("not yet")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def wait_and_see(ctx: Context, gate: str, answer: str) -> str:
    """Run until the file *gate* is there; from then on ask to be put off, again and again, until *answer* is."""
    write_down("begin", ctx.id)
    wait_for(gate, ctx)
    if not Path(answer).exists():
        raise Snooze(0.05)
    return ctx.id


@app.task
def fail_and_tell(ctx: Context) -> None:
    """Fail for good."""
    write_down("begin", ctx.id)
    raise ValueError("for good")


@app.task
def child_of(ctx: Context, parent: str) -> str:
    """Follow a parent, whose result is *parent*."""
    write_down("child", parent)
    return ctx.id


@app.task
def leave(ctx: Context) -> None:
    """Ask the interpreter to end."""
    write_down("begin", ctx.id)
    sys.exit(3)


@app.task
async def aleave(ctx: Context) -> None:
    """Ask the interpreter to end, on the event loop."""
    write_down("begin", ctx.id)
    sys.exit(3)


class Spiteful(Exception):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        """Raise."""
        raise RuntimeError("no text for you")


@app.task
def spite(ctx: Context) -> None:
    """Raise what is hard to write down."""
    write_down("begin", ctx.id)
    raise Spiteful


@app.task
def unwritable(ctx: Context) -> object:
    """Return what no serializer can write."""
    write_down("begin", ctx.id)
    return object()


@app.register_type
@attrs.frozen
class Uncopied:
    """A value that ends whoever copies it."""

    text: str

    def __reduce__(self) -> str:
        raise SystemExit(3)


@app.task
def uncopied(ctx: Context) -> Uncopied:
    """Return such a value."""
    write_down("begin", ctx.id)
    return Uncopied("x")


@app.task
def take_uncopied(ctx: Context, value: Uncopied) -> str:
    """Take one."""
    write_down("begin", ctx.id)
    return value.text


@app.task
def weigh(ctx: Context, text: str) -> int:
    """Take as long as :func:`nap` at its usual size, with an argument of any size."""
    write_down("begin", ctx.id)
    time.sleep(0.02)
    write_down("end", ctx.id)
    return len(text)


@app.task
def progress(ctx: Context) -> str:
    """Tell how far it is."""
    ctx.progress(1, 2, "half")
    return ctx.id


def wait_for(gate: str, ctx: Context | None = None) -> None:
    """Wait until the file *gate* is there, or *ctx* is cancelled, or the test must have gone."""
    path, deadline = Path(gate), time.monotonic() + LONGEST
    while not path.exists() and not (ctx and ctx.cancelled) and time.monotonic() < deadline:
        time.sleep(WATCHED)
