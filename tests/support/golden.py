"""Texts that are kept in tests/golden/; QUEUEKIT_TEST_GOLDEN=write writes them anew."""

import os
from collections.abc import Iterable
from pathlib import Path
from re import Pattern
from subprocess import CompletedProcess


def compare(path: Path, text: str) -> None:
    """Compare *text* with the one that is kept at *path*."""
    if os.environ.get("QUEUEKIT_TEST_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def compare_answer(path: Path, done: "CompletedProcess[str]", changing: Iterable[tuple[Pattern[str], str]]) -> None:
    """Compare the answer of a command with the one that is kept at *path*; what is *changing* is replaced by words."""
    text = f"--- {done.returncode}\n{done.stdout}--- talk\n{done.stderr}"
    for pattern, word in changing:
        text = pattern.sub(word, text)
    compare(path, text)
