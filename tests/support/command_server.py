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
from importlib import import_module

LONGEST = 300
"""Seconds after which a command is ended by SIGALRM."""
ANSWER = struct.Struct("i")


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
    from queuekit.cli.program import COMMANDS

    for name in COMMANDS:
        import_module(f"queuekit.cli.{name}")
    for name in ("queuekit.app", "queuekit.engines.sqlite", "importlib.metadata", "queuekit.worker.supervisor"):
        import_module(name)


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
