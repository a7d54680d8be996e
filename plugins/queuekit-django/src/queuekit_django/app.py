"""The apps of ``TASKS`` for commands and worker processes: ``queuekit --app queuekit_django.app:default worker``.

The attribute is the alias. Reading it sets Django up, by ``DJANGO_SETTINGS_MODULE``, and imports the modules ``tasks``
of all installed apps, so that a worker knows them.
"""

from __future__ import annotations

import logging

import django
from django.apps import apps
from django.db import connections
from django.utils.log import RequireDebugTrue
from django.utils.module_loading import autodiscover_modules

from queuekit.app import Queuekit
from queuekit.worker.log_setup import JsonFormatter, TextFormatter
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
    _write_lines_once()
    # What modules have opened while they were imported must not be shared with processes that fork from this one.
    connections.close_all()
    return app


def _write_lines_once() -> None:
    """Keep Django's own handler, which writes to the terminal with ``DEBUG``, from lines that a worker writes too."""
    for handler in logging.getLogger("django").handlers:
        if any(isinstance(one, RequireDebugTrue) for one in handler.filters) and _unwritten not in handler.filters:
            handler.addFilter(_unwritten)


def _unwritten(_record: logging.LogRecord) -> bool:
    """Return whether no handler of queuekit writes what reaches the root logger."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    return not any(isinstance(one, TextFormatter | JsonFormatter) for one in formatters)


def __getattr__(name: str) -> Queuekit:
    if name.startswith("__"):
        raise AttributeError(name)
    return load(name)
