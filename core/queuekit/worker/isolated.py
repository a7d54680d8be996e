"""The process, forked by the fork server, in which bodies run one after the other outside their worker."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import pickle  # safe: both ends run the same code for the same user
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.connection import Connection

import attrs

from queuekit.app import Queuekit
from queuekit.broker import Delivery
from queuekit.client.sender import Sending
from queuekit.errors import EncodeError
from queuekit.execution import children
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.failure import in_words
from queuekit.values import define, frozen
from queuekit.wire.stacks import Frame
from queuekit.worker.app_ref import AppRef
from queuekit.worker.carried import pack_outcome, read_delivery
from queuekit.worker.frames import FramedSocket
from queuekit.worker.log_setup import configure_logging
from queuekit.worker.memory import own_memory
from queuekit.worker.recycling import Bounds, Reached, Usage
from queuekit.worker.stacks import SIGNAL, answer_signal, frames_of_task, frames_of_thread, write_stack

__all__ = [
    "LONGEST_CLOSE",
    "CancelBody",
    "Idle",
    "Inbox",
    "Interrupt",
    "Last",
    "WriteStack",
    "load_early",
    "not_carried",
    "serve",
]


_LOOK = 1.0
"""Seconds between two looks at the memory of the process."""
LONGEST_CLOSE = 2.0
"""Seconds that the resources of a process may take to close."""


@frozen
class Idle:
    """The last message of a process that ends because it was idle."""


@frozen
class Last:
    """The last answer of a process that ends because it has reached a bound."""

    answer: bytes
    reached: Reached


@frozen
class CancelBody:
    """Worker to process: mark a body as cancelled."""

    number: int
    """Which delivery to this process is meant, from 1: its body may have ended before the order arrives."""


@frozen
class Interrupt(CancelBody):
    """Worker to process: interrupt a body, which has reached its timeout."""


@frozen
class WriteStack:
    """Worker to process: write the stack of the body into the file for stacks."""


@define
class Inbox:
    """What the thread that runs bodies and the one that receives orders know of each other."""

    count: int = 0
    """How many deliveries have arrived."""
    current: tuple[int, Run] | None = None
    """The body that runs and the number of its delivery."""
    gone: bool = False
    """Whether the worker is gone."""

    @property
    def run(self) -> Run | None:
        """The body that runs."""
        current = self.current
        return None if current is None else current[1]

    def obey(self, order: CancelBody) -> None:
        """Cancel or interrupt the body that *order* means, unless it has ended."""
        number, run = self.current or (0, None)
        if run is not None and number == order.number:
            run.context.cancel()
            if isinstance(order, Interrupt):
                _interrupt(run)


def load_early(ref: AppRef, *, worker: str) -> Queuekit | None:
    """Return the app with all that a process makes of it made once, so that processes forked from here need not.

    ``None`` if that fails: each process meets the same error, and reports it.
    """
    try:
        app = ref.load()
        _executor(app, worker)
    except (Exception, SystemExit):  # noqa: BLE001 - of modules and plugins
        return None
    return app


def _executor(app: Queuekit, worker: str) -> Executor:
    return Executor(app.runtime, app.tasks, Sending(app.runtime, app.tasks), worker=worker)


def serve(
    pipe: Connection, orders: Connection, *, load: Callable[[], Queuekit], worker: str, idle: float | None, stacks: int
) -> int:
    """Run the deliveries that arrive through *pipe* until it closes, or none arrives for *idle* seconds.

    Args:
        pipe: Brings deliveries, and takes the outcome of each. One thread uses it, so none has to wake another.
        orders: Brings orders that concern the body which is running.
        load: Returns the app.
        worker: Name of the worker.
        idle: Seconds after which the process ends without work; ``None``: never.
        stacks: Descriptor of the file for stacks.

    Returns:
        An exit code.
    """
    for number in children.stop_signals():
        children.listen(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, children.STOPS)
    children.guard_children()
    atexit._clear()  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - exit handlers of the server must not run here
    app = load()
    configure_logging(level=app.config.log.level, style=app.config.log.format, worker=worker)
    executor = _executor(app, worker)
    executor.keeps_loop = True
    inbox = Inbox()
    threading.Thread(target=_watch, args=(orders, inbox, stacks), daemon=True).start()
    answer_signal(stacks)
    if SIGNAL is not None:  # the other thread takes it, so that it interrupts no call of a body
        signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})
    with contextlib.suppress(OSError):  # the worker is gone
        frames = FramedSocket(pipe.fileno())
        frames.send(pickle.dumps(threading.get_ident()))
        _work(frames, executor, inbox, idle, _Meter(Bounds.of(app.config.worker, app.runtime.random.random)))
    if app.resources is not None:
        app.resources.close(LONGEST_CLOSE)
    _clean_up()
    return 0


class _Meter:
    """Looks at the memory of this process once a second."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.measured = bounds.measured
        self._rss, self._next = 0, -math.inf

    def reached(self, tasks: int) -> Reached | None:
        """Return the bound that this process has reached after *tasks* bodies."""
        if self._bounds.rss < math.inf and time.monotonic() >= self._next:
            self._rss, self._next = own_memory(), time.monotonic() + _LOOK
        return self._bounds.reached(Usage(tasks, self._rss))


