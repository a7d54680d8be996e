"""A process that has imported the command line once, and forks for each command: what a start costs is paid once.

What runs in the fork is ``python -c`` in all else: folder, environment, streams, arguments, and an end by way of the
interpreter's own. It is told over a socket whose number is its argument: a byte, and with it the files that hold the
call and will be the three streams; it answers with the exit code.
"""

import gc
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from importlib import import_module, util

LONGEST = 300
"""Seconds after which a command is ended by SIGALRM."""
ANSWER = struct.Struct("i")
_WORK = ("queuekit.app", "queuekit.engines.sqlite", "queuekit.worker.supervisor", "email.parser", "tomllib")


def main() -> None:
    """Serve until the socket closes; in a fork, run the program."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    _prepare()
    gc.freeze()
    while files := socket.recv_fds(asked, 1, 4)[1]:
        process = os.fork()
        if process == 0:
            asked.close()
            exec(_become(files), {"__name__": "__main__"})  # noqa: S102 - a test's own
            return
        for file in files:
            os.close(file)
        _, status = os.waitpid(process, 0)
        asked.sendall(ANSWER.pack(os.waitstatus_to_exitcode(status)))


def _prepare() -> None:
    """Import what commands need; no more than modules, so that nothing of one command is there for another."""
    from importlib.metadata import entry_points

    from queuekit.cli.program import COMMANDS
    from queuekit.plugins.loading import GROUP

    commands = [f"queuekit.cli.{name}" for name in COMMANDS]
    plugins = [point.module for point in entry_points(group=GROUP)]
    for name in (*commands, *_WORK, *plugins):
        import_module(name)
    if util.find_spec("msgspec") is not None:
        import_module("msgspec.json")


def _become(files: Sequence[int]) -> str:
    """Be as the call in the first of *files* asks, with the others as streams; return the program."""
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
    text: str = program
    return text


if __name__ == "__main__":
    main()
