"""A small server that forks processes for bodies: it has imported the app and runs no threads.

A fork takes about ten milliseconds. The server shares nothing but open files with its worker and leaves no file
behind. It ends with the worker, however that ends: it sees its connection close or its parent change, and kills all
that it forked. The fork server of ``multiprocessing`` has an address in a temporary folder, and survives as long as a
child of a body holds a copy of its pipe.

Run as ``python -m queuekit.worker.forkserver FILE PARENT``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from queuekit.app import Queuekit
from queuekit.execution import children
from queuekit.values import define, frozen
from queuekit.worker.app_ref import AppRef
from queuekit.worker.isolated import Files, load_early, serve
from queuekit.worker.permits import Permits
from queuekit.worker.protocol import hears
from queuekit.worker.stacks import StackFile, stack_memory

__all__ = ["ForkServer", "Forked", "Plan"]

_NUMBER = struct.Struct("=q")
_LOOK = 0.5
"""Seconds between two checks for the server's parent: children of bodies may keep its connection open."""
_LONGEST_START = 60.0
"""Seconds that the server may take to import the app."""
_LONGEST_END = 1.0
_FORK = b"f"
_MOST_FILES = 6


@frozen(kw_only=True)
class Plan:
    """The settings that the server gets at its start."""

    ref: AppRef
    worker: str
    modules: tuple[str, ...]
    """Modules that it imports, so that its children need not."""
    idle: float | None
    """Seconds after which an idle child ends."""


@define
class Forked:
    """One process that the server forked, as the worker sees it."""

    pid: int
    pipe: Connection
    """Connection to the process: deliveries and outcomes."""
    orders: Connection
    """Takes orders to the process."""
    status: Connection
    """Receives the exit code when the process has ended."""
    stacks: StackFile
    """Receives its stacks."""
    permits: Permits
    """Let it begin what it was sent."""
    code: int | None = None
    ended: bool = False

    def alive(self, *, patience: float = 0.0) -> bool:
        """Return whether it still runs after waiting at most *patience* seconds for its end."""
        if not self.ended and wait([self.status], patience):
            self.ended = True
            with contextlib.suppress(OSError):
                told = os.read(self.status.fileno(), _NUMBER.size)
                self.code = _NUMBER.unpack(told)[0] if len(told) == _NUMBER.size else None
        return not self.ended

    def kill(self) -> None:
        """Kill it; may be called from any thread."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the connections to it."""
        self.pipe.close()
        self.orders.close()
        self.status.close()
        self.stacks.close()
        self.permits.close()


