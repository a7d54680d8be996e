"""Standard output that is full, closed or of another encoding, and folders that cannot be written: one clear line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import commands
from support.commands import queuekit


def run(folder: Path, tail: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``queuekit`` through a shell."""
    command = f"{sys.executable} -m queuekit.cli {tail}"
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=60,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command", ["--quiet queues", "config show --json", "--help"])
def test_a_full_output_is_one_line(tmp_path: Path, command: str) -> None:
    """It says what cannot be written, and nothing is complained of twice."""
    done = run(tmp_path, f"{command} >/dev/full")

    assert done.returncode == 1
    assert done.stderr == "Error: cannot write to standard output: No space left on device.\n"


def test_a_closed_output_is_one_line(tmp_path: Path) -> None:
    """What belongs there is lost, which is said."""
    done = run(tmp_path, "--quiet queues >&-")

    assert done.returncode == 1
    assert done.stderr == "Error: cannot write to standard output: it is closed, and the output is lost.\n"


def test_no_file_takes_the_number_of_a_closed_output(tmp_path: Path) -> None:
    """With all three closed a command does its work, and nothing of what it says gets into a file that it opens."""
    commands.write(tmp_path, {"queuekit.toml": 'broker = "sqlite:///jobs.db"\n'})

    done = run(tmp_path, "purge default --yes <&- >&- 2>&-")
    seen = queuekit("queues", folder=tmp_path)

    assert done.returncode == 1
    assert seen.returncode == 0


def test_an_encoding_without_a_character_is_no_error(tmp_path: Path) -> None:
    """What it lacks is written out."""
    commands.write(tmp_path, {"queuekit.toml": 'broker = "memory://\\u6f22"\n'})

    done = run(tmp_path, "config show", PYTHONIOENCODING="latin-1")

    assert done.returncode == 0
    assert r"memory://\u6f22" in done.stdout


def test_a_path_that_is_no_text_is_told_of(tmp_path: Path) -> None:
    """Bytes in the name of a file that are no characters are written out."""
    done = run(tmp_path, "--config $(printf 'a\\377.toml') queues")

    assert done.returncode == 3
    assert done.stderr.startswith("Error QK101: cannot read a\\udcff.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    """One line with the fix, where a command has to write."""
    tmp_path.chmod(0o500)

    done = run(tmp_path, "init")
    tmp_path.chmod(0o700)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
