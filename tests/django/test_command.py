"""``manage.py queuekit``: the command line of queuekit for an app of ``TASKS``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django.tasks", reason="Django 6 needs Python 3.12 or later; `tox -e django` runs these tests")

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DEBUG = True
INSTALLED_APPS = ["queuekit_django", "stall"]
BACKEND = "queuekit_django.QueuekitBackend"
TASKS = {
    "default": {"BACKEND": BACKEND, "QUEUES": ["default", "mail"], "OPTIONS": {"broker": "sqlite:///queue.db"}},
    "other": {"BACKEND": BACKEND, "QUEUES": ["far"], "OPTIONS": {"broker": "sqlite:///other.db"}},
    "dummy": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"},
}
"""
TASKS = """
from django.tasks import task

@task(queue_name="mail")
def hello(name):
    return f"hello {name}"

@task(backend="other", queue_name="far")
def away():
    return "away"
"""
SEND = """
import django; django.setup()
from stall.tasks import away, hello
print(hello.enqueue("ann").id, away.enqueue().id)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return the folder of a project."""
    (tmp_path / "settings.py").write_text(SETTINGS, encoding="utf-8")
    (tmp_path / "stall").mkdir()
    (tmp_path / "stall" / "__init__.py").touch()
    (tmp_path / "stall" / "tasks.py").write_text(TASKS, encoding="utf-8")
    return tmp_path


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project."""
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *words], cwd=site, env=environ, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_worker_serves_the_queues_of_its_alias(site: Path) -> None:
    """A worker finds tasks.py of each application and serves QUEUES; other aliases have apps of their own."""
    here, away = run(site, "-c", SEND).stdout.split()

    done = run(site, "-m", "django", "queuekit", "--settings", "settings", "worker", "--burst")
    shown = run(site, "-m", "django", "queuekit", "show", here)
    apart = run(site, "-m", "django", "queuekit", "--task-backend=other", "show", away)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("state=SUCCESSFUL") == 1, "with DEBUG, Django's own handler writes the line again"
    assert "hello ann" in shown.stdout
    assert "PENDING" in apart.stdout


def test_hints_name_the_command_of_django(site: Path) -> None:
    """What a command suggests can be pasted where only Django's command knows the settings."""
    run(site, "-c", SEND)

    done = run(site, "-m", "django", "queuekit", "--task-backend=other", "queues")

    assert "python -m django queuekit --task-backend other worker" in done.stderr
    assert "--app" not in done.stderr


def test_says_which_alias_is_not_served(site: Path) -> None:
    """An alias with another backend cannot be meant, and the error says so in a few lines."""
    done = run(site, "-m", "django", "queuekit", "--task-backend", "dummy", "queues")

    assert done.returncode != 0
    assert "DummyBackend" in done.stderr
    assert len(done.stderr.splitlines()) <= 6