class ForkServer:
    """The worker's side. Starts the server on first use, and again if it has died."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def start(self) -> None:
        """Start the server now, so that it imports the app while its worker does; do not wait for it.

        Raises:
            OSError: The system allows no more processes.
        """
        with self._lock:
            if self._control is None and not self._closed:
                self._control = self._start()

    def fork(self, table: int = -1) -> Forked:
        """Return a new process.

        Args:
            table: Descriptor of the run table into which it writes what it begins; -1 if there is none.

        Raises:
            OSError: The system allows no more processes.
        """
        with contextlib.ExitStack() as undo:
            here, there = socket.socketpair()
            pipe = undo.enter_context(Connection(here.detach()))
            near, far = (undo.enter_context(end) for end in socket.socketpair())
            with there, contextlib.ExitStack() as theirs:
                status, tells = os.pipe()
                theirs.callback(os.close, tells)
                end = undo.enter_context(Connection(status, writable=False))
                ordered, order = os.pipe()
                theirs.callback(os.close, ordered)
                orders = undo.enter_context(Connection(order, readable=False))
                stacks = undo.enter_context(contextlib.closing(StackFile(stack_memory())))
                files = [there.fileno(), ordered, tells, stacks.fileno, far.fileno()]
                with self._lock:
                    self._ask(files if table < 0 else [*files, table])
            told = os.read(status, _NUMBER.size) if wait([end], _LONGEST_START) else b""
            if len(told) < _NUMBER.size:
                raise OSError("the fork server could not fork")
            undo.pop_all()
        return Forked(_NUMBER.unpack(told)[0], pipe, orders, end, stacks, Permits(near, far))

    def close(self) -> None:
        """End the server and all processes that it forked."""
        with self._lock:
            self._closed = True
            process, control = self._process, self._control
            self._process = self._control = None
        if control is not None:
            control.close()
        if process is not None:
            _end(process)

    def _ask(self, files: list[int]) -> None:
        if self._control is not None:
            try:
                socket.send_fds(self._control, [_FORK], files)
            except OSError:
                self._control.close()
                self._control = None
            else:
                return
        if self._closed:
            raise OSError("the fork server is closed")
        if self._process is not None:
            _end(self._process)
        self._control = self._start()
        socket.send_fds(self._control, [_FORK], files)

    def _start(self) -> socket.socket:
        here, there = socket.socketpair()
        command = [sys.executable, "-m", "queuekit.worker.forkserver", str(there.fileno()), str(os.getpid())]
        with there, _deaf():
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this
                command, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL
            )
        text = pickle.dumps(self._plan)
        here.sendall(_NUMBER.pack(len(text)) + text)
        return here


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LONGEST_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Block the group's signals in processes that are started meanwhile: only its worker may end a body."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, children.STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- the server's side


class _Server:
    def __init__(self, control: socket.socket, parent: int, plan: Plan, app: Queuekit | None) -> None:
        self._control, self._parent = control, parent
        self._plan, self._app = plan, app
        self._children: dict[int, int] = {}
        """Process id to the file descriptor that receives its exit code."""
        self._woken, self._wake = socket.socketpair()

    def run(self) -> None:
        """Fork on request until the worker is gone."""
        for end in (self._woken, self._wake):
            end.setblocking(False)  # noqa: FBT003 - the name of the method says what is true
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        while os.getppid() == self._parent:
            ready, _, _ = select.select([self._control, self._woken], [], [], _LOOK)
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
            self._reap()
            if self._control in ready and not self._obey():
                break
        signal.set_wakeup_fd(-1)  # the loop that waits for children has ended
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _obey(self) -> bool:
        """Fork once; return false if the worker is gone."""
        try:
            word, files, _, _ = socket.recv_fds(self._control, 1, _MOST_FILES)
        except OSError:
            return False
        if not word:
            return False
        pipe, orders, tells, stacks, permits, *table = files
        pid = self._fork()
        if pid == 0:
            self._be_child(tells, Files(pipe, orders, stacks, permits, *table))
        for file in (pipe, orders, stacks, permits, *table):
            os.close(file)
        if pid > 0:
            self._children[pid] = tells
            _report(tells, pid)
        else:
            os.close(tells)
        return True

    def _fork(self) -> int:
        """Fork, with signals blocked in the child until it has its own handlers; -1 if no process is available."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, children.STOPS)
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _be_child(self, tells: int, files: Files) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self._control, self._woken, self._wake):
                end.close()
            for each in (tells, *self._children.values()):
                os.close(each)
            plan = self._plan
            app = self._app
            load = plan.ref.load if app is None else lambda: app
            code = serve(files, load=load, worker=plan.worker, idle=plan.idle)
        except BaseException:  # noqa: BLE001 - the child ends here; print why
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            tells = self._children.pop(pid, None)
            if tells is not None:
                _report(tells, os.waitstatus_to_exitcode(status))
                os.close(tells)


def _report(file: int, number: int) -> None:
    with contextlib.suppress(OSError):  # the worker no longer listens
        os.write(file, _NUMBER.pack(number))


def main(arguments: Sequence[str]) -> int:
    """Run the server."""
    for number in children.stop_signals():
        children.listen(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, children.STOPS)
    children.guard_children()
    file, parent = (int(argument) for argument in arguments)
    with socket.socket(fileno=file) as control:
        control.set_inheritable(False)
        if not hears(control, parent):
            return 0
        try:
            plan = pickle.loads(_read(control, _NUMBER.unpack(_read(control, _NUMBER.size))[0]))  # noqa: S301 - ours
        except EOFError:
            return 0
        plan.ref.prepare(plan.modules)
        app = load_early(plan.ref, worker=plan.worker)
        # Children share its memory with the server as long as no collection touches it.
        gc.collect()
        gc.freeze()
        _Server(control, parent, plan, app).run()
    return 0


def _read(control: socket.socket, size: int) -> bytes:
    text = b""
    while len(text) < size:
        part = control.recv(size - len(text))
        if not part:
            raise EOFError
        text += part
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
