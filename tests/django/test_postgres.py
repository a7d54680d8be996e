"""Tests of queuekit-django again, with PostgreSQL as the database of Django."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django.tasks", reason="Django 6 needs Python 3.12 or later; `tox -e django` runs these tests")
pytest.importorskip("psycopg")

from support.postgres import postgres_program

HERE = Path(__file__).parent
AGAIN = ("test_admin.py", "test_backend.py", "test_running.py")


def test_passes_on_postgresql() -> None:
    """Connections, transactions and the admin work there as on SQLite."""
    try:
        postgres_program("initdb")
    except FileNotFoundError as error:
        (pytest.fail if os.environ.get("QUEUEKIT_REQUIRE_ENGINES") else pytest.skip)(str(error))

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *AGAIN, "-k", "not redis and not mongo"],
        cwd=HERE,
        env={**os.environ, "QUEUEKIT_TEST_DJANGO_POSTGRES": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout
