"""Processes of queuekit that start at once: forks of one that has imported what they need, and nothing else.

A test that starts a worker starts two or three processes, each of which would import queuekit first; that took most of
the time of such a test. :class:`Preloaded` is a ``Popen`` whose process is a fork instead, and a child of the caller
like any other. In all else it is what ``python -m`` starts: command line, folder, environment, streams, signals, and an
end by way of the interpreter's own, save that modules are not taken apart. What it starts in turn by ``python -m
queuekit...`` comes about in the same way.

The process that forks is told over a socket: a byte, and with it the files that hold the call and will be the streams
and the other descriptors. It answers with the process id. So that the fork is a child of the caller, its parent ends at
once, while the caller adopts orphans (``PR_SET_CHILD_SUBREAPER`` in ``man 2 prctl``). Each fork first makes a process
that forks for it, and ends with it. So does a worker process that its supervisor forks by itself
(:mod:`queuekit.worker.prefork`).
"""

import atexit
import ctypes
import faulthandler
import fcntl
import functools
import gc
import io
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module, util
from pathlib import Path
from typing import Any, AnyStr

import attrs

__all__ = ["NAME", "Preloaded", "close"]

NAME = "queuekit-preloaded"
"""The command line of a process that forks."""
MODULES = ("queuekit.cli", "queuekit.worker.child", "queuekit.worker.forkserver")
"""What may be started like this."""
PLUGINS = {
    "amqp": "queuekit_amqp",
    "dynamodb": "queuekit_sqs",
    "memcache": "queuekit_memcached",
    "mongodb": "queuekit_mongo",
    "redis": "queuekit_redis",
    "sqs": "queuekit_sqs",
}
"""Packages by the beginning of a URL: what the first process on such an engine needs is imported once, for all."""
LATER = {
    "queuekit_sqs": (
        "botocore.client",
        "botocore.config",
        "queuekit_sqs.deadlines",
        "queuekit_sqs.fast_path",
    )
}
"""What such a package imports only when it connects, by its name."""
_WORK = (
    "asyncio",
    "email.parser",
    "encodings.ascii",
    "queuekit.engines.sqlite",
    "queuekit.worker.async_pool",
    "queuekit.worker.supervisor",
    "ssl",
)
"""What most workers import sooner or later."""
_URLS = ("QUEUEKIT_BROKER", "QUEUEKIT_BACKEND")
_HEEDED = ("PYTHONFAULTHANDLER", "PYTHONPATH")
"""Variables for the interpreter that a fork heeds though it is running; others must be as they were."""
_MEASURED = "COVERAGE_PROCESS_CONFIG"
"""Variable of a program whose lines are measured, as those of its forks then are."""
_MOST_FILES = 64
_LONGEST_COMMAND = 4_096
_ABOVE = 200
"""Higher than the number of any descriptor that a process is given."""
_PID = struct.Struct("i")
_PDEATHSIG, _SUBREAPER = 1, 36
_DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_usual: Any = vars(subprocess.Popen)["_execute_child"]


class Preloaded(subprocess.Popen[AnyStr]):
    """A process as ``Popen`` starts it, by the fork of one that has imported queuekit."""

    def _execute_child(self, *arguments: Any) -> None:
        _execute(self, arguments, _shared())


@attrs.frozen
class _Forker:
    """A process that forks for another one."""

    socket: socket.socket
    process: "subprocess.Popen[bytes] | None" = None
    """It, where this process has started it as a program."""
    owner: int = attrs.field(factory=os.getpid)
    """Process whose children the forks are to be."""
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def ask(self, call: Mapping[str, Any], files: Sequence[int]) -> int:
        """Return the id of a new process.

        Raises:
            OSError: There is none, since somebody has closed the socket, or killed who listens there.
        """
        with self.lock, tempfile.TemporaryFile() as told:
            told.write(json.dumps(call).encode())
            told.seek(0)
            _prctl(_SUBREAPER, 1)
            try:
                socket.send_fds(self.socket, [b"!"], [told.fileno(), *files])
                answer = self.socket.recv(_PID.size, socket.MSG_WAITALL)
            finally:
                _prctl(_SUBREAPER, 0)
        if not answer:
            raise BrokenPipeError
        pid: int = _PID.unpack(answer)[0]
        return pid


