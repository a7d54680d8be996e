"""A process that has imported the command line once, and forks for each command: what a start costs is paid once.

What runs in the fork is ``python -c`` in all else: folder, environment, streams, arguments, and an end by way of the
interpreter's own, save that modules are not taken apart. It is told over a socket whose number is its argument: a byte,
and with it the files that hold the call and will be the three streams; it answers with the exit code.
"""

import atexit
import gc
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module, util
from typing import Any

LONGEST = 300
"""Seconds after which a command is ended by SIGALRM."""
ANSWER = struct.Struct("i")
RUNS_COMMAND, RUNS_TESTS = b"!", b"t"
"""What a call begins with; tests run where pytest has been imported."""
WITHOUT_PLUGINS = "without-plugins"
"""Said at its start, where each command is to import the plugins that it finds."""
_WORK = (
    "email.parser",
    "encodings.ascii",
    "queuekit.app",
    "queuekit.client.results",
    "queuekit.engines.sqlite",
    "queuekit.worker.supervisor",
    "tomllib",
)


def main() -> None:
    """Serve until the socket closes; in a fork, run the program."""
    in_fork: Any = import_module("in_fork")
    atexit.register(in_fork.leave)
    asked = socket.socket(fileno=int(sys.argv[1]))
    _prepare()
    if sys.argv[2:] != [WITHOUT_PLUGINS]:
        in_fork.load_plugins()
    gc.freeze()
    while (found := socket.recv_fds(asked, 1, 4))[1]:
        word, files = found[:2]
        if word == RUNS_TESTS:
            in_fork.import_pytest()
        process = os.fork()
        if process == 0:
            asked.close()
            program, paths = _become(files)
            in_fork.forget_plugins(paths)
            in_fork.ending(partial(exec, program, {"__name__": "__main__"}))
            return
        for file in files:
            os.close(file)
        _, status = os.waitpid(process, 0)
        asked.sendall(ANSWER.pack(os.waitstatus_to_exitcode(status)))


def _prepare() -> None:
    """Import what commands need; no more than modules, so that nothing of one command is there for another."""
    from queuekit.cli.program import COMMANDS

    commands = [f"queuekit.cli.{name}" for name in COMMANDS]
    for name in (*commands, *_WORK):
        import_module(name)
    if util.find_spec("msgspec") is not None:
        import_module("msgspec.json")


def _become(files: Sequence[int]) -> tuple[str, list[str]]:
    """Be as the call in the first of *files* asks, with the others as streams; return the program, and new paths."""
    call, *streams = files
    for number, file in enumerate(streams):
        os.dup2(file, number)
    with os.fdopen(call) as source:
        program, args, folder, environ = json.load(source)
    for file in streams:
        os.close(file)
    signal.alarm(LONGEST)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    more = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:1] = [folder, *more]
    sys.argv[:] = ["-c", *args]
    return program, [folder, *more]


if __name__ == "__main__":
    main()
