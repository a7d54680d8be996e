"""The project of the docs passes its tests, as its reader would run them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django.tasks", reason="Django 6 needs Python 3.12 or later; `tox -e django` runs these tests")

SHOP = Path(__file__).parents[2] / "docs" / "examples" / "shop_django"


def manage(folder: Path, *words: str) -> str:
    """Run a command of the project, and return what it printed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_shop_passes_its_tests_and_needs_no_migration(tmp_path: Path) -> None:
    """With warnings as errors, and none is skipped."""
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("__pycache__", "*.db*", "*.sqlite3"))

    printed = manage(folder, "test")

    found = re.search(r"Ran (\d+) tests", printed)
    assert found is not None
    assert int(found[1]) >= 25
    assert printed.rstrip().splitlines()[-2] == "OK"
    assert "No changes detected" in manage(folder, "makemigrations", "--check", "--dry-run")