def _execute(process: Any, arguments: Sequence[Any], forker: _Forker) -> None:
    """Be ``Popen._execute_child``, whose *arguments* stand in this order since CPython 3.11."""
    args, pass_fds, cwd, env, session = arguments[0], list(arguments[4]), arguments[5], arguments[6], arguments[-2]
    environ = dict(os.environ if env is None else env)
    if not _is_ours(args, environ) or forker.owner != os.getpid():
        _usual(process, *arguments)
        return
    given = [
        file if file != -1 else number for number, file in enumerate((arguments[10], arguments[13], arguments[15]))
    ]
    call = {
        "args": list(args),
        "cwd": os.fspath(cwd or Path.cwd()),
        "environ": environ,
        "numbers": [0, 1, 2, *pass_fds],
        "mask": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "session": bool(session),
    }
    try:
        process.pid = forker.ask(call, [*given, *pass_fds])
    except OSError:
        _usual(process, *arguments)
        return
    process._child_created = True
    process._close_pipe_fds(*arguments[10:16])


def _is_ours(args: Any, environ: Mapping[str, str]) -> bool:
    """Return whether a fork is the same as what *args* start in *environ*."""
    if sys.platform != "linux" or not isinstance(args, list) or args[:2] != [sys.executable, "-m"]:
        return False
    if len("\0".join(args).encode()) >= _LONGEST_COMMAND:
        return False
    return args[2] in MODULES and _interpreter(environ) == _interpreter(os.environ)


def _interpreter(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith("PYTHON") and name not in _HEEDED}