def _work(frames: FramedSocket, executor: Executor, inbox: Inbox, idle: float | None, meter: _Meter) -> None:
    measured = meter.measured
    while idle is None or frames.wait(idle):
        try:
            delivery = read_delivery(frames.receive())
        except EOFError:  # the worker wants no more, or is gone
            return
        answer = _run(executor, delivery, inbox)
        _flush()
        reached = meter.reached(inbox.count) if measured else None
        if reached is not None:
            frames.send(pickle.dumps(Last(answer, reached)))
            return
        frames.send(answer)
    frames.send(pickle.dumps(Idle()))


def _clean_up() -> None:
    """Run the exit handlers that bodies registered, as at the end of a program, but wait for no process."""
    children.end_processes()
    finalizers = util._exit_function  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] # noqa: SLF001
    for call in (atexit._run_exitfuncs, finalizers):  # pyright: ignore[reportPrivateUsage] # noqa: SLF001
        with contextlib.suppress(Exception):
            call()
    _flush()


def _flush() -> None:
    """Flush what a body printed, in case the process is killed later."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _watch(orders: Connection, inbox: Inbox, stacks: int) -> None:
    """Receive orders; end the process when the worker is gone, so that no body outlives its lease."""
    while True:
        try:
            order = orders.recv()
        except (EOFError, OSError):
            inbox.gone = True
            if inbox.current is not None:
                os._exit(1)
            return
        if isinstance(order, WriteStack):
            with contextlib.suppress(Exception):  # the worker then asks by a signal
                write_stack(stacks, _stack(inbox.run))
        else:
            inbox.obey(order)


def _interrupt(run: Run) -> None:
    """Raise the exception of a timeout in a body."""
    if run.coroutine is not None:
        run.timed_out = True
        with contextlib.suppress(RuntimeError):  # its loop is closed
            run.coroutine.get_loop().call_soon_threadsafe(run.coroutine.cancel)
    elif run.guard is not None:
        run.guard.fire()


def _stack(run: Run | None) -> tuple[Frame, ...]:
    if run is None:
        return ()
    thread = threading.main_thread().ident or 0
    if run.coroutine is None:
        return frames_of_thread(thread)
    # One that uses resources runs on a loop in another thread.
    return frames_of_task(run.coroutine, getattr(run.coroutine.get_loop(), "_thread_id", None) or thread)


def _run(executor: Executor, delivery: Delivery, inbox: Inbox) -> bytes:
    """Return the outcome of a delivery, packed for the worker."""
    inbox.count += 1
    prepared = executor.prepare(attrs.evolve(delivery, crashes=0) if delivery.crashes else delivery, {})
    if isinstance(prepared, Outcome):
        return pickle.dumps(prepared)
    inbox.current = inbox.count, prepared
    if inbox.gone:  # the other thread may have looked before there was a current body
        os._exit(1)
    try:
        outcome = _call(executor, prepared)
    finally:
        inbox.current = None
    try:
        return pack_outcome(outcome)
    except BaseException as error:  # noqa: BLE001 - a value for a follow-up whose class cannot be pickled
        return pack_outcome(executor.decide.failed(prepared, not_carried(prepared, error)))


def not_carried(run: Run, error: BaseException) -> EncodeError:
    """Return an error that names the task whose outcome cannot be pickled for its worker."""
    return EncodeError(f"the result of {run.message.task}() cannot be sent to its worker: {in_words(error)}")


def _call(executor: Executor, run: Run) -> Outcome:
    return executor.call_on_loop(run) if run.task.is_async else executor.call(run)
