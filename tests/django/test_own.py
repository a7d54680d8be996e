"""The tests that Django has for its own backends, on ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.engines import ENGINES

pytest.importorskip("django.tasks", reason="Django 6 needs Python 3.12 or later; `tox -e django` runs these tests")

FOLDER = os.environ.get("QUEUEKIT_TEST_DJANGO", "")
"""Folder of the tests in the archive of Django's sources."""


@pytest.mark.parametrize("engine", ["sqlite", "redis", "mongo"])
def test_django_s_own_tests_pass(engine: str, tmp_path: Path) -> None:
    """All tests of ``tests/tasks`` pass but those that own_tests.py leaves out, with a reason for each."""
    if not FOLDER:
        pytest.skip("QUEUEKIT_TEST_DJANGO names no folder of Django's tests; `tox -e django` fetches them")
    url = ENGINES[engine](tmp_path)["broker"]

    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("own_tests.py")), FOLDER, url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert "OK (skipped=" in done.stderr
