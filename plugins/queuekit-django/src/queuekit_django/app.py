"""The apps of ``TASKS`` for commands and worker processes: ``queuekit --app queuekit_django.app:default worker``.

The attribute is the alias. Reading it sets Django up, by ``DJANGO_SETTINGS_MODULE``, and imports the modules ``tasks``
of all installed apps, so that a worker knows them.
"""

from __future__ import annotations

import django
from django.apps import apps
from django.db import connections
from django.utils.module_loading import autodiscover_modules

from queuekit.app import Queuekit
from queuekit_django.aliases import app_of

__all__ = ["load"]


def load(alias: str) -> Queuekit:
    """Return the app of *alias* with the tasks of all installed apps.

    Raises:
        ImproperlyConfigured: The settings cannot be used, TASKS does not have the alias, or it has another backend.
    """
    if not apps.ready:
        django.setup()
    autodiscover_modules("tasks")
    app = app_of(alias)
    # What modules have opened while they were imported must not be shared with processes that fork from this one.
    connections.close_all()
    return app


def __getattr__(name: str) -> Queuekit:
    if name.startswith("__"):
        raise AttributeError(name)
    return load(name)
