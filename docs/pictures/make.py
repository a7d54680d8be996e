"""Draw what commands print, for the README: ``pip install rich && python docs/pictures/make.py``.

Each picture is of a real run, with the ``queuekit`` of this environment, in an empty folder.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COMMAND = (sys.executable, "-m", "queuekit.cli")
WIDTH = 112
"""Columns of the terminal that commands print to."""
TASKS = """\
from queuekit import Queuekit

app = Queuekit()


@app.task
def charge(order: int, cents: int) -> str:
    if cents <= 0:
        raise ValueError(f"order {order} costs nothing")
    return f"charged {cents / 100:.2f}"
"""


def run(folder: Path, *args: str) -> list[str]:
    """Return the lines of a terminal in which ``queuekit`` *args* was typed."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": str(WIDTH)}
    done = subprocess.run([*COMMAND, *args], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    shown = done.stdout.replace(str(Path.home()), "~")
    return [f"$ queuekit {' '.join(args)}", *shown.splitlines(), ""]


def demo(folder: Path) -> list[str]:
    """Return the demo, without the progress between its lines."""
    return run(folder, "demo")


def dead_letters(folder: Path) -> list[str]:
    """Return how a failed task is found, and run again."""
    (folder / "tasks.py").write_text(TASKS, encoding="utf-8")
    (folder / "queuekit.toml").write_text('app = "tasks:app"\n', encoding="utf-8")
    run(folder, "send", "charge", "41", "1250")
    run(folder, "send", "charge", "42", "0")
    run(folder, "worker", "--burst")
    return [*run(folder, "queues"), *run(folder, "dlq", "ls"), *run(folder, "dlq", "retry", "--all")]


def draw(name: str, lines: list[str]) -> None:
    """Write the picture *name*."""
    # No wider than its text, so that a phone need not shrink it more than that.
    console = Console(record=True, width=max(map(len, lines)) + 1, file=io.StringIO())
    for line in lines:
        console.print(Text(line, style="bold" if line.startswith("$ ") else ""), soft_wrap=True)
    # Without its own name for each picture, parts of two on one page would share one style.
    picture = console.export_svg(title="queuekit", unique_id=name)
    # A README shows pictures without what they would fetch.
    (HERE / f"{name}.svg").write_text(re.sub(r"@font-face {.*?}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")


def main() -> None:
    """Draw all of them."""
    for name, play in {"demo": demo, "dead-letters": dead_letters}.items():
        with tempfile.TemporaryDirectory() as folder:
            draw(name, play(Path(folder)))


if __name__ == "__main__":
    main()
