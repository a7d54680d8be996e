"""Settings for the tests of queuekit-django, which need Django 6, and so Python 3.12 or later."""

import atexit
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.engines import ENGINES

HERE = Path(__file__).parent


def _has_django() -> bool:
    """Return whether Django can be imported; this folder has its name."""
    spec = importlib.util.find_spec("django")
    return spec is not None and spec.origin is not None


def _database(folder: Path) -> dict[str, Any]:
    """Return the settings of the database: SQLite, or a PostgreSQL of this process, as test_postgres.py asks for."""
    if not os.environ.get("QUEUEKIT_TEST_DJANGO_POSTGRES"):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "shop.db")}
    from support.postgres import Postgres

    server = Postgres(folder, fsync="off").start()
    atexit.register(server.stop)
    place = {"HOST": "127.0.0.1", "PORT": server.port, "USER": "tests", "NAME": "postgres"}
    return {"ENGINE": "django.db.backends.postgresql", **place}


if _has_django():
    import django
    from django.conf import settings

    sys.path.insert(0, str(HERE))
    FOLDER = tempfile.TemporaryDirectory(prefix="queuekit-django-")  # a database in memory never closes its connections
    settings.configure(
        DATABASES={"default": _database(Path(FOLDER.name))},
        INSTALLED_APPS=[
            *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages")),
            "queuekit_django",
            "bookshop",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="bookshop.urls",
        SECRET_KEY="of these tests",  # noqa: S106 - guards nothing
        TASKS={
            "default": {
                "BACKEND": "queuekit_django.QueuekitBackend",
                "QUEUES": [],
                "OPTIONS": {"broker": "memory://bookshop"},
            }
        },
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        USE_TZ=True,
    )
    django.setup()


@pytest.fixture(params=["memory"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the options of an engine of this test's own; ``each_engine`` asks for each in turn."""
    if request.param == "memory":
        return {"broker": f"memory://{tmp_path.name}"}
    return ENGINES[request.param](tmp_path)


@pytest.fixture
def use(options: dict[str, Any]) -> Iterator[Callable[..., None]]:
    """Return a function that puts the backend on the engine of the test, with further options."""
    from bookshop import tasks
    from django.test import override_settings

    from queuekit_django import app_of

    changed: list[Any] = []

    def use(**more: Any) -> None:
        given = {"worker": {"queues": "default,mail", "concurrency": 4}, **options, **more}
        entry = {"BACKEND": "queuekit_django.QueuekitBackend", "QUEUES": [], "OPTIONS": given}
        changed.append(override_settings(TASKS={"default": entry}))
        changed[-1].enable()

    tasks.ATTEMPTS.clear()
    tasks.SEEN.clear()
    use()
    yield use
    app_of().close()
    while changed:
        changed.pop().disable()


@pytest.fixture
def work(use: Callable[..., None]) -> Callable[..., None]:
    """Return a function that works until the queues are empty."""
    from queuekit.worker import Worker
    from queuekit_django import app_of

    def work() -> None:
        Worker(app_of(), burst=True).run()

    return work
