"""The process, forked by the fork server, in which bodies run one after the other outside their worker."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import pickle  # safe: both ends run the same code for the same user
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.connection import Connection

import attrs

from queuekit.app import Queuekit
from queuekit.client.sender import Sending
from queuekit.errors import EncodeError
from queuekit.execution import children
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.failure import in_words
from queuekit.values import define, frozen
from queuekit.wire.stacks import Frame
from queuekit.worker.app_ref import AppRef
from queuekit.worker.carried import Carried, pack_outcome, pack_times, read_deliveries
from queuekit.worker.frames import FramedSocket
from queuekit.worker.log_setup import configure_logging
from queuekit.worker.memory import own_memory
from queuekit.worker.permits import PermitsOfProcess
from queuekit.worker.recycling import Bounds, Reached, Usage
from queuekit.worker.run_table import RowsOfOthers
from queuekit.worker.stacks import SIGNAL, answer_signal, frames_of_task, frames_of_thread, write_stack

__all__ = [
    "LONGEST_CLOSE",
    "CancelBody",
    "Files",
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
_MOST_UNREAD = 32_768
"""Bytes of answers for which a socket surely has room, so that nobody need be woken to read them."""
LONGEST_CLOSE = 2.0
"""Seconds that the resources of a process may take to close."""


@frozen
class Files:
    """The descriptors that a process gets from its worker."""

    pipe: int
    """Brings deliveries, and takes the outcome of each. One thread uses it, so none has to wake another."""
    orders: int
    """Brings orders that concern the body which is running."""
    stacks: int
    """The file for stacks."""
    permits: int
    """Says which deliveries may begin."""
    table: int | None = None
    """The run table, if the worker shares one with a supervisor."""


@frozen
class Last:
    """The last answer of a process that ends because it has reached a bound."""

    answer: bytes
    reached: Reached


@frozen
class CancelBody:
    """Worker to process: mark a body as cancelled."""

    number: int
    """Which delivery to this process is meant: its body may have ended before the order arrives."""


@frozen
class Interrupt(CancelBody):
    """Worker to process: interrupt a body, which has reached its timeout."""


@frozen
class WriteStack:
    """Worker to process: write the stack of the body into the file for stacks."""


@define
class Inbox:
    """What the thread that runs bodies and the one that receives orders know of each other."""

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
            if isinstance(order, Interrupt):
                _interrupt(run)
            else:
                run.context.cancel()


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


def serve(files: Files, *, load: Callable[[], Queuekit], worker: str, idle: float | None) -> int:
    """Run the deliveries that arrive until the worker wants no more, or none arrives for *idle* seconds.

    Args:
        files: Connections to the worker.
        load: Returns the app.
        worker: Name of the worker.
        idle: Seconds after which the process ends without work; ``None``: never.

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
    bodies = _Bodies(files, executor, _Meter(Bounds.of(app.config.worker, app.runtime.random.random)))
    orders = Connection(files.orders, writable=False)
    threading.Thread(target=_watch, args=(orders, bodies.inbox, files.stacks), daemon=True).start()
    answer_signal(files.stacks)
    if SIGNAL is not None:  # the other thread takes it, so that it interrupts no call of a body
        signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})
    with contextlib.suppress(OSError, EOFError):  # the worker is gone
        bodies.run(idle)
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


class _Bodies:
    """Runs what the worker sends, one body after the other.

    An answer is written when its body has ended, so that the end of this process loses none. But the worker is only
    woken once for what it sent together.
    """

    def __init__(self, files: Files, executor: Executor, meter: _Meter) -> None:
        self._pipe, self._frames = files.pipe, FramedSocket(files.pipe)
        self._poll = select.poll()
        self._permits = PermitsOfProcess(files.permits)
        self._rows = None if files.table is None else RowsOfOthers(files.table)
        self._executor = executor
        self._meter = meter
        self.inbox = Inbox()
        self._ran = 0
        self._waiting: deque[Carried] = deque()
        """What has arrived and not begun."""
        self._row, self._together = 0, False
        """Row of the worker's thread, and whether it sent several."""
        self._unread = 0
        """Bytes of answers since the worker was woken."""

    def run(self, idle: float | None) -> None:
        """Run bodies until none arrives for *idle* seconds, or a bound is reached.

        Raises:
            EOFError: The worker wants no more, or is gone.
        """
        self._frames.send(pickle.dumps(threading.get_ident()))
        for file in (self._pipe, self._permits.fileno()):
            self._poll.register(file, select.POLLIN)
        pause = None if idle is None else idle * 1_000
        while (one := self._next(pause)) is not None and not self._ends(one):
            pass

    def _next(self, pause: float | None) -> Carried | None:
        """Return the next delivery that may begin; ``None`` if there is none within *pause* milliseconds."""
        while True:
            permit = self._permits.take()
            if permit is not None:
                return self._with(permit)
            ready = self._poll.poll(pause)
            if not ready:
                return None
            if any(file == self._pipe for file, _ in ready):
                self._receive()

    def _receive(self) -> None:
        for message in self._frames.read():
            self._row, found = read_deliveries(message)
            self._waiting.extend(found)
            self._together = len(found) > 1

    def _with(self, permit: int) -> Carried:
        """Return the delivery that *permit* is for, and drop those before it, which the worker has taken back."""
        while True:
            while not self._waiting:
                self._receive()
            one = self._waiting.popleft()
            if one.number % 256 == permit:
                return one

    def _ends(self, one: Carried) -> bool:
        """Run one body, and return whether this process has reached a bound."""
        since = time.monotonic()
        if self._rows is not None and self._together:
            self._rows.enter(self._row, one.serial, since, one.limit)
        answer = _run(self._executor, one, self.inbox)
        times = pack_times(since, time.monotonic())
        _flush()
        self._ran += 1
        reached = self._meter.reached(self._ran) if self._meter.measured else None
        self._answer(times + (answer if reached is None else pickle.dumps(Last(answer, reached))))
        return reached is not None

    def _answer(self, answer: bytes) -> None:
        if not self._together:  # then the answer wakes the worker
            self._frames.send(answer)
            return
        if self._unread + len(answer) > _MOST_UNREAD:
            self._notify()  # or there may be no room for it
        self._frames.send(answer)
        self._unread += len(answer)
        if not self._waiting:
            self._notify()

    def _notify(self) -> None:
        self._unread = 0
        self._permits.notify()


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
            run.coroutine.get_loop().call_soon_threadsafe(run.context.cancel, run.coroutine.cancel)
    else:
        run.context.cancel(None if run.guard is None else run.guard.fire)


def _stack(run: Run | None) -> tuple[Frame, ...]:
    if run is None:
        return ()
    thread = threading.main_thread().ident or 0
    if run.coroutine is None:
        return frames_of_thread(thread)
    # One that uses resources runs on a loop in another thread.
    return frames_of_task(run.coroutine, getattr(run.coroutine.get_loop(), "_thread_id", None) or thread)


def _run(executor: Executor, one: Carried, inbox: Inbox) -> bytes:
    """Return the outcome of a delivery, packed for the worker."""
    delivery = one.delivery
    prepared = executor.prepare(attrs.evolve(delivery, crashes=0) if delivery.crashes else delivery, {})
    if isinstance(prepared, Outcome):
        return pickle.dumps(prepared)
    inbox.current = one.number, prepared
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
