"""The process that runs the tests' commands: its death is the affair of the test that killed it."""

import os
from pathlib import Path

import pytest

from support import commands

KILL = "import os, signal; os.kill({}, signal.SIGKILL)"


def number_of_the_server(folder: Path) -> int:
    """Return the process id of the server of this process."""
    return int(commands.python("import os; print(os.getppid())", folder=folder).stdout)


def test_a_command_that_kills_its_server_fails(tmp_path: Path) -> None:
    """It has no exit code, and what is said names the command and how the server ended."""
    with pytest.raises(pytest.fail.Exception, match="the command server ended with -9 while it ran queuekit purge"):
        commands.python(KILL.format("os.getppid()"), "purge", folder=tmp_path)


def test_a_command_after_a_death_of_the_server_runs(tmp_path: Path) -> None:
    """A new server takes over, for the tests that come later."""
    with pytest.raises(pytest.fail.Exception):
        commands.python(KILL.format("os.getppid()"), folder=tmp_path)

    after = commands.python("print('ran')", folder=tmp_path)

    assert (after.returncode, after.stdout) == (0, "ran\n")


def test_a_server_found_dead_is_replaced(tmp_path: Path) -> None:
    """It died between two commands, so neither has failed."""
    dead = number_of_the_server(tmp_path)
    commands.python(KILL.format(dead), folder=tmp_path, PYTHONHASHSEED="0")
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)

    assert number_of_the_server(tmp_path) != dead
