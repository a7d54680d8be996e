"""Runs ``queuekit`` as a user would: in a folder of its own, as a process of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest

from support import command_server
from support.measuring import CONFIG
from support.preloaded import Preloaded

MAIN = (sys.executable, "-m", "queuekit.cli")
LONGEST = float(command_server.LONGEST)
STARTING = ("demo", "worker")
"""Commands that start processes, and so should be such that these are forks as well."""
PROGRAM = "from queuekit.cli import main; main()"


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a user who has set nothing but *settings*."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUEUEKIT_")}
    paths = [str(Path(__file__).parents[2] / "core"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1", "COLUMNS": "100", **settings}


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write *files*, by name, into *folder*."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def queuekit(*args: str, folder: Path, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run ``queuekit`` with *args* in *folder* to its end; *settings* are environment variables."""
    if args[:1] not in [(name,) for name in STARTING]:
        return python(PROGRAM, *args, folder=folder, stdin=stdin, **settings)
    with _start(args, folder, settings, stdin=subprocess.PIPE) as process:
        try:
            text, talk = process.communicate(stdin, LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"queuekit {' '.join(args)} has not ended within {LONGEST:g} s:\n{process.communicate()[1]}")
    return subprocess.CompletedProcess(args, process.returncode, text, talk)


def python(
    program: str, *args: str, folder: Path, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run *program* as ``python -c`` does; *settings* are environment variables.

    It is a fork of a process that has imported the command line before, unless *settings* change how Python starts.
    What ``PYTHONPATH`` adds to the path, it adds there as well.
    """
    environ = environment(**settings)
    if not any(name.startswith("PYTHON") and name != "PYTHONPATH" for name in settings):
        try:
            return _server(measured=CONFIG in environ).run(program, args, folder, stdin, environ)
        except BrokenPipeError:  # it has died since the last command, of which this one knows nothing
            close()
            return _server(measured=CONFIG in environ).run(program, args, folder, stdin, environ)
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        cwd=folder,
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )


class CommandServer:
    """The process that forks for each command.

    Args:
        python: Runs it.
        environ: Its environment.
        words: What else it is told at its start.
    """

    def __init__(self, python: Path | str, environ: Mapping[str, str], *words: str) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [str(python), command_server.__file__, str(theirs.fileno()), *words],
                env=environ,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def run(
        self, program: str, args: Sequence[str], folder: Path, stdin: str, environ: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run *program* to its end.

        Raises:
            BrokenPipeError: The server was dead before; nothing has run.
        """
        call = json.dumps([program, args, str(folder), dict(environ)])
        with _file(call) as asked, _file(stdin) as given, _file() as out, _file() as err:
            files = [asked, given, out, err]
            word = command_server.RUNS_TESTS if "'pytest'" in program else command_server.RUNS_COMMAND
            socket.send_fds(self._socket, [word], [file.fileno() for file in files])
            try:
                code = self._answer()
            except BaseException:
                self._process.kill()  # or the next command would get this answer
                self.close()
                raise
            for file in (out, err):
                file.seek(0)
            text, talk = out.read(), err.read()
        if code is None:
            self.close()
            ended = self._process.returncode
            pytest.fail(f"the command server ended with {ended} while it ran queuekit {' '.join(args)}:\n{talk}")
        if code == -signal.SIGALRM:
            pytest.fail(f"queuekit {' '.join(args)} has not ended within {LONGEST:g} s:\n{talk}")
        return subprocess.CompletedProcess(args, code, text, talk)

    def _answer(self) -> int | None:
        """Return the exit code of the program; ``None`` if the server has died."""
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = self._socket.recv(command_server.ANSWER.size, socket.MSG_WAITALL)
        return command_server.ANSWER.unpack(answer)[0] if answer else None

    def close(self) -> None:
        """End it; it may have died before."""
        for measured in [key for key, server in _servers.items() if server is self]:
            del _servers[measured]
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._process.wait(LONGEST)


_servers: dict[bool, CommandServer] = {}


def _server(*, measured: bool) -> CommandServer:
    """Return the one server of this process whose commands are *measured* or not, started now."""
    if measured not in _servers:
        _servers[measured] = CommandServer(sys.executable, environment())
    return _servers[measured]


def close() -> None:
    """End what runs commands, if there were any."""
    for server in list(_servers.values()):
        server.close()


def _file(text: str = "") -> IO[str]:
    """Return a file without a name that holds *text*, to be read from its beginning."""
    file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - the caller closes it
    file.write(text)
    file.seek(0)
    return file


def start(*args: str, folder: Path, **settings: str) -> subprocess.Popen[str]:
    """Start ``queuekit`` with *args* in *folder*, its output in pipes."""
    return _start(args, folder, settings, stdin=subprocess.DEVNULL)


def _start(args: Sequence[str], folder: Path, settings: Mapping[str, str], *, stdin: int) -> subprocess.Popen[str]:
    return Preloaded(
        [*MAIN, *args],
        cwd=folder,
        env=environment(**settings),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
