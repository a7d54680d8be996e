"""Runs ``queuekit`` as a user would: in a folder of its own, as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

MAIN = (sys.executable, "-m", "queuekit.cli")
LONGEST = 60.0


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
    return subprocess.run(
        [*MAIN, *args],
        cwd=folder,
        env=environment(**settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )


def start(*args: str, folder: Path, **settings: str) -> subprocess.Popen[str]:
    """Start ``queuekit`` with *args* in *folder*, its output in pipes."""
    return subprocess.Popen(
        [*MAIN, *args],
        cwd=folder,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