@functools.cache
def _shared() -> _Forker:
    """Return what forks for this process, started now; it ends with this process at the latest."""
    ours, theirs = socket.socketpair()
    hidden = ("COVERAGE_", "QUEUEKIT_", "PYTHONFAULTHANDLER")
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), "-" * _LONGEST_COMMAND],
            env={name: value for name, value in os.environ.items() if not name.startswith(hidden)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return _Forker(ours, process)


def close() -> None:
    """End what forks for this process, if anything does; what it has forked goes on."""
    if not _shared.cache_info().currsize:
        return
    forker = _shared()
    _shared.cache_clear()
    forker.socket.close()
    assert forker.process is not None
    forker.process.kill()  # a fork of this process may hold the socket open
    forker.process.wait()


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


# -- the process that forks


def main() -> None:
    """Fork until the socket closes; in a fork, run what was asked for."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    in_fork: Any = import_module("in_fork")
    atexit.register(in_fork.leave)
    del sys.path[0]
    _import_all()
    in_fork.load_plugins()
    sys.path[:] = [path for path in sys.path if path not in given]
    gc.freeze()
    _be_deaf()
    call, forker = _serve(socket.socket(fileno=int(sys.argv[1])))
    in_fork.forget_plugins([call["cwd"], *_paths(call)])
    in_fork.ending(partial(_run, call, forker))


def _import_all() -> None:
    """Import what those processes do; no more than modules, so that nothing is in one of them because of another."""
    from queuekit.cli.program import COMMANDS

    commands = [f"queuekit.cli.{name}" for name in COMMANDS]
    for name in (*MODULES, *commands, *_WORK):
        import_module(name)
    for name in ("coverage", "msgspec.json"):
        if util.find_spec(name.partition(".")[0]) is not None:
            import_module(name)


def _import_engines(environ: Mapping[str, str]) -> None:
    """Import the plugins of the engines that a process is to use; their client libraries take longest of all."""
    for url in filter(None, map(environ.get, _URLS)):
        package = next((package for scheme, package in PLUGINS.items() if url.startswith(scheme)), None)
        if package is not None and package not in sys.modules and util.find_spec(package) is not None:
            for module in (f"{package}.broker", f"{package}.backend", *LATER.get(package, ())):
                if util.find_spec(module) is not None:
                    import_module(module)
            gc.freeze()


def _be_deaf() -> None:
    """Leave signals that a whole group gets to those that it is meant for."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF_TO)


def _close_all_but(kept: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _serve(asked: socket.socket) -> "tuple[dict[str, Any], _Forker]":
    """Fork for as long as *asked* is open, and end; return in a fork, with its call and what forks for it."""
    while (call := _fork(asked)) is not None:
        found = _with_forker()
        if isinstance(found, _Forker):
            return call, found
        asked = found
    os._exit(0)


def _with_forker() -> "_Forker | socket.socket":
    """Fork; return what forks for this process from now on, and in that fork the socket that asks for it."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    if os.fork() != 0:
        theirs.close()
        return _Forker(ours)
    ours.close()
    _close_all_but(theirs.fileno())
    _prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    _name([NAME])
    return theirs


def _fork(asked: socket.socket) -> dict[str, Any] | None:
    """Fork for as long as *asked* is open; return ``None`` after that, and in a fork its call."""
    while files := socket.recv_fds(asked, 1, _MOST_FILES)[1]:
        with os.fdopen(os.dup(files[0])) as source:
            call: dict[str, Any] = json.load(source)
        _import_engines(call["environ"])
        told, tell = os.pipe()
        held, go = os.pipe()
        between = os.fork()
        if between == 0:
            process = os.fork()
            if process != 0:
                os.write(tell, _PID.pack(process))
                os._exit(0)
            os.read(held, 1)  # until its parent is who has asked
            os.close(files[0])
            if call["session"]:
                os.setsid()
            os.write(tell, b"!")  # only now may it be killed with its group
            for number in (told, tell, held, go):
                os.close(number)
            asked.close()
            _become(call, files[1:])
            return call
        os.close(tell)
        answer = os.read(told, _PID.size)
        os.waitpid(between, 0)
        os.write(go, b"!")
        os.read(told, 1)
        for number in (*files, told, held, go):
            os.close(number)
        asked.sendall(answer)
    return None


def _become(call: Mapping[str, Any], files: Sequence[int]) -> None:
    """Be as *call* asks, with *files* as the descriptors."""
    above = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(above, call["numbers"], strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["environ"])
    _open_streams()
    _name(call["args"])


def _open_streams() -> None:
    """Open the streams anew, which are other files now: pipes, perhaps, in which nobody can seek."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        buffer = 0 if name != "stdin" and before.write_through else -1
        raw = open(number, "rb" if name == "stdin" else "wb", buffer, closefd=False)  # noqa: SIM115 - a number
        stream = io.TextIOWrapper(
            raw,
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=name == "stderr" or os.isatty(number),
            write_through=before.write_through,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _name(args: Sequence[str]) -> None:
    """Have the system show *args* as the command line of this process."""
    fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    start, end = int(fields[45]), int(fields[46])
    text = "".join(f"{arg}\0" for arg in args).encode()
    assert len(text) <= end - start, "the command is longer than there is room for"
    ctypes.memmove(start, text + bytes(end - start - len(text)), end - start)


def _paths(call: Mapping[str, Any]) -> list[str]:
    """Return the folders that *call* adds to those from which Python imports."""
    return [path for path in call["environ"].get("PYTHONPATH", "").split(os.pathsep) if path]


def _run(call: Mapping[str, Any], forker: _Forker) -> None:
    """Run a module as ``python -m`` does; *forker* forks for this process."""
    _start_by(forker)
    args: list[str] = call["args"]
    plain = list(sys.path)
    sys.path[:0] = [call["cwd"], *_paths(call)]
    sys.argv[:] = args[2:]
    sys.orig_argv[:] = args
    if args[2] != "queuekit.cli":
        del sys.modules[args[2]]
    elif _MEASURED not in call["environ"]:
        _follow_workers(plain)
    if call["environ"].get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    if util.find_spec("coverage") is not None:
        import_module("coverage").process_startup()
    signal.pthread_sigmask(signal.SIG_SETMASK, call["mask"])
    runpy.run_module(args[2], run_name="__main__", alter_sys=True)


def _start_by(forker: _Forker) -> None:
    """Have *forker* fork what this process starts."""

    def execute(process: Any, *arguments: Any) -> None:
        _execute(process, arguments, forker)

    popen: Any = subprocess.Popen
    popen._execute_child = execute


def _follow_workers(path: Sequence[str]) -> None:
    """Give each worker process that this program will fork by itself a process that forks for it.

    The fork server of such a worker would be a start of Python. *path* is where Python looks for modules before the
    program adds to it.
    """
    child: Any = import_module("queuekit.worker.child")
    run = child.main

    def main(arguments: Sequence[str]) -> int:
        found = _with_forker()
        if isinstance(found, _Forker):
            _start_by(found)
            code: int = run(arguments)
            return code
        _be_new(path)
        _run(*_serve(found))
        return 0

    child.main = main


def _be_new(path: Sequence[str]) -> None:
    """Forget what the program that this process was forked from has set for itself."""
    _be_deaf()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    Path("/proc/self/comm").write_text(Path(sys.executable).name)
    sys.path[:] = path


if __name__ == "__main__":
    main()
